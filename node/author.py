"""What a validator says: it builds blocks, signs proposals and votes, or stays silent.

A signature is given only when the guard allows it and the signer does not refuse
(`node.doppelganger`, `node.signer`); the signer makes it durable first. What was signed
is put before the engine like what peers say.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
import trio

from chain.block import Block
from chain.header import Header
from chain.sidecar import CommitCertificate
from consensus.certificate import certify
from consensus.machine import Propose, Sign
from consensus.messages import Ballot, Proposal
from consensus.parts import cut
from consensus.votes import Vote, VoteKind
from node.accusations import EvidencePool
from node.doppelganger import Guard
from node.errors import DoubleSignError, LedgerError, NotSignedError
from node.height import Height, Heights, vote_key
from node.ledger import Dropped, Ledger
from node.logbook import Received, Whole
from node.mempool import Mempool
from node.metrics import Metrics
from node.signer import Signed, Signer
from runtime.block import ExecutedBlock
from runtime.fees import next_base_fee

_log = structlog.get_logger("node.author")


@dataclass(frozen=True, slots=True)
class Validator:
    """What a node needs in order to propose and vote."""

    signer: Signer
    guard: Guard


class Author:
    """Speaks for one validator; without one it has nothing to say."""

    def __init__(  # noqa: PLR0913 - what a validator speaks from
        self,
        ledger: Ledger,
        validator: Validator | None,
        mempool: Mempool,
        metrics: Metrics,
        heights: Heights,
        evidence: EvidencePool,
        *,
        put: Callable[[Received | Whole], None],
        ask_again: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        """Wire it.

        Args:
            ledger: Builds and checks blocks.
            validator: Our signer; None has no vote.
            mempool: What blocks are filled with; owned by the engine's task.
            metrics: Told about transactions that no block may hold.
            heights: The engine's.
            evidence: What a block should punish.
            put: Queues an input of the engine.
            ask_again: Called when something could not be signed now.
            now: The wall clock, seconds since 1970.
        """
        self._ledger = ledger
        self.validator = validator
        self._mempool = mempool
        self._metrics = metrics
        self._heights = heights
        self._evidence = evidence
        self._put = put
        self._ask_again = ask_again
        self._now = now

    @property
    def address(self) -> bytes | None:
        """Ours as a validator."""
        return None if self.validator is None else self.validator.signer.address

    def is_own(self, height: Height, item: object) -> bool:
        """Whether an input of the engine bears our signature."""
        match item:
            case Received(Ballot(vote)):
                return vote.validator == height.state.me
            case Received(Proposal(subject)):
                turn = height.validators.proposer(subject.height, subject.round)
                return turn.address == self.address
            case _:
                return False

    def note_own(self, height: Height, item: object) -> None:
        """Tell the guard what comes from outside, or the log, with our signature."""
        if self.validator is None or not self.is_own(height, item):
            return
        match item:
            case Received(Ballot(vote)):
                self.validator.guard.saw_own_vote(vote.subject)
            case Received(Proposal(subject)):
                self.validator.guard.saw_own_vote(subject)
            case _:
                pass

    def note_fetched(self) -> None:
        """Tell the guard that a block came without our listening to its votes."""
        if self.validator is not None:
            self.validator.guard.fetched()

    async def build(self, height: Height, round_: int) -> None:
        """Propose a new block, or the one that was signed before a restart."""
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
        evidence = self._evidence.usable(parent)

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
        previous = self._heights.previous
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

    async def propose_again(self, height: Height, effect: Propose) -> None:
        """Propose the block that a quorum wanted in an earlier round."""
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

    async def vote(self, height: Height, effect: Sign) -> None:
        """Sign a vote."""
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

    def _need_validator(self) -> Validator:
        if self.validator is None:
            raise LedgerError("a node without a validator's key is asked to sign")
        return self.validator
