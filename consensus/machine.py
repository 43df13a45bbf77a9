"""One height of Tendermint as a state machine without I/O.

`apply(state, input)` returns the next state and the effects that the shell must
perform, in order. The machine speaks of blocks by their hashes; building, checking,
sending and storing them is the shell's, and so are clocks: a timeout is an effect
(`Schedule`) that comes back as an input (`TimedOut`). Signatures are checked before a
vote or proposal comes here, because a vote may come from a peer, a certificate or a
log and must be checked once. Lines are those of arXiv 1807.04938, algorithm 1.

    upon                                           step        does               line
    ---------------------------------------------- ----------- ------------------ ----
    the round begins, our turn                     propose     Propose or Build   14
    the round begins                               propose     Schedule           21
    a new block is proposed and checked            propose     Sign prevote       22
    a block with a polka is proposed again         propose     Sign prevote       28
    prevotes of a quorum, whatever for             prevote     Schedule, once     34
    a polka in this round for a checked block      prevote     lock, precommit    36
                                                   precommit   remember it only   42
    a polka in an earlier round, the newest yet    any         remember it only   42
    a quorum prevotes nil                          prevote     precommit nil      44
    precommits of a quorum, whatever for           any         Schedule, once     47
    a quorum precommits one block, in any round    any         Decide             49
    a third is in later rounds                     any         go there           55
    no proposal in time                            propose     prevote nil        57
    no polka in time                               prevote     precommit nil      61
    no decision in time                            any         next round         65

Three things differ from the paper, and none touches safety: line 21 gives a proposer
a timeout too, since its own build may fail; a block counts as proposed when it was
checked, whichever message brought it, since votes of a quorum say as much; and a polka
is remembered (line 42) even if it comes after its round. Otherwise, when few are locked
on a block, the others propose new ones that these refuse, until one of the few has its
turn: with little stake that is far away, and a third of the stake may be silent.

A quorum may also arrive whole (`QuorumSeen`), as the polka under a re-proposal or as
a commit certificate. That is what saves a validator that an equivocator has told
otherwise: it kept the other one of two contradicting votes, and could wait for ever.

After a crash the shell feeds the inputs of its log again, then asks `resume` what had
been asked for and has not come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from types import MappingProxyType

from consensus.errors import IllegalInput, Impossible, InvalidVote
from consensus.keeper import Outcome, VoteKeeper
from consensus.validators import ValidatorSet
from consensus.votes import NIL, Subject, Vote, VoteKind

ROUNDS_OF_PROPOSALS_AHEAD = 2


class Step(IntEnum):
    """How far a round has come."""

    NEW = 0
    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3
    DECIDED = 4


class TimeoutKind(Enum):
    """What is waited for."""

    PROPOSE = "propose"
    PREVOTE = "prevote"
    PRECOMMIT = "precommit"


@dataclass(frozen=True, slots=True, order=True)
class Polka:
    """A quorum of prevotes for one block in one round."""

    round: int
    block_hash: bytes


# -- inputs ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """The previous height is committed and it is time for the next block."""


@dataclass(frozen=True, slots=True)
class ProposalSeen:
    """The proposer of `round` signed this proposal.

    Attributes:
        round: Of the proposal.
        block_hash: What is proposed.
        polka_round: Where it had a polka, None for a new block.
    """

    round: int
    block_hash: bytes
    polka_round: int | None = None


@dataclass(frozen=True, slots=True)
class BlockChecked:
    """A block is here, whole, and was held against every rule."""

    block_hash: bytes
    valid: bool


@dataclass(frozen=True, slots=True)
class VoteSeen:
    """A vote arrived, or was signed here; its signature is good."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class QuorumSeen:
    """A certificate arrived and is good: votes of a quorum for one block.

    Attributes:
        kind: Prevotes make a polka, precommits a commit.
        round: Of all the votes.
        block_hash: Of all the votes, not nil.
        votes: By validator index.
    """

    kind: VoteKind
    round: int
    block_hash: bytes
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A timeout that was scheduled has passed."""

    kind: TimeoutKind
    round: int


Input = Start | ProposalSeen | BlockChecked | VoteSeen | QuorumSeen | TimedOut


# -- effects -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Build:
    """Build a block for this round, sign and send the proposal, feed it back."""

    round: int


@dataclass(frozen=True, slots=True)
class Propose:
    """Propose this block again, with the polka it had: sign, send, feed back."""

    round: int
    polka: Polka


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign this vote durably, send it, then feed `VoteSeen`.

    The shell puts its clock into a precommit's `detail`.
    """

    subject: Subject


