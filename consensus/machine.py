"""One height of consensus as a state machine without I/O.

`apply(state, input)` returns the next state and the effects that the shell must
perform, in order. The machine speaks of blocks by their hashes; building, checking and
storing them is the shell's. Lines refer to Tendermint (arXiv 1807.04938, algorithm 1).

    phase      input               effects                      next phase
    NEW        Start, our turn     Build                        PROPOSE      line 14
    NEW        Start, not ours     -                            PROPOSE      line 21
    PROPOSE    ProposalSeen        Sign prevote                 PREVOTE      line 22
    PREVOTE    quorum of prevotes  Sign precommit               PRECOMMIT    line 36
    PRECOMMIT  quorum of precommits Decide                      DECIDED      line 49

Votes count in every phase but DECIDED, so a late node decides from precommits alone.
A validator that signs two hashes in one round is reported once by an `Equivocation`
effect and its first vote stands.

This is one round: a round that fails (no proposal, or no quorum for it) is followed by
another one only with timeouts and locks, which a single validator never needs, because
it is its own quorum. Input for any other round is refused, not guessed at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

from consensus.errors import IllegalInput, InvalidVote
from consensus.validators import ValidatorSet
from consensus.votes import NIL, Subject, Vote, VoteKind, verify_vote


class Phase(Enum):
    """How far this height has come."""

    NEW = "new"
    PROPOSE = "propose"
    PREVOTE = "prevote"
    PRECOMMIT = "precommit"
    DECIDED = "decided"


Votes = Mapping[int, Vote]


def _no_votes() -> Votes:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class State:
    """Everything known about a height. `me` is our index, None for an observer."""

    genesis_hash: bytes
    validators: ValidatorSet
    height: int
    me: int | None
    round: int = 0
    phase: Phase = Phase.NEW
    proposal: bytes | None = None
    prevotes: Votes = field(default_factory=_no_votes)
    precommits: Votes = field(default_factory=_no_votes)
    decision: bytes | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """The previous height is committed and it is time for the next block."""


@dataclass(frozen=True, slots=True)
class ProposalSeen:
    """The proposer's block arrived (or was built here) and was checked."""

    block_hash: bytes
    valid: bool


@dataclass(frozen=True, slots=True)
class VoteSeen:
    """A vote arrived, or was signed here."""

    vote: Vote


Input = Start | ProposalSeen | VoteSeen


@dataclass(frozen=True, slots=True)
class Build:
    """Build a block for this height and round, then feed `ProposalSeen`."""

    height: int
    round: int


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign this subject durably, broadcast it, then feed `VoteSeen`."""

    subject: Subject


@dataclass(frozen=True, slots=True)
class Decide:
    """Commit this block; `precommits` are its certificate, by validator index."""

    height: int
    round: int
    block_hash: bytes
    precommits: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Equivocation:
    """One validator signed both: evidence for the next block."""

    first: Vote
    second: Vote


Effect = Build | Sign | Decide | Equivocation
Step = tuple[State, tuple[Effect, ...]]


def apply(state: State, event: Input) -> Step:
    """Advance by one input; on an error the state given stays the valid one.

    Raises:
        IllegalInput: the input does not belong to this phase: our shell's fault.
        InvalidVote: a vote for elsewhere or with a wrong signature: a peer's fault.
        InvalidValidatorSet: a vote by an index that is no member's.
    """
    match event:
        case Start():
            return _start(state)
        case ProposalSeen():
            return _proposal(state, event)
        case VoteSeen():
            return _vote(state, event.vote)


def _start(state: State) -> Step:
    _expect(state, Phase.NEW, "Start")
    started = replace(state, phase=Phase.PROPOSE)
    proposer = state.validators.proposer(state.height, state.round)
    ours = state.me is not None and state.validators.at(state.me) == proposer
    effects = (Build(state.height, state.round),) if ours else ()
    return started, effects


def _proposal(state: State, event: ProposalSeen) -> Step:
    _expect(state, Phase.PROPOSE, "ProposalSeen")
    seen = event.block_hash if event.valid else None
    voted = replace(state, phase=Phase.PREVOTE, proposal=seen)
    block_hash = event.block_hash if event.valid else NIL
    effects = _sign(voted, VoteKind.PREVOTE, block_hash)
    return _follow_quorums(voted, effects)


def _vote(state: State, vote: Vote) -> Step:
    subject = vote.subject
    if state.phase is Phase.DECIDED:
        return state, ()
    if (subject.height, subject.round) != (state.height, state.round):
        raise InvalidVote(
            f"expected height {state.height} round {state.round}, "
            f"got height {subject.height} round {subject.round}"
        )
    if subject.kind is VoteKind.PROPOSAL:
        raise InvalidVote("a proposal's signature is no vote")
    verify_vote(state.genesis_hash, vote, state.validators)
    prevote = subject.kind is VoteKind.PREVOTE
    seen = state.prevotes if prevote else state.precommits
    first = seen.get(vote.validator)
    if first is not None:
        double = first.subject != subject
        return state, ((Equivocation(first, vote),) if double else ())
    votes = MappingProxyType({**seen, vote.validator: vote})
    counted = (
        replace(state, prevotes=votes) if prevote else replace(state, precommits=votes)
    )
    return _follow_quorums(counted, ())


def _follow_quorums(state: State, effects: tuple[Effect, ...]) -> Step:
    """Take every transition that the votes at hand allow."""
    if state.phase is Phase.PREVOTE:
        block_hash = _quorum(state, state.prevotes)
        if block_hash is not None and block_hash in (state.proposal, NIL):
            state = replace(state, phase=Phase.PRECOMMIT)
            effects += _sign(state, VoteKind.PRECOMMIT, block_hash)
    block_hash = _quorum(state, state.precommits)
    if block_hash is not None and block_hash != NIL:
        state = replace(state, phase=Phase.DECIDED, decision=block_hash)
        certificate = tuple(
            vote
            for _, vote in sorted(state.precommits.items())
            if vote.subject.block_hash == block_hash
        )
        decide = Decide(state.height, state.round, block_hash, certificate)
        effects += (decide,)
    return state, effects


def _quorum(state: State, votes: Votes) -> bytes | None:
    """The block hash for which more than two thirds of the stake voted."""
    stake: dict[bytes, int] = {}
    for index, vote in votes.items():
        block_hash = vote.subject.block_hash
        weight = state.validators.at(index).stake
        stake[block_hash] = stake.get(block_hash, 0) + weight
    for block_hash, weight in stake.items():
        if state.validators.is_quorum(weight):
            return block_hash
    return None


def _sign(state: State, kind: VoteKind, block_hash: bytes) -> tuple[Effect, ...]:
    if state.me is None:
        return ()
    return (Sign(Subject(kind, state.height, state.round, block_hash)),)


def _expect(state: State, phase: Phase, name: str) -> None:
    if state.phase is not phase:
        raise IllegalInput(
            f"{name} belongs to phase {phase.value}, "
            f"height {state.height} is in phase {state.phase.value}"
        )
