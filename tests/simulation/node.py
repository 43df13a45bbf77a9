"""An honest validator around `consensus.machine`: what the real shell does, in small.

What is durable survives a crash: the committed chain, the blocks, the signer's last
signatures, and the log of inputs up to the last sync. A node syncs its log before it
signs, so inputs after its last signature may be lost, and a power cut can come between
any two of: logging an input, signing, sending, committing (`burn`).

Gossip is that of the real node: what we sign leaves at once; a peer that tells where it
is (`Standing`) is offered what it lacks, votes by bitmap of validators, re-proposals
with their polka, our own valid polka, the commit certificate when it is behind.
"""

from collections import deque
from dataclasses import replace
from hashlib import blake2b
from typing import Protocol

from consensus.keeper import VoteKeeper
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
    QuorumSeen,
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
from consensus.votes import Subject, Vote, VoteKind
from tests.simulation.laws import Laws, Violation
from tests.simulation.wire import (
    Block,
    Body,
    Commit,
    Message,
    Polka,
    Proposal,
    Roster,
    Standing,
    Want,
    proves,
    vote as sign_vote,
)

ROUNDS_OFFERED_AHEAD = 2
_EARLY = 512
_VOTES_AT_ONCE = 128


class PowerCut(Exception):
    """The machine under a node lost power."""


class World(Protocol):
    """What a node is connected to."""

    laws: Laws
    size: int

    def clock(self) -> int:
        """The wall clock, milliseconds."""

    def roster(self, height: int, chain: "list[Commit]") -> Roster:
        """Who votes at that height on that chain."""

    def send(self, source: int, target: int, message: Message) -> None:
        """Send to one node."""

    def broadcast(self, source: int, message: Message) -> None:
        """Send to all other nodes."""

    def wait(self, node: "Node", kind: TimeoutKind, round_: int) -> None:
        """Call `node.time_out` when this is over, unless it crashes before."""

    def wait_for_height(self, node: "Node") -> None:
        """Call `node.begin` when it is time for the next block."""

    def wait_for_build(self, node: "Node", round_: int) -> None:
        """Call `node.built` when a block is built."""

    def note(self, node: int, effect: Effect) -> None:
        """A machine asked for this: part of the history."""


class Signer:
    """The rule of the file of last signatures: never an earlier place, nor another
    block at the same one; what was signed there is returned again.

    Attributes:
        forgets: For a test only: whether the rule is switched off.
    """

    forgets = False

    def __init__(self) -> None:
        """Nothing was signed yet."""
        self._last = (0, -1, 0)
        self._signed: dict[VoteKind, Vote] = {}
        self.pending: tuple[Proposal, Block] | None = None

    def sign(self, subject: Subject, index: int) -> Vote | None:
        """A signature, the one that was given before, or none."""
        kind = subject.kind
        place = (subject.height, subject.round, int(kind))
        if place > self._last or self.forgets:
            self._last = place
            fresh = self._signed[kind] = sign_vote(subject, index)
            return fresh
        vote = self._signed.get(kind)
        if vote is None:
            return None
        signed = vote.subject
        if (signed.height, signed.round, signed.block_hash) != (
            subject.height,
            subject.round,
            subject.block_hash,
        ):
            return None
        if kind is VoteKind.PROPOSAL and signed.detail != subject.detail:
            return None
        return vote


