"""One height of consensus: each rule of the table fires, and does not when it must not.

The committee is four equal validators; we are the one named by `me`, and the proposer
of rounds 0, 1, ... is asked of the set, never assumed.
"""

from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from consensus.errors import (
    IllegalInput,
    Impossible,
    InvalidValidatorSet,
    InvalidVote,
)
from consensus.machine import (
    BlockChecked,
    Build,
    Decide,
    Effect,
    Equivocation,
    Fetch,
    Input,
    Polka,
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
from consensus.votes import NIL, Subject, VoteKind
from tests.consensus.committee import BLOCK, OTHER_BLOCK, Committee

PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT
FOUR = Committee(1, 1, 1, 1)


def turn(round_: int) -> int:
    return FOUR.set.members.index(FOUR.set.proposer(1, round_))


ME = next(i for i in range(4) if i not in (turn(0), turn(1)))


def fresh(me: int | None = ME, committee: Committee = FOUR) -> State:
    return State(committee.set, 1, me)


def feed(state: State, *events: Input | Iterable[Input]) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for each in events:
        for event in each if isinstance(each, Iterable) else (each,):
            state, more = apply(state, event)
            effects.extend(more)
    return state, effects


def votes(
    who: Iterable[int],
    kind: VoteKind,
    block_hash: bytes = BLOCK,
    round_: int = 0,
) -> list[Input]:
    return [
        VoteSeen(FOUR.vote(index, kind, block_hash, round_=round_)) for index in who
    ]


def checked(block_hash: bytes = BLOCK, *, valid: bool = True) -> BlockChecked:
    return BlockChecked(block_hash, valid)


def sign(kind: VoteKind, block_hash: bytes = BLOCK, round_: int = 0) -> Sign:
    return Sign(Subject(kind, 1, round_, block_hash))


def signed(effects: Iterable[Effect]) -> list[Effect]:
    return [each for each in effects if isinstance(each, Sign)]


def wait(kind: str, round_: int = 0) -> Schedule:
    return Schedule(TimeoutKind(kind), round_)


def out(kind: str, round_: int = 0) -> TimedOut:
    return TimedOut(TimeoutKind(kind), round_)


OPEN: list[Input] = [Start(), ProposalSeen(0, BLOCK), checked()]
LOCKED = [*OPEN, *votes(range(3), PREVOTE)]


# -- a height that goes well -----------------------------------------------------------


def test_single_validator_goes_all_the_way() -> None:
    committee = Committee(1)
    state, effects = feed(fresh(0, committee), Start())
    assert effects == [Build(0), wait("propose")]
    state, effects = feed(state, ProposalSeen(0, BLOCK), checked())
    assert effects == [sign(PREVOTE)]
    state, effects = feed(state, VoteSeen(committee.vote(0, PREVOTE)))
    assert effects == [sign(PRECOMMIT)]
    precommit = committee.vote(0, PRECOMMIT)
    state, effects = feed(state, VoteSeen(precommit))
    assert effects == [Decide(1, 0, BLOCK, (precommit,))]
    assert state.step is Step.DECIDED
    assert resume(state) == (state.decision,)


def test_only_the_proposer_builds_and_everybody_waits() -> None:
    for me in (0, 1, 2, 3, None):
        _, effects = feed(fresh(me), Start())
        assert (Build(0) in effects) is (me == turn(0))
        assert effects[-1] == wait("propose")


def test_a_proposal_without_its_block_gets_no_vote() -> None:
    state, effects = feed(fresh(), Start(), ProposalSeen(0, BLOCK))
    assert signed(effects) == []
    _, effects = feed(state, checked())
    assert effects == [sign(PREVOTE)]


def test_a_block_without_its_proposal_gets_no_vote() -> None:
    _, effects = feed(fresh(), Start(), checked())
    assert signed(effects) == []


def test_an_invalid_block_gets_a_nil_prevote() -> None:
    _, effects = feed(fresh(), Start(), ProposalSeen(0, BLOCK), checked(valid=False))
    assert effects[-1] == sign(PREVOTE, NIL)


def test_the_first_proposal_of_a_round_stands() -> None:
    _, effects = feed(
        fresh(),
        [Start(), ProposalSeen(0, BLOCK), ProposalSeen(0, OTHER_BLOCK)],
        [checked(OTHER_BLOCK), checked()],
    )
    assert signed(effects) == [sign(PREVOTE)]


def test_the_first_verdict_on_a_block_stands() -> None:
    state, _ = feed(fresh(), Start(), checked(), checked(valid=False))
    assert state.blocks[BLOCK] is True


def test_observer_signs_nothing_and_decides() -> None:
    state, effects = feed(fresh(None), LOCKED, votes(range(3), PRECOMMIT))
    assert signed(effects) == []
    assert effects[-1] == state.decision
    assert state.decision is not None
    assert state.decision.block_hash == BLOCK


# -- votes -----------------------------------------------------------------------------


def test_two_prevotes_of_four_are_no_polka() -> None:
    state, effects = feed(fresh(), OPEN, votes(range(2), PREVOTE))
    assert signed(effects) == [sign(PREVOTE)]
    state, effects = feed(state, votes([2], PREVOTE))
    assert effects == [sign(PRECOMMIT)]
    assert (state.locked, state.valid) == (Polka(0, BLOCK), Polka(0, BLOCK))


def test_split_prevotes_start_the_wait_once() -> None:
    state, effects = feed(
        fresh(),
        OPEN,
        votes([0, 1], PREVOTE),
        votes([2], PREVOTE, NIL),
        votes([3], PREVOTE, OTHER_BLOCK),
    )
    assert effects.count(wait("prevote")) == 1
    _, effects = feed(state, out("prevote"))
    assert effects == [sign(PRECOMMIT, NIL)]


def test_a_quorum_of_nil_prevotes_precommits_nil_at_once() -> None:
    _, effects = feed(fresh(), OPEN, votes(range(3), PREVOTE, NIL))
    assert effects[-1] == sign(PRECOMMIT, NIL)


def test_a_polka_after_our_nil_precommit_is_remembered_without_a_lock() -> None:
    state, effects = feed(
        fresh(),
        [*OPEN, *votes([0, 1], PREVOTE), *votes([2], PREVOTE, NIL), out("prevote")],
        votes([3], PREVOTE),
    )
    assert signed(effects) == [sign(PREVOTE), sign(PRECOMMIT, NIL)]
    assert (state.locked, state.valid) == (None, Polka(0, BLOCK))


def late(round_: int) -> list[Input]:
    """Rounds pass without a block."""
    return [TimedOut(TimeoutKind.PRECOMMIT, each) for each in range(round_)]


def test_a_polka_that_comes_after_its_round_is_remembered() -> None:
    """It may be what a few are locked on: they refuse every other block."""
    state, effects = feed(fresh(turn(2)), OPEN, late(2), votes(range(3), PREVOTE))
    assert (state.round, state.locked, state.valid) == (2, None, Polka(0, BLOCK))
    assert Build(2) in effects
    state, effects = feed(fresh(turn(2)), OPEN, late(1), votes(range(3), PREVOTE))
    _, effects = feed(state, out("precommit", 1))
    assert Propose(2, Polka(0, BLOCK)) in effects


def test_a_late_certificate_of_prevotes_is_remembered() -> None:
    quorum = QuorumSeen(
        PREVOTE, 0, BLOCK, tuple(FOUR.vote(index, PREVOTE) for index in range(3))
    )
    state, _ = feed(fresh(), OPEN, late(2), [quorum])
    assert state.valid == Polka(0, BLOCK)


def test_a_late_polka_does_not_replace_a_newer_one() -> None:
    newer: list[Input] = [ProposalSeen(1, OTHER_BLOCK), checked(OTHER_BLOCK)]
    polka = votes(range(3), PREVOTE, OTHER_BLOCK, 1)
    state, _ = feed(fresh(), OPEN, late(1), newer, polka)
    assert state.valid == Polka(1, OTHER_BLOCK)
    state, _ = feed(state, out("precommit", 1), votes(range(3), PREVOTE))
    assert (state.locked, state.valid) == (Polka(1, OTHER_BLOCK),) * 2


def test_the_block_of_a_late_polka_is_fetched() -> None:
    state, effects = feed(fresh(), Start(), late(2), votes(range(3), PREVOTE))
    assert effects.count(Fetch(0, BLOCK)) == 1
    assert state.valid is None
    state, effects = feed(state, checked())
    assert state.valid == Polka(0, BLOCK)
    assert signed(effects) == []


def test_a_late_polka_for_an_invalid_block_is_impossible() -> None:
    state, _ = feed(fresh(), Start(), checked(valid=False), late(2))
    with pytest.raises(Impossible, match="a quorum prevoted"):
        feed(state, votes(range(3), PREVOTE))


def test_a_polka_for_a_block_that_is_not_here_fetches_it() -> None:
    state, effects = feed(
        fresh(),
        [Start(), out("propose")],
        votes(range(3), PREVOTE),
    )
    assert effects.count(Fetch(0, BLOCK)) == 1
    _, effects = feed(state, checked())
    assert effects == [sign(PRECOMMIT)]


def test_precommits_decide_in_any_step() -> None:
    state, effects = feed(fresh(), Start(), votes(range(3), PRECOMMIT))
    assert Fetch(0, BLOCK) in effects
    state, effects = feed(state, checked())
    assert [type(each) for each in effects] == [Decide]
    assert state.step is Step.DECIDED


def test_precommits_of_an_earlier_round_decide() -> None:
    state, _ = feed(fresh(), OPEN, votes([0, 1], PRECOMMIT), votes([2], PRECOMMIT, NIL))
    state, _ = feed(state, out("precommit"))
    assert state.round == 1
    state, effects = feed(state, votes([3], PRECOMMIT))
    assert isinstance(effects[-1], Decide)
    assert effects[-1].round == 0


def test_two_thirds_exactly_do_not_decide() -> None:
    committee = Committee(1, 1, 1)
    ballots = [VoteSeen(committee.vote(index)) for index in range(3)]
    state, effects = feed(fresh(None, committee), OPEN, ballots[:2])
    assert not [each for each in effects if isinstance(each, Decide)]
    _, effects = feed(state, ballots[2:])
    assert isinstance(effects[-1], Decide)


def test_certificate_leaves_votes_for_other_blocks_out() -> None:
    ballots = votes([3], PRECOMMIT, OTHER_BLOCK) + votes([2, 0, 1], PRECOMMIT)
    _, effects = feed(fresh(None), OPEN, ballots)
    decide = effects[-1]
    assert isinstance(decide, Decide)
    assert [vote.validator for vote in decide.precommits] == [0, 1, 2]


def test_a_quorum_for_an_invalid_block_stops_the_machine() -> None:
    state, _ = feed(fresh(), Start(), checked(valid=False))
    for kind in (PREVOTE, PRECOMMIT):
        with pytest.raises(Impossible, match="breaks a rule"):
            feed(state, out("propose"), votes(range(3), kind))


def test_equivocation_is_reported_and_both_votes_count_for_their_blocks() -> None:
    first, second = FOUR.vote(0), FOUR.vote(0, PRECOMMIT, OTHER_BLOCK)
    state, effects = feed(fresh(None), Start(), VoteSeen(first), VoteSeen(second))
    assert effects[-1] == Equivocation(first, second)
    tally = state.keeper.tally(0, PRECOMMIT)
    assert tally.stake == 1
    assert dict(tally.stakes) == {BLOCK: 1, OTHER_BLOCK: 1}
    third = VoteSeen(FOUR.vote(0, PRECOMMIT, NIL))
    assert feed(state, third) == (state, [])


def test_repeated_vote_changes_nothing() -> None:
    state, _ = feed(fresh(), Start(), votes([0], PREVOTE))
    assert feed(state, votes([0], PREVOTE)) == (state, [])


def test_votes_before_the_start_count_and_move_nothing() -> None:
    state, effects = feed(fresh(), votes(range(3), PRECOMMIT))
    assert (state.step, effects) == (Step.NEW, [])
    _, effects = feed(state, Start())
    assert Fetch(0, BLOCK) in effects


def test_late_precommits_are_kept_for_the_next_blocks_certificate() -> None:
    state, _ = feed(fresh(), LOCKED, votes(range(3), PRECOMMIT))
    state, effects = feed(state, votes([3], PRECOMMIT))
    assert effects == []
    assert len(state.votes_for(PRECOMMIT, 0, BLOCK) or ()) == 4


# -- rounds ----------------------------------------------------------------------------


def test_no_proposal_in_time_gets_a_nil_prevote_once() -> None:
    state, effects = feed(fresh(), Start(), out("propose"))
    assert effects[-1] == sign(PREVOTE, NIL)
    assert feed(state, out("propose")) == (state, [])
    assert signed(feed(state, ProposalSeen(0, BLOCK), checked())[1]) == []


def test_no_decision_in_time_begins_the_next_round() -> None:
    state, effects = feed(fresh(), [*OPEN, *votes(range(3), PRECOMMIT, NIL)])
    assert effects.count(wait("precommit")) == 1
    state, effects = feed(state, out("precommit"))
    assert (state.round, effects) == (1, [wait("propose", 1)])


@pytest.mark.parametrize("kind", ["propose", "prevote", "precommit"])
def test_timeouts_of_other_rounds_mean_nothing(kind: str) -> None:
    state, _ = feed(fresh(), Start())
    assert feed(state, out(kind, 1)) == (state, [])


def test_a_third_in_later_rounds_takes_us_there() -> None:
    state, _ = feed(fresh(), Start(), votes([0], PREVOTE, NIL, 7))
    assert state.round == 0
    state, effects = feed(state, votes([1], PRECOMMIT, NIL, 5))
    assert (state.round, effects) == (5, [wait("propose", 5)])


def test_votes_far_ahead_are_bounded_for_each_validator() -> None:
    state, _ = feed(fresh(), Start(), votes([0], PREVOTE, NIL, 7))
    state, _ = feed(state, votes([0], PREVOTE, NIL, 9))
    assert feed(state, votes([0], PREVOTE, NIL, 8)) == (state, [])
    state, _ = feed(state, votes([0], PRECOMMIT, NIL, 9))
    assert len(list(state.keeper)) == 3


def test_rounds_long_past_are_forgotten_but_the_locked_one() -> None:
    state, _ = feed(fresh(), LOCKED, votes(range(2), PRECOMMIT, NIL, 2))
    assert state.round == 2
    state, _ = feed(state, votes(range(2), PRECOMMIT, NIL, 40))
    assert {vote.subject.round for vote in state.keeper} == {0, 40}
    assert feed(state, votes([3], PREVOTE, NIL, 2)) == (state, [])


# -- locks -----------------------------------------------------------------------------


def in_round_one(*more: Input) -> State:
    """Locked on BLOCK in round 0, now in round 1."""
    split: list[Input] = [*votes([0], PRECOMMIT), *votes([1, 2], PRECOMMIT, NIL)]
    state, _ = feed(fresh(), LOCKED, split, out("precommit"), more)
    assert (state.round, state.locked) == (1, Polka(0, BLOCK))
    return state


def test_a_locked_validator_prevotes_nil_for_another_new_block() -> None:
    state = in_round_one()
    _, effects = feed(state, ProposalSeen(1, OTHER_BLOCK), checked(OTHER_BLOCK))
    assert effects == [sign(PREVOTE, NIL, 1)]


def test_a_locked_validator_prevotes_its_block_proposed_as_new() -> None:
    _, effects = feed(in_round_one(), ProposalSeen(1, BLOCK))
    assert effects == [sign(PREVOTE, BLOCK, 1)]


def test_a_block_proposed_again_needs_its_polka() -> None:
    state, effects = feed(
        fresh(), [Start(), checked(), *votes([0, 1], PREVOTE, NIL, 1)]
    )
    assert state.round == 1
    state, effects = feed(state, ProposalSeen(1, BLOCK, 0))
    assert signed(effects) == []
    ballots = tuple(FOUR.vote(index, PREVOTE) for index in range(3))
    _, effects = feed(state, QuorumSeen(PREVOTE, 0, BLOCK, ballots))
    assert signed(effects) == [sign(PREVOTE, BLOCK, 1)]
    _, effects = feed(state, votes(range(3), PREVOTE))
    assert signed(effects) == [sign(PREVOTE, BLOCK, 1)]


def test_a_later_polka_unlocks() -> None:
    state = in_round_one()
    state, _ = feed(state, out("propose", 1), checked(OTHER_BLOCK))
    state, _ = feed(state, votes([1, 2], PRECOMMIT, NIL, 2))
    assert (state.round, state.locked) == (2, Polka(0, BLOCK))
    later = QuorumSeen(PREVOTE, 1, OTHER_BLOCK, ())
    _, effects = feed(state, later, ProposalSeen(2, OTHER_BLOCK, 1))
    assert signed(effects) == [sign(PREVOTE, OTHER_BLOCK, 2)]
    # The same polka round as the lock's is not earlier, and another block had it only
    # if a third of the stake equivocated; the paper lets it unlock.
    later_lock = QuorumSeen(PREVOTE, 0, OTHER_BLOCK, ())
    _, effects = feed(state, later_lock, ProposalSeen(2, OTHER_BLOCK, 0))
    assert signed(effects) == [sign(PREVOTE, OTHER_BLOCK, 2)]


def test_an_earlier_polka_does_not_unlock() -> None:
    state, _ = feed(fresh(), Start(), votes([0, 1], PRECOMMIT, NIL, 1))
    state, _ = feed(
        state, ProposalSeen(1, BLOCK), checked(), votes(range(3), PREVOTE, BLOCK, 1)
    )
    assert state.locked == Polka(1, BLOCK)
    state, _ = feed(state, votes([0, 1], PRECOMMIT, NIL, 2), checked(OTHER_BLOCK))
    earlier = QuorumSeen(PREVOTE, 0, OTHER_BLOCK, ())
    _, effects = feed(state, earlier, ProposalSeen(2, OTHER_BLOCK, 0))
    assert signed(effects) == [sign(PREVOTE, NIL, 2)]


def test_a_polka_round_that_is_not_past_is_ignored() -> None:
    state, _ = feed(fresh(), Start(), checked(), ProposalSeen(0, BLOCK, 0))
    _, effects = feed(state, QuorumSeen(PREVOTE, 0, BLOCK, ()))
    assert signed(effects) == []


def test_the_proposer_of_a_later_round_proposes_what_had_a_polka() -> None:
    me = turn(1)
    split: list[Input] = [*votes([0], PRECOMMIT), *votes([1, 2], PRECOMMIT, NIL)]
    if me == turn(0):
        pytest.skip("one validator has both turns")
    _, effects = feed(fresh(me), LOCKED, split, out("precommit"))
    assert effects[-2:] == [Propose(1, Polka(0, BLOCK)), wait("propose", 1)]


def test_a_commit_certificate_saves_whom_an_equivocator_misled() -> None:
    """It holds two votes of the equivocator already, neither the one that counts."""
    state, _ = feed(
        fresh(),
        OPEN,
        votes([0], PRECOMMIT, NIL),
        votes([0], PRECOMMIT, OTHER_BLOCK),
        votes([1, 2], PRECOMMIT),
    )
    state, effects = feed(state, votes([0], PRECOMMIT))
    assert effects == []
    ballots = tuple(FOUR.vote(index) for index in range(3))
    _, effects = feed(state, QuorumSeen(PRECOMMIT, 0, BLOCK, ballots))
    assert effects == [Decide(1, 0, BLOCK, ballots)]


def test_a_nil_certificate_is_ignored() -> None:
    state, _ = feed(fresh(), Start())
    assert feed(state, QuorumSeen(PRECOMMIT, 0, NIL, ())) == (state, [])


# -- restart ---------------------------------------------------------------------------


def test_resume_asks_for_what_has_not_come() -> None:
    state, _ = feed(fresh(turn(0)), Start())
    assert resume(state) == (Build(0), wait("propose"))
    state, _ = feed(state, ProposalSeen(0, BLOCK), checked())
    assert resume(state) == (wait("propose"), sign(PREVOTE))
    state, _ = feed(state, votes([turn(0)], PREVOTE))
    assert resume(state) == (wait("propose"),)


# -- refusals --------------------------------------------------------------------------


def test_vote_of_another_height_is_refused() -> None:
    with pytest.raises(InvalidVote, match="expected height 1, got 2"):
        apply(fresh(), VoteSeen(FOUR.vote(0, height=2)))


def test_proposal_signature_is_no_vote() -> None:
    with pytest.raises(InvalidVote, match="no vote"):
        apply(fresh(), VoteSeen(FOUR.vote(0, VoteKind.PROPOSAL)))


def test_vote_of_an_outsider_is_refused() -> None:
    with pytest.raises(InvalidValidatorSet, match="index"):
        apply(fresh(0, Committee(1)), VoteSeen(Committee(1, 1).vote(1)))


def test_inputs_out_of_order_are_refused() -> None:
    with pytest.raises(IllegalInput, match="before Start"):
        apply(fresh(), ProposalSeen(0, BLOCK))
    started, _ = apply(fresh(), Start())
    with pytest.raises(IllegalInput, match="started already"):
        apply(started, Start())


@given(st.permutations(range(8)))
def test_any_order_of_votes_decides_the_same_block(order: list[int]) -> None:
    ballots = votes(range(4), PREVOTE) + votes(range(4), PRECOMMIT)
    state, effects = feed(fresh(None), OPEN, [ballots[i] for i in order])
    assert state.decision is not None
    assert state.decision.block_hash == BLOCK
    assert len([effect for effect in effects if isinstance(effect, Decide)]) == 1
