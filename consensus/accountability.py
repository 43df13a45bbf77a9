"""Who is to blame when two blocks were decided at one height.

Agreement breaks only if validators with more than a third of the stake broke a rule,
and the messages that honest validators received name them (arXiv 1807.04938 section 3;
the argument is Tendermint's *accountable safety*). Three rules bind what a validator
may sign, and each has its misdeed:

    DUPLICATE   two votes of one kind in one round for different blocks
    AMNESIA     a precommit for v in round r and a prevote for another v' in a later
                round r', with no polka for v' in any of the rounds r .. r' - 1
    GROUNDLESS  a precommit for v in round r, with no polka for v in round r

A duplicate convicts by itself, so only duplicates are evidence that slashes
(`consensus.evidence`). The other two rest on a polka that is *absent*, which no message
can prove: they are findings for people who collected the logs, and they are sound only
if the logs of *all* honest validators are there. An honest validator logs durably what
it has received before it signs, so whatever justified its vote is in its log.

Why a third is always named. Let X be decided in round r and Y in round r' >= r, each by
precommits of a quorum; two quorums share more than a third of the stake. If r = r', the
shared ones are duplicates. Otherwise, if the logs have no polka for Y in r', all who
precommitted Y there are groundless. If they have, there is a first round s > r with a
polka for some Z other than X. Those who precommitted X in r and prevoted Z in s are
amnesiacs, unless Z had a polka in r as well, s being the first. Then either X had none
there, and X's precommits are groundless, or r has two polkas that share duplicates.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from consensus.errors import InvalidVote
from consensus.machine import Input, QuorumSeen, VoteSeen
from consensus.validators import ValidatorSet
from consensus.votes import NIL, Vote, VoteKind

_PREVOTE, _PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT


class Misdeed(Enum):
    """Which rule was broken."""

    DUPLICATE = "duplicate"
    AMNESIA = "amnesia"
    GROUNDLESS = "groundless"


@dataclass(frozen=True, slots=True)
class Finding:
    """One validator broke one rule.

    Attributes:
        validator: Its index.
        misdeed: What it did.
        votes: The votes that show it, the earlier one first.
    """

    validator: int
    misdeed: Misdeed
    votes: tuple[Vote, ...]


def votes_in(log: Iterable[Input]) -> Iterator[Vote]:
    """Every vote that a validator's log of inputs holds, whichever way it came."""
    for event in log:
        match event:
            case VoteSeen(vote):
                yield vote
            case QuorumSeen():
                yield from event.votes
            case _:
                pass


def investigate(
    votes: Iterable[Vote], validators: ValidatorSet, height: int
) -> tuple[Finding, ...]:
    """Find everybody whose votes break a rule, each validator and misdeed once.

    Args:
        votes: From the logs of all honest validators, signatures checked; any order,
            repetitions allowed.
        validators: The set of that height.
        height: Of all the votes.

    Returns:
        The findings, by validator and misdeed.

    Raises:
        InvalidVote: a vote of another height, or a proposal in a vote's place.
        InvalidValidatorSet: a vote by an index that is no member's.
    """
    record = _Record(validators)
    for vote in votes:
        subject = vote.subject
        if subject.height != height:
            raise InvalidVote(f"expected height {height}, got {subject.height}")
        if subject.kind is VoteKind.PROPOSAL:
            raise InvalidVote("a proposal's signature is no vote")
        record.add(vote)
    findings: list[Finding] = []
    for validator in sorted(record.cast):
        findings.extend(record.findings(validator))
    return tuple(findings)


def named_stake(findings: Iterable[Finding], validators: ValidatorSet) -> int:
    """The stake of everybody who is named, each counted once."""
    named = {finding.validator for finding in findings}
    return sum(validators.at(validator).stake for validator in named)


class _Record:
    """The votes, by who cast them and by what they were for."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self.cast: defaultdict[int, dict[tuple[int, VoteKind, bytes], Vote]] = (
            defaultdict(dict)
        )
        self._prevoted: defaultdict[tuple[int, bytes], int] = defaultdict(int)

    def add(self, vote: Vote) -> None:
        """Count a vote once, whatever time a precommit carries."""
        subject = vote.subject
        stake = self._validators.at(vote.validator).stake
        cast = self.cast[vote.validator]
        slot = (subject.round, subject.kind, subject.block_hash)
        if slot not in cast:
            cast[slot] = vote
            if subject.kind is _PREVOTE:
                self._prevoted[subject.round, subject.block_hash] += stake

    def findings(self, validator: int) -> Iterator[Finding]:
        """One finding for each rule that this validator broke."""
        cast = self.cast[validator]
        votes = [cast[slot] for slot in sorted(cast)]
        for misdeed, shown in (
            (Misdeed.DUPLICATE, self._duplicate(votes)),
            (Misdeed.AMNESIA, self._amnesia(votes)),
            (Misdeed.GROUNDLESS, self._groundless(votes)),
        ):
            if shown is not None:
                yield Finding(validator, misdeed, shown)

    def _polka(self, round_: int, block_hash: bytes) -> bool:
        return self._validators.is_quorum(self._prevoted.get((round_, block_hash), 0))

    def _duplicate(self, votes: list[Vote]) -> tuple[Vote, ...] | None:
        for first, second in pairwise(votes):
            if first.subject.contradicts(second.subject):
                return first, second
        return None

    def _amnesia(self, votes: list[Vote]) -> tuple[Vote, ...] | None:
        locks: list[Vote] = []
        for vote in votes:
            subject = vote.subject
            if subject.block_hash == NIL:
                continue
            if subject.kind is _PRECOMMIT:
                locks.append(vote)
                continue
            for lock in locks:
                held = lock.subject
                if (
                    held.round < subject.round
                    and held.block_hash != subject.block_hash
                    and not any(
                        self._polka(round_, subject.block_hash)
                        for round_ in range(held.round, subject.round)
                    )
                ):
                    return lock, vote
        return None

    def _groundless(self, votes: list[Vote]) -> tuple[Vote, ...] | None:
        for vote in votes:
            subject = vote.subject
            if (
                subject.kind is _PRECOMMIT
                and subject.block_hash != NIL
                and not self._polka(subject.round, subject.block_hash)
            ):
                return (vote,)
        return None
