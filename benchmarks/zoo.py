"""Training steps of many models against torch: eager and compiled, 1 and 2 threads.

On a processor with AVX-512 the comparison is made twice: with all that both sides have,
and in a process where both are limited to AVX2 (names with ``_avx2``).
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch

from benchmarks.harness import Figure, interleaved
from benchmarks.models import SUBJECTS, Subject
from ml_verifier import kernels
from ml_verifier.capture import Captured, capture
from ml_verifier.data import Dataset, encode_records
from ml_verifier.session import Session

SEED, SETTLE = 1, 0.02  # seconds
LIMITED = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
CAPTURE_TARGET, COMMIT_TARGET = 10.0, 0.02  # seconds; share of ten steps


class Pair:
    """One model in both worlds."""

    def __init__(self, subject: Subject) -> None:
        """Capture it; ``seconds`` is how long that took."""
        torch.manual_seed(0)
        self.subject = subject
        self._model = subject.build()
        self._optimiser = torch.optim.AdamW(
            self._model.parameters(), lr=1e-3, fused=True
        )
        x, y = subject.data(max(subject.batch, 64))
        self._batch = x[: subject.batch], y[: subject.batch]
        start = time.perf_counter()
        self.captured: Captured = capture(
            self._model, subject.loss, self._optimiser, self._batch
        )
        self.seconds = time.perf_counter() - start
        program = self.captured.program
        data = encode_records(program, [x.numpy(), y.numpy()])
        self.session = Session(program, SEED, Dataset(program, data))

    def torch_step(self) -> None:
        """Take one eager step."""
        self._step(self._model)

    def compiled_step(self) -> Callable[[], None]:
        """Return a step of the compiled model, warmed up."""
        compiled = torch.compile(self._model)

        def step() -> None:
            self._step(compiled)

        step()
        return step

    def _step(self, model: Callable[[torch.Tensor], torch.Tensor]) -> None:
        x, y = self._batch
        self._optimiser.zero_grad()
        self.subject.loss(model(x), y).backward()
        self._optimiser.step()


def _threads(count: int) -> str:
    torch.set_num_threads(count)
    kernels.set_threads(count)
    return "" if count == 1 else f"_{count}_threads"


def eager(suffix: str = "") -> Iterator[Figure]:
    """Compare with eager torch."""
    for count in (1, 2):
        threads = _threads(count)
        ratios: list[float] = []
        for subject in SUBJECTS:
            pair = Pair(subject)
            ours, theirs = interleaved(
                pair.session.step, pair.torch_step, rounds=11, settle=SETTLE
            )
            ratios.append(ours / theirs)
            yield Figure(
                f"train_step{suffix}/{subject.name}{threads}",
                ours * 1e3,
                "ms",
                f"torch eager, fused AdamW, {count} thread(s)",
                ours / theirs,
            )
        name = f"train_step{suffix}/median{threads}"
        middle = statistics.median(ratios)
        yield Figure(name, middle, "x", "torch eager, target 1.05", middle / 1.05)


def compiled() -> Iterator[Figure]:
    """Compare with torch.compile."""
    _threads(1)
    for subject in SUBJECTS:
        pair = Pair(subject)
        step = pair.compiled_step()
        ours, theirs = interleaved(pair.session.step, step, rounds=7)
        yield Figure(
            f"train_step_compile/{subject.name}",
            ours * 1e3,
            "ms",
            "torch.compile, fused AdamW, 1 thread",
            ours / theirs,
        )


def preparation() -> Iterator[Figure]:
    """Measure capture, and committing every tenth step."""
    _threads(1)
    for subject in SUBJECTS:
        pair = Pair(subject)
        yield Figure(
            f"capture/{subject.name}",
            pair.seconds,
            "s",
            f"target {CAPTURE_TARGET:.0f} s",
            pair.seconds / CAPTURE_TARGET,
        )
        if subject.name == "gpt_d384":
            step, root = interleaved(pair.session.step, pair.session.root, rounds=7)
            share = root / (10 * step)
            yield Figure(
                f"commit_every_10/{subject.name}",
                100 * share,
                "% of training",
                "target 2 %",
                share / COMMIT_TARGET,
            )


def figures() -> Iterator[Figure]:
    """Measure everything; what is limited to AVX2 in a process of its own."""
    yield from eager()
    if kernels.isa() == "avx512":
        yield from _limited()
    yield from preparation()
    yield from compiled()


def _limited() -> Iterator[Figure]:
    command = [sys.executable, "-m", "benchmarks.zoo"]
    run = subprocess.run(  # noqa: S603 - our own interpreter
        command, env={**os.environ, **LIMITED}, check=True, capture_output=True
    )
    for line in run.stdout.decode().splitlines():
        yield Figure(**json.loads(line))


def main() -> None:
    """Print the figures of a process that is limited to AVX2, one a line."""
    kernels.set_isa("avx2")
    for figure in eager("_avx2"):
        sys.stdout.write(json.dumps(asdict(figure)) + "\n")


if __name__ == "__main__":
    main()
