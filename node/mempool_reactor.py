"""Gossip of waiting transactions, without echo.

To each peer goes, once, every transaction that is admitted here and that the peer is
not known to have: a small one of a client of this node whole, a large one, and one that
a peer brought, as an offer of its hash, which the peer may request. So in a full mesh a
transaction travels whole once to each node, and in a sparse one it arrives too. What
waited before the peer came is offered by hash only. What a peer sent, offered or was
sent is remembered in a bounded set, and never sent to it.

An offered transaction is requested from one peer at a time, and of each peer only so
many at once. If it does not come in time, another peer that offered it is asked.
Requests beyond what this side holds ready to answer are thrown away.

Bytes that are no transaction of this chain, or whose signature names no sender, are
the fault of the peer: no correct node passes them on. A transaction that the pool
refuses is not: where it came from the head may be another, and the pool fuller or
emptier. Such a one is passed over for a while, whoever sends it, so that it costs one
recovery and not one per peer. A peer that sends faster than senders may be recovered
for it is not read for a while.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from chain.crypto import keccak
from chain.errors import Malformed
from chain.transaction import Transaction
from node.mempool import AlreadyKnownError, Mempool, MempoolError
from node.p2p.errors import PeerFaultError
from node.p2p.interface import Channel, Peer
from node.p2p.limits import TokenBucket
from node.pool_messages import (
    MAX_HASHES,
    MAX_MESSAGE_BYTES,
    MAX_REQUEST,
    Message,
    Offer,
    Request,
    Transactions,
    batches,
    chunks,
    decode,
    encode,
)
from node.recovery import Recovery

MEMPOOL: Final = Channel(
    id=0x30,
    name="mempool",
    max_bytes=MAX_MESSAGE_BYTES,
    messages_per_second=200,
    bytes_per_second=4 << 20,
    queue=32,
    priority=1,
)
_OPEN_REQUESTS: Final = 16

Inbox = trio.MemoryReceiveChannel[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class GossipLimits:
    """Bounds and times. Times are in seconds, sizes in bytes.

    Attributes:
        small: A client's transaction up to this size is sent whole.
        known: Hashes remembered per peer.
        refused: Hashes of refused transactions remembered for all peers.
        refusal: How long a refused transaction is passed over.
        offered: Hashes that one peer offered and that were not asked for yet.
        asked: Hashes that one peer is asked for at once.
        patience: How long a request may take.
        linger: How long news wait for more news, to travel together.
        recoveries: Senders recovered for one peer per second, sustained.
        burst: The same, at once.
    """

    small: int = 4 << 10
    known: int = 32_768
    refused: int = 8_192
    refusal: float = 10.0
    offered: int = 8_192
    asked: int = 256
    patience: float = 5.0
    linger: float = 0.1
    recoveries: float = 500.0
    burst: float = 2_000.0


class BoundedSet:
    """Remembers the last `most` hashes that were added."""

    __slots__ = ("_items", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        """Whether it is remembered."""
        return item in self._items

    def add(self, item: bytes) -> None:
        """Remember it, as the newest; forget the oldest when there are too many."""
        self._items[item] = None
        self._items.move_to_end(item)
        if len(self._items) > self._most:
            self._items.popitem(last=False)


@dataclass(slots=True)
class _Attendance:
    """A peer that is being attended to.

    Attributes:
        known: Hashes of what it has.
        offered: Hashes of what it has and this node has not, to be asked for.
        asked: Hashes that it was asked for, and until when each may take.
        changed: Set when one of the last two changed.
    """

    peer: Peer
    known: BoundedSet
    bucket: TokenBucket
    requests: trio.MemorySendChannel[Request]
    offered: OrderedDict[bytes, None] = field(default_factory=OrderedDict[bytes, None])
    asked: dict[bytes, float] = field(default_factory=dict[bytes, float])
    changed: trio.Event = field(default_factory=trio.Event)

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class MempoolReactor:
    """The reactor of the mempool."""

    channels: Sequence[Channel] = (MEMPOOL,)

    def __init__(
        self,
        mempool: Mempool,
        chain_id: int,
        admit: Callable[[Transaction], None],
        *,
        accepting: Callable[[], bool] = lambda: True,
        limits: GossipLimits | None = None,
    ) -> None:
        """Speak for a mempool.

        Args:
            mempool: What is offered.
            chain_id: Of every transaction.
            admit: Puts a decoded transaction into the mempool or raises MempoolError.
            accepting: False while the node is too far behind to judge transactions;
                what comes then is thrown away unread.
            limits: Bounds and times.
        """
        self._mempool = mempool
        self._admit = admit
        self._accepting = accepting
        self._limits = limits or GossipLimits()
        self._recovery = Recovery(chain_id)
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        self._asked: dict[bytes, float] = {}
        self._brought = BoundedSet(self._limits.known)
        self._news = trio.Event()
        mempool.listeners.append(self._wake)

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def attend(self, peer: Peer, inbox: Inbox) -> None:
        """Exchange transactions with one peer, until it goes.

        Raises:
            PeerFaultError: it sent what is no message or no transaction.
            Malformed: as above.
        """
        limits, now = self._limits, trio.current_time()
        sender, receiver = trio.open_memory_channel[Request](_OPEN_REQUESTS)
        attendance = _Attendance(
            peer,
            BoundedSet(limits.known),
            TokenBucket(limits.recoveries, limits.burst, now),
            sender,
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, attendance)
                nursery.start_soon(self._serve, attendance, receiver)
                nursery.start_soon(self._ask, attendance)
                async for _, payload in inbox:
                    await self._hear(attendance, decode(payload))
                nursery.cancel_scope.cancel()
        finally:
            for digest, until in attendance.asked.items():
                if self._asked.get(digest) == until:  # no other was asked since
                    del self._asked[digest]

    # -- hearing --------------------------------------------------------------------

    async def _hear(self, attendance: _Attendance, message: Message) -> None:
        match message:
            case Transactions():
                await self._take(attendance, message.raws)
            case Offer():
                self._consider(attendance, message.hashes)
            case Request():
                with suppress(trio.WouldBlock):
                    attendance.requests.send_nowait(message)

    async def _take(self, attendance: _Attendance, raws: Sequence[bytes]) -> None:
        """Admit what is new, after its sender was recovered in a thread."""
        fresh: list[bytes] = []
        for raw in raws:
            digest = keccak(raw)
            attendance.known.add(digest)
            self._brought.add(digest)
            self._asked.pop(digest, None)
            if attendance.asked.pop(digest, None) is not None:
                attendance.wake()
            if self._accepting() and not self._passed_over(digest):
                fresh.append(raw)
        if not fresh:
            return
        pause = attendance.bucket.charge(len(fresh), trio.current_time())
        try:
            transactions = await self._recovery.batch(fresh)
        except Malformed as error:
            raise PeerFaultError(f"mempool: {error}") from error
        for transaction in transactions:
            try:
                self._admit(transaction)
            except AlreadyKnownError:
                pass  # another peer was faster
            except MempoolError:
                self._refuse(transaction.hash)
            await trio.lowlevel.checkpoint()
        await trio.sleep(pause)

    def _passed_over(self, digest: bytes) -> bool:
        """Whether a transaction waits here already, or was refused just now."""
        if self._mempool.get(digest) is not None:
            return True
        refused = self._refused.get(digest)
        now = trio.current_time()
        return refused is not None and now - refused < self._limits.refusal

    def _refuse(self, digest: bytes) -> None:
        self._refused[digest] = trio.current_time()
        self._refused.move_to_end(digest)
        if len(self._refused) > self._limits.refused:
            self._refused.popitem(last=False)

    # -- asking ---------------------------------------------------------------------

    def _consider(self, attendance: _Attendance, hashes: Iterable[bytes]) -> None:
        """Note what is offered and new."""
        for digest in hashes:
            attendance.known.add(digest)
            room = len(attendance.offered) < self._limits.offered
            if room and self._accepting() and not self._passed_over(digest):
                attendance.offered[digest] = None
        attendance.wake()

    async def _ask(self, attendance: _Attendance) -> None:
        """Request what the peer offered, a little at a time."""
        while True:
            changed = attendance.changed
            chosen = self._choose(attendance)
            if chosen:
                await attendance.peer.send(MEMPOOL.id, encode(Request(chosen)))
                continue
            patience = self._limits.patience
            waiting = attendance.offered or attendance.asked
            with trio.move_on_after(patience if waiting else math.inf):
                await changed.wait()

    def _choose(self, attendance: _Attendance) -> tuple[bytes, ...]:
        """What to ask of a peer now: new here, and not asked of another."""
        now = trio.current_time()
        for digest in [d for d, until in attendance.asked.items() if until <= now]:
            del attendance.asked[digest]
            if self._asked.get(digest, math.inf) <= now:
                del self._asked[digest]
        room = min(MAX_REQUEST, self._limits.asked - len(attendance.asked))
        chosen: list[bytes] = []
        for digest in list(attendance.offered):
            if len(chosen) >= room:
                break
            if self._passed_over(digest):
                del attendance.offered[digest]
            elif self._asked.get(digest, 0.0) <= now:
                del attendance.offered[digest]
                deadline = now + self._limits.patience
                attendance.asked[digest] = self._asked[digest] = deadline
                chosen.append(digest)
        return tuple(chosen)

    # -- telling --------------------------------------------------------------------

    async def _serve(
        self, attendance: _Attendance, requests: trio.MemoryReceiveChannel[Request]
    ) -> None:
        async for request in requests:
            found = [self._mempool.get(digest) for digest in request.hashes]
            raws = [each.raw for each in found if each is not None]
            for batch in batches(raws):
                await attendance.peer.send(MEMPOOL.id, encode(batch))

    async def _tell(self, attendance: _Attendance) -> None:
        peer, known = attendance.peer, attendance.known
        waiting, arrival = self._mempool.since(0)
        await self._offer(attendance, waiting)
        while True:
            news = self._news
            waiting, arrival = self._mempool.since(arrival)
            fresh = [each for each in waiting if each.hash not in known]
            whole = [each for each in fresh if self._goes_whole(each)]
            for transaction in whole:
                known.add(transaction.hash)
            for batch in batches(each.raw for each in whole):
                await peer.send(MEMPOOL.id, encode(batch))
            await self._offer(attendance, [e for e in fresh if e.hash not in known])
            await news.wait()
            await trio.sleep(self._limits.linger)

    def _goes_whole(self, transaction: Transaction) -> bool:
        small = len(transaction.raw) <= self._limits.small
        return small and transaction.hash not in self._brought

    async def _offer(
        self, attendance: _Attendance, transactions: Sequence[Transaction]
    ) -> None:
        hashes = [each.hash for each in transactions]
        for chunk in chunks(hashes, MAX_HASHES):
            for digest in chunk:
                attendance.known.add(digest)
            await attendance.peer.send(MEMPOOL.id, encode(Offer(chunk)))
