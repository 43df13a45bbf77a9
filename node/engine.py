"""The engine: performs the effects of `consensus.machine`, height after height.

One task owns the machine. What peers send is checked in `receive`, in the task of
whoever brings it, so that a lie is told apart at once; what passes is queued. The
engine takes one input at a time, in this order, each step done before the next:

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
from dataclasses import dataclass, replace

import structlog
import trio

from chain.block import Block
from chain.errors import BadSignature
from chain.header import Header
from chain.sidecar import CommitCertificate
from chain.transaction import Transaction
from consensus.certificate import certify, verify_certificate, verify_quorum
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
    Accusation,
    Ballot,
    BlockPart,
    Message,
    Proposal,
    Quorum,
)
from consensus.parts import cut
from consensus.proposal import verify_proposal
from consensus.validators import ValidatorSet
from consensus.votes import Vote, VoteKind, verify_vote
from node.accusations import EvidencePool
from node.consensus_metrics import Committed
from node.doppelganger import Guard
from node.errors import DoubleSignError, LedgerError, NotSignedError, SafetyError
from node.height import Height, vote_key
from node.ledger import Dropped, Ledger
from node.logbook import Begun, Received, Whole, decode_entry, encode_entry
from node.mempool import Mempool
from node.metrics import Metrics
from node.signer import Signed, Signer
from node.wal import WriteAheadLog
from runtime.block import ExecutedBlock
from runtime.errors import InvalidBlock
from runtime.fees import next_base_fee

_log = structlog.get_logger("node.engine")
ROUNDS_OF_PROPOSALS_AHEAD = 2
AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Validator:
    """What a node needs in order to propose and vote."""

    signer: Signer
    guard: Guard


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
        self._validator = validator
        self._mempool = mempool
        self._metrics = metrics
        self._timeouts = timeouts or Timeouts()
        self._now = now
        self._block_time: float | None = None
        self._started = -math.inf
        self._queue: deque[_Item] = deque()
        self._timers: list[tuple[float, _Item]] = []
        self.last_commit = math.inf
        self.current: Height | None = None
        self.previous: Height | None = None
        self.evidence = EvidencePool(ledger.epochs)
        self.changed = trio.Event()
        self.listeners: list[Callable[[], None]] = []

    # -- for others --------------------------------------------------------------

    @property
    def address(self) -> bytes | None:
        """Ours as a validator."""
        return None if self._validator is None else self._validator.signer.address

    @property
    def round(self) -> int:
        """Of the height that is being decided."""
        return 0 if self.current is None else self.current.state.round

    def voters(self, height: int) -> ValidatorSet:
        """The set that votes at a height, at most two above the head."""
        return self._ledger.epochs.voters(height)

    def height(self, number: int) -> Height | None:
        """The height under way or the one before it."""
        for each in (self.current, self.previous):
            if each is not None and each.number == number:
                return each
        return None

    def receive(self, message: Message) -> None:
        """Check what a peer says and queue it if it is new and of this height.

        Raises:
            ConsensusError: it breaks a rule that every correct node keeps.
        """
        match message:
            case Ballot():
                self._receive_vote(message)
            case Proposal():
                self._receive_proposal(message)
            case BlockPart():
                self._receive_part(message)
            case Quorum():
                self._receive_quorum(message)
            case Accusation():
                self._receive_evidence(message.evidence)
            case _:
                raise TypeError(f"{type(message).__name__} is no input of consensus")

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
        opened = self.current = Height(parent, State(validators, number, me))
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

    # -- intake ------------------------------------------------------------------

    def _receive_vote(self, ballot: Ballot) -> None:
        vote = ballot.vote
        height = self.height(vote.subject.height)
        if height is None or height.knows(vote) or not height.takes(vote):
            return
        verify_vote(self._ledger.genesis_hash, vote, height.validators)
        self._note_own(height, Received(ballot))
        if height is self.previous:
            self._count_late(height, vote)
            return
        height.pending.add(vote_key(vote))
        self._put(Received(ballot))

    def _count_late(self, height: Height, vote: Vote) -> None:
        """After the decision, in time for the next block's certificate and evidence."""
        height.state, effects = apply(height.state, VoteSeen(vote))
        self._accuse(height, effects)

    def _receive_proposal(self, proposal: Proposal) -> None:
        subject = proposal.subject
        height = self.current
        if height is None or subject.height != height.number:
            return
        known = height.proposals.get(subject.round)
        if known is not None and not known.subject.contradicts(subject):
            return
        wanted = subject.block_hash in height.wanted
        ahead = subject.round - height.state.round
        if not wanted and not -1 <= ahead <= ROUNDS_OF_PROPOSALS_AHEAD:
            return
        verify_proposal(
            self._ledger.genesis_hash, subject, proposal.signature, height.validators
        )
        self._note_own(height, Received(proposal))
        if known is not None:
            self._accuse_proposer(height, known, proposal)
            return
        height.note_proposal(proposal)
        self._put(Received(proposal))

    def _receive_part(self, message: BlockPart) -> None:
        height = self.current
        if height is None or message.height != height.number:
            return
        assembly = height.assemblies.get(message.parts_root)
        if assembly is None or not assembly.add(message.part):
            return
        assembly.arrived = trio.current_time()
        if assembly.complete:
            self._put(Whole(assembly.root, assembly.block()))
        else:
            self._note_change()

    def _receive_quorum(self, message: Quorum) -> None:
        quorum, height = message.quorum, self.current
        if height is None or message.height != height.number:
            return
        place = (quorum.kind, quorum.round, quorum.block_hash)
        if height.state.votes_for(*place) is not None:
            return
        verify_quorum(
            self._ledger.genesis_hash, quorum, height.validators, height.number
        )
        self._put(Received(message))

    def _receive_evidence(self, evidence: Evidence) -> None:
        if self.evidence.check(self._ledger.head, evidence):
            self._accept(evidence)

    def _accuse(self, height: Height, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Equivocation):
                found = Evidence.of(effect.first, effect.second, height.validators)
                self._accept(found)

    def _accuse_proposer(self, height: Height, one: Proposal, other: Proposal) -> None:
        turn = height.validators.proposer(height.number, one.subject.round)
        index = height.validators.members.index(turn)
        first, second = (
            Vote(each.subject, index, each.signature) for each in (one, other)
        )
        self._accept(Evidence.of(first, second, height.validators))

    def _accept(self, evidence: Evidence) -> None:
        if self.evidence.add(evidence):
            self._note_change()

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
            self._note_own(height, item)
        else:
            self._wal.append(encode_entry(item))
            if self._is_own(height, item):
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

    def _is_own(self, height: Height, item: _Item) -> bool:
        match item:
            case Received(Ballot(vote)):
                return vote.validator == height.state.me
            case Received(Proposal(subject)):
                turn = height.validators.proposer(subject.height, subject.round)
                return turn.address == self.address
            case _:
                return False

    def _note_own(self, height: Height, item: _Item) -> None:
        """Tell the guard what comes from outside, or the log, with our signature."""
        if self._validator is None or not self._is_own(height, item):
            return
        match item:
            case Received(Ballot(vote)):
                self._validator.guard.saw_own_vote(vote.subject)
            case Received(Proposal(subject)):
                self._validator.guard.saw_own_vote(subject)
            case _:
                pass

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
        subject = proposal.subject
        height.note_proposal(proposal)
        if subject.round < height.state.round:
            return ()  # it only brings a block that is wanted
        seen = ProposalSeen(subject.round, subject.block_hash, subject.polka_round)
        return (seen,)

    async def _checked(self, height: Height, item: Whole) -> tuple[Input, ...]:
        """Execute a block that is here whole.

        Whoever proposed the same parts under another hash proposed no block.
        """
        claimed = {
            each.subject.block_hash
            for each in height.proposals.values()
            if each.subject.parts_root == item.parts_root
        }
        block = item.block
        if block is None or block.hash not in claimed:
            return tuple(BlockChecked(each, valid=False) for each in sorted(claimed))
        height.fill(item.parts_root, block)
        height.wanted.discard(block.hash)
        valid = block.hash in height.executed or await self._execute(height, block)
        return (
            BlockChecked(block.hash, valid),
            *(
                BlockChecked(each, valid=False)
                for each in sorted(claimed - {block.hash})
            ),
        )

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
            return False
        height.executed[block.hash] = executed
        return True

    # -- effects -----------------------------------------------------------------

    async def _perform(self, effects: Iterable[Effect]) -> None:
        height = self._height()
        for effect in effects:
            match effect:
                case Build():
                    await self._build(height, effect.round)
                case Propose():
                    await self._propose_again(height, effect)
                case Sign():
                    await self._sign(height, effect)
                case Schedule():
                    self._schedule(height, effect)
                case Fetch():
                    height.wanted.add(effect.block_hash)
                    self._note_change()
                case Equivocation():
                    self._accuse(height, (effect,))
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

    async def _build(self, height: Height, round_: int) -> None:
        validator = self._need_validator()
        if not validator.guard.may_sign(height.number):
            self._ask_again()
            return
        signer = validator.signer
        try:
            pending = await trio.to_thread.run_sync(
                signer.pending_proposal, height.number, round_
            )
            if pending is not None:
                _log.info("proposing again what was signed", height=height.number)
                executed = await trio.to_thread.run_sync(
                    self._ledger.check, height.parent, pending
                )
            else:
                reveal = await trio.to_thread.run_sync(signer.reveal, height.number)
                executed = await self._built(height, signer.address, reveal)
        except NotSignedError as error:
            self._note_unsigned(error)
            return
        height.executed[executed.block.hash] = executed
        await self._send_proposal(height, round_, None, executed.block)

    async def _built(
        self, height: Height, proposer: bytes, reveal: bytes
    ) -> ExecutedBlock:
        parent, ledger = height.parent, self._ledger
        certificate = self._parent_certificate(parent)
        rules = ledger.forks.at(height.number)
        steps = ledger.database.steps(parent.hash)
        selection = self._mempool.select(next_base_fee(rules, parent, steps))
        evidence = self.evidence.usable(parent)

        def build() -> tuple[ExecutedBlock, tuple[Dropped, ...]]:
            built = ledger.build(
                parent, proposer, reveal, certificate, evidence, selection
            )
            return built.executed, built.dropped

        executed, dropped = await trio.to_thread.run_sync(build)
        for each in dropped:
            self._mempool.discard(each.transaction.hash)
            self._metrics.count_refusal("Invalid")
            _log.info(
                "transaction dropped",
                hash="0x" + each.transaction.hash.hex(),
                reason=each.reason,
            )
        return executed

    def _parent_certificate(self, parent: Header) -> CommitCertificate | None:
        """Every precommit for the parent that has come by now."""
        if parent.number == 0:
            return None
        previous = self.previous
        if previous is not None and previous.number == parent.number:
            decision = previous.state.decision
            if decision is not None and decision.block_hash == parent.hash:
                precommits = previous.state.votes_for(
                    VoteKind.PRECOMMIT, decision.round, parent.hash
                )
                whole = replace(decision, precommits=precommits or decision.precommits)
                return certify(whole, previous.validators)
        certificate = self._ledger.certificate(parent)
        if certificate is None:
            raise LedgerError(
                f"block {parent.number} has no commit certificate in the database"
            )
        return certificate

    async def _propose_again(self, height: Height, effect: Propose) -> None:
        executed = height.executed.get(effect.polka.block_hash)
        if executed is None:
            raise LedgerError("a valid block is to be proposed again and is not here")
        await self._send_proposal(
            height, effect.round, effect.polka.round, executed.block
        )

    async def _send_proposal(
        self, height: Height, round_: int, polka_round: int | None, block: Block
    ) -> None:
        signer = self._need_validator().signer
        signed = await self._signed(
            height, lambda: signer.sign_proposal(round_, polka_round, block)
        )
        if signed is None:
            return
        root, parts = cut(block.encode())
        proposal = Proposal(signed.subject, len(parts), signed.signature)
        assembly = height.note_proposal(proposal)
        for part in parts:
            assembly.add(part)
        self._put(Received(proposal))
        self._put(Whole(root, block))

    async def _sign(self, height: Height, effect: Sign) -> None:
        subject = effect.subject
        if subject.kind is VoteKind.PRECOMMIT:
            subject = replace(subject, detail=int(self._now() * 1000))
        signer = self._need_validator().signer
        signed = await self._signed(height, lambda: signer.sign(subject))
        if signed is None or height.state.me is None:
            return
        vote = Vote(signed.subject, height.state.me, signed.signature)
        height.pending.add(vote_key(vote))
        self._put(Received(Ballot(vote)))

    async def _signed(
        self, height: Height, sign: Callable[[], Signed]
    ) -> Signed | None:
        """A signature, or None when giving it could contradict an earlier one."""
        guard = self._need_validator().guard
        if not guard.may_sign(height.number):
            self._ask_again()
            return None
        try:
            signed = await trio.to_thread.run_sync(sign)
        except NotSignedError as error:
            self._note_unsigned(error)
            return None
        guard.signed(signed.subject)
        return signed

    def _note_unsigned(self, error: NotSignedError) -> None:
        _log.warning("not signed", reason=str(error))
        if not isinstance(error, DoubleSignError):
            self._ask_again()

    def _ask_again(self) -> None:
        """Try later: without our vote a round may never end."""
        if not any(isinstance(item, Again) for _, item in self._timers):
            self._timers.append((trio.current_time() + AGAIN_SECONDS, Again()))

    def _need_validator(self) -> Validator:
        if self._validator is None:
            raise LedgerError("a node without a validator's key is asked to sign")
        return self._validator

    async def _decide(self, height: Height, decision: Decide) -> None:
        executed = height.executed.get(decision.block_hash)
        if executed is None:
            raise LedgerError("decided on a block that was not executed here")
        certificate = certify(decision, height.validators)
        await self._commit(executed, certificate)
        self.previous, self.current = height, None
        for item in self._queue:  # votes that the decision overtook
            if isinstance(item, Received) and isinstance(item.message, Ballot):
                self._count_late(height, item.message.vote)

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
            self.previous, self.current = None, None
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
