"""Sessions: right mathematics against torch, the same bits in every way to run them."""

import numpy as np
import pytest
import torch
from torch import nn

from ml_verifier import kernels, oracle
from ml_verifier.bfloat import widened
from ml_verifier.capture import Captured
from ml_verifier.capture.builder import Builder
from ml_verifier.data import Dataset, encode_records
from ml_verifier.engine import Backend, Engine
from ml_verifier.errors import MalformedData
from ml_verifier.operators import BY_NAME
from ml_verifier.program import LOSS, Constant, Field, Node, Slot, build
from ml_verifier.session import Session, initial_state
from ml_verifier.state import State, state_from_bytes
from ml_verifier.types import bf16, f32, i64
from tests.ml_verifier.jobs import RECORDS, SEED, Cnn, Mlp, cnn_job, dataset, mlp_job


def torch_training(
    job: Captured, model: nn.Module, optimiser: torch.optim.Optimizer, steps: int
) -> list[float]:
    """Train ``model`` from the job's own start over the job's own batches."""
    data = dataset(job)
    session = Session(job.program, SEED, data)
    start = session.state()
    assert isinstance(start, State)
    load(job, model, start)
    losses: list[float] = []
    x, y = (torch.from_numpy(np.asarray(c)) for c in data.columns)
    for step in range(steps):
        chosen = session._batches[step]
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def load(job: Captured, model: nn.Module, state: State) -> None:
    named = zip(job.program.slots, state.tensors, strict=True)
    tensors = {s.name: torch.from_numpy(t.copy()) for s, t in named}
    model.load_state_dict({n: tensors[n] for n in job.parameters}, strict=False)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_training_agrees_with_torch(name: str) -> None:
    job, model = (mlp_job(), Mlp()) if name == "mlp" else (cnn_job(), Cnn())
    optimiser: torch.optim.Optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        if name == "mlp"
        else torch.optim.AdamW(model.parameters(), lr=1e-2)
    )
    expected = torch_training(job, model, optimiser, 12)
    session = Session(job.program, SEED, dataset(job))
    losses: list[float] = []
    for _ in session.run(12):
        assert session.loss is not None
        losses.append(session.loss)
    np.testing.assert_allclose(losses, expected, rtol=2e-3)
    final = session.state()
    assert isinstance(final, State)
    named = zip(job.program.slots, final.tensors, strict=True)
    trained = {slot.name: tensor for slot, tensor in named}
    for key, value in model.state_dict().items():
        if key in job.parameters:
            np.testing.assert_allclose(
                trained[key].astype(np.float32), value, rtol=2e-2, atol=2e-3
            )


@pytest.mark.parametrize("job", [mlp_job(), cnn_job()], ids=["mlp", "cnn"])
def test_kernels_and_oracle_walk_the_same_trajectory(job: Captured) -> None:
    data = dataset(job)
    fast, slow = (Session(job.program, SEED, data, b) for b in (kernels, oracle))
    for _ in range(3):
        fast.step()
        slow.step()
        assert fast.root() == slow.root()


def test_resuming_from_bytes_changes_nothing() -> None:
    job, data = cnn_job(), dataset(cnn_job())
    straight = Session(job.program, SEED, data)
    list(straight.run(6))
    first = Session(job.program, SEED, data)
    list(first.run(3))
    saved = first.state()
    assert isinstance(saved, State)
    second = Session(job.program, SEED, data)
    second.resume(state_from_bytes(job.program, 3, saved.to_bytes()))
    list(second.run(6))
    assert second.root() == straight.root()


def test_the_start_depends_on_the_seed() -> None:
    program = mlp_job().program
    assert initial_state(program, 1).root != initial_state(program, 2).root
    assert initial_state(program, 1).root == initial_state(program, 1).root


def test_states_of_another_size_are_refused() -> None:
    with pytest.raises(MalformedData, match="state of"):
        state_from_bytes(mlp_job().program, 0, b"\0")


def test_bf16_fields_take_floats_or_bits() -> None:
    fields = (Field("x", bf16(3)), Field("y", i64()))
    zero = (Slot("loss", f32(), Constant(0.0)),)
    program = Builder(1, zero, fields).finish((0,))
    x = np.array([[1 + 2**-8, 1 + 3 * 2**-8, -1e-40], [np.inf, 7, 3.4e38]])
    x = x.astype(np.float32)
    y = np.arange(2)
    data = Dataset(program, encode_records(program, [x, y]))
    rounded = torch.from_numpy(x).bfloat16()
    np.testing.assert_array_equal(data.columns[0], rounded.view(torch.uint16).numpy())
    np.testing.assert_array_equal(widened(data.columns[0]), rounded.float().numpy())
    nan = encode_records(program, [np.full((1, 3), -np.nan), y[:1]])
    assert nan == b"\xc0\x7f" * 3 + bytes(8)
    bits = np.ascontiguousarray(data.columns[0])
    assert encode_records(program, [bits, y]) == data.data
    with pytest.raises(MalformedData, match="x: expected floats, or bf16's bits"):
        encode_records(program, [x[:1].astype(np.int64), y[:1]])


def test_data_sets_of_another_layout_are_refused() -> None:
    program = mlp_job().program
    with pytest.raises(MalformedData, match="whole records"):
        Dataset(program, b"\0" * (program.record_bytes + 1))
    with pytest.raises(MalformedData, match="whole records"):
        Dataset(program, b"")
    x, y = np.zeros((RECORDS, 6), np.float32), np.zeros(RECORDS - 1, np.int64)
    with pytest.raises(MalformedData, match="y: expected"):
        encode_records(program, [x, y])
    with pytest.raises(MalformedData, match="2 columns"):
        encode_records(program, [x])


@pytest.mark.parametrize("backend", [kernels, oracle])
def test_a_slot_that_is_not_finite_traps_although_no_step_changes_it(
    backend: Backend,
) -> None:
    slots = (
        Slot(LOSS, f32(), Constant(0.0)),
        Slot("frozen", f32(2), Constant(1.0)),
    )
    node = Node(BY_NAME["constant"], (), {"shape": (), "value": 0.5})
    program = build(1, slots, (Field("x", f32(1)),), (node,), (3, 1))
    engine = Engine(program, backend)
    columns = [np.zeros((1, 1), np.float32)]
    frozen = np.ones(2, np.float32)
    engine.load([np.zeros((), np.float32), frozen])
    assert engine.step(columns, [0], 0, 0)
    frozen[1] = np.inf
    engine.load([np.zeros((), np.float32), frozen])
    assert not engine.step(columns, [0], 0, 0)
