"""A toy of training: states are hashes, a step is a hash, the judge knows both.

The judge decides as the real one does: by the pre-state, which a witness must open, and
never by who asks.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Final

from ml_verifier.errors import MalformedOpening, MalformedProgram, MalformedWitness
from ml_verifier.judge import Admission, ReplayCall
from ml_verifier.merkle import Purpose, Tree, leaf

PROGRAM: Final = b"toy program"
DATA: Final = [b"record %d" % i for i in range(5)]
SEED: Final = 7
INITIAL: Final = hashlib.sha256(b"initial state").digest()
SLOTS: Final = 2
TILES: Final = 3


def program_root(program: bytes) -> bytes:
    """Root of a toy program."""
    return hashlib.sha256(b"lockstep/program" + program).digest()


def step(state: bytes) -> bytes:
    """The true next state."""
    return hashlib.sha256(b"step" + state).digest()


def trap(state: bytes) -> bytes:
    """Root of the trap state after `state`."""
    return hashlib.sha256(b"lockstep/trap" + state).digest()


def witness(state: bytes, size: int = 32) -> bytes:
    """What opens a state to the toy judge, padded to a size."""
    return hashlib.sha256(b"witness" + state).digest() + b"\xff" * (size - 32)


def tile(state: bytes, slot: int, index: int, size: int = 40) -> bytes:
    """What opens a tile of a state to the toy judge."""
    digest = hashlib.sha256(b"tile" + state + bytes((slot, index))).digest()
    return digest + b"\xff" * (size - 32)


def data_tree() -> Tree:
    """The tree of the toy data."""
    return Tree(Purpose.RECORD, [leaf(Purpose.RECORD, r) for r in DATA])


@dataclass
class ToyJudge:
    """A judge of toy steps.

    Attributes:
        next_state: The true step.
        admission: What every program is admitted with; None refuses them all.
    """

    next_state: Callable[[bytes], bytes] = step
    admission: Admission | None = field(
        default_factory=lambda: Admission(
            program_root=program_root(PROGRAM),
            work_units=1_000,
            peak_memory=4_096,
            witness_bytes=10_000,
            replay_gas=100_000,
        )
    )

    def admission_gas(self, program_size: int) -> int:
        return 15_000 + program_size

    def admit(self, program: bytes, records: int) -> Admission:
        if self.admission is None or not program or not records:
            raise MalformedProgram("expected a program that this judge admits")
        return self.admission

    def intake_gas(self, witness_size: int, _head: bytes = b"") -> int:
        return 15_000 + 2 * witness_size

    def replay_gas(self, call: ReplayCall) -> int:
        return self.intake_gas(len(call.witness)) + 10_000

    def replay(self, call: ReplayCall) -> bool:
        if call.witness[:32] != witness(call.pre_root)[:32]:
            raise MalformedWitness("expected a witness of the state before the step")
        return self.next_state(call.pre_root) == call.post_root

    def opening_gas(self, size: int) -> int:
        return 15_000 + 2 * size

    def verify_opening(
        self, state_root: bytes, slot: int, tile: int, opening: bytes
    ) -> None:
        expected = hashlib.sha256(b"tile" + state_root + bytes((slot, tile))).digest()
        if slot >= SLOTS or tile >= TILES or opening[:32] != expected:
            raise MalformedOpening("expected an opening of that tile")


@dataclass(frozen=True)
class Trajectory:
    """States 0..T, and the tree over those that are committed.

    Attributes:
        states: Roots of the states, T + 1 of them.
        every: Distance between committed states.
    """

    states: Sequence[bytes]
    every: int = 1

    @property
    def steps(self) -> int:
        """T."""
        return len(self.states) - 1

    @cached_property
    def committed(self) -> list[bytes]:
        """Roots of the committed states, in order."""
        leaves = list(self.states[: self.steps : self.every])
        return [*leaves, self.states[-1]]

    @cached_property
    def tree(self) -> Tree:
        """The commitment."""
        leaves = [leaf(Purpose.TRAJECTORY, h) for h in self.committed]
        return Tree(Purpose.TRAJECTORY, leaves)

    def path(self, position: int) -> list[bytes]:
        """Path of a state in the commitment; empty if it is not committed."""
        if position % self.every and position != self.steps:
            return []
        return self.tree.path(-(-position // self.every))


@cache
def honest(steps: int, every: int = 1) -> Trajectory:
    """The true trajectory."""
    states = [INITIAL]
    for _ in range(steps):
        states.append(step(states[-1]))
    return Trajectory(states, every)


def cheating(
    steps: int, wrong: int, every: int = 1, *, returns: int | None = None
) -> Trajectory:
    """A trajectory whose step `wrong` is invalid, and consistent afterwards.

    Args:
        steps: T.
        wrong: The step that is faked.
        every: Distance between committed states.
        returns: Position from which the true states follow again.
    """
    truth = honest(steps).states
    states = list(truth[: wrong + 1])
    states.append(hashlib.sha256(b"fake" + states[-1]).digest())
    while len(states) <= steps:
        states.append(step(states[-1]))
    if returns is not None:
        states[returns:] = truth[returns:]
    return Trajectory(states, every)
