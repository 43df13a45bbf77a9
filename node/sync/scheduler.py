"""Which heights to ask of whom, and what became of it. Pure: time is an argument.

Heights move through these stages, lowest first:

    missing -> asked -> received -> verified -> imported
       ^         |          |
       +---------+----------+   time-out, peer gone, block thrown away

- Ranges of consecutive heights are asked of the peers that say they have them, few at
  a time of each, never further ahead of the head than a window, and never more bytes
  than a buffer holds; only the height that everything waits for is exempt from that.
- A range that makes no progress, or takes too long, is asked of somebody else, and its
  peer rests for a while that doubles. What it still sends for that range is passed
  over. A peer that does it several times, or never finishes, is to be dropped.
- A peer that sent a block that is not final is to be banned; all its blocks that are
  not verified yet are thrown away.
- Once the head was reached, a lag of one block is left to consensus, for a while: a
  peer that was started again has nothing of the height before for its gossip.
- A correct peer ends an answer that has grown long, so none is longer than that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from node.p2p.errors import PeerFaultError
from node.sync.assembly import EncodedBlock
from node.sync.messages import ANSWER_BYTES, MAX_COUNT


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a scheduler; times in seconds, sizes in bytes.

    Attributes:
        window: Heights above the head that may be asked for or kept.
        buffer: Bytes of blocks that may wait for verification and import.
        expected: Bytes after which a peer ends its answer; so a request is taken to
            bring as many, for `buffer`.
        batch: Heights of one request.
        requests: Under way with one peer.
        silence: Longest wait for the next block of a request.
        patience: Longest wait for the whole of a request.
        rest: First pause of a slow peer; doubles.
        strikes: Slow answers in a row, after which a peer is dropped.
        grace: For how long a lag of one block is left to consensus.
    """

    window: int = 512
    buffer: int = 96 << 20
    expected: int = ANSWER_BYTES
    batch: int = 16
    requests: int = 2
    silence: float = 8.0
    patience: float = 30.0
    rest: float = 2.0
    strikes: int = 4
    grace: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a batch that no message can ask for."""
        if not 0 < self.batch <= MAX_COUNT:
            raise ValueError(f"batch: expected 1..{MAX_COUNT}, got {self.batch}")


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this request."""

    peer: bytes
    first: int
    count: int


@dataclass(slots=True)
class _Request:
    first: int
    count: int
    expected: int
    asked: float
    progress: float
    size: int = 0
    abandoned: bool = False

    @property
    def missing(self) -> range:
        return range(self.expected, self.first + self.count)


@dataclass(slots=True)
class _Peer:
    base: int
    head: int
    requests: list[_Request] = field(default_factory=list[_Request])
    strikes: int = 0
    rests_until: float = 0.0

    def has(self, height: int) -> bool:
        return self.base <= height <= self.head


@dataclass(frozen=True, slots=True)
class _Kept:
    peer: bytes
    content: EncodedBlock


