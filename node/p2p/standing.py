"""What is known of node ids: score and ban. Pure; `wall` is seconds since the epoch.

A score lies from -100 to 100 and starts at 0. A minute of connection is worth one
point, at most 10 a connection; a peer that stalls loses 5. Among addresses to dial the
better score goes first. A *provable fault* sets the score to -100 and bans the id: for
the first time as long as configured, then twice as long, and so on.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

WORST: Final = -100.0
BEST: Final = 100.0
STALL: Final = 5.0
MOST_PER_CONNECTION: Final = 10.0
MAX_IDS: Final = 4_096


@dataclass(slots=True)
class Standing:
    """Of one node id."""

    score: float = 0.0
    faults: int = 0
    banned_until: float = 0.0


class Standings:
    """Of all ids heard of lately, a bounded number.

    Args:
        ban: Seconds of a first ban.
        ban_most: Seconds of the longest.
        exempt: Ids that are never banned.
    """

    def __init__(self, ban: float, ban_most: float, exempt: frozenset[bytes]) -> None:
        self._ban = ban
        self._ban_most = ban_most
        self._exempt = exempt
        self._known: OrderedDict[bytes, Standing] = OrderedDict()

    def score(self, ident: bytes) -> float:
        """From -100 to 100."""
        standing = self._known.get(ident)
        return 0.0 if standing is None else standing.score

    def banned_until(self, ident: bytes) -> float:
        """When a ban ends, in wall time; 0 when there was none."""
        standing = self._known.get(ident)
        return 0.0 if standing is None else standing.banned_until

    def connected(self, ident: bytes, seconds: float) -> None:
        """A connection ended without fault after so long."""
        self._add(ident, min(seconds / 60, MOST_PER_CONNECTION))

    def stalled(self, ident: bytes) -> None:
        """A peer went silent or took nothing."""
        self._add(ident, -STALL)

    def fault(self, ident: bytes, wall: float) -> None:
        """A peer broke a rule that every correct node keeps."""
        standing = self._entry(ident)
        standing.score = WORST
        standing.faults += 1
        if ident not in self._exempt:
            seconds = self._ban * 2.0 ** min(standing.faults - 1, 32)
            standing.banned_until = wall + min(seconds, self._ban_most)

    def bans(self, wall: float) -> dict[bytes, Standing]:
        """The bans in force, to be stored."""
        return {i: s for i, s in self._known.items() if s.banned_until > wall}

    def restore(self, bans: dict[bytes, Standing]) -> None:
        """Bans as `bans` gave them."""
        for ident, standing in bans.items():
            if ident not in self._exempt:
                self._entry(ident)
                self._known[ident] = standing

    def _add(self, ident: bytes, points: float) -> None:
        standing = self._entry(ident)
        standing.score = max(WORST, min(BEST, standing.score + points))

    def _entry(self, ident: bytes) -> Standing:
        standing = self._known.pop(ident, None) or Standing()
        if len(self._known) >= MAX_IDS:
            harmless = (i for i, s in self._known.items() if not s.faults)
            del self._known[next(harmless, next(iter(self._known)))]
        self._known[ident] = standing
        return standing
