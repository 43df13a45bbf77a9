"""Validators that lie. Each follows the protocol with its own machine, in order to know
where the others are, and then says what it likes, to each peer something else. It signs
only with its own key, and keeps silent about whose votes it has no right to.

    honest      does what it should
    silent      signs nothing
    partial     sends each message to some peers only
    split       votes for one block here and for another there; proposes two blocks
    random      votes for anything in any round near by
    amnesiac    prevotes whatever is proposed, whatever it has precommitted
    late        sends its votes when their round is over
    invalid     proposes blocks that break rules
    bodiless    proposes blocks that it does not show, or shows to one peer
    liar        proposes old blocks on polkas that never were
    stale       proposes again a block whose polka, a real one, is an old one
    early       votes for rounds far ahead, to fill the others' memory
"""

from dataclasses import replace
from random import Random

from typing_extensions import override

from consensus.machine import ProposalSeen, Propose, QuorumSeen, VoteSeen
from consensus.votes import NIL, Subject, Vote, VoteKind
from tests.simulation.node import Node, World
from tests.simulation.wire import Block, Body, Message, Proposal, vote as sign_vote

STRATEGIES = (
    "honest",
    "silent",
    "partial",
    "split",
    "split",
    "random",
    "amnesiac",
    "late",
    "invalid",
    "bodiless",
    "liar",
    "stale",
    "stale",
    "early",
)


class Liar(Node):
    """A Byzantine validator; it takes a new strategy at every height."""

    def __init__(
        self, number: int, identity: int, world: World, source: Random
    ) -> None:
        """Make one that draws its lies from `source`."""
        self.source = source
        self.strategy = source.choice(STRATEGIES)
        self.late: list[VoteSeen] = []
        super().__init__(number, identity, world)

    @override
    def begin(self) -> None:
        self.strategy = self.source.choice(STRATEGIES)
        super().begin()

    # -- speaking --------------------------------------------------------------------

    def _some(self) -> list[int]:
        """A random part of the peers."""
        return [
            peer
            for peer in range(self.world.size)
            if peer != self.number and self.source.random() < 0.5
        ]

    def _tell(self, targets: list[int], message: Message) -> None:
        for target in targets:
            self.world.send(self.number, target, message)

    def _others(self, targets: list[int]) -> list[int]:
        return [
            peer
            for peer in range(self.world.size)
            if peer != self.number and peer not in targets
        ]

    def _vote(self, subject: Subject) -> VoteSeen:
        seen = VoteSeen(sign_vote(subject, self.roster.index[self.identity]))
        self.laws.cast(self.roster, seen.vote)
        return seen

    def _hash(self) -> bytes:
        """Nil, a block that is known, or one that nobody has."""
        known = [NIL, *self.state.blocks, self.source.randbytes(32)]
        return self.source.choice(known)

    # -- votes -----------------------------------------------------------------------

    @override
    def sign(self, subject: Subject) -> None:
        self.synced = len(self.log)
        if self.strategy == "amnesiac" and subject.kind is VoteKind.PREVOTE:
            proposal = self.state.proposals.get(subject.round)
            if proposal is not None:
                subject = replace(subject, block_hash=proposal.block_hash)
        seen = self._vote(subject)
        self.queue.append(seen)
        everybody = self._others([])
        match self.strategy:
            case "silent":
                pass
            case "partial":
                self._tell(self._some(), seen)
            case "split":
                some = self._some()
                self._tell(some, seen)
                other = replace(subject, block_hash=self._hash())
                self._tell(self._others(some), self._vote(other))
            case "random":
                for target in everybody:
                    said = Subject(
                        self.source.choice((VoteKind.PREVOTE, VoteKind.PRECOMMIT)),
                        self.height,
                        max(0, self.state.round + self.source.randint(-2, 3)),
                        self._hash(),
                    )
                    self._tell([target], self._vote(said))
            case "late":
                self.late.append(seen)
                if len(self.late) > 3:
                    self._tell(everybody, self.late.pop(0))
            case "early":
                self._tell(everybody, seen)
                ahead = self.state.round + self.source.randint(1, 40)
                self._tell(everybody, self._vote(replace(subject, round=ahead)))
            case _:
                self.world.broadcast(self.number, seen)

    # -- proposals -------------------------------------------------------------------

    @override
    def built(self, round_: int) -> None:
        match self.strategy:
            case "silent":
                pass
            case "split":
                some = self._some()
                self._show(some, self.make_block(), round_, None)
                self._show(self._others(some), self.make_block(), round_, None)
            case "partial":
                self._show(self._some(), self.make_block(), round_, None)
            case "invalid":
                self._show(self._others([]), self.make_block(valid=False), round_, None)
            case "bodiless":
                block = self.make_block()
                proposal = self._proposal(block, round_, None)
                self._tell(self._others([]), proposal)
                self._tell(self._some()[:1], Body(block))
            case "liar" | "random":
                polka_round = self.source.randrange(round_) if round_ else None
                known = [self.store[each] for each in sorted(self.store)]
                block = self.source.choice([*known, self.make_block()])
                self._show(self._others([]), block, round_, polka_round)
            case "stale" if polkas := self._polkas():
                polka_round, block_hash, votes = self.source.choice(polkas)
                quorum = QuorumSeen(VoteKind.PREVOTE, polka_round, block_hash, votes)
                block = self.store[block_hash]
                self._show(self._others([]), block, round_, polka_round, quorum)
            case _:
                super().built(round_)

    def _polkas(self) -> list[tuple[int, bytes, tuple[Vote, ...]]]:
        """Every polka of an earlier round for a block that is here."""
        found: list[tuple[int, bytes, tuple[Vote, ...]]] = []
        for round_ in range(self.state.round):
            for block_hash in self.state.blocks:
                votes = self.state.votes_for(VoteKind.PREVOTE, round_, block_hash)
                if votes is not None and block_hash in self.store:
                    found.append((round_, block_hash, votes))
        return found

    @override
    def propose_again(self, effect: Propose) -> None:
        if self.strategy in ("honest", "late", "early"):
            super().propose_again(effect)
        else:
            self.built(effect.round)

    def _proposal(
        self,
        block: Block,
        round_: int,
        polka_round: int | None,
        polka: QuorumSeen | None = None,
    ) -> Proposal:
        seen = ProposalSeen(round_, block.hash, polka_round)
        return Proposal(self.identity, self.height, seen, polka)

    def _show(
        self,
        targets: list[int],
        block: Block,
        round_: int,
        polka_round: int | None,
        polka: QuorumSeen | None = None,
    ) -> None:
        proposal = self._proposal(block, round_, polka_round, polka)
        self._tell(targets, proposal)
        self._tell(targets, Body(block))
        self.store[block.hash] = block
        self.feed(proposal.seen)
        self._take(block)
