"""The judge: right steps are valid, wrong ones invalid, malformed ones neither."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ml_verifier import judge, kernels, oracle
from ml_verifier.commitment import trap_root
from ml_verifier.data import Dataset
from ml_verifier.errors import Malformed, MalformedProgram, MalformedWitness
from ml_verifier.judge import Admission, ReplayCall, admit, replay, replay_gas
from ml_verifier.kernels import BindingError
from ml_verifier.operators import BY_NAME, AttributeValue
from ml_verifier.program import Node, Program, build
from ml_verifier.session import AnyState, Session
from ml_verifier.witness import build_witness
from tests.ml_verifier.jobs import RECORDS, SEED, cnn_job, dataset, mlp_job
from tests.support.vectors import Vectors

JOBS = {"mlp": mlp_job, "cnn": cnn_job}


@functools.cache
def states(name: str) -> tuple[Dataset, tuple[AnyState, ...]]:
    """Run five honest steps of a job."""
    job = JOBS[name]()
    data = dataset(job)
    session = Session(job.program, SEED, data)
    trail = [session.state()]
    for _ in range(5):
        session.step()
        trail.append(session.state())
    return data, tuple(trail)


def honest_call(name: str, step: int) -> ReplayCall:
    data, trail = states(name)
    program = JOBS[name]().program
    return ReplayCall(
        trial=bytes(32),
        position=step,
        pre_root=trail[step].root,
        post_root=trail[step + 1].root,
        program_root=program.root,
        data_root=data.root,
        seed=SEED,
        records=RECORDS,
        witness=build_witness(program, SEED, data, trail[step]),
    )


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("step", range(5))
def test_honest_steps_are_valid(name: str, step: int) -> None:
    assert replay(honest_call(name, step))


@pytest.mark.parametrize("name", JOBS)
def test_the_oracle_gives_the_same_verdict(name: str) -> None:
    call = honest_call(name, 2)
    assert replay(call, backend=oracle)
    wrong = dataclasses.replace(call, post_root=bytes(32))
    assert not replay(wrong, backend=oracle)


def test_vectors(vectors: Vectors) -> None:
    call = honest_call("mlp", 1)
    vectors.check(
        "replay",
        {
            field.name: value.hex() if isinstance(value, bytes) else value
            for field in dataclasses.fields(call)
            for value in [getattr(call, field.name)]
        },
    )


def test_any_other_next_root_is_invalid() -> None:
    call = honest_call("mlp", 3)
    for wrong in (bytes(32), call.pre_root, honest_call("mlp", 2).post_root):
        assert not replay(dataclasses.replace(call, post_root=wrong))


@given(st.data())
def test_a_changed_witness_convicts_nobody(data: st.DataObject) -> None:
    call = honest_call("mlp", 1)
    witness = bytearray(call.witness)
    witness[data.draw(st.integers(0, len(witness) - 1))] ^= data.draw(
        st.integers(1, 255)
    )
    with pytest.raises(Malformed):
        replay(dataclasses.replace(call, witness=bytes(witness)))


@given(st.binary(max_size=400))
def test_noise_convicts_nobody(noise: bytes) -> None:
    call = dataclasses.replace(honest_call("mlp", 1), witness=noise)
    with pytest.raises(Malformed):
        replay(call)
    with pytest.raises(Malformed):
        replay_gas(dataclasses.replace(call, witness=b"\0" + noise))


@pytest.mark.parametrize(
    "change",
    [
        {"position": 2},
        {"position": -1},
        {"position": judge.MAX_STEPS},
        {"seed": SEED + 1},
        {"seed": 2**64},
        {"records": 0},
        {"records": RECORDS + 1},
        {"records": judge.MAX_RECORDS + 1},
        {"pre_root": bytes(32)},
        {"program_root": bytes(32)},
        {"data_root": bytes(32)},
        {"witness": b""},
        {"witness": bytes(judge.MAX_WITNESS_BYTES + 1)},
    ],
)
def test_facts_that_do_not_fit_convict_nobody(change: dict[str, int | bytes]) -> None:
    with pytest.raises(Malformed):
        replay(dataclasses.replace(honest_call("mlp", 1), **change))  # type: ignore[arg-type]  # the fields' types vary by row


def test_trailing_and_missing_bytes() -> None:
    call = honest_call("mlp", 1)
    for witness in (call.witness + b"\0", call.witness[:-1]):
        with pytest.raises(MalformedWitness, match=r"expected \d+ bytes"):
            replay(dataclasses.replace(call, witness=witness))


# ── the trap state ───────────────────────────────────────────────────────────


@functools.cache
def trapped() -> tuple[Session, AnyState]:
    """Run a job whose label 3 is out of range for 3 classes; it traps at once."""
    job = mlp_job()
    data = dataset(job, records=2)
    data.columns[1][:] = 3
    bad = Dataset(
        job.program,
        b"".join(
            data.columns[0][i].tobytes() + np.int64(3).tobytes() for i in range(2)
        ),
    )
    session = Session(job.program, SEED, bad)
    start = session.state()
    session.step()
    return session, start


def trap_call(*, position: int, post: bytes | None = None) -> ReplayCall:
    session, start = trapped()
    pre = start if position == 0 else session.state()
    return ReplayCall(
        trial=bytes(32),
        position=position,
        pre_root=pre.root,
        post_root=session.root() if post is None else post,
        program_root=session.program.root,
        data_root=session.dataset.root,
        seed=SEED,
        records=2,
        witness=build_witness(session.program, SEED, session.dataset, pre),
    )


def test_a_step_that_traps_is_valid_only_as_the_trap() -> None:
    _, start = trapped()
    call = trap_call(position=0)
    assert call.post_root == trap_root(start.root)
    assert replay(call)
    assert not replay(dataclasses.replace(call, post_root=start.root))


def test_the_trap_repeats() -> None:
    session, _ = trapped()
    session.step()
    assert session.trapped
    assert session.loss is None
    assert replay(trap_call(position=1))
    assert not replay(trap_call(position=5, post=bytes(32)))
    with pytest.raises(MalformedWitness, match="33 bytes"):
        replay(dataclasses.replace(trap_call(position=1), witness=b"\x01"))
    with pytest.raises(MalformedWitness, match="trap state"):
        replay(dataclasses.replace(trap_call(position=1), pre_root=bytes(32)))


# ── admission and gas ────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", JOBS)
def test_admission_bounds_every_replay(name: str) -> None:
    admission = admit(JOBS[name]().program.encoded, RECORDS)
    for step in range(5):
        call = honest_call(name, step)
        assert len(call.witness) <= admission.witness_bytes
        assert judge.intake_gas(len(call.witness), call.witness) < replay_gas(call)
        assert replay_gas(call) <= admission.replay_gas


def test_a_claimed_program_is_paid_before_it_is_decoded() -> None:
    honest = honest_call("mlp", 1).witness
    size = len(honest)
    paid = judge.intake_gas(size, honest[:5])
    assert paid == judge.intake_gas(size, honest)
    assert judge.intake_gas(size, b"\0\xff\xff\xff\xff") > paid
    assert judge.intake_gas(size, b"\0\0\0\0\0") < paid
    assert judge.intake_gas(size, b"\0\0") == judge.intake_gas(size, b"\1" * 5)


def test_admission_figures_are_deterministic(vectors: Vectors) -> None:
    def row(admission: Admission) -> dict[str, int | str]:
        return {
            "program_root": admission.program_root.hex(),
            "work_units": admission.work_units,
            "peak_memory": admission.peak_memory,
            "witness_bytes": admission.witness_bytes,
            "replay_gas": admission.replay_gas,
        }

    vectors.check(
        "admission",
        [row(admit(job().program.encoded, 1797)) for job in JOBS.values()],
    )


def test_admission_refuses() -> None:
    encoded = mlp_job().program.encoded
    with pytest.raises(MalformedProgram, match="records"):
        admit(encoded, 0)
    with pytest.raises(MalformedProgram):
        admit(encoded[:-1], 5)


def test_a_kernels_refusal_convicts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BindingError("no such buffers")

    monkeypatch.setattr(kernels, "bind", refuse)
    with pytest.raises(MalformedProgram, match="no kernel for this program"):
        replay(honest_call("mlp", 1))


def test_slow_exact_rounding_and_wide_padding_are_paid_for() -> None:
    """Gas follows the worst that hostile values and shapes can cost, per element."""
    program = cnn_job().program
    bare, tanh, conv = (
        judge.execution_gas(with_nodes(program, nodes))
        for nodes in ([], [tanh_node()], [padded_node()])
    )
    assert tanh - bare >= judge.ROUNDING_GAS * 4 * 64
    assert conv - bare >= 4 * 4 * (8 + 2 * 60) ** 2 // judge.BYTES_PER_GAS


def tanh_node() -> Node:
    """The tanh of the images: 4 x 64 elements."""
    return Node(BY_NAME["tanh"], (image(),), {})


def padded_node() -> Node:
    """A 1x1 convolution of the images with 60 zeros around them, one output each."""
    attributes: dict[str, AttributeValue] = {
        "stride": (1000, 1000),
        "padding": (60, 60),
        "dilation": (1, 1),
        "groups": 1,
    }
    return Node(BY_NAME["conv2d"], (image(), weight()), attributes)


def image() -> int:
    """Number of the value that holds the batch's images."""
    return len(cnn_job().program.slots)


def weight() -> int:
    """Number of the first convolution's weight."""
    return next(
        i for i, s in enumerate(cnn_job().program.slots) if s.name == "first.weight"
    )


def with_nodes(program: Program, nodes: list[Node]) -> Program:
    """Build a program of these nodes only, whose state never changes."""
    unchanged = tuple(range(len(program.slots)))
    return build(program.batch, program.slots, program.fields, tuple(nodes), unchanged)
