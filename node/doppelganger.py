"""Whether a validator may sign yet: a state that may be old must not lead to two votes.

The last-sign-state keeps one process from contradicting itself. It can't when the file
was lost or comes from an old backup, nor when two machines run with one key. So:

    the state, when signing is asked for first           then
    ---------------------------------------------------  ------------------------------
    reaches the last committed height                    sign at once
    reaches that of the database and the log, and ends   listen for some heights, or
    before that of the network                           for some seconds in which no
                                                         height ends; then sign
    is missing, or ends before the last committed        listen for some heights, then
    height of the database or the log                    sign

    a vote by our own key that we did not sign           never sign, until a restart

Nothing is asked before a peer has told how far the network is: a node on an old copy of
everything would take an old height for the one under way.

Every committed height was signed by more than two thirds of the stake, so those whose
state ends before it are fewer than a third and the chain goes on without them, as long
as the others are there and vote. When an election makes the set smaller, or others go
away too, the chain may need who listens. Most often that one was only away, and nothing
is wrong with its state: it agrees with everything else on its disk. So it waits for no
more than some seconds at one height: a double is heard in them, and peers tell it what
an earlier self signed at this height. A state that was lost is another matter. When the
chain stands still without it, somebody must decide that no vote of it can be under way,
and set the number of heights to 0.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import structlog

from consensus.votes import Subject
from node.signer import Signer
from node.signstate import order, shown

# The first may be half over when it is entered; the second is heard whole.
DEFAULT_HEIGHTS: Final = 2
DEFAULT_SECONDS: Final = 10.0

_log = structlog.get_logger("node.doppelganger")


class Guard:
    """The decision for one life of a process."""

    def __init__(
        self,
        signer: Signer,
        committed: int,
        *,
        heights: int = DEFAULT_HEIGHTS,
        seconds: float = math.inf,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin.

        Args:
            signer: Tells what was signed last.
            committed: The last height that the database or the log knows as committed.
            heights: For how many heights to listen; 0 never listens.
            seconds: For how long to listen at one height, if the state reaches
                `committed`.
            now: A clock that never goes back.
        """
        last = signer.last
        self._last = None if last is None else last.subject
        self._known_until = signer.last_height
        self._committed = committed
        self._heights = heights
        whole = self._known_until is not None and self._known_until >= committed
        self._seconds = seconds if whole else math.inf
        self._now = now
        self._standing: tuple[int, float] | None = None  # a height, asked for since
        self._behind: Callable[[], bool] = lambda: False
        self._clear = self._spoke = False
        self._until: int | None = None  # the height at which listening ends
        self._refused: str | None = None

    def wait_while(self, behind: Callable[[], bool]) -> None:
        """Decide nothing while the node fetches blocks that others have.

        Heights that are over for others must not be signed by one who may have signed
        them before; and only after them it can be told whether the state is old.
        """
        self._behind = behind

    @property
    def reason(self) -> str | None:
        """Why nothing is signed, for people; None when there is no reason."""
        if self._refused is not None:
            return self._refused
        if self._until is not None and not self._clear:
            return f"listening until height {self._until} before signing"
        return None

    def may_sign(self, height: int) -> bool:
        """Whether something of this height, which is under way, may be signed."""
        if self._refused is not None:
            return False
        if not self._clear and not self._behind():
            self._decide(height)
        return self._clear

    def fetched(self) -> None:
        """A block came that others had decided: at its height nobody was listened to.

        What was decided before, about a state that then reached the head, is decided
        anew, unless this process has signed since: then its state is its own.
        """
        if not self._spoke:
            self._clear = False
            self._until = self._standing = None

    def signed(self, subject: Subject) -> None:
        """Our signer signed this."""
        self._spoke = True
        if self._last is None or order(subject) > order(self._last):
            self._last = subject

    def saw_own_vote(self, subject: Subject) -> None:
        """A verified vote or proposal by our own key came from outside or the log."""
        last = self._last
        ours = last is not None and (
            order(subject) <= order(last) and not subject.contradicts(last)
        )
        if ours or self._refused is not None:
            return
        self._refused = (
            f"a {shown(subject)} is signed by this validator's own key, and not by "
            "this node since its last-sign-state was written: another node runs with "
            "this key, or the state is an old one. Nothing more is signed. Make sure "
            "that no other node has the key, then start this one again"
        )
        _log.error("this validator signs nothing", reason=self._refused)

    def _decide(self, height: int) -> None:
        if self._until is None:
            if not self._is_stale(height):
                self._clear = True
                return
            self._until = height + self._heights
            _log.warning(
                "the last-sign-state may be old: listening before signing",
                signed=self._known_until,
                committed=max(self._committed, height - 1),
                until=self._until,
                hint="if this is the only node with this key, and the chain stands "
                "still without it, set doppelganger_heights = 0 once",
            )
        now = self._now()
        if self._standing is None or self._standing[0] != height:
            self._standing = height, now
        if height >= self._until or now - self._standing[1] >= self._seconds:
            self._clear = True
            _log.info("nobody else was heard with this key: signing", height=height)

    def _is_stale(self, height: int) -> bool:
        if not self._heights:
            return False
        known = self._known_until
        return known is None or known < max(self._committed, height - 1)
