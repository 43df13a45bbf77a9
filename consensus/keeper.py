"""The vote keeper: who voted for what in which round of one height.

A `Tally` holds the votes of one kind in one round. It is the paper's *set of messages*:
an equivocator's two votes are in it both, each counted for its own block, while the
validator counts once among those who voted at all. A third one is not kept, since two
suffice as evidence; what it would have completed arrives as a certificate.

Memory is bounded whatever arrives. Votes of rounds that lie ahead are kept in at most
`ROUNDS_AHEAD` rounds for each validator, and rounds long past are forgotten when a
round begins. What is refused by these bounds is lost to nobody: peers offer votes that
we lack again, once we have come closer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

from consensus.validators import ValidatorSet
from consensus.votes import NIL, Vote, VoteKind

ROUNDS_AHEAD = 2
ROUNDS_BEHIND = 8
_HASHES_EACH = 2


class Outcome(Enum):
    """What became of a vote that was offered."""

    COUNTED = "counted"
    KNOWN = "known"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes of one kind in one round.

    Attributes:
        votes: By validator index and block hash, in the order of arrival.
        stakes: Stake behind each block hash.
        voters: Everybody who voted.
        stake: Stake of all voters, each counted once.
    """

    votes: Mapping[tuple[int, bytes], Vote] = field(
        default_factory=lambda: MappingProxyType({})
    )
    stakes: Mapping[bytes, int] = field(default_factory=lambda: MappingProxyType({}))
    voters: frozenset[int] = frozenset()
    stake: int = 0

    def of(self, validator: int) -> Vote | None:
        """The first vote of a validator."""
        if validator not in self.voters:
            return None
        return next(
            vote for (index, _), vote in self.votes.items() if index == validator
        )

    def for_block(self, block_hash: bytes) -> tuple[Vote, ...]:
        """The votes for one block, by validator index."""
        found = [vote for (_, voted), vote in self.votes.items() if voted == block_hash]
        return tuple(sorted(found, key=lambda vote: vote.validator))

    def for_quorum(self, validators: ValidatorSet) -> bytes | None:
        """The block, not nil, with more than two thirds of the stake behind it.

        With a third or more of the stake equivocating there may be two; then the first
        one that was voted for is returned.
        """
        for block_hash, stake in self.stakes.items():
            if block_hash != NIL and validators.is_quorum(stake):
                return block_hash
        return None

    def _holding(self, validator: int) -> int:
        return sum(index == validator for index, _ in self.votes)

    def add(self, vote: Vote, stake: int) -> tuple["Tally", Outcome]:
        """Count a vote whose signature was checked."""
        index, block_hash = vote.validator, vote.subject.block_hash
        if (index, block_hash) in self.votes:
            return self, Outcome.KNOWN
        first = index not in self.voters
        if not first and self._holding(index) >= _HASHES_EACH:
            return self, Outcome.REFUSED
        counted = Tally(
            MappingProxyType({**self.votes, (index, block_hash): vote}),
            MappingProxyType(
                {**self.stakes, block_hash: self.stakes.get(block_hash, 0) + stake}
            ),
            self.voters | {index},
            self.stake + (stake if first else 0),
        )
        return counted, Outcome.COUNTED


EMPTY = Tally()
_Slot = tuple[int, VoteKind]


@dataclass(frozen=True, slots=True)
class VoteKeeper:
    """All tallies of one height, by round and kind."""

    tallies: Mapping[_Slot, Tally] = field(default_factory=lambda: MappingProxyType({}))

    def tally(self, round_: int, kind: VoteKind) -> Tally:
        """The votes of that kind in that round."""
        return self.tallies.get((round_, kind), EMPTY)

    def __iter__(self) -> Iterator[Vote]:
        """Every vote kept, by round, prevotes first."""
        for slot in sorted(self.tallies):
            yield from self.tallies[slot].votes.values()

    def add(
        self, vote: Vote, validators: ValidatorSet, current: int
    ) -> tuple["VoteKeeper", Outcome]:
        """Count a vote whose signature was checked.

        Args:
            vote: A prevote or precommit of this height.
            validators: Who votes at this height.
            current: The round we are in; it decides what lies ahead.
        """
        round_, kind = vote.subject.round, vote.subject.kind
        if round_ < current - ROUNDS_BEHIND and (round_, kind) not in self.tallies:
            return self, Outcome.REFUSED
        if round_ > current and not self._may_add_ahead(vote, current):
            return self, Outcome.REFUSED
        stake = validators.at(vote.validator).stake
        tally, outcome = self.tally(round_, kind).add(vote, stake)
        if outcome is not Outcome.COUNTED:
            return self, outcome
        return VoteKeeper(
            MappingProxyType({**self.tallies, (round_, kind): tally})
        ), outcome

    def _may_add_ahead(self, vote: Vote, current: int) -> bool:
        rounds = {
            round_
            for (round_, _), tally in self.tallies.items()
            if round_ > current and vote.validator in tally.voters
        }
        return vote.subject.round in rounds or len(rounds) < ROUNDS_AHEAD

    def furthest(self, validators: ValidatorSet, current: int) -> int:
        """The highest round that validators with over a third of the stake reached.

        `current` when there is none ahead of it (line 55; the paper asks for f + 1
        messages of one round, we let votes of still later rounds count as well).
        """
        reached: dict[int, int] = {}
        if all(round_ <= current for round_, _ in self.tallies):
            return current
        for (round_, _), tally in self.tallies.items():
            if round_ > current:
                for validator in tally.voters:
                    reached[validator] = max(reached.get(validator, 0), round_)
        stake = 0
        for validator, round_ in sorted(
            reached.items(), key=lambda item: (-item[1], item[0])
        ):
            stake += validators.at(validator).stake
            if validators.is_third(stake):
                return round_
        return current

    def begin_round(self, current: int, kept: frozenset[int]) -> "VoteKeeper":
        """Forget rounds far behind `current`, except those in `kept`."""
        oldest = current - ROUNDS_BEHIND
        if oldest <= 0:
            return self
        return replace(
            self,
            tallies=MappingProxyType(
                {
                    slot: tally
                    for slot, tally in self.tallies.items()
                    if slot[0] >= oldest or slot[0] in kept
                }
            ),
        )
