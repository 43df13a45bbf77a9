"""The conformance program: what it covers, and that it notices wrong bits."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from ml_verifier import kernels, oracle
from ml_verifier.conformance import conformance_hash, lines, pinned
from ml_verifier.conformance.__main__ import main
from ml_verifier.conformance.case import Array
from ml_verifier.conformance.golden import GOLDEN, single
from ml_verifier.conformance.inputs import SPECIAL, Floats, Indices
from ml_verifier.conformance.trainings import STEPS, TRAININGS, losses
from ml_verifier.memory import FACTS
from ml_verifier.operators import BY_NAME
from tests.kernels.cases import settings

COMPUTED = set(BY_NAME) - set(FACTS)


class Flipped:
    """The kernels, except that one operator gets one bit of its output wrong."""

    canonicalise = staticmethod(kernels.canonicalise)
    sequence = staticmethod(oracle.sequence)
    finite = staticmethod(oracle.finite)

    @staticmethod
    def philox_uniform(
        out: Array, key: int, counter2: int, counter3: int, lo: float, hi: float
    ) -> None:
        kernels.philox_uniform(out, key, counter2, counter3, lo, hi)

    def __init__(self, wrong: str) -> None:
        self._wrong = wrong

    def bind(
        self,
        name: str,
        attributes: Mapping[str, Any],
        inputs: Sequence[Array],
        outputs: Sequence[Array],
    ) -> Callable[[], int]:
        call = kernels.bind(name, attributes, inputs, outputs)
        if name != self._wrong:
            return call

        def flipped() -> int:
            status = call()
            flat = outputs[0].reshape(-1)
            chosen = np.flatnonzero(np.isfinite(flat))[:1]
            flat.view(f"u{flat.itemsize}")[chosen] ^= 1
            return status

        return flipped


@pytest.mark.parametrize("isa", kernels.isas())
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_setting_has_the_pinned_hash(isa: str, threads: int) -> None:
    with settings(isa=isa, threads=threads):
        assert conformance_hash(kernels) == pinned("full")
        assert conformance_hash(kernels, "start") == pinned("start")


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_one_wrong_bit_of_any_operator_is_noticed_at_start(name: str) -> None:
    assert conformance_hash(Flipped(name), "start") != pinned("start")


def test_a_wrong_generator_is_noticed() -> None:
    class Shifted(Flipped):
        @staticmethod
        @override
        def philox_uniform(
            out: Array, key: int, counter2: int, counter3: int, lo: float, hi: float
        ) -> None:
            kernels.philox_uniform(out, key ^ 1, counter2, counter3, lo, hi)

    assert conformance_hash(Shifted(""), "start") != pinned("start")


def test_lines_name_operators_and_steps() -> None:
    found = [line.split() for line in lines(kernels)]
    assert {words[1] for words in found if len(words) == 4} == COMPUTED
    for training in TRAININGS:
        steps = [words for words in found if words[0] == training.name]
        assert [words[1] for words in steps] == [str(i) for i in range(STEPS + 1)]
    start = set(lines(kernels, "start"))
    assert start < set(lines(kernels))


def test_out_of_range_indices_trap_somewhere() -> None:
    traps = {tuple(line.split()[1:]) for line in lines(kernels) if "trap" in line}
    assert ("nll_loss", "above", "trap") in traps
    assert ("nll_loss", "below", "trap") in traps


@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.name)
def test_the_trainings_learn(training: Any) -> None:  # noqa: ANN401 - a Training
    found = losses(training, kernels, 60)
    assert all(math.isfinite(loss) for loss in found)
    assert np.mean(found[-10:]) < np.mean(found[:10])


def test_kinds_of_floats() -> None:
    spec = Floats((4000,), -1.0, 1.0)
    plain, special, rare, tiny = (
        spec.make(5, 0, kernels, kind) for kind in ("plain", "special", "rare", "tiny")
    )
    assert (np.abs(plain) <= 1).all()
    bits = special.view(np.uint32)
    assert set(SPECIAL.tolist()) <= set(bits.tolist())
    assert len(set((bits >> 23 & 255).tolist())) > 250
    assert 5 < np.sum(rare != plain) < 40
    assert (np.abs(tiny) < 2**-63).all()
    assert (np.abs(tiny[tiny != 0]) < 2**-126).any()
    for kind in ("plain", "special", "rare", "tiny"):
        same = spec.make(5, 0, oracle, kind)
        assert same.tobytes() == spec.make(5, 0, kernels, kind).tobytes()


def test_kinds_of_indices() -> None:
    spec = Indices((50,), 7)
    plain = spec.make(5, 0, kernels)
    assert set(plain.tolist()) == set(range(7))
    above, below = (spec.make(5, 0, kernels, kind) for kind in ("above", "below"))
    assert (above[-1], below[0]) == (7, -1)
    assert (above[:-1] == plain[:-1]).all()
    assert (below[1:] == plain[1:]).all()


def test_single_rounds() -> None:
    assert single(0.1) == 13_421_773 * 2.0**-27


def test_the_program_prints_the_hash(capsys: pytest.CaptureFixture[str]) -> None:
    with settings():
        assert main(["--isa", "portable", "--threads", "1"]) == 0
        assert kernels.isa() == "portable"
    assert capsys.readouterr().out == pinned("full") + "\n"
    assert main(["--extent", "start"]) == 0
    assert capsys.readouterr().out == pinned("start") + "\n"
    assert main(["--lines", "--extent", "start"]) == 0
    assert capsys.readouterr().out.startswith(f"0 {GOLDEN[0].name} plain ")


def test_the_oracle_has_the_same_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--extent", "start", "--oracle", "--report"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["hash"], report["backend"]) == (pinned("start"), "oracle")


def test_the_program_fails_on_another_hash(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Flipped("matmul").bind
    monkeypatch.setattr(oracle, "bind", wrong)
    assert main(["--oracle", "--extent", "start"]) == 1
    printed = capsys.readouterr()
    assert printed.out.strip() not in {"", pinned("start")}
    assert pinned("start") in printed.err
