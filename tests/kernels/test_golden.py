"""Golden vectors: what every operator computes on inputs that anyone can make."""

from typing import Any

import pytest

from ml_verifier import kernels, oracle
from ml_verifier.conformance import PINNED_PATH, conformance_hash
from ml_verifier.conformance.golden import GOLDEN, LARGE
from ml_verifier.conformance.inputs import Golden
from ml_verifier.conformance.trainings import STEPS, TRAININGS
from ml_verifier.conformance.transcript import EXTENTS, FIRST_LARGE, outcome
from ml_verifier.memory import FACTS
from ml_verifier.operators import BY_NAME
from tests.kernels.cases import assert_same, settings
from tests.support.vectors import Vectors

NUMBERED = list(enumerate(GOLDEN))
IDS = [f"{i}-{golden.name}" for i, golden in NUMBERED]


def test_vectors(vectors: Vectors) -> None:
    computed: list[dict[str, Any]] = []
    for number, golden in [*NUMBERED, *enumerate(LARGE, FIRST_LARGE)]:
        kinds = golden.kinds if number < FIRST_LARGE else ("plain",)
        outcomes = {
            kind: outcome(golden.case(number, kernels, kind), kernels) for kind in kinds
        }
        assert outcomes["plain"] != "trap"
        computed.append({"case": number, **golden.describe(), "outcomes": outcomes})
    vectors.check("kernels", computed)


def test_training_vectors(vectors: Vectors) -> None:
    computed: list[dict[str, Any]] = []
    for training in TRAININGS:
        roots = training.roots(kernels)
        assert len(set(roots)) == STEPS + 1
        computed.append(
            {
                **vars(training),
                "program": training.path.name,
                "program_root": training.program().root.hex(),
                "roots": [root.hex() for root in roots],
            }
        )
    vectors.check("trainings", computed)


def test_the_pinned_hashes(vectors: Vectors) -> None:
    computed = {extent: conformance_hash(kernels, extent) for extent in EXTENTS}
    vectors.check_file(PINNED_PATH, computed)


@pytest.mark.parametrize(("number", "golden"), NUMBERED, ids=IDS)
def test_every_implementation_agrees(number: int, golden: Golden) -> None:
    for kind in golden.kinds:
        case = golden.case(number, kernels, kind)
        expected = case.run(oracle)
        for isa in kernels.isas():
            for threads in (1, 2, 3):
                with settings(isa=isa, threads=threads):
                    assert_same(case.run(kernels), expected)


def test_every_operator_has_a_vector() -> None:
    assert {golden.name for golden in GOLDEN} == set(BY_NAME) - set(FACTS)
