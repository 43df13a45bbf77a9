"""What peers say, checked before the engine takes it.

Everything here runs in the task of the peer that says it and never waits, so a lie is
told apart at once and costs nobody else anything. What passes is put before the engine,
which takes one input at a time.
"""

from collections.abc import Callable, Iterable

import trio

from chain.header import Header
from consensus.certificate import verify_quorum
from consensus.evidence import Evidence
from consensus.machine import Effect, Equivocation, VoteSeen, apply
from consensus.messages import (
    Accusation,
    Ballot,
    BlockPart,
    Message,
    Proposal,
    Quorum,
)
from consensus.proposal import verify_proposal
from consensus.votes import Vote, verify_vote
from node.accusations import EvidencePool
from node.height import Height, Heights, vote_key
from node.logbook import Received, Whole

ROUNDS_OF_PROPOSALS_AHEAD = 2


class Hearing:
    """Takes what peers say about the heights under way."""

    def __init__(
        self,
        genesis_hash: bytes,
        heights: Heights,
        evidence: EvidencePool,
        *,
        head: Callable[[], Header],
        put: Callable[[Received | Whole], None],
        note_own: Callable[[Height, Received], None],
        note_change: Callable[[], None],
    ) -> None:
        """Wire it.

        Args:
            genesis_hash: In every sign-bytes.
            heights: The engine's.
            evidence: Where contradictions go.
            head: The last committed header.
            put: Queues an input of the engine.
            note_own: Told about what may bear our own signature.
            note_change: Wakes those who wait for news.
        """
        self._genesis_hash = genesis_hash
        self._heights = heights
        self._evidence = evidence
        self._head = head
        self._put = put
        self._note_own = note_own
        self._note_change = note_change

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

    def _receive_vote(self, ballot: Ballot) -> None:
        vote = ballot.vote
        height = self._heights.at(vote.subject.height)
        if height is None or height.knows(vote) or not height.takes(vote):
            return
        verify_vote(self._genesis_hash, vote, height.validators)
        self._note_own(height, Received(ballot))
        if height is self._heights.previous:
            self.count_late(height, vote)
            return
        height.pending.add(vote_key(vote))
        self._put(Received(ballot))

    def count_late(self, height: Height, vote: Vote) -> None:
        """After the decision, in time for the next block's certificate and evidence."""
        height.state, effects = apply(height.state, VoteSeen(vote))
        self.accuse(height, effects)

    def _receive_proposal(self, proposal: Proposal) -> None:
        subject = proposal.subject
        height = self._heights.current
        if height is None or subject.height != height.number:
            return
        known = height.proposals.get(subject.round)
        wanted = subject.block_hash in height.wanted
        if wanted and known is not None:  # perhaps the proposer showed others this one
            wanted = subject.parts_root not in height.assemblies
        if known is not None and not (wanted or known.subject.contradicts(subject)):
            return
        ahead = subject.round - height.state.round
        if not wanted and not -1 <= ahead <= ROUNDS_OF_PROPOSALS_AHEAD:
            return
        verify_proposal(
            self._genesis_hash, subject, proposal.signature, height.validators
        )
        self._note_own(height, Received(proposal))
        if known is not None:
            if known.subject.contradicts(subject):
                self._accuse_proposer(height, known, proposal)
            if not wanted:
                return
            # Whatever else its proposer said: a quorum wants this block.
        height.note_proposal(proposal)
        self._put(Received(proposal))

    def _receive_part(self, message: BlockPart) -> None:
        height = self._heights.current
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
        quorum, height = message.quorum, self._heights.current
        if height is None or message.height != height.number:
            return
        place = (quorum.kind, quorum.round, quorum.block_hash)
        if height.state.votes_for(*place) is not None:
            return
        verify_quorum(self._genesis_hash, quorum, height.validators, height.number)
        self._put(Received(message))

    def _receive_evidence(self, evidence: Evidence) -> None:
        if self._evidence.check(self._head(), evidence):
            self._accept(evidence)

    def accuse(self, height: Height, effects: Iterable[Effect]) -> None:
        """Keep the contradictions among effects of the machine as evidence."""
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
        if self._evidence.add(evidence):
            self._note_change()
