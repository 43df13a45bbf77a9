"""Three trainings from stored programs: whole steps, data order and state hashing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml_verifier.conformance.case import Arithmetic, Array
from ml_verifier.conformance.inputs import Floats, Indices
from ml_verifier.data import Dataset, encode_records
from ml_verifier.program import Program, decode_program
from ml_verifier.rng import initial_tensors
from ml_verifier.session import Session
from ml_verifier.state import State
from ml_verifier.types import DType

PROGRAMS = Path(__file__).with_name("programs")
STEPS = 10


@dataclass(frozen=True)
class Training:
    """A stored program on data from Philox.

    Attributes:
        name: Of the program's file.
        seed: Of the job, and the Philox key of the data.
        records: Size of the data set; not a multiple of the batch.
        below: Integer fields hold values below this.
    """

    name: str
    seed: int
    records: int
    below: int

    @property
    def path(self) -> Path:
        """Where the program's canonical bytes are."""
        return PROGRAMS / f"{self.name}.program"

    def program(self) -> Program:
        """Return the stored program."""
        return decode_program(self.path.read_bytes())

    def dataset(self, program: Program, backend: Arithmetic) -> Dataset:
        """Return the records: field f is an input at position f under key ``seed``."""
        columns: list[Array] = []
        for position, field in enumerate(program.fields):
            shape = (self.records, *field.type.shape)
            spec = (
                Floats(shape)
                if field.type.dtype is DType.F32
                else Indices(shape, self.below)
            )
            columns.append(spec.make(self.seed, position, backend))
        return Dataset(program, encode_records(program, columns))

    def session(self, backend: Arithmetic) -> Session:
        """Return the job before its first step, all arithmetic done by ``backend``."""
        program = self.program()
        dataset = self.dataset(program, backend)
        session = Session(program, self.seed, dataset, backend)
        initial = list(initial_tensors(program, self.seed, backend))
        session.resume(State(0, tuple(initial)))
        return session

    def roots(self, backend: Arithmetic, steps: int = STEPS) -> list[bytes]:
        """Return h_0 .. h_steps."""
        session = self.session(backend)
        return [session.root(), *(session.root() for _ in session.run(steps))]


TRAININGS: Sequence[Training] = (
    Training("mlp_adamw", seed=1, records=100, below=10),
    Training("cnn_sgd", seed=2, records=45, below=10),
    Training("gpt_adamw", seed=3, records=21, below=48),
)


def losses(training: Training, backend: Arithmetic, steps: int = STEPS) -> list[float]:
    """Return the loss of each step; NaN for a step that trapped."""
    session = training.session(backend)
    return [session.loss or np.nan for _ in session.run(steps)]
