"""Snapshot sync: a reactor that serves snapshots, and fetches one from several peers.

The newest snapshot that can be verified is taken, of several of one height the one that
most peers offer. Before that, the peers that are expected get a while to offer theirs.

A chunk is believed when its proof leads to the manifest's root, so each comes from
whichever peer has room; it is *used* in order, by the restorer, which believes the
trusted hash alone. A manifest whose chunks turn out to be false was a lie of everybody
who offered it: they are banned, and another manifest is tried.

Every peer has a few fetches under way, and all together a bounded number. A chunk whose
peer is dropped is asked elsewhere. When all wait for one chunk, it is asked elsewhere
before that: its peer is *blamed*, and for a while is asked nothing as long as there are
others. So a peer that is just not slow enough to be dropped costs one short wait. Who
lacks what it offered is blamed, too.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from chain.header import Header
from node.p2p.errors import P2PError, PeerFaultError, PeerStalledError
from node.p2p.interface import Channel, Peer
from node.sync.errors import BadSnapshotError, FalseSnapshotError
from node.sync.merkle import leads_to
from node.sync.restore import Restorer
from node.sync.snapshotfile import SnapshotFile
from node.sync.snapshotmessages import (
    MAX_MESSAGE_BYTES,
    MAX_OFFERS,
    Absent,
    Chunk,
    Fetch,
    Offers,
    decode,
    encode,
)
from node.sync.snapshots import Manifest

_log = structlog.get_logger("node.sync.snapshots")

Inbox = trio.MemoryReceiveChannel[tuple[int, bytes]]
Begin = Callable[[Manifest], Awaitable[Restorer | None]]
Confirm = Callable[[Manifest], Awaitable[None]]

SNAPSHOTS = Channel(
    id=0x41,
    name="snapshots",
    max_bytes=MAX_MESSAGE_BYTES,
    messages_per_second=500,
    bytes_per_second=64 << 20,
    queue=16,
    priority=1,
)
_OPEN_FETCHES = 8
_REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds of fetching; times in seconds.

    Attributes:
        ahead: Chunks that may be under way or wait for their turn.
        each: Fetches under way with one peer.
        late: Wait for the chunk that all others wait for, after which another peer is
            asked for it, too.
        patience: Longest wait for one chunk, after which its peer is dropped; and for
            somebody to offer a snapshot again that nobody offers any more.
        penance: For which a peer that was blamed is asked only when there is no other.
        discovery: Longest wait, from the first offer on, for the other peers that are
            expected to offer something.
        rest: Before a snapshot is tried again that could not be verified.
        tick: Between two looks for what is late.
    """

    ahead: int = 32
    each: int = 4
    late: float = 3.0
    patience: float = 15.0
    penance: float = 60.0
    discovery: float = 10.0
    rest: float = 2.0
    tick: float = 0.5


@dataclass(slots=True)
class _Supplier:
    peer: Peer
    scope: trio.CancelScope
    manifests: dict[bytes, Manifest] | None = None
    fetches: dict[tuple[bytes, int], float] = field(
        default_factory=dict[tuple[bytes, int], float]
    )
    verdict: P2PError | None = None

    def end(self, verdict: P2PError) -> None:
        if self.verdict is None:
            self.verdict = verdict
        self.scope.cancel()


