"""Peak memory of training, ours and torch's, each in a process of its own.

What is counted is the growth of the process's resident set from after its imports to
its peak: parameters, optimiser state, gradients, activations, scratch. Inputs are zero.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import Figure
from ml_verifier import kernels
from ml_verifier.data import Dataset, encode_records
from ml_verifier.program import decode_program
from ml_verifier.session import Session

STEPS, SEED = 3, 1


def resident() -> int:
    """Return the bytes that this process holds now, and start its peak from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Return the most bytes that this process has held since then."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def ours(program_file: str) -> int:
    """Train a program's steps here; return the growth in bytes."""
    before = resident()
    kernels.set_threads(1)
    program = decode_program(Path(program_file).read_bytes())
    columns = [
        np.zeros((program.batch, *field.type.shape), field.type.dtype.numpy)
        for field in program.fields
    ]
    session = Session(program, SEED, Dataset(program, encode_records(program, columns)))
    for _ in session.run(STEPS):
        pass
    return peak() - before


def theirs(name: str) -> int:
    """Train torch's steps here; return the growth in bytes."""
    import torch  # noqa: PLC0415 - our side's process must not hold it

    from benchmarks.models import SUBJECTS  # noqa: PLC0415

    torch.set_num_threads(1)
    before = resident()
    subject = next(s for s in SUBJECTS if s.name == name)
    model = subject.build()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    x, y = (torch.zeros_like(tensor) for tensor in subject.data(subject.batch))
    for _ in range(STEPS):
        optimiser.zero_grad()
        subject.loss(model(x), y).backward()
        optimiser.step()
    return peak() - before


def figures() -> Iterator[Figure]:
    """Measure every model."""
    from benchmarks.zoo import SUBJECTS, Pair  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "program")
        for subject in SUBJECTS:
            file.write_bytes(Pair(subject).captured.program.encoded)
            grown, against = _child("ours", str(file)), _child("theirs", subject.name)
            yield Figure(
                f"peak_memory/{subject.name}",
                grown / 1e6,
                "MB",
                "torch eager, fused AdamW",
                grown / against,
            )


def _child(side: str, argument: str) -> int:
    command = [sys.executable, "-m", "benchmarks.memory", side, argument]
    run = subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    return int(run.stdout)


if __name__ == "__main__":
    measure = {"ours": ours, "theirs": theirs}[sys.argv[1]]
    sys.stdout.write(str(measure(sys.argv[2])))