class Scheduler:
    """The state of block sync.

    Attributes:
        head: The last imported height.
        verified: The last height that was verified, at least the head.
        reached: Whether the highest head of all peers was reached once.
    """

    def __init__(self, head: int, limits: Limits | None = None) -> None:
        self.head = head
        self.verified = head
        self.reached = False
        self._limits = limits or Limits()
        self._peers: dict[bytes, _Peer] = {}
        self._kept: dict[int, _Kept] = {}
        self._bytes = 0
        self._missing: list[range] = []
        self._frontier = head + 1
        self._behind_since: float | None = None
        self._overdue = False

    # -- what peers say ---------------------------------------------------------

    def status(self, peer: bytes, base: int, head: int) -> None:
        """A peer says which blocks it has."""
        found = self._peers.get(peer)
        if found is None:
            self._peers[peer] = _Peer(base, head)
        else:
            found.base, found.head = base, head
        self._note_reached()

    def gone(self, peer: bytes) -> None:
        """A peer is gone; what it was asked for is asked of others."""
        found = self._peers.pop(peer, None)
        if found is not None:
            for request in found.requests:
                self._give_back(request)
            self._note_reached()

    def received(self, peer: bytes, content: EncodedBlock, now: float) -> None:
        """A peer sent a block.

        Raises:
            PeerFaultError: nobody asked it for this one now.
        """
        request = self._under_way(peer, f"block {content.height}")
        if request.expected != content.height or not request.missing:
            raise PeerFaultError(
                f"block {content.height}: asked for {request.count} blocks from "
                f"{request.first}, of which {request.expected} comes next"
            )
        if request.size >= self._limits.expected:
            raise PeerFaultError(
                f"an answer of {request.size} bytes goes on with block {content.height}"
            )
        request.expected += 1
        request.size += content.size
        request.progress = now
        height = content.height
        if not request.abandoned and height > self.verified:
            self._kept[height] = _Kept(peer, content)
            self._bytes += content.size

    def ended(self, peer: bytes, first: int, served: int, now: float) -> None:
        """A peer says that its answer is complete.

        Raises:
            PeerFaultError: it is not, or not what was asked.
        """
        request = self._under_way(peer, f"the end of an answer from {first} on")
        if (first, first + served) != (request.first, request.expected):
            raise PeerFaultError(
                f"an answer of {served} blocks from {first} on: expected "
                f"{request.expected - request.first} blocks from {request.first} on"
            )
        found = self._peers[peer]
        found.requests.pop(0)
        self._give_back(request)
        if found.requests:  # answered one after the other
            found.requests[0].asked = found.requests[0].progress = now
        if served:
            if not request.abandoned:
                found.strikes = 0
        else:
            # It said that it has this block; it may have pruned it since.
            found.head = min(found.head, first - 1)
            self._strike(found, now)
            self._note_reached()

    def _under_way(self, peer: bytes, what: str) -> _Request:
        found = self._peers.get(peer)
        if found is None or not found.requests:
            raise PeerFaultError(f"{what}: nobody asked for it")
        return found.requests[0]

    # -- what to do ---------------------------------------------------------------

    @property
    def best(self) -> int:
        """The highest head that a peer has told."""
        return max((peer.head for peer in self._peers.values()), default=0)

    @property
    def peers(self) -> int:
        """How many peers told what they have."""
        return len(self._peers)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing need be."""
        under_way = self._kept or any(p.requests for p in self._peers.values())
        return not under_way and self.best <= self.head + self._lag

    @property
    def _lag(self) -> int:
        return 1 if self.reached and not self._overdue else 0

    def plan(self, now: float) -> list[Ask]:
        """The requests to send now; they count as sent."""
        if self.best > self.head and self._behind_since is None:
            self._behind_since = now
        since = self._behind_since
        self._overdue = since is not None and now - since >= self._limits.grace
        if self.idle:
            return []
        asks: list[Ask] = []
        for candidate in self._candidates():
            first = candidate.start
            if not self._has_room(first):
                break
            chosen = self._choose(first, now)
            if chosen is None:
                continue
            ident, peer = chosen
            last = min(candidate[-1], peer.head, first + self._limits.batch - 1)
            count = last - first + 1
            peer.requests.append(_Request(first, count, first, now, now))
            self._take_missing(candidate, last)
            asks.append(Ask(ident, first, count))
        return asks

    def _candidates(self) -> Iterator[range]:
        """Ranges to ask for, lowest first; each may be taken in part meanwhile."""
        batch = self._limits.batch
        for each in list(self._missing):
            for start in range(each.start, each.stop, batch):
                yield range(start, min(start + batch, each.stop))
        end = min(self.best, self.head + self._limits.window) + 1
        while self._frontier < end:
            before = self._frontier
            yield range(before, min(before + batch, end))
            if self._frontier == before:
                return

    def _take_missing(self, candidate: range, last: int) -> None:
        """Heights of `candidate` up to `last` are asked for now."""
        if candidate.start >= self._frontier:
            self._frontier = last + 1
            return
        left: list[range] = []
        for each in self._missing:
            left += [
                range(each.start, min(each.stop, candidate.start)),
                range(max(each.start, last + 1), each.stop),
            ]
        self._missing = [each for each in left if each]

    def _has_room(self, first: int) -> bool:
        if first == self.head + 1:
            return True
        under_way = sum(
            not request.abandoned
            for peer in self._peers.values()
            for request in peer.requests
        )
        reserved = (under_way + 1) * self._limits.expected
        return self._bytes + reserved <= self._limits.buffer

    def _choose(self, height: int, now: float) -> tuple[bytes, _Peer] | None:
        able = [
            (len(peer.requests), peer.strikes, ident)
            for ident, peer in self._peers.items()
            if peer.has(height)
            and peer.rests_until <= now
            and len(peer.requests) < self._limits.requests
        ]
        if not able:
            return None
        ident = min(able)[2]
        return ident, self._peers[ident]

    def expire(self, now: float) -> list[bytes]:
        """Ask others for what is late; return the peers that are to be dropped."""
        limits = self._limits
        lost: list[bytes] = []
        for ident, peer in self._peers.items():
            if not peer.requests:
                continue
            first = peer.requests[0]
            took = now - first.asked
            if first.abandoned:
                if took > 2 * limits.patience:
                    lost.append(ident)
            elif now - first.progress > limits.silence or took > limits.patience:
                for request in peer.requests:
                    self._give_back(request)
                    request.abandoned = True
                self._strike(peer, now)
            if peer.strikes >= limits.strikes and ident not in lost:
                lost.append(ident)
        return lost

    def _strike(self, peer: _Peer, now: float) -> None:
        peer.rests_until = now + self._limits.rest * 2**peer.strikes
        peer.strikes += 1

    def _give_back(self, request: _Request) -> None:
        """What a request did not bring is missing again."""
        if not request.abandoned:
            self._miss(request.missing)

    def _miss(self, heights: range) -> None:
        heights = range(max(heights.start, self.verified + 1), heights.stop)
        if heights:
            self._missing = sorted([*self._missing, heights], key=lambda r: r.start)

    # -- verification and import --------------------------------------------------

    def unverified(self, most: int) -> list[EncodedBlock]:
        """The received blocks right above the verified ones, at most `most`."""
        found: list[EncodedBlock] = []
        for height in range(self.verified + 1, self.verified + 1 + most):
            kept = self._kept.get(height)
            if kept is None:
                break
            found.append(kept.content)
        return found

    def accept(self, height: int) -> None:
        """The block right above the verified ones passed."""
        if height == self.verified + 1:
            self.verified = height

    def reject(self, height: int) -> bytes | None:
        """A block did not pass; return who sent it, to be banned.

        None when that block is no longer here.
        """
        kept = self._kept.get(height)
        if kept is None or height <= self.verified:
            return None
        for each in [
            each
            for each, other in self._kept.items()
            if other.peer == kept.peer and each > self.verified
        ]:
            self._drop(each)
            self._miss(range(each, each + 1))
        self.gone(kept.peer)
        return kept.peer

    def advance(self, head: int) -> None:
        """The head moved, by an import or otherwise."""
        if head <= self.head:
            return
        for height in [each for each in self._kept if each <= head]:
            self._drop(height)
        self._behind_since, self._overdue = None, False
        self.head = head
        self.verified = max(self.verified, head)
        self._frontier = max(self._frontier, head + 1)
        cut = (range(max(r.start, head + 1), r.stop) for r in self._missing)
        self._missing = [each for each in cut if each]
        self._note_reached()

    def _drop(self, height: int) -> None:
        self._bytes -= self._kept.pop(height).content.size

    def _note_reached(self) -> None:
        """A head that a peer tells and does not prove must not hold us up."""
        heads = [peer.head for peer in self._peers.values() if not peer.strikes]
        if heads and max(heads) <= self.head:
            self.reached = True