@dataclass(frozen=True, slots=True)
class Schedule:
    """Feed `TimedOut` when the time for this kind of wait in this round is over."""

    kind: TimeoutKind
    round: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """A quorum wants this block and it is not here: get it, check it, feed it."""

    round: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Decide:
    """Commit this block; `precommits` are its certificate, by validator index."""

    height: int
    round: int
    block_hash: bytes
    precommits: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Equivocation:
    """One validator signed both: evidence."""

    first: Vote
    second: Vote


Effect = Build | Propose | Sign | Schedule | Fetch | Decide | Equivocation


# -- state -------------------------------------------------------------------

_Quorums = Mapping[tuple[VoteKind, int], QuorumSeen]


@dataclass(frozen=True, slots=True)
class State:
    """Everything known about a height. `me` is our index, None for an observer.

    Attributes:
        validators: Who votes.
        height: Of the block that is looked for.
        me: Our index among the validators.
        round: The paper's round_p.
        step: The paper's step_p; NEW before `Start`, DECIDED at the end.
        locked: lockedValue_p and lockedRound_p, None for -1.
        valid: validValue_p and validRound_p.
        proposals: The first one of each round.
        blocks: Checked blocks: whether each is valid.
        keeper: The votes.
        quorums: Certificates that arrived whole.
        asked: What this round has scheduled, fetched or signed already.
        decision: At the end.
    """

    validators: ValidatorSet
    height: int
    me: int | None
    round: int = 0
    step: Step = Step.NEW
    locked: Polka | None = None
    valid: Polka | None = None
    proposals: Mapping[int, ProposalSeen] = field(
        default_factory=lambda: MappingProxyType({})
    )
    blocks: Mapping[bytes, bool] = field(default_factory=lambda: MappingProxyType({}))
    keeper: VoteKeeper = field(default_factory=VoteKeeper)
    quorums: _Quorums = field(default_factory=lambda: MappingProxyType({}))
    asked: tuple[Effect, ...] = ()
    decision: Decide | None = None

    def is_proposer_of(self, round_: int) -> bool:
        """Whether it is our turn in that round."""
        if self.me is None:
            return False
        turn = self.validators.proposer(self.height, round_)
        return self.validators.at(self.me) == turn

    def votes_for(
        self, kind: VoteKind, round_: int, block_hash: bytes
    ) -> tuple[Vote, ...] | None:
        """A quorum's votes for a block in a round, None when there is no quorum."""
        tally = self.keeper.tally(round_, kind)
        if self.validators.is_quorum(tally.stakes.get(block_hash, 0)):
            return tally.for_block(block_hash)
        whole = self.quorums.get((kind, round_))
        if whole is not None and whole.block_hash == block_hash:
            return whole.votes
        return None


Result = tuple[State, tuple[Effect, ...]]


def apply(state: State, event: Input) -> Result:
    """Advance by one input; on an error the state given stays the valid one.

    Raises:
        IllegalInput: the input does not belong here: our shell's fault.
        InvalidVote: a vote of another height, or a proposal in a vote's place.
        InvalidValidatorSet: a vote by an index that is no member's.
        Impossible: a quorum agreed on a block that is invalid here.
    """
    match event:
        case Start():
            return _start(state)
        case VoteSeen():
            return _vote(state, event.vote)
        case ProposalSeen() | BlockChecked() | QuorumSeen() | TimedOut():
            if state.step is Step.NEW:
                raise IllegalInput(
                    f"{type(event).__name__} came before Start of {state.height}"
                )
            if state.step is Step.DECIDED:
                return state, ()
            return _learn(state, event)


