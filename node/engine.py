"""The engine: performs the effects of `consensus.machine`, height after height.

One task owns the machine. What peers send is checked in the task of whoever brings it
(`node.hearing`), what this validator says is built and signed by `node.author`; both
queue what follows from it. The engine takes one input at a time, in this order, each
step done before the next:

1. write the input to the log (`node.wal`), and on the disk if we signed it;
2. feed it to the machine;
3. perform the effects: build, sign (`node.signer` makes it durable first), wait,
   commit block, receipts, state, certificate and head in one atomic batch.

A process killed between any two of these starts again at the last committed head,
feeds the log of its height to the machine and asks it what is still to do. Signatures
are asked of the signer, which repeats or refuses, so nothing that left is contradicted.

Building, checking, signing and committing run in worker threads, so the event loop
keeps answering; the mempool belongs to the loop and is read through a snapshot. What
others need from here (`node.gossip`) they read, and wait on `changed`.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog
import trio

from chain.block import Block
from chain.errors import BadSignature
from chain.header import Header
from chain.sidecar import CommitCertificate
from chain.transaction import Transaction
from consensus.certificate import certify, verify_certificate
from consensus.errors import Impossible, InvalidProposal
from consensus.evidence import Evidence
from consensus.machine import (
    BlockChecked,
    Build,
    Decide,
    Effect,
    Equivocation,
    Fetch,
    Input,
    ProposalSeen,
    Propose,
    Schedule,
    Sign,
    Start,
    State,
    Step,
    TimedOut,
    TimeoutKind,
    VoteSeen,
    apply,
    resume,
)
from consensus.messages import (
    Ballot,
    Message,
    Proposal,
    Quorum,
)
from consensus.validators import ValidatorSet
from node.accusations import EvidencePool
from node.author import Author, Validator
from node.consensus_metrics import Committed
from node.errors import LedgerError, SafetyError
from node.hearing import Hearing
from node.height import Height, Heights, vote_key
from node.ledger import Ledger
from node.logbook import Begun, Received, Whole, decode_entry, encode_entry
from node.mempool import Mempool
from node.metrics import Metrics
from node.wal import WriteAheadLog
from runtime.block import ExecutedBlock
from runtime.errors import InvalidBlock

_log = structlog.get_logger("node.engine")
AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a round waits, in seconds; each round waits `delta` longer."""

    propose: float = 4.0
    vote: float = 1.0
    delta: float = 0.5

    def of(self, kind: TimeoutKind, round_: int) -> float:
        """The wait of that kind in that round."""
        base = self.propose if kind is TimeoutKind.PROPOSE else self.vote
        return base + self.delta * round_


@dataclass(frozen=True, slots=True)
class Certified:
    """A block that was final elsewhere, brought by sync."""

    block: Block
    certificate: CommitCertificate
    done: trio.Event


@dataclass(frozen=True, slots=True)
class Again:
    """Time to ask once more for what could not be signed."""


_Item = Begun | TimedOut | Received | Whole | Certified | Again


