"""The public surface, from a torch model to a verdict; ``docs/library.md`` shows it."""

import importlib.util
import subprocess
import sys

import numpy as np
import torch

import ml_verifier
from ml_verifier.capture import capture
from ml_verifier.commitment import type_of


def test_from_a_model_to_a_verdict() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x = np.linspace(-1, 1, 66, dtype=np.float32).reshape(11, 6)
    y = np.arange(11, dtype=np.int64) % 3
    sample = torch.from_numpy(x[:4]), torch.from_numpy(y[:4])
    job = capture(model, torch.nn.functional.cross_entropy, optimiser, sample)
    program = ml_verifier.decode_program(job.program.encoded)

    report = ml_verifier.inspect(program, records=11)
    assert not report.refused
    assert report.work_units > 0
    assert sum(row.nodes for row in report.operators) == len(program.nodes)

    dataset = ml_verifier.Dataset(program, ml_verifier.encode_records(program, [x, y]))
    session = ml_verifier.Session(program, 7, dataset)
    states = [ml_verifier.initial_state(program, 7)]
    assert states[0].root == session.root()
    for _ in session.run(3):
        state = session.state()
        assert isinstance(state, ml_verifier.State)
        states.append(state)

    trajectory = ml_verifier.Trajectory(3, 1, tuple(state.root for state in states))
    assert len(trajectory.root) == 32

    call = ml_verifier.ReplayCall(
        trial=bytes(32),
        position=1,
        pre_root=states[1].root,
        post_root=states[2].root,
        program_root=program.root,
        data_root=dataset.root,
        seed=7,
        records=dataset.records,
        witness=ml_verifier.build_witness(program, 7, dataset, states[1]),
    )
    assert ml_verifier.replay(call)

    opening = ml_verifier.open_tile(3, states[3].tensors, slot=1, tile=0)
    found = ml_verifier.verify_opening(states[3].root, 1, 0, opening.encode())
    assert found.tile == states[3].tensors[1].tobytes()

    weight = states[3].tensors[1]
    pieces = ml_verifier.open_pieces(weight, {(0, 0)})
    root = ml_verifier.tensor_root(weight)
    shown = ml_verifier.verify_pieces(root, type_of(weight), pieces)
    assert list(shown.values()) == [weight.tobytes()]


def test_every_public_name_is_there() -> None:
    for name in ml_verifier.__all__:
        assert callable(getattr(ml_verifier, name))
        assert importlib.util.find_spec(f"ml_verifier.{name}") is None  # no clash
    assert not hasattr(ml_verifier, "nothing")


def test_importing_loads_neither_torch_nor_kernels() -> None:
    code = "import ml_verifier, sys; print(sorted(sys.modules))"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - our own code
    loaded = run.stdout.decode()
    assert "'torch'" not in loaded
    assert "ml_verifier.kernels" not in loaded