class Node:
    """One validator or observer.

    Attributes:
        number: Of this node in the network.
        identity: Whose key it has: its own number, except for a twin.
        incarnation: Counts the starts; what was scheduled in another one is void.
        syncs: For a test only: whether the log is synced before we sign.
    """

    syncs = True

    def __init__(
        self, number: int, identity: int, world: World, *, archive: bool = False
    ) -> None:
        """Make a node at height 1; `begin` starts it."""
        self.number = number
        self.identity = identity
        self.world = world
        self.laws = world.laws
        self.bound = number in world.laws.bound
        self.up = True
        self.incarnation = 0
        self.fuse = 0
        # durable
        self.chain: list[Commit] = []
        self.store: dict[bytes, Block] = {}
        self.signer = Signer()
        self.log: list[Input] = []
        self.synced = 0
        self.builds = 0
        self.asked = 0
        self.last_place = (0, 0)
        self.archive: list[tuple[Input, ...]] | None = [] if archive else None
        # lost in a crash
        self.queue: deque[Input] = deque()
        self.busy = False
        self.early: list[Message] = []
        self.wanted: set[bytes] = set()
        self.proposals: dict[int, Proposal] = {}
        self.roster = world.roster(1, self.chain)
        self.state = self._fresh()

    # -- where we are --------------------------------------------------------------

    @property
    def height(self) -> int:
        """The height that is looked for."""
        return self.state.height

    @property
    def head(self) -> bytes:
        """The hash of the last committed block."""
        return self.chain[-1].block.hash if self.chain else bytes(32)

    def _fresh(self) -> State:
        return State(
            self.roster.set,
            len(self.chain) + 1,
            self.roster.index.get(self.identity),
        )

    # -- what happens to us ----------------------------------------------------------

    def begin(self) -> None:
        """It is time for the next block."""
        if self.state.step is not Step.NEW:
            return
        self.feed(Start())
        early, self.early = self.early, []
        for message in early:
            self.receive(message)

    def time_out(self, kind: TimeoutKind, round_: int) -> None:
        """A wait of the present height is over."""
        self.feed(TimedOut(kind, round_))

    def built(self, round_: int) -> None:
        """Propose a new block, or the one that was signed before a crash."""
        pending = self.signer.pending
        if pending is not None and not self.signer.forgets:
            proposal, block = pending
            if (proposal.height, proposal.seen.round) == (self.height, round_):
                self._announce(proposal, block)
                return
        self._offer(self.make_block(), round_, None)

    def make_block(self, *, valid: bool = True) -> Block:
        """A block like no other."""
        self.builds += 1
        text = f"{self.number}/{self.builds}/{self.height}".encode() + self.head
        name = blake2b(text, digest_size=32).digest()
        block = Block(name, self.height, self.head, valid)
        self.laws.built(block)
        return block

    def receive(self, message: Message) -> None:
        """Take a message whose signatures are good."""
        if isinstance(message, VoteSeen):
            ahead = message.vote.subject.height - self.state.height
            if ahead == 0:
                self.feed(message)
            elif ahead == 1:
                self._keep(message)
        else:
            self._receive_other(message)

    def _receive_other(
        self, message: Proposal | Body | Want | Standing | Polka | Commit
    ) -> None:
        match message:
            case Body(block):
                if self._is_now(block.height, message):
                    self._take(block)
            case Proposal():
                if self._is_now(message.height, message):
                    self._consider(message)
            case Polka(height, quorum):
                if self._is_now(height, message):
                    self._feed_proven(quorum)
            case Commit():
                self._catch_up(message)
            case Want():
                self._serve(message)
            case Standing():
                self._offer_what_lacks(message)

    def _is_now(self, height: int, message: Message) -> bool:
        """Whether a message is for the height under way; else it is kept or dropped."""
        ahead = height - self.state.height
        if ahead == 0 and self.state.step is not Step.NEW:
            return True
        if 0 <= ahead <= 1:
            self._keep(message)
        return False

    def _keep(self, message: Message) -> None:
        if len(self.early) < _EARLY:
            self.early.append(message)

    def _take(self, block: Block) -> None:
        self.store[block.hash] = block
        self.wanted.discard(block.hash)
        if block.hash not in self.state.blocks:
            self.feed(
                BlockChecked(block.hash, block.valid and block.parent == self.head)
            )

    def _consider(self, proposal: Proposal) -> None:
        seen = proposal.seen
        if proposal.author != self.roster.turn(proposal.height, seen.round):
            return
        if proposal.polka is not None:
            self._feed_proven(proposal.polka)
            if self.height != proposal.height:
                return  # the polka was all that was missing
        self.proposals.setdefault(seen.round, proposal)
        self.feed(seen)

    def _feed_proven(self, quorum: QuorumSeen) -> None:
        if proves(quorum, self.roster, self.height):
            self.feed(quorum)

    def _catch_up(self, commit: Commit) -> None:
        if commit.height != self.height or not proves(
            commit.quorum, self.roster, commit.height
        ):
            return
        if self.state.step is Step.NEW:
            self.begin()
        if self.height == commit.height:
            self.feed(commit.quorum)
        if self.height == commit.height:
            self._take(commit.block)
        if self.height > commit.height:
            self._ask_next()

    def _ask_next(self) -> None:
        """Ask one peer, each time another, for the height after."""
        self.asked += 1
        others = self.world.size - 1
        target = (self.number + 1 + self.asked % others) % self.world.size
        self.world.send(self.number, target, Standing(self.number, self.state))

    # -- gossip ----------------------------------------------------------------------

    def tell(self) -> None:
        """Tell all peers where we are, so that they offer what we lack."""
        self.world.broadcast(self.number, Standing(self.number, self.state))
        for block_hash in sorted(self.wanted):
            self.world.broadcast(
                self.number, Want(self.number, self.height, block_hash)
            )

    def _serve(self, want: Want) -> None:
        block = self.store.get(want.block_hash)
        if block is not None:
            self.world.send(self.number, want.sender, Body(block))

    def _offer_what_lacks(self, standing: Standing) -> None:
        theirs, mine = standing.state, self.state
        target = standing.sender
        if theirs.height < mine.height:
            self.world.send(self.number, target, self.chain[theirs.height - 1])
        elif theirs.height > mine.height:
            self.world.send(self.number, target, Standing(self.number, mine))
        else:
            self._offer_proposals(theirs, target)
            self._offer_polka(theirs, target)
            self._offer_votes(theirs, target)

    def _offer_proposals(self, theirs: State, target: int) -> None:
        send = self.world.send
        for round_ in sorted(self.proposals):
            if round_ > theirs.round + ROUNDS_OFFERED_AHEAD:
                break
            proposal = self.proposals[round_]
            if round_ not in theirs.proposals:
                send(self.number, target, proposal)
            block = self.store.get(proposal.seen.block_hash)
            if block is not None and block.hash not in theirs.blocks:
                send(self.number, target, Body(block))

    def _offer_polka(self, theirs: State, target: int) -> None:
        valid = self.state.valid
        if valid is None or valid.round >= theirs.round:
            return
        votes = self.state.votes_for(VoteKind.PREVOTE, valid.round, valid.block_hash)
        if votes is not None:
            quorum = QuorumSeen(VoteKind.PREVOTE, valid.round, valid.block_hash, votes)
            self.world.send(self.number, target, Polka(self.height, quorum))

    def _offer_votes(self, theirs: State, target: int) -> None:
        keeper: VoteKeeper = theirs.keeper
        left = _VOTES_AT_ONCE
        for vote in self.state.keeper:
            subject = vote.subject
            ahead = subject.round > theirs.round + ROUNDS_OFFERED_AHEAD
            if ahead and subject.round < self.state.round:
                continue
            voters = keeper.tally(subject.round, subject.kind).voters
            if vote.validator not in voters:
                self.world.send(self.number, target, VoteSeen(vote))
                left -= 1
                if not left:
                    return

    # -- the machine -----------------------------------------------------------------

    def feed(self, event: Input) -> None:
        """Log an input, apply it, perform its effects, and so on with our own."""
        self.queue.append(event)
        if not self.busy:
            self.drain()

    def drain(self) -> None:
        """Feed what is queued."""
        queue = self.queue
        self.busy = True
        try:
            while queue:
                if self.fuse:
                    self.burn()
                event = queue.popleft()
                self.log.append(event)
                self.state, effects = apply(self.state, event)
                for effect in effects:
                    self.perform(effect)
        finally:
            self.busy = False

    def burn(self) -> None:
        """One more step towards the power cut that was arranged."""
        self.fuse -= 1
        if not self.fuse:
            raise PowerCut

    def perform(self, effect: Effect) -> None:
        """Do what the machine asks."""
        if self.fuse:
            self.burn()
        self.world.note(self.number, effect)
        match effect:
            case Sign(subject):
                self.sign(subject)
            case Schedule(kind, round_):
                self.world.wait(self, kind, round_)
            case Build(round_):
                self.world.wait_for_build(self, round_)
            case Propose():
                self.propose_again(effect)
            case Fetch(_, block_hash):
                self._fetch(block_hash)
            case Equivocation():
                self.laws.accused(self.roster, effect)
            case Decide():
                self._commit(effect)

    def sign(self, subject: Subject) -> None:
        """Sign, send and count a vote, unless the signer refuses."""
        self._sync()
        index = self.roster.index[self.identity]
        if subject.kind is VoteKind.PRECOMMIT:
            subject = replace(subject, detail=self.world.clock())
        vote = self.signer.sign(subject, index)
        if vote is None:
            return
        if self.bound:
            self.laws.voted(self.number, self.roster, vote)
        else:
            self.laws.cast(self.roster, vote)
        if self.fuse:
            self.burn()
        seen = VoteSeen(vote)
        self.world.broadcast(self.number, seen)
        self.queue.append(seen)

    def _sync(self) -> None:
        if self.syncs:
            self.synced = len(self.log)

    def propose_again(self, effect: Propose) -> None:
        """Propose the block that had a polka."""
        self._offer(
            self.store[effect.polka.block_hash], effect.round, effect.polka.round
        )

    def _offer(self, block: Block, round_: int, polka_round: int | None) -> None:
        detail = 0 if polka_round is None else polka_round + 1
        subject = Subject(VoteKind.PROPOSAL, self.height, round_, block.hash, detail)
        self._sync()
        if self.signer.sign(subject, self.roster.index[self.identity]) is None:
            return
        if self.bound:
            self.laws.spoke(self.number, subject)
        polka = None
        if polka_round is not None:
            votes = self.state.votes_for(VoteKind.PREVOTE, polka_round, block.hash)
            if votes is None:
                raise Violation(f"node {self.number} proposes again without its polka")
            polka = QuorumSeen(VoteKind.PREVOTE, polka_round, block.hash, votes)
        seen = ProposalSeen(round_, block.hash, polka_round)
        proposal = Proposal(self.identity, self.height, seen, polka)
        self.signer.pending = (proposal, block)
        if self.fuse:
            self.burn()
        self._announce(proposal, block)

    def _announce(self, proposal: Proposal, block: Block) -> None:
        self.store[block.hash] = block
        self.proposals[proposal.seen.round] = proposal
        self.world.broadcast(self.number, proposal)
        self.world.broadcast(self.number, Body(block))
        self.feed(proposal.seen)
        self.feed(BlockChecked(block.hash, valid=True))

    def _fetch(self, block_hash: bytes) -> None:
        block = self.store.get(block_hash)
        if block is not None:
            self.queue.append(
                BlockChecked(block_hash, block.valid and block.parent == self.head)
            )
            return
        self.wanted.add(block_hash)
        self.world.broadcast(self.number, Want(self.number, self.height, block_hash))

    def _commit(self, decision: Decide) -> None:
        block = self.store[decision.block_hash]
        if self.bound:
            self.laws.decided(self.number, self.roster, decision, block, self.head)
        quorum = QuorumSeen(
            VoteKind.PRECOMMIT, decision.round, block.hash, decision.precommits
        )
        self.chain.append(Commit(decision.height, quorum, block))
        if self.archive is not None:
            self.archive.append(tuple(self.log))
        self._enter()
        self.world.wait_for_height(self)

    def _enter(self) -> None:
        """Go to the height after the last committed one, with an empty log."""
        self.log = []
        self.synced = 0
        self.queue.clear()
        self.wanted.clear()
        self.proposals = {}
        self.store = {}
        self.roster = self.world.roster(len(self.chain) + 1, self.chain)
        self.state = self._fresh()
        early, self.early = self.early, []
        for message in early:
            if type(message) is not VoteSeen:
                self.early.append(message)
            elif message.vote.subject.height == self.state.height:
                self.queue.append(message)

    # -- crash and restart -------------------------------------------------------------

    def crash(self, kept: int) -> None:
        """Lose power; of the log, what was synced and `kept` more records are left."""
        self.up = False
        self.fuse = 0
        self.incarnation += 1
        whole = len(self.log)
        before = self.state
        self.log = self.log[: self.synced + kept]
        self.queue.clear()
        self.early.clear()
        self.wanted.clear()
        self.proposals.clear()
        self.state = self._fresh()
        for event in self.log:
            self.state, _ = apply(self.state, event)
        if len(self.log) == whole and self.state != before:
            raise Violation(f"node {self.number}: the log tells another state")

    def restart(self) -> None:
        """Come back with what the log tells and ask what has not come."""
        self.up = True
        if self.state.step is Step.NEW:
            self.world.wait_for_height(self)
            return
        self.busy = True
        try:
            for effect in resume(self.state):
                self.perform(effect)
        finally:
            self.busy = False
        self.drain()