class Engine:
    """Takes part in consensus on one database."""

    def __init__(
        self,
        ledger: Ledger,
        wal: WriteAheadLog,
        validator: Validator | None,
        mempool: Mempool,
        metrics: Metrics,
        *,
        timeouts: Timeouts | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Wire an engine.

        Args:
            ledger: The chain.
            wal: The log of this node.
            validator: Our signer; None follows without a vote.
            mempool: Owned by the task that calls `run`.
            metrics: Told about every block.
            timeouts: How long rounds wait.
            now: The wall clock, seconds since 1970.
        """
        self._ledger = ledger
        self._wal = wal
        self._mempool = mempool
        self._metrics = metrics
        self._timeouts = timeouts or Timeouts()
        self._block_time: float | None = None
        self._started = -math.inf
        self._queue: deque[_Item] = deque()
        self._timers: list[tuple[float, _Item]] = []
        self.last_commit = math.inf
        self._heights = Heights()
        self.evidence = EvidencePool(ledger.epochs)
        self.changed = trio.Event()
        self.listeners: list[Callable[[], None]] = []
        self.author = Author(
            ledger,
            validator,
            mempool,
            metrics,
            self._heights,
            self.evidence,
            put=self._put,
            ask_again=self._ask_again,
            now=now,
        )
        self._hearing = Hearing(
            ledger.genesis_hash,
            self._heights,
            self.evidence,
            head=lambda: ledger.head,
            put=self._put,
            note_own=self.author.note_own,
            note_change=self._note_change,
        )

    # -- for others --------------------------------------------------------------

    @property
    def address(self) -> bytes | None:
        """Ours as a validator."""
        return self.author.address

    @property
    def round(self) -> int:
        """Of the height that is being decided."""
        return 0 if self.current is None else self.current.state.round

    def voters(self, height: int) -> ValidatorSet:
        """The set that votes at a height, at most two above the head."""
        return self._ledger.epochs.voters(height)

    @property
    def current(self) -> Height | None:
        """The height under way."""
        return self._heights.current

    @property
    def previous(self) -> Height | None:
        """The height before it, if it was decided here."""
        return self._heights.previous

    def height(self, number: int) -> Height | None:
        """One of the two, by its number."""
        return self._heights.at(number)

    def receive(self, message: Message) -> None:
        """See `node.hearing.Hearing.receive`."""
        self._hearing.receive(message)

    async def import_certified(
        self, block: Block, certificate: CommitCertificate
    ) -> None:
        """Make a block the head that others have committed; returns when it is done.

        A block that is not the head's child is passed over.

        Raises:
            InvalidCertificate: it is not final.
        """
        if block.number != self._ledger.head.number + 1:
            return
        verify_certificate(
            self._ledger.genesis_hash,
            certificate,
            self._ledger.epochs.voters(block.number),
            height=block.number,
            block_hash=block.hash,
        )
        done = trio.Event()
        self._put(Certified(block, certificate, done))
        await done.wait()

    # -- life ------------------------------------------------------------------

    async def run(self, block_time: float) -> None:
        """Take part until cancelled; heights begin `block_time` seconds apart.

        A height that takes longer delays those after it; beats that were missed are
        not made up for. Cancellation waits for a block that is being committed.
        """
        self._block_time = block_time
        self.last_commit = trio.current_time()
        self._started = trio.current_time()
        while True:
            await self.step()

    async def step(self) -> Header:
        """Take part in one height, until its block is committed."""
        head = self._ledger.head
        if self.current is None or self.current.number != head.number + 1:
            await self._open(head)
        height = self.current  # None when the log held the decision already
        while height is not None and self.current is height:
            await self._take(await self._next())
        return self._ledger.head

    async def hurry(self) -> Header:
        """Begin the height under way now, whatever the beat; returns its block."""
        number = self._ledger.head.number + 1
        while self._ledger.head.number < number:
            now = trio.current_time()
            hurried = [
                (now if isinstance(item, Begun) else due, item)
                for due, item in self._timers
            ]
            if hurried != self._timers and self._timers[0][0] > now:
                self._timers = hurried
                self._note_change()
            await self.changed.wait()
        return self._ledger.head

    async def _open(self, parent: Header) -> None:
        """Begin a height, or go on with it after a restart."""
        number = parent.number + 1
        validators = self._ledger.epochs.voters(number)
        me = None if self.address is None else validators.index_of(self.address)
        opened = self._heights.current = Height(parent, State(validators, number, me))
        self._queue = deque(each for each in self._queue if isinstance(each, Certified))
        records = self._wal.open(number)
        due = trio.current_time()
        if self._block_time is not None:
            due = max(due, self._started + self._block_time)
        self._timers = [(due, Begun())]
        if records:
            _log.info("going on with a height", height=number, inputs=len(records))
            for record in records:
                await self._take(decode_entry(record), replaying=True)
            state = opened.state
            if state.step is not Step.NEW:
                self._timers = []
                await self._perform(resume(state))
        self._note_change()

    async def _next(self) -> _Item:
        """The next input: what is queued, or the first timer to ring."""
        while not self._queue:
            if not self._timers:
                await self.changed.wait()
                continue
            first = min(self._timers, key=lambda timer: timer[0])
            event = self.changed
            with trio.move_on_at(first[0]):
                await event.wait()
                continue
            self._timers.remove(first)
            return first[1]
        await trio.lowlevel.checkpoint()
        return self._queue.popleft()

    def _put(self, item: _Item) -> None:
        self._queue.append(item)
        self._note_change()

    def _note_change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
        for listener in self.listeners:
            listener()

    # -- one input ---------------------------------------------------------------

    async def _take(self, item: _Item, *, replaying: bool = False) -> None:
        """Log an input, feed it to the machine, perform what follows."""
        if isinstance(item, Certified):
            await self._import(item)
            return
        height = self._height()
        if isinstance(item, Again):
            await self._perform(
                each
                for each in resume(height.state)
                if isinstance(each, Build | Propose | Sign)
            )
            return
        early = not isinstance(item, Begun) and not (
            isinstance(item, Received) and isinstance(item.message, Ballot)
        )
        if early and height.state.step is Step.NEW:
            # Somebody's clock is ahead of ours: the height has begun.
            self._timers = [each for each in self._timers if each[1] != Begun()]
            await self._take(Begun(), replaying=replaying)
        if replaying:
            self.author.note_own(height, item)
        else:
            self._wal.append(encode_entry(item))
            if self.author.is_own(height, item):
                self._wal.sync()
        for event in await self._as_inputs(height, item):
            height.state, effects = self._apply(height, event)
            if isinstance(event, VoteSeen) and height.knows(event.vote):
                height.arrived[vote_key(event.vote)] = trio.current_time()
            self._note_change()
            if not replaying:
                await self._perform(effects)

    def _height(self) -> Height:
        if self.current is None:
            raise LedgerError("no height is under way")
        return self.current

    def _apply(self, height: Height, event: Input) -> tuple[State, tuple[Effect, ...]]:
        try:
            return apply(height.state, event)
        except Impossible as error:
            raise SafetyError(
                f"{error}; this node stops. Compare its version with the others', and "
                "keep the data directory: the log in it is evidence"
            ) from error

    async def _as_inputs(self, height: Height, item: _Item) -> tuple[Input, ...]:
        match item:
            case Begun():
                self._started = trio.current_time()
                return (Start(),)
            case Whole():
                return await self._checked(height, item)
            case Received():
                return self._heard(height, item.message)
            case TimedOut():
                return (item,)
            case Certified() | Again():
                raise TypeError(f"{item!r} is no input of the machine")

    def _heard(
        self, height: Height, message: Proposal | Ballot | Quorum
    ) -> tuple[Input, ...]:
        match message:
            case Ballot():
                height.pending.discard(vote_key(message.vote))
                return (VoteSeen(message.vote),)
            case Quorum():
                return (message.quorum,)
            case Proposal():
                return self._proposed(height, message)

    def _proposed(self, height: Height, proposal: Proposal) -> tuple[Input, ...]:
        height.note_proposal(proposal)
        seen = self._seen(height, proposal)
        return () if seen is None else (seen,)

    async def _checked(self, height: Height, item: Whole) -> tuple[Input, ...]:
        """Execute a block that is here whole.

        Whoever proposed these parts under another hash proposed nothing. That says
        nothing about the block of that hash, which others may have and decide on: the
        round passes as if no proposal had come.
        """
        block = item.block
        if block is None or block.hash not in height.claimed(item.parts_root):
            return ()
        height.fill(item.parts_root, block)
        height.wanted.discard(block.hash)
        valid = block.hash in height.executed or await self._execute(height, block)
        seen = (
            self._seen(height, each)
            for each in height.proposals.values()
            if each.subject.block_hash == block.hash
        )
        proposals = tuple(each for each in seen if each is not None)
        return (*proposals, BlockChecked(block.hash, valid))  # which may decide

    def _seen(self, height: Height, proposal: Proposal) -> ProposalSeen | None:
        """What the machine is told of a proposal; None while there is nothing to tell.

        A new block must be of the round's proposer. Its author is known when the block
        is here, and nothing is done about the proposal before. With another's reveal
        the proposer would choose the value of the beacon.
        """
        subject = proposal.subject
        if subject.round < height.state.round:
            return None  # it only brings a block that is wanted
        if subject.polka_round is None:
            executed = height.executed.get(subject.block_hash)
            turn = height.validators.proposer(height.number, subject.round)
            own = executed is not None and executed.header.coinbase == turn.address
            if not own and subject.block_hash not in height.refused:
                return None
        return ProposalSeen(subject.round, subject.block_hash, subject.polka_round)

    async def _execute(self, height: Height, block: Block) -> bool:
        try:
            executed = await trio.to_thread.run_sync(
                self._ledger.check, height.parent, block
            )
        except (InvalidProposal, InvalidBlock) as error:
            _log.warning(
                "a proposed block is invalid",
                height=height.number,
                hash="0x" + block.hash.hex(),
                reason=str(error),
            )
            height.refused.add(block.hash)
            return False
        height.executed[block.hash] = executed
        return True

    # -- effects -----------------------------------------------------------------

    async def _perform(self, effects: Iterable[Effect]) -> None:
        height = self._height()
        for effect in effects:
            match effect:
                case Build():
                    await self.author.build(height, effect.round)
                case Propose():
                    await self.author.propose_again(height, effect)
                case Sign():
                    await self.author.vote(height, effect)
                case Schedule():
                    self._schedule(height, effect)
                case Fetch():
                    height.wanted.add(effect.block_hash)
                    self._note_change()
                case Equivocation():
                    self._hearing.accuse(height, (effect,))
                case Decide():
                    await self._decide(height, effect)

    def _schedule(self, height: Height, effect: Schedule) -> None:
        """Wait for this timeout, and for none of rounds that are over."""
        wait = self._timeouts.of(effect.kind, effect.round)
        ring = TimedOut(effect.kind, effect.round)
        self._timers = [
            timer
            for timer in self._timers
            if isinstance(timer[1], Again)
            or (isinstance(timer[1], TimedOut) and timer[1].round >= height.state.round)
        ]
        self._timers.append((trio.current_time() + wait, ring))

    def _ask_again(self) -> None:
        """Try later: without our vote a round may never end."""
        if not any(isinstance(item, Again) for _, item in self._timers):
            self._timers.append((trio.current_time() + AGAIN_SECONDS, Again()))

    async def _decide(self, height: Height, decision: Decide) -> None:
        executed = height.executed.get(decision.block_hash)
        if executed is None:
            raise LedgerError("decided on a block that was not executed here")
        certificate = certify(decision, height.validators)
        await self._commit(executed, certificate)
        self._heights.previous, self._heights.current = height, None
        for item in self._queue:  # votes that the decision overtook
            if isinstance(item, Received) and isinstance(item.message, Ballot):
                self._hearing.count_late(height, item.message.vote)

    async def _import(self, item: Certified) -> None:
        height, block = self._height(), item.block
        if block.number == height.number:
            executed = height.executed.get(block.hash)
            if executed is None:
                try:
                    executed = await trio.to_thread.run_sync(
                        self._ledger.check, height.parent, block
                    )
                except (InvalidProposal, InvalidBlock) as error:
                    raise SafetyError(
                        f"height {block.number}: a quorum committed 0x"
                        f"{block.hash.hex()}, which breaks a rule here: {error}"
                    ) from error
            await self._commit(executed, item.certificate)
            self.author.note_fetched()
            self._heights.previous = self._heights.current = None
        item.done.set()

    async def _commit(
        self, executed: ExecutedBlock, certificate: CommitCertificate
    ) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._ledger.commit, executed, certificate)
        self.evidence.forget(executed.block)
        self._note_commit(executed, certificate)

    def _note_commit(
        self, executed: ExecutedBlock, certificate: CommitCertificate
    ) -> None:
        """Bring mempool, metrics and log up to the new head."""
        before, self.last_commit = self.last_commit, trio.current_time()
        block = executed.block
        transactions = self._ledger.transactions(block)
        included = {each.hash for each in transactions}
        for expired in self._mempool.advance(_touched(transactions)):
            if expired.transaction.hash not in included:
                self._metrics.count_refusal("Expired")
                _log.info(
                    "transaction dropped",
                    hash="0x" + expired.transaction.hash.hex(),
                    reason=expired.reason,
                )
        header = block.header
        metrics = self._metrics
        evidence = map(Evidence.decode, block.sidecar.evidence)
        metrics.consensus.committed(
            Committed(
                block,
                certificate,
                self.voters(header.number),
                {each.offence.offender for each in evidence},
                self.last_commit - before if math.isfinite(before) else None,
            )
        )
        metrics.timestamp.set(header.timestamp)
        metrics.base_fee.set(header.base_fee_per_gas)
        metrics.gas.inc(header.gas_used)
        event = _log.info if transactions else _log.debug
        event(
            "block committed",
            height=header.number,
            hash="0x" + header.hash.hex(),
            transactions=len(transactions),
            gas_used=header.gas_used,
        )
        self._note_change()


def _touched(transactions: Iterable[Transaction]) -> set[bytes]:
    """Accounts whose nonce the transactions may have moved."""
    touched: set[bytes] = set()
    for transaction in transactions:
        touched.add(transaction.sender)
        for authorization in transaction.authorizations:
            with suppress(BadSignature):  # the runtime skipped it too
                touched.add(authorization.authority())
    return touched