class SnapshotSync:
    """Offers snapshot files to peers, and fetches the snapshot of a trusted block."""

    def __init__(
        self, served: Iterable[SnapshotFile] = (), limits: FetchLimits | None = None
    ) -> None:
        """Wire it.

        Args:
            served: Open snapshot files; the first eight are offered.
            limits: Of fetching.
        """
        self._served: dict[bytes, SnapshotFile] = {}
        self._served_changed = trio.Event()
        self.serve(served)
        self._limits = limits or FetchLimits()
        self._suppliers: dict[bytes, _Supplier] = {}
        self._heard: set[bytes] = set()  # who has offered anything
        self._blamed: dict[bytes, float] = {}  # until when
        self._chunks: dict[int, bytes] = {}
        self._restorer: Restorer | None = None
        self._offered = 0.0  # when somebody last offered what is being restored
        self._false: set[Manifest] = set()
        self._retry: dict[Manifest, float] = {}
        self._changed = trio.Event()

    @property
    def channels(self) -> Sequence[Channel]:
        """One channel."""
        return (SNAPSHOTS,)

    def serve(self, files: Iterable[SnapshotFile]) -> None:
        """Offer these from now on, and no others."""
        chosen = list(files)[:MAX_OFFERS]
        self._served = {each.manifest.root: each for each in chosen}
        self._served_changed.set()
        self._served_changed = trio.Event()

    @property
    def newest(self) -> int:
        """The height of the newest snapshot that is offered; 0: none."""
        heights = (each.manifest.height for each in self._served.values())
        return max(heights, default=0)

    @property
    def progress(self) -> tuple[int, int]:
        """Chunks that were restored, of how many; (0, 0) before one is found."""
        restorer = self._restorer
        return (0, 0) if restorer is None else (restorer.next, restorer.manifest.chunks)

    @property
    def height(self) -> int:
        """Of the snapshot that is being restored; 0: none."""
        restorer = self._restorer
        return 0 if restorer is None else restorer.manifest.height

    @property
    def suppliers(self) -> int:
        """How many peers offer what is being restored."""
        restorer = self._restorer
        return 0 if restorer is None else len(self._offering(restorer.manifest))

    def _offering(self, manifest: Manifest) -> list[_Supplier]:
        return [
            each
            for each in self._suppliers.values()
            if each.verdict is None
            and (each.manifests or {}).get(manifest.root) == manifest
        ]

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- fetching ---------------------------------------------------------------------

    async def fetch(
        self,
        begin: Begin,
        *,
        first: Manifest | None = None,
        expected: int = 1,
        confirm: Confirm | None = None,
    ) -> Header:
        """Restore from peers; returns the header of the trusted block when it is done.

        Args:
            begin: Makes the restorer of a manifest; raises `BadSnapshotError` for
                one that is of no use here, which is then passed over, and
                `FalseSnapshotError` for a lie; None when it cannot tell yet.
            first: Go on with this one rather than with a newer one.
            expected: Peers whose offers are waited for before one is chosen.
            confirm: Has the last word before what was restored becomes the chain;
                what it raises ends this.

        Raises:
            SyncError: the database is not empty.
        """
        await self._discover(expected)
        while True:
            changed = self._changed
            restorer = self._restorer or await self._choose(begin, first)
            if restorer is not None and self._is_lost(restorer):
                _log.info("nobody offers the snapshot any more; looking for another")
                self._false.add(restorer.manifest)
                self._restorer = None
                continue
            if restorer is not None:
                self._expire()
                self._ask(restorer)
                try:
                    if await self._take(restorer):
                        if confirm is not None:
                            await confirm(restorer.manifest)
                        header = await trio.to_thread.run_sync(restorer.finish)
                        self._restorer = None
                        return header
                except BadSnapshotError as error:
                    self._condemn(restorer.manifest, str(error))
                    continue
            with trio.move_on_after(self._limits.tick):
                await changed.wait()

    async def _discover(self, expected: int) -> None:
        """Wait for a snapshot, then for the offers of so many peers, not for ever."""
        while not any(each.manifests for each in self._suppliers.values()):
            await self._changed.wait()
        with trio.move_on_after(self._limits.discovery):
            while len(self._heard) < expected:
                await self._changed.wait()

    async def _choose(self, begin: Begin, first: Manifest | None) -> Restorer | None:
        """The restorer of the newest manifest, of those that most peers offer."""
        now = trio.current_time()
        if len(self._false) + len(self._retry) > _REMEMBERED:
            self._false.clear()
            self._retry.clear()
        offers = Counter(
            manifest
            for supplier in self._suppliers.values()
            for manifest in (supplier.manifests or {}).values()
            if manifest not in self._false and self._retry.get(manifest, now) <= now
        )
        for manifest, _ in sorted(
            offers.items(),
            key=lambda offer: (offer[0] != first, -offer[0].height, -offer[1]),
        ):
            try:
                restorer = await begin(manifest)
            except FalseSnapshotError as error:
                self._condemn(manifest, str(error))
                continue
            except BadSnapshotError as error:
                # Of another block: true perhaps, and no use to us.
                self._false.add(manifest)
                _log.info("snapshot passed over", reason=str(error))
                continue
            if restorer is None:
                self._retry[manifest] = now + self._limits.rest
                continue
            self._restorer, self._chunks = restorer, {}
            self._offered = trio.current_time()
            _log.info(
                "restoring a snapshot",
                height=manifest.height,
                hash="0x" + manifest.block_hash.hex(),
                chunks=manifest.chunks,
                done=restorer.next,
            )
            return restorer
        return None

    def _is_lost(self, restorer: Restorer) -> bool:
        """Whether nobody has offered for long what is being restored."""
        manifest, now = restorer.manifest, trio.current_time()
        if self._offering(manifest):
            self._offered = now
        return now - self._offered > self._limits.patience

    def _ask(self, restorer: Restorer) -> None:
        manifest = restorer.manifest
        able = self._offering(manifest)
        asked = {place for each in able for place in each.fetches}
        end = min(restorer.next + self._limits.ahead, manifest.chunks)
        for index in range(restorer.next, end):
            place = (manifest.root, index)
            if index in self._chunks or place in asked:
                continue
            if not self._ask_somebody(able, place):
                return
        self._hurry(restorer, able)

    def _ask_somebody(
        self, able: Sequence[_Supplier], place: tuple[bytes, int]
    ) -> bool:
        """Ask for a chunk; False when nobody who can be asked has room."""
        there = [each for each in able if each.verdict is None]
        free = [
            each
            for each in list(filter(self._is_trusty, there)) or there
            if place not in each.fetches and len(each.fetches) < self._limits.each
        ]
        for chosen in sorted(free, key=lambda each: (len(each.fetches), each.peer.id)):
            if chosen.peer.try_send(SNAPSHOTS.id, encode(Fetch(*place))):
                chosen.fetches[place] = trio.current_time()
                return True
            chosen.end(PeerStalledError("takes no requests for chunks"))
        return False

    def _hurry(self, restorer: Restorer, able: Sequence[_Supplier]) -> None:
        """Ask somebody else, too, when all chunks wait for one that is late."""
        place = (restorer.manifest.root, restorer.next)
        asked = [each for each in able if place in each.fetches]
        if restorer.next in self._chunks or not asked:
            return
        latest = max(each.fetches[place] for each in asked)
        if trio.current_time() - latest <= self._limits.late:
            return
        for each in asked:
            self._blame(each, "all others wait for it")
        self._ask_somebody(able, place)

    def _blame(self, supplier: _Supplier, reason: str) -> None:
        if len(self._blamed) > _REMEMBERED:
            self._blamed.clear()
        now = trio.current_time()
        if self._is_trusty(supplier):
            peer = supplier.peer.address
            _log.info("asked last for chunks", peer=peer, reason=reason)
        self._blamed[supplier.peer.id] = now + self._limits.penance

    def _is_trusty(self, supplier: _Supplier) -> bool:
        return self._blamed.get(supplier.peer.id, -1.0) <= trio.current_time()

    def _expire(self) -> None:
        latest = trio.current_time() - self._limits.patience
        for supplier in self._suppliers.values():
            oldest = next(iter(supplier.fetches.values()), latest)
            if oldest < latest and supplier.verdict is None:
                self._blame(supplier, "no answer")
                supplier.end(PeerStalledError("too slow with chunks"))

    async def _take(self, restorer: Restorer) -> bool:
        """Restore what came in order; tell whether it is all."""
        while (chunk := self._chunks.pop(restorer.next, None)) is not None:
            await trio.to_thread.run_sync(restorer.take, chunk)
            self._ask(restorer)
        return restorer.complete

    def _condemn(self, manifest: Manifest, reason: str) -> None:
        _log.warning("false snapshot", root="0x" + manifest.root.hex(), reason=reason)
        self._false.add(manifest)
        self._restorer, self._chunks = None, {}
        for supplier in self._offering(manifest):
            supplier.end(PeerFaultError(f"offered a false snapshot: {reason}"))

    # -- one peer ----------------------------------------------------------------------

    async def attend(self, peer: Peer, inbox: Inbox) -> None:
        """Offer, serve and take chunks until the peer goes.

        Raises:
            PeerFaultError: it broke a rule, or offered a false snapshot.
            PeerStalledError: it is too slow.
        """
        supplier = _Supplier(peer, trio.CancelScope())
        self._suppliers[peer.id] = supplier
        sender, receiver = trio.open_memory_channel[Fetch](_OPEN_FETCHES)
        try:
            with supplier.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._offer, peer)
                    nursery.start_soon(self._serve, peer, receiver)
                    await self._hear(supplier, inbox, sender)
                    nursery.cancel_scope.cancel()
        finally:
            if self._suppliers.get(peer.id) is supplier:
                del self._suppliers[peer.id]
            self._note()
        if supplier.verdict is not None:
            raise supplier.verdict

    async def _hear(
        self,
        supplier: _Supplier,
        inbox: Inbox,
        fetches: trio.MemorySendChannel[Fetch],
    ) -> None:
        async for _, payload in inbox:
            if supplier.verdict is not None:
                return
            message = decode(payload)
            match message:
                case Offers():
                    if len(self._heard) < _REMEMBERED:
                        self._heard.add(supplier.peer.id)
                    supplier.manifests = {each.root: each for each in message.manifests}
                case Fetch():
                    try:
                        fetches.send_nowait(message)
                    except trio.WouldBlock:
                        raise PeerFaultError(
                            f"more than {_OPEN_FETCHES} fetches at once"
                        ) from None
                case Chunk():
                    self._take_chunk(supplier, message)
                case Absent():
                    if (
                        supplier.fetches.pop((message.root, message.index), None)
                        is None
                    ):
                        raise PeerFaultError("a chunk is absent that nobody wanted")
                    (supplier.manifests or {}).pop(message.root, None)
                    self._blame(supplier, "it lacks what it offered")
            self._note()

    def _take_chunk(self, supplier: _Supplier, message: Chunk) -> None:
        place = (message.root, message.index)
        if supplier.fetches.pop(place, None) is None:
            raise PeerFaultError(f"chunk {message.index}: nobody asked for it")
        restorer = self._restorer
        if restorer is None or restorer.manifest.root != message.root:
            return
        count = restorer.manifest.chunks
        if not leads_to(
            message.root, message.index, count, message.content, message.proof
        ):
            raise PeerFaultError(f"chunk {message.index}: its proof is false")
        if message.index >= restorer.next:
            self._chunks[message.index] = message.content

    async def _serve(
        self, peer: Peer, fetches: trio.MemoryReceiveChannel[Fetch]
    ) -> None:
        async for fetch in fetches:
            answer = encode(Absent(fetch.root, fetch.index))
            file = self._served.get(fetch.root)
            if file is not None and fetch.index < file.manifest.chunks:
                try:
                    answer = await trio.to_thread.run_sync(_chunk, file, fetch.index)
                except BadSnapshotError as error:
                    _log.warning("a snapshot cannot be read", reason=str(error))
                    self._served.pop(fetch.root, None)
            await peer.send(SNAPSHOTS.id, answer)

    async def _offer(self, peer: Peer) -> None:
        """Say what is served here, and again when that changed."""
        while True:
            changed = self._served_changed
            manifests = tuple(each.manifest for each in self._served.values())
            await peer.send(SNAPSHOTS.id, encode(Offers(manifests)))
            await changed.wait()


def _chunk(file: SnapshotFile, index: int) -> bytes:
    root = file.manifest.root
    return encode(Chunk(root, index, file.chunk(index), file.proof(index)))
