"""Training steps, commitments and replays against torch eager."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Figure, interleaved
from benchmarks.models import Cnn, mlp
from ml_verifier import judge, kernels
from ml_verifier.capture import capture
from ml_verifier.data import Dataset, encode_records
from ml_verifier.engine import Engine
from ml_verifier.judge import ReplayCall
from ml_verifier.session import Session
from ml_verifier.state import State
from ml_verifier.witness import build_witness, decode_witness

SEED = 1
RECORDS = 1024


@dataclass
class Case:
    """One model in both worlds, at the same point of the same training."""

    name: str
    session: Session
    torch_step: Callable[[], object]

    @classmethod
    def of(
        cls, name: str, model: nn.Module, shape: tuple[int, ...], batch: int
    ) -> "Case":
        """Build both from one torch module and random data."""
        generator = np.random.default_rng(0)
        x = generator.standard_normal((RECORDS, *shape), np.float32)
        y = generator.integers(0, 10, RECORDS)
        bx, by = torch.from_numpy(x[:batch]), torch.from_numpy(y[:batch])
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        loss = nn.CrossEntropyLoss()
        program = capture(model, loss, optimiser, (bx, by)).program
        dataset = Dataset(program, encode_records(program, [x, y]))

        def torch_step() -> None:
            optimiser.zero_grad()
            loss(model(bx), by).backward()
            optimiser.step()

        return cls(name, Session(program, SEED, dataset), torch_step)


def cases() -> list[Case]:
    """Return the models that figures are named after."""
    return [
        Case.of("mlp", mlp(), (784,), 128),
        Case.of("cnn", Cnn(), (1, 28, 28), 32),
    ]


def figures() -> Iterator[Figure]:
    """Measure everything about one training step."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        kernels.set_threads(threads)
        suffix = "" if threads == 1 else f"_{threads}_threads"
        for case in cases():
            ours, theirs = interleaved(case.session.step, case.torch_step, repeat=10)
            yield Figure(
                f"train_step/{case.name}{suffix}",
                ours * 1e3,
                "ms",
                f"torch eager, fused AdamW, {threads} thread(s)",
                ours / theirs,
            )
            if threads == 1:
                yield from _verification(case)


def _verification(case: Case) -> Iterator[Figure]:
    """Hashing and replaying, against the training step of our kernels."""
    call = replay_call(case.session)
    witness = decode_witness(call.witness, SEED, RECORDS, call.position)

    def kernels_of_a_replay() -> None:
        engine.step(case.session.dataset.columns, witness.indices, SEED, call.position)

    engine = Engine(case.session.program)
    engine.load(witness.state.tensors)
    step, root, replay_kernels, replay = interleaved(
        case.session.step,
        case.session.root,
        kernels_of_a_replay,
        lambda: judge.replay(call, limit=1 << 26),
    )
    for name, seconds in (
        ("commit_overhead", root),
        ("replay_kernels", replay_kernels),
        ("replay_step", replay),
    ):
        yield Figure(
            f"{name}/{case.name}",
            seconds * 1e3,
            "ms",
            "the training step of our kernels",
            seconds / step,
        )


def replay_call(session: Session) -> ReplayCall:
    """Return the judge's question about a session's next step."""
    pre = session.state()
    if not isinstance(pre, State):
        raise TypeError("the benchmark's own training trapped")
    session.step()
    program, data = session.program, session.dataset
    return ReplayCall(
        trial=bytes(32),
        position=pre.position,
        pre_root=pre.root,
        post_root=session.root(),
        program_root=program.root,
        data_root=data.root,
        seed=SEED,
        records=RECORDS,
        witness=build_witness(program, SEED, data, pre),
    )
