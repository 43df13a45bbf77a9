"""Gossip of consensus: each peer is offered what it lacks, by bitmaps, not by flooding.

Nodes tell their peers where they are (`Standing`) and whose votes and which parts they
have (`VoteBits`, `PartBits`). For each peer one task compares that with what is here
and sends the difference. What we made leaves at once; what others made is relayed when
the peer has had `RELAY_SECONDS` to get it from its author, so that in a full mesh
hardly anything travels twice, and in a sparse one everything arrives. What happens
within `GATHER_SECONDS` is told together.

Nothing depends on a message having arrived: a node that has stood still for
`REFRESH_SECONDS` says again where it is and what it has, and forgets what it sent that
was not confirmed since.

A peer that is one height behind is served from the height before: its proposal and
parts, and the precommits as a `Quorum`, which also helps one that an equivocator
misled. Those further behind ask sync.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import trio

from consensus.errors import ConsensusError
from consensus.machine import QuorumSeen, Step
from consensus.messages import (
    MAX_MESSAGE_BYTES,
    Accusation,
    Ballot,
    BlockPart,
    Message,
    PartBits,
    Proposal,
    Quorum,
    Standing,
    VoteBits,
    Want,
    decode,
    encode,
)
from consensus.votes import VoteKind
from node.engine import Engine
from node.height import Height, vote_key
from node.p2p.errors import PeerFaultError
from node.p2p.interface import Channel, Peer

RELAY_SECONDS = 0.1
GATHER_SECONDS = 0.01
REFRESH_SECONDS = 1.0
ROUNDS_OFFERED_AHEAD = 2

STATE = Channel(0x20, "consensus state", 1_024, 400, 200_000, 256, 6)
DATA = Channel(0x21, "consensus data", MAX_MESSAGE_BYTES, 1_000, 32 << 20, 64, 10)
VOTE = Channel(0x22, "consensus votes", 1_024, 4_000, 2 << 20, 1_024, 7)
ACCUSE = Channel(0x23, "evidence", 1_024, 20, 20_000, 32, 1)

_Slot = tuple[int, VoteKind]
_CHANNEL: dict[type[Message], Channel] = {
    Standing: STATE,
    VoteBits: STATE,
    PartBits: STATE,
    Want: STATE,
    Proposal: DATA,
    BlockPart: DATA,
    Quorum: DATA,
    Ballot: VOTE,
    Accusation: ACCUSE,
}


@dataclass(slots=True)
class _Known:
    """What one peer has, of the height it is at: as it said, and as we sent."""

    height: int = 0
    round: int = 0
    step: int = 0
    votes: dict[_Slot, set[int]] = field(default_factory=dict[_Slot, set[int]])
    sent: dict[_Slot, set[int]] = field(default_factory=dict[_Slot, set[int]])
    parts: dict[bytes, set[int]] = field(default_factory=dict[bytes, set[int]])
    sent_parts: dict[bytes, set[int]] = field(default_factory=dict[bytes, set[int]])
    proposals: set[int] = field(default_factory=set[int])
    quorums: set[_Slot] = field(default_factory=set[_Slot])
    evidence: set[bytes] = field(default_factory=set[bytes])

    def move(self, standing: Standing) -> None:
        """The peer is there now; at a new height it has nothing."""
        if standing.height != self.height:
            for each in (
                self.votes,
                self.sent,
                self.parts,
                self.sent_parts,
                self.proposals,
                self.quorums,
            ):
                each.clear()
        self.height, self.round = standing.height, standing.round
        self.step = standing.step

    def forget_sent(self) -> None:
        """What was sent and is not confirmed may be sent again."""
        self.sent.clear()
        self.sent_parts.clear()
        self.quorums.clear()
        self.proposals.clear()

    def has_vote(self, slot: _Slot, validator: int) -> bool:
        """Whether the peer has it or should have it soon."""
        return validator in self.votes.get(slot, ()) or validator in self.sent.get(
            slot, ()
        )

    def has_part(self, root: bytes, index: int) -> bool:
        """Whether the peer has it or should have it soon."""
        return index in self.parts.get(root, ()) or index in self.sent_parts.get(
            root, ()
        )


@dataclass(slots=True)
class _Told:
    """What we last told one peer of ourselves."""

    standing: Standing | None = None
    votes: dict[_Slot, frozenset[int]] = field(
        default_factory=dict[_Slot, frozenset[int]]
    )
    parts: dict[bytes, frozenset[int]] = field(
        default_factory=dict[bytes, frozenset[int]]
    )


class Gossip:
    """The reactor of consensus."""

    channels: Sequence[Channel] = (STATE, DATA, VOTE, ACCUSE)

    def __init__(self, engine: Engine) -> None:
        """Speak for an engine."""
        self._engine = engine
        self.heights: dict[bytes, int] = {}

    async def attend(
        self, peer: Peer, inbox: trio.MemoryReceiveChannel[tuple[int, bytes]]
    ) -> None:
        """Listen to one peer and offer it what it lacks.

        Raises:
            PeerFaultError: it said what no correct node says.
        """
        conversation = _Conversation(self._engine, peer)
        self._engine.listeners.append(conversation.wake)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(conversation.speak)
                async for channel, payload in inbox:
                    conversation.listen(channel, payload)
                    self.heights[peer.id] = conversation.known.height
                nursery.cancel_scope.cancel()
        finally:
            self._engine.listeners.remove(conversation.wake)
            self.heights.pop(peer.id, None)

    @property
    def highest(self) -> int:
        """The last height that some peer has committed, as they say; 0 if unknown."""
        return max(self.heights.values(), default=1) - 1


class _Conversation:
    """With one peer."""

    def __init__(self, engine: Engine, peer: Peer) -> None:
        self._engine = engine
        self._peer = peer
        self.known = _Known()
        self._told = _Told()
        self._changed = trio.Event()
        self._refreshed = -math.inf

    def wake(self) -> None:
        """Something changed, here or at the peer."""
        self._changed.set()

    # -- listening ---------------------------------------------------------------

    def listen(self, channel: int, payload: bytes) -> None:
        """Take one message.

        Raises:
            PeerFaultError: it is malformed, on a wrong channel, or false.
        """
        try:
            message = decode(payload)
            if _CHANNEL[type(message)].id != channel:
                raise PeerFaultError(
                    f"{type(message).__name__} on channel {channel:#x}"
                )
            self._take(message)
        except ConsensusError as error:
            raise PeerFaultError(str(error)) from error
        self.wake()

    def _take(self, message: Message) -> None:
        known = self.known
        match message:
            case Standing():
                known.move(message)
            case VoteBits():
                if message.height == known.height:
                    slot = (message.round, message.kind)
                    if slot in known.votes or len(known.votes) < 64:
                        known.votes[slot] = set(message.validators)
            case PartBits():
                if message.height == known.height and self._has_root(message):
                    known.parts[message.parts_root] = set(message.parts)
            case Want():
                self._wanted(message)
            case Proposal() | BlockPart() | Ballot() | Quorum() | Accusation():
                self._engine.receive(message)
                self._learn(message)

    def _has_root(self, message: PartBits) -> bool:
        height = self._engine.height(message.height)
        return height is not None and message.parts_root in height.assemblies

    def _wanted(self, want: Want) -> None:
        """Offer proposal and parts again, whatever we think the peer has."""
        height = self._engine.height(want.height)
        proposal = None if height is None else height.proposal_of(want.block_hash)
        if proposal is not None and want.height == self.known.height:
            root = proposal.subject.parts_root
            self.known.proposals.discard(proposal.subject.round)
            self.known.parts.pop(root, None)
            self.known.sent_parts.pop(root, None)

    def _learn(self, message: Message) -> None:
        """The peer has what it sent.

        Only what is here too is worth remembering; the rest nobody has checked, and
        there is no end of it.
        """
        known = self.known
        if isinstance(message, Accusation):
            if message.evidence.hash in self._engine.evidence:
                known.evidence.add(message.evidence.hash)
            return
        height = self._engine.height(known.height)
        if height is None:
            return
        match message:
            case Ballot(vote):
                subject = vote.subject
                if subject.height == height.number and height.knows(vote):
                    slot = (subject.round, subject.kind)
                    known.sent.setdefault(slot, set()).add(vote.validator)
            case BlockPart(number, root, part):
                if number == height.number and root in height.assemblies:
                    known.sent_parts.setdefault(root, set()).add(part.index)
            case Proposal(subject):
                if subject.height == height.number and subject.round in (
                    height.proposals
                ):
                    known.proposals.add(subject.round)
            case _:
                pass

    # -- speaking ----------------------------------------------------------------

    async def speak(self) -> None:
        """Tell where we are and send what the peer lacks, for ever."""
        while True:
            self._changed = trio.Event()
            if trio.current_time() >= self._refreshed + REFRESH_SECONDS:
                self._refreshed = trio.current_time()
                self._told = _Told()
                self.known.forget_sent()
            # Chosen at one moment: while a message is sent, anything may change.
            for message in (*self._news(), *self._gifts()):
                await self._send(message)
            deadline = min(self._refreshed + REFRESH_SECONDS, self._next_relay())
            with trio.move_on_at(deadline):
                await self._changed.wait()
            await trio.sleep(GATHER_SECONDS)

    async def _send(self, message: Message) -> None:
        await self._peer.send(_CHANNEL[type(message)].id, encode(message))

    def _news(self) -> Iterator[Message]:
        """What has changed about ourselves since the peer was told."""
        height = self._engine.current
        if height is None:
            return
        state, told = height.state, self._told
        step = max(state.step, Step.PROPOSE)
        standing = Standing(height.number, state.round, step)
        if told.standing != standing:
            if told.standing is None or told.standing.height != standing.height:
                told.votes.clear()
                told.parts.clear()
            told.standing = standing
            self._refreshed = trio.current_time()  # the peer hears from us
            yield standing
        for wanted in sorted(height.wanted):
            yield Want(height.number, wanted)
        for slot, tally in state.keeper.tallies.items():
            if told.votes.get(slot) != tally.voters:
                told.votes[slot] = tally.voters
                yield VoteBits(height.number, *slot, tally.voters)
        for root, assembly in height.assemblies.items():
            parts = frozenset(assembly.parts)
            if told.parts.get(root) != parts:
                told.parts[root] = parts
                yield PartBits(height.number, root, parts)

    def _gifts(self) -> Iterator[Message]:
        """What is here and the peer lacks, most urgent first."""
        self.known.evidence &= self._engine.evidence.hashes
        for evidence in self._engine.evidence:
            if evidence.hash not in self.known.evidence:
                self.known.evidence.add(evidence.hash)
                yield Accusation(evidence)
        height = self._engine.height(self.known.height)
        if height is None:
            return
        yield from self._proposals(height)
        yield from self._quorums(height)
        yield from self._votes(height)
        yield from self._parts(height)

    def _proposals(self, height: Height) -> Iterator[Message]:
        known = self.known
        for round_, proposal in sorted(height.proposals.items()):
            if round_ in known.proposals or round_ > known.round + ROUNDS_OFFERED_AHEAD:
                continue
            known.proposals.add(round_)
            polka_round = proposal.subject.polka_round
            if polka_round is not None:
                yield from self._quorum(
                    height, VoteKind.PREVOTE, polka_round, proposal.subject.block_hash
                )
            yield proposal

    def _quorums(self, height: Height) -> Iterator[Message]:
        """The decision, and the polka that a peer in the same round has not seen."""
        decision = height.state.decision
        if decision is not None:
            place = (VoteKind.PRECOMMIT, decision.round, decision.block_hash)
            yield from self._quorum(height, *place)
        valid = height.state.valid
        if valid is not None and valid.round < self.known.round:
            yield from self._quorum(
                height, VoteKind.PREVOTE, valid.round, valid.block_hash
            )

    def _quorum(
        self, height: Height, kind: VoteKind, round_: int, block_hash: bytes
    ) -> Iterator[Message]:
        slot = (round_, kind)
        votes = height.state.votes_for(kind, round_, block_hash)
        if votes is None or slot in self.known.quorums:
            return
        self.known.quorums.add(slot)
        yield Quorum(height.number, QuorumSeen(kind, round_, block_hash, votes))

    def _votes(self, height: Height) -> Iterator[Message]:
        """Votes for the peer's round and a little ahead, and for ours.

        Who is further behind than we remember rounds learns from ours where we are.
        """
        known, me, now = self.known, height.state.me, trio.current_time()
        for vote in height.state.keeper:
            subject = vote.subject
            slot = (subject.round, subject.kind)
            ahead = subject.round > known.round + ROUNDS_OFFERED_AHEAD
            if ahead and subject.round < height.state.round:
                continue
            if known.has_vote(slot, vote.validator):
                continue
            if vote.validator != me and now < self._relayed_at(height, vote_key(vote)):
                continue
            known.sent.setdefault(slot, set()).add(vote.validator)
            yield Ballot(vote)

    def _parts(self, height: Height) -> Iterator[Message]:
        """Parts of what the peer knows to be proposed, each peer from another start."""
        known = self.known
        for round_, proposal in sorted(height.proposals.items(), reverse=True):
            root = proposal.subject.parts_root
            assembly = height.assemblies.get(root)
            if assembly is None or round_ not in known.proposals:
                continue
            if trio.current_time() < assembly.arrived + RELAY_SECONDS:
                continue
            start = self._peer.id[0] % assembly.count
            for offset in range(assembly.count):
                index = (start + offset) % assembly.count
                part = assembly.parts.get(index)
                if part is not None and not known.has_part(root, index):
                    known.sent_parts.setdefault(root, set()).add(index)
                    yield BlockPart(height.number, root, part)

    def _relayed_at(
        self, height: Height, key: tuple[int, VoteKind, int, bytes]
    ) -> float:
        return height.arrived.get(key, 0.0) + RELAY_SECONDS

    def _next_relay(self) -> float:
        """When a vote that is held back for its author falls due."""
        height = self._engine.height(self.known.height)
        if height is None:
            return math.inf
        now, me = trio.current_time(), height.state.me
        due = [
            self._relayed_at(height, vote_key(vote))
            for vote in height.state.keeper
            if vote.validator != me
            and not self.known.has_vote(
                (vote.subject.round, vote.subject.kind), vote.validator
            )
        ]
        due += [
            assembly.arrived + RELAY_SECONDS for assembly in height.assemblies.values()
        ]
        return min((each for each in due if each > now), default=math.inf)