def resume(state: State) -> tuple[Effect, ...]:
    """What was asked for in this round and has not come: to be done after a restart."""
    if state.step is Step.DECIDED:
        return () if state.decision is None else (state.decision,)
    return tuple(effect for effect in state.asked if not _has_come(state, effect))


def _has_come(state: State, effect: Effect) -> bool:
    match effect:
        case Build() | Propose():
            return effect.round in state.proposals
        case Fetch():
            return effect.block_hash in state.blocks
        case Sign():
            subject = effect.subject
            tally = state.keeper.tally(subject.round, subject.kind)
            return state.me in tally.voters
        case Schedule() | Decide() | Equivocation():
            return False


# -- inputs ------------------------------------------------------------------


def _start(state: State) -> Result:
    if state.step is not Step.NEW:
        raise IllegalInput(f"height {state.height} was started already")
    state, effects = _begin_round(state, 0)
    return _advance(state, effects)


def _vote(state: State, vote: Vote) -> Result:
    """Count a vote; before `Start` and after the decision it is only kept."""
    subject = vote.subject
    if subject.height != state.height:
        raise InvalidVote(f"expected height {state.height}, got {subject.height}")
    if subject.kind is VoteKind.PROPOSAL:
        raise InvalidVote("a proposal's signature is no vote")
    keeper, outcome = state.keeper.add(vote, state.validators, state.round)
    if outcome is not Outcome.COUNTED:
        return state, ()
    effects: tuple[Effect, ...] = ()
    first = state.keeper.tally(subject.round, subject.kind).of(vote.validator)
    if first is not None:
        effects = (Equivocation(first, vote),)
    state = _with_keeper(state, keeper)
    if state.step in (Step.NEW, Step.DECIDED) or not _may_matter(state, subject):
        return state, effects
    return _advance(state, effects)


def _may_matter(state: State, subject: Subject) -> bool:
    """Whether any rule may look at a vote that was just counted.

    No rule fired before it came. Those that look at rounds up to ours ask for a quorum
    of voters, whatever they voted for; in later rounds fewer are enough (line 55).
    """
    tally = state.keeper.tally(subject.round, subject.kind)
    return subject.round > state.round or state.validators.is_quorum(tally.stake)


def _with_keeper(state: State, keeper: VoteKeeper) -> State:
    """`replace(state, keeper=keeper)` at a third of its time: done for every vote."""
    return State(
        state.validators,
        state.height,
        state.me,
        state.round,
        state.step,
        state.locked,
        state.valid,
        state.proposals,
        state.blocks,
        keeper,
        state.quorums,
        state.asked,
        state.decision,
    )


def _learn(
    state: State, event: ProposalSeen | BlockChecked | QuorumSeen | TimedOut
) -> Result:
    match event:
        case ProposalSeen():
            ahead = event.round - state.round
            if event.round in state.proposals or ahead > ROUNDS_OF_PROPOSALS_AHEAD:
                return state, ()
            proposals = MappingProxyType({**state.proposals, event.round: event})
            state = replace(state, proposals=proposals)
        case BlockChecked():
            known = {event.block_hash: event.valid, **state.blocks}
            state = replace(state, blocks=MappingProxyType(known))
        case QuorumSeen():
            slot = (event.kind, event.round)
            if event.block_hash == NIL or slot in state.quorums:
                return state, ()
            quorums = MappingProxyType({**state.quorums, slot: event})
            state = replace(state, quorums=quorums)
        case TimedOut():
            return _timed_out(state, event)
    return _advance(state, ())


def _timed_out(state: State, event: TimedOut) -> Result:
    if event.round != state.round:
        return state, ()
    effects: tuple[Effect, ...] = ()
    match event.kind:
        case TimeoutKind.PROPOSE if state.step is Step.PROPOSE:  # line 57
            state, effects = _prevote(state, NIL)
        case TimeoutKind.PREVOTE if state.step is Step.PREVOTE:  # line 61
            state, effects = _precommit(state, NIL)
        case TimeoutKind.PRECOMMIT:  # line 65
            state, effects = _begin_round(state, state.round + 1)
        case _:
            return state, ()
    return _advance(state, effects)


