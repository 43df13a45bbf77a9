"""A job's training on this machine, which survives a `kill -9`.

A `Run` steps the reproducible kernels from h_0 to h_T and remembers every root. About
`CHECKPOINTS` states are kept on disk along the way, so that any state can be had again
by replaying a short stretch; a slow run also keeps the newest every few seconds. After
a crash the run continues from the newest checkpoint whose root is the one that was
noted for it.

Files in a run's directory: `roots`, 32 bytes per position from 0; `losses`, the opened
loss of each committed position up to a trap; `state-<position>`, one kept state (a
head, then all slots, or the root before the trap).
"""

import struct
import time
from dataclasses import dataclass
from pathlib import Path

from lockstep.artifacts.expected import opened_loss
from lockstep.journal import write_whole
from ml_verifier.data import Dataset
from ml_verifier.errors import Malformed
from ml_verifier.program import Program
from ml_verifier.session import AnyState, Session
from ml_verifier.state import Trap, state_from_bytes
from ml_verifier.trajectory import Trajectory, committed_positions

__all__ = ["CHECKPOINTS", "Run", "Work"]

CHECKPOINTS = 32
CHECKPOINT_SECONDS = 5
_ORDINARY, _TRAPPED = 0, 1
_HEAD = struct.Struct(">BI")


@dataclass(frozen=True)
class Work:
    """What is to be trained: everything that a trajectory follows from.

    Attributes:
        program: one step.
        seed: of initialisation and data order.
        dataset: the records.
        steps: T.
        commit_every: c.
    """

    program: Program
    seed: int
    dataset: Dataset
    steps: int
    commit_every: int


@dataclass(frozen=True)
class Kept:
    """A state as it is kept on disk.

    Attributes:
        state: the state.
        opened: bytes of opened losses up to it.
    """

    state: AnyState
    opened: int


class Run:
    """One training run in one directory."""

    def __init__(self, work: Work, directory: Path) -> None:
        """Start at h_0, or where the last process stopped."""
        self.work = work
        self._directory = directory
        self._every = max(1, work.steps // CHECKPOINTS)
        directory.mkdir(parents=True, exist_ok=True)
        self._session = Session(work.program, work.seed, work.dataset)
        self._saved_at = time.monotonic()
        self._loose: Path | None = None
        self.roots: list[bytes] = []
        self._openings = bytearray()
        self._note()
        self._restore()

    @property
    def position(self) -> int:
        """Steps taken."""
        return self._session.position

    @property
    def done(self) -> bool:
        """Whether the run is at T."""
        return self.position >= self.work.steps

    @property
    def loss(self) -> float | None:
        """Loss of the last step; None in the trap state."""
        return self._session.loss

    def advance(self, seconds: float) -> None:
        """Train for about so long, at least one step; checkpoints on the way."""
        deadline = time.monotonic() + seconds
        while not self.done:
            self.step()
            if time.monotonic() >= deadline:
                break

    def step(self) -> None:
        """Take one step."""
        self.take_step(self._session)
        self._note()
        if self.position % self._every == 0 or self.done:
            self._checkpoint()
            self._drop(None)
        elif time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self._drop(self._checkpoint())

    def take_step(self, session: Session) -> None:
        """The step itself."""
        session.step()

    def trajectory(self) -> Trajectory:
        """What is committed to, once the run is done."""
        work = self.work
        positions = committed_positions(work.steps, work.commit_every)
        leaves = tuple(self.roots[position] for position in positions)
        return Trajectory(work.steps, work.commit_every, leaves)

    def state_at(self, position: int) -> AnyState:
        """The state at a position the run has passed, replayed from a checkpoint.

        Raises:
            IndexError: the run has not come there.
        """
        if not 0 <= position < len(self.roots):
            raise IndexError(
                f"expected a position below {len(self.roots)}, got {position}"
            )
        session = Session(self.work.program, self.work.seed, self.work.dataset)
        kept = [start for start in self._kept() if start <= position]
        if kept:
            session.resume(self._read(kept[-1]).state)
        while session.position < position:
            self.take_step(session)
        return session.state()

    def openings(self) -> bytes:
        """The opened loss of each committed position so far, as it is published."""
        return bytes(self._openings)

    # ── on disk ──────────────────────────────────────────────────────────────

    def _note(self) -> None:
        """Remember the root of the current state, and its loss where committed."""
        position, work = self._session.position, self.work
        if position % work.commit_every and position != work.steps:
            self.roots.append(self._session.root())
            return
        held = self._session.state()
        if isinstance(held, Trap):
            self.roots.append(held.root)
            return
        root, opening = opened_loss(held)
        self.roots.append(root)
        self._openings += opening

    def _drop(self, loose: Path | None) -> None:
        """Forget the last checkpoint that was made for time alone, for a newer one."""
        if self._loose is not None:
            self._loose.unlink(missing_ok=True)
        self._loose = loose

    def _checkpoint(self) -> Path:
        """Roots first: a state without its root would not be recognised.

        Nothing waits for the disk: what a power cut damages is noticed by its root
        and trained again.
        """
        write_whole(self._directory / "roots", b"".join(self.roots))
        write_whole(self._directory / "losses", bytes(self._openings))
        held = self._session.state()
        if isinstance(held, Trap):
            kind, content = _TRAPPED, held.previous
        else:
            kind, content = _ORDINARY, held.to_bytes()
        head = _HEAD.pack(kind, len(self._openings))
        path = self._path(held.position)
        write_whole(path, head + content)
        self._saved_at = time.monotonic()
        return path

    def _restore(self) -> None:
        """Continue from the newest intact checkpoint; without one, from h_0."""
        noted, opened = self._directory / "roots", self._directory / "losses"
        if not (noted.exists() and opened.exists()):
            return
        content = noted.read_bytes()
        roots = [content[i : i + 32] for i in range(0, len(content), 32)]
        openings = opened.read_bytes()
        if roots[:1] != self.roots:
            return
        for position in reversed(self._kept()):
            kept = self._intact(position, roots)
            if kept is not None and kept.opened <= len(openings):
                self._session.resume(kept.state)
                self.roots = roots[: position + 1]
                self._openings = bytearray(openings[: kept.opened])
                return

    def _intact(self, position: int, roots: list[bytes]) -> Kept | None:
        """The kept state at a position, if it is the one that was noted."""
        try:
            kept = self._read(position)
        except (Malformed, struct.error):
            return None
        noted = roots[position : position + 1] == [kept.state.root]
        return kept if noted else None

    def _kept(self) -> list[int]:
        names = (path.name for path in self._directory.glob("state-*"))
        numbers = (name.removeprefix("state-") for name in names)
        return sorted(int(number) for number in numbers if number.isdigit())

    def _read(self, position: int) -> Kept:
        content = self._path(position).read_bytes()
        kind, opened = _HEAD.unpack_from(content)
        rest = content[_HEAD.size :]
        if kind == _TRAPPED:
            return Kept(Trap(position, rest), opened)
        return Kept(state_from_bytes(self.work.program, position, rest), opened)

    def _path(self, position: int) -> Path:
        return self._directory / f"state-{position}"
