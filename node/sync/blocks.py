"""Block sync: a reactor that fetches final blocks, and serves them to others.

Four things go on at once, and each waits only for the one before it:

    asking     requests to peers, as the scheduler plans them
    attending  a task per peer puts its answers together
    verifying  batches of blocks are checked in a worker thread, ahead of the import
    importing  one block after the other is handed to `import_block`

so that downloading and checking signatures hide behind the execution. What executes is
not known here: `import_block(block, certificate)` returns when the block is the head,
or passes over a block that is not the head's child because consensus was faster.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from chain.block import Block
from chain.database import ChainDatabase
from chain.errors import NotFound
from chain.header import Header
from chain.sidecar import CommitCertificate
from node.p2p.errors import P2PError, PeerFaultError, PeerStalledError
from node.p2p.interface import Channel, Peer
from node.sync.assembly import Assembler, EncodedBlock, messages
from node.sync.errors import SyncError
from node.sync.messages import (
    ANSWER_BYTES,
    MAX_MESSAGE_BYTES,
    BlockPart,
    End,
    LargeBlock,
    Request,
    SmallBlock,
    Status,
    decode,
    encode,
)
from node.sync.scheduler import Limits, Scheduler
from node.sync.verification import Final, FindSet, Verdict, verify_blocks

_log = structlog.get_logger("node.sync")

ImportBlock = Callable[[Block, CommitCertificate], Awaitable[None]]
Inbox = trio.MemoryReceiveChannel[tuple[int, bytes]]

BLOCKS = Channel(
    id=0x40,
    name="blocks",
    max_bytes=MAX_MESSAGE_BYTES,
    messages_per_second=5_000,
    bytes_per_second=128 << 20,
    queue=64,
    priority=2,
)
_OPEN_REQUESTS = 4
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Pace:
    """How often this side looks and speaks, in seconds.

    Attributes:
        status: Between two looks at the own head, to tell peers that it moved.
        tick: Between two looks for answers that are late.
    """

    status: float = 0.5
    tick: float = 0.5


@dataclass(slots=True)
class _Attendance:
    """A peer that is being attended to, and why that ends."""

    peer: Peer
    scope: trio.CancelScope
    verdict: P2PError | None = None

    def end(self, verdict: P2PError) -> None:
        if self.verdict is None:
            self.verdict = verdict
        self.scope.cancel()


class BlockSync:
    """Fetches blocks until the head of all peers is reached, and again when behind.

    Attributes:
        caught_up: Set once no peer has more blocks than this node.
        heard: Whether any peer has told yet which blocks it has.
    """

    def __init__(
        self,
        database: ChainDatabase,
        find_set: FindSet,
        import_block: ImportBlock,
        *,
        limits: Limits | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Wire it; nothing runs yet.

        Args:
            database: Holds at least the genesis block.
            find_set: Validator sets by hash (`node.sync.sets`).
            import_block: Executes and commits; see above.
            limits: Of the scheduler.
            pace: Of this side.
        """
        self.caught_up = trio.Event()
        self.heard = False
        self._database = database
        self._genesis_hash = database.genesis_hash()
        self._find_set = find_set
        self._import_block = import_block
        self._pace = pace or Pace()
        self._tip = database.head()
        self._scheduler = Scheduler(self._tip.number, limits)
        self._verified: dict[int, Final] = {}
        self._peers: dict[bytes, _Attendance] = {}
        self._changed = trio.Event()

    @property
    def channels(self) -> Sequence[Channel]:
        """One channel."""
        return (BLOCKS,)

    @property
    def best(self) -> int:
        """The highest head that a peer tells."""
        return self._scheduler.best

    @property
    def syncing(self) -> bool:
        """Whether blocks are on their way, for eth_syncing."""
        return not self._scheduler.idle

    # -- life -----------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch, verify and import until cancelled.

        Raises:
            ForkError: the network made final what contradicts this database.
            SyncError: a validator set is missing, or `import_block` does not import.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask)
            nursery.start_soon(self._verify)
            nursery.start_soon(self._import)

    def _note(self) -> None:
        """Wake the tasks: something changed."""
        if self._scheduler.reached:
            self.caught_up.set()
        self._changed.set()
        self._changed = trio.Event()

    async def _ask(self) -> None:
        while True:
            changed, now = self._changed, trio.current_time()
            self._advance()
            for ident in self._scheduler.expire(now):
                self._part(ident, PeerStalledError("too slow with blocks"))
            for ask in self._scheduler.plan(now):
                request = encode(Request(ask.first, ask.count))
                attendance = self._peers[ask.peer]
                if not attendance.peer.try_send(BLOCKS.id, request):
                    self._part(ask.peer, PeerStalledError("takes no requests"))
            with trio.move_on_after(self._pace.tick):
                await changed.wait()

    def _part(self, ident: bytes, verdict: P2PError) -> None:
        self._scheduler.gone(ident)
        attendance = self._peers.get(ident)
        if attendance is not None:
            attendance.end(verdict)

    def _advance(self) -> Header:
        """Bring the scheduler up to the head, which consensus may move too."""
        head = self._database.head()
        if head.number > self._scheduler.head:
            self._scheduler.advance(head.number)
            for height in [each for each in self._verified if each <= head.number]:
                del self._verified[height]
        if head.number >= self._tip.number:
            self._tip = head
        return head

    async def _verify(self) -> None:
        while True:
            changed = self._changed
            self._advance()
            parent = self._tip
            batch = self._scheduler.unverified(_BATCH)
            if batch and parent.number == self._scheduler.verified:
                verdict = await trio.to_thread.run_sync(
                    verify_blocks, self._genesis_hash, parent, self._find_set, batch
                )
                self._take(parent, verdict, batch)
                if verdict.good or verdict.bad:
                    self._note()
                    continue
            await changed.wait()

    def _take(
        self, parent: Header, verdict: Verdict, batch: Sequence[EncodedBlock]
    ) -> None:
        """Use a verdict on the blocks after `parent`."""
        scheduler = self._scheduler
        for final in verdict.good:
            height = final.block.number
            if height == scheduler.verified + 1:
                scheduler.accept(height)
                self._verified[height] = final
                self._tip = final.block.header
        failed = parent.number + len(verdict.good) + 1
        if verdict.bad is not None:
            culprit = scheduler.reject(failed)
            if culprit is not None:
                _log.warning("bad block", height=failed, reason=str(verdict.bad))
                self._part(culprit, PeerFaultError(str(verdict.bad)))
        elif (
            not verdict.good
            and self._database.head() == parent
            and self._find_set(parent.extra_data) is None  # looked up after the head
        ):
            raise SyncError(
                f"the validator set 0x{parent.extra_data.hex()} of height "
                f"{batch[0].height} is missing from the database"
            )

    async def _import(self) -> None:
        while True:
            changed = self._changed
            head = self._advance()
            final = self._verified.get(head.number + 1)
            if final is None:
                await changed.wait()
                continue
            await self._import_block(final.block, final.certificate)
            if self._advance().number < final.block.number:
                raise SyncError(
                    f"block {final.block.number} was verified, and is not imported"
                )
            self._note()

    # -- one peer -------------------------------------------------------------------

    async def attend(self, peer: Peer, inbox: Inbox) -> None:
        """Serve a peer and take its answers, until it goes.

        Raises:
            PeerFaultError: it broke a rule, or sent a block that is not final.
            PeerStalledError: it is too slow.
        """
        attendance = _Attendance(peer, trio.CancelScope())
        self._peers[peer.id] = attendance
        sender, receiver = trio.open_memory_channel[Request](_OPEN_REQUESTS)
        try:
            with attendance.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._tell, peer)
                    nursery.start_soon(self._serve, peer, receiver)
                    await self._hear(attendance, inbox, sender)
                    nursery.cancel_scope.cancel()
        finally:
            if self._peers.get(peer.id) is attendance:
                del self._peers[peer.id]
                self._scheduler.gone(peer.id)
                self._note()
        if attendance.verdict is not None:
            raise attendance.verdict

    async def _hear(
        self,
        attendance: _Attendance,
        inbox: Inbox,
        requests: trio.MemorySendChannel[Request],
    ) -> None:
        assembler, scheduler = Assembler(), self._scheduler
        peer = attendance.peer
        async for _, payload in inbox:
            if attendance.verdict is not None:
                return  # its requests are forgotten; what it still sends is no fault
            message = decode(payload)
            match message:
                case Status():
                    scheduler.status(peer.id, message.base, message.head)
                    self.heard = True
                    self._note()
                case Request():
                    try:
                        requests.send_nowait(message)
                    except trio.WouldBlock:
                        raise PeerFaultError(
                            f"more than {_OPEN_REQUESTS} requests at once"
                        ) from None
                case SmallBlock() | LargeBlock() | BlockPart():
                    content = assembler.take(message)
                    if content is not None:
                        scheduler.received(peer.id, content, trio.current_time())
                        self._note()
                case End():
                    if assembler.busy:
                        raise PeerFaultError("an answer ends inside a block")
                    scheduler.ended(
                        peer.id, message.first, message.served, trio.current_time()
                    )
                    self._note()

    async def _tell(self, peer: Peer) -> None:
        """Say which blocks are here, whenever that changed."""
        told: Status | None = None
        while True:
            status = Status(self._database.base(), self._database.head().number)
            if status != told:
                await peer.send(BLOCKS.id, encode(status))
                told = status
            await trio.sleep(self._pace.status)

    async def _serve(
        self, peer: Peer, requests: trio.MemoryReceiveChannel[Request]
    ) -> None:
        async for request in requests:
            found = await trio.to_thread.run_sync(
                partial(read_blocks, self._database, request.first, request.count)
            )
            for each in found:
                for message in messages(each):
                    await peer.send(BLOCKS.id, encode(message))
            await peer.send(BLOCKS.id, encode(End(request.first, len(found))))


def read_blocks(
    database: ChainDatabase, first: int, count: int
) -> tuple[EncodedBlock, ...]:
    """Consecutive final blocks from a height on, until an answer is long enough."""
    found: list[EncodedBlock] = []
    size = 0
    if first < database.base():
        return ()
    for height in range(first, first + count):
        block_hash = database.hash_at(height)
        if block_hash is None or size >= ANSWER_BYTES:
            break
        certificate = database.encoded_certificate(block_hash)
        if certificate is None:
            break
        try:
            encoded = database.encoded_block(block_hash)
        except NotFound:  # pruned a moment ago
            break
        block = EncodedBlock(height, encoded, certificate)
        found.append(block)
        size += block.size
    return tuple(found)