# -- rules -------------------------------------------------------------------


def _advance(state: State, effects: tuple[Effect, ...]) -> Result:
    """Apply the rules until none of them fires."""
    while True:
        for rule in _RULES:
            result = rule(state)
            if result is not None:
                state, more = result
                effects += more
                break
        else:
            return state, effects
        if state.step is Step.DECIDED:
            return state, effects


def _decide(state: State) -> Result | None:
    """Line 49; a block that is not here is fetched first."""
    found = _committed(state)
    if found is None:
        return None
    round_, block_hash = found
    valid = state.blocks.get(block_hash)
    if valid is None:
        return _ask_once(state, Fetch(round_, block_hash))
    if not valid:
        raise Impossible(
            f"height {state.height}: a quorum precommitted 0x{block_hash.hex()}, "
            "which breaks a rule here"
        )
    precommits = state.votes_for(VoteKind.PRECOMMIT, round_, block_hash)
    decision = Decide(state.height, round_, block_hash, precommits or ())
    return replace(state, step=Step.DECIDED, decision=decision), (decision,)


def _committed(state: State) -> tuple[int, bytes] | None:
    """Round and hash of a block that a quorum precommitted."""
    for (round_, kind), tally in state.keeper.tallies.items():
        if kind is VoteKind.PRECOMMIT:
            block_hash = tally.for_quorum(state.validators)
            if block_hash is not None:
                return round_, block_hash
    for (kind, round_), whole in state.quorums.items():
        if kind is VoteKind.PRECOMMIT:
            return round_, whole.block_hash
    return None


def _skip(state: State) -> Result | None:
    """Line 55."""
    furthest = state.keeper.furthest(state.validators, state.round)
    return _begin_round(state, furthest) if furthest > state.round else None


def _prevote_new(state: State) -> Result | None:
    """Line 22."""
    proposal = state.proposals.get(state.round)
    if state.step is not Step.PROPOSE or proposal is None:
        return None
    valid = state.blocks.get(proposal.block_hash)
    if valid is None or proposal.polka_round is not None:
        return None
    free = state.locked is None or state.locked.block_hash == proposal.block_hash
    return _prevote(state, proposal.block_hash if valid and free else NIL)


def _prevote_again(state: State) -> Result | None:
    """Line 28."""
    proposal = state.proposals.get(state.round)
    if state.step is not Step.PROPOSE or proposal is None:
        return None
    polka_round, block_hash = proposal.polka_round, proposal.block_hash
    valid = state.blocks.get(block_hash)
    if valid is None or polka_round is None or polka_round >= state.round:
        return None
    if state.votes_for(VoteKind.PREVOTE, polka_round, block_hash) is None:
        return None
    locked = state.locked
    free = (
        locked is None or locked.round <= polka_round or locked.block_hash == block_hash
    )
    return _prevote(state, block_hash if valid and free else NIL)


def _wait_for_polka(state: State) -> Result | None:
    """Line 34."""
    tally = state.keeper.tally(state.round, VoteKind.PREVOTE)
    if state.step is not Step.PREVOTE or not state.validators.is_quorum(tally.stake):
        return None
    return _ask_once(state, Schedule(TimeoutKind.PREVOTE, state.round))


def _lock(state: State) -> Result | None:
    """Line 36, with 42 for a polka that came after our precommit."""
    if state.step not in (Step.PREVOTE, Step.PRECOMMIT):
        return None
    if state.valid is not None and state.valid.round == state.round:
        return None
    block_hash = _polka(state)
    if block_hash is None:
        return None
    valid = state.blocks.get(block_hash)
    if valid is None:
        return _ask_once(state, Fetch(state.round, block_hash))
    if not valid:
        raise _impossible(state, state.round, block_hash)
    polka = Polka(state.round, block_hash)
    if state.step is Step.PRECOMMIT:
        return replace(state, valid=polka), ()
    return _precommit(state, block_hash, polka)


