"""Training as the protocol defines it: from a seed, over a data set, step by step."""

from collections.abc import Iterator
from typing import TypeAlias

from ml_verifier import kernels
from ml_verifier.commitment import Indices
from ml_verifier.data import Dataset
from ml_verifier.engine import Backend, Engine
from ml_verifier.program import Program
from ml_verifier.rng import EpochOrder, epoch_runs, initial_tensors
from ml_verifier.state import State, Trap

AnyState: TypeAlias = State | Trap


def initial_state(program: Program, seed: int) -> State:
    """Return the state before the first step; its root is h_0 of the job."""
    return State(0, tuple(initial_tensors(program, seed)))


class Batches:
    """The data order of a job: which records step i sees."""

    def __init__(self, seed: int, records: int, batch: int) -> None:
        self._seed = seed
        self._records = records
        self._batch = batch
        self._epochs: dict[int, Indices] = {}

    def _epoch(self, epoch: int) -> Indices:
        if epoch not in self._epochs:
            while len(self._epochs) > 1:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = EpochOrder(self._seed, epoch, self._records).all()
        return self._epochs[epoch]

    def __getitem__(self, step: int) -> list[int]:
        """Return the record of each place in the batch of step ``step``."""
        indices: list[int] = []
        for epoch, start, end in epoch_runs(self._records, self._batch, step):
            indices += self._epoch(epoch)[start:end].tolist()
        return indices


class Session:
    """A job in training: the engine, the data order and the current state."""

    def __init__(
        self, program: Program, seed: int, dataset: Dataset, backend: Backend = kernels
    ) -> None:
        self.program = program
        self.seed = seed
        self.dataset = dataset
        self._engine = Engine(program, backend)
        self._batches = Batches(seed, dataset.records, program.batch)
        self._trap: Trap | None = None
        self._position = 0
        self._engine.load(initial_tensors(program, seed))

    @property
    def position(self) -> int:
        """Steps taken."""
        return self._position

    @property
    def trapped(self) -> bool:
        """Whether the state is the trap state."""
        return self._trap is not None

    @property
    def loss(self) -> float | None:
        """Loss of the last step; None in the trap state."""
        return None if self._trap else float(self._engine.tensors[0])

    def resume(self, state: AnyState) -> None:
        """Continue from ``state`` instead of from the seed."""
        self._position = state.position
        if isinstance(state, Trap):
            self._trap = state
        else:
            self._trap = None
            self._engine.load(state.tensors)

    def state(self) -> AnyState:
        """Return a copy of the current state."""
        if self._trap:
            return Trap(self._position, self._trap.previous)
        tensors = tuple(t.copy() for t in self._engine.tensors)
        return State(self._position, tensors)

    def root(self) -> bytes:
        """Return h_i of the current state without copying it."""
        if self._trap:
            return self._trap.root
        return State(self._position, self._engine.tensors).root

    def step(self) -> None:
        """Take one step; total: a step without a finite result traps."""
        if not self._trap:
            indices = self._batches[self._position]
            if not self._engine.step(
                self.dataset.columns, indices, self.seed, self._position
            ):
                self._trap = Trap(self._position + 1, self.root())
        self._position += 1

    def run(self, steps: int) -> Iterator[int]:
        """Step until position ``steps``, yielding after each step."""
        while self._position < steps:
            self.step()
            yield self._position