def _remember(state: State) -> Result | None:
    """Line 42 for a polka of a round that we have left."""
    if state.round == 0:
        return None
    newest = -1 if state.valid is None else state.valid.round
    found: bytes | None = None
    for (round_, kind), tally in state.keeper.tallies.items():
        if kind is VoteKind.PREVOTE and newest < round_ < state.round:
            block_hash = tally.for_quorum(state.validators)
            if block_hash is not None:
                newest, found = round_, block_hash
    for (kind, round_), whole in state.quorums.items():
        if kind is VoteKind.PREVOTE and newest < round_ < state.round:
            newest, found = round_, whole.block_hash
    if found is None:
        return None
    valid = state.blocks.get(found)
    if valid is None:
        return _ask_once(state, Fetch(newest, found))
    if not valid:
        raise _impossible(state, newest, found)
    return replace(state, valid=Polka(newest, found)), ()


def _impossible(state: State, round_: int, block_hash: bytes) -> Impossible:
    return Impossible(
        f"height {state.height} round {round_}: a quorum prevoted "
        f"0x{block_hash.hex()}, which breaks a rule here"
    )


def _polka(state: State) -> bytes | None:
    tally = state.keeper.tally(state.round, VoteKind.PREVOTE)
    block_hash = tally.for_quorum(state.validators)
    if block_hash is not None:
        return block_hash
    whole = state.quorums.get((VoteKind.PREVOTE, state.round))
    return None if whole is None else whole.block_hash


def _precommit_nil(state: State) -> Result | None:
    """Line 44."""
    if state.step is not Step.PREVOTE:
        return None
    tally = state.keeper.tally(state.round, VoteKind.PREVOTE)
    if not state.validators.is_quorum(tally.stakes.get(NIL, 0)):
        return None
    return _precommit(state, NIL)


def _wait_for_commit(state: State) -> Result | None:
    """Line 47."""
    tally = state.keeper.tally(state.round, VoteKind.PRECOMMIT)
    if not state.validators.is_quorum(tally.stake):
        return None
    return _ask_once(state, Schedule(TimeoutKind.PRECOMMIT, state.round))


_RULES = (
    _decide,
    _skip,
    _prevote_new,
    _prevote_again,
    _lock,
    _remember,
    _precommit_nil,
    _wait_for_polka,
    _wait_for_commit,
)


# -- moves -------------------------------------------------------------------


def _begin_round(state: State, round_: int) -> Result:
    """StartRound, lines 11 to 21."""
    kept = {each.round for each in (state.locked, state.valid) if each is not None}
    effects: tuple[Effect, ...] = (Schedule(TimeoutKind.PROPOSE, round_),)
    if state.is_proposer_of(round_):
        ours = Build(round_) if state.valid is None else Propose(round_, state.valid)
        effects = (ours, *effects)
    state = replace(
        state,
        round=round_,
        step=Step.PROPOSE,
        keeper=state.keeper.begin_round(round_, frozenset(kept)),
        asked=effects,
    )
    return state, effects


def _prevote(state: State, block_hash: bytes) -> Result:
    effects = _sign(state, VoteKind.PREVOTE, block_hash)
    return replace(state, step=Step.PREVOTE, asked=state.asked + effects), effects


def _precommit(state: State, block_hash: bytes, polka: Polka | None = None) -> Result:
    """Precommit nil, or lock a block that has a polka and precommit it."""
    effects = _sign(state, VoteKind.PRECOMMIT, block_hash)
    state = replace(
        state,
        step=Step.PRECOMMIT,
        locked=polka or state.locked,
        valid=polka or state.valid,
        asked=state.asked + effects,
    )
    return state, effects


def _sign(state: State, kind: VoteKind, block_hash: bytes) -> tuple[Effect, ...]:
    if state.me is None:
        return ()
    return (Sign(Subject(kind, state.height, state.round, block_hash)),)


def _ask(state: State, effect: Effect) -> Result:
    return replace(state, asked=(*state.asked, effect)), (effect,)


def _ask_once(state: State, effect: Effect) -> Result | None:
    return None if effect in state.asked else _ask(state, effect)
