"""One height of consensus: every transition, and every refusal."""

from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from consensus.errors import IllegalInput, InvalidValidatorSet, InvalidVote
from consensus.machine import (
    Build,
    Decide,
    Effect,
    Equivocation,
    Input,
    Phase,
    ProposalSeen,
    Sign,
    Start,
    State,
    VoteSeen,
    apply,
)
from consensus.votes import NIL, Subject, VoteKind
from tests.consensus.committee import BLOCK, GENESIS, OTHER_BLOCK, Committee

PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT


def fresh(committee: Committee, me: int | None = 0, height: int = 1) -> State:
    return State(GENESIS, committee.set, height, me)


def feed(state: State, events: Iterable[Input]) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for event in events:
        state, more = apply(state, event)
        effects.extend(more)
    return state, effects


def proposer_index(committee: Committee, height: int = 1) -> int:
    return committee.set.members.index(committee.set.proposer(height, 0))


def test_single_validator_goes_all_the_way() -> None:
    committee = Committee(1)
    state, effects = feed(fresh(committee), [Start(), ProposalSeen(BLOCK, valid=True)])
    assert effects == [Build(1, 0), Sign(Subject(PREVOTE, 1, 0, BLOCK))]
    state, effects = feed(state, [VoteSeen(committee.vote(0, PREVOTE))])
    assert effects == [Sign(Subject(PRECOMMIT, 1, 0, BLOCK))]
    precommit = committee.vote(0, PRECOMMIT)
    state, effects = feed(state, [VoteSeen(precommit)])
    assert effects == [Decide(1, 0, BLOCK, (precommit,))]
    assert (state.phase, state.decision) == (Phase.DECIDED, BLOCK)


def test_only_the_proposer_builds() -> None:
    committee = Committee(1, 1, 1, 1)
    turn = proposer_index(committee)
    for me in (0, 1, 2, 3, None):
        _, effects = apply(fresh(committee, me), Start())
        assert effects == ((Build(1, 0),) if me == turn else ())


def test_invalid_proposal_gets_a_nil_prevote() -> None:
    state, effects = feed(
        fresh(Committee(1)), [Start(), ProposalSeen(BLOCK, valid=False)]
    )
    assert effects[-1] == Sign(Subject(PREVOTE, 1, 0, NIL))
    assert state.proposal is None


def test_observer_signs_nothing_and_decides() -> None:
    committee = Committee(1)
    events: list[Input] = [
        Start(),
        ProposalSeen(BLOCK, valid=True),
        VoteSeen(committee.vote(0, PREVOTE)),
        VoteSeen(committee.vote(0, PRECOMMIT)),
    ]
    _, effects = feed(fresh(committee, me=None), events)
    assert effects == [Decide(1, 0, BLOCK, (committee.vote(0, PRECOMMIT),))]


def test_two_thirds_exactly_do_not_decide() -> None:
    committee = Committee(1, 1, 1)
    votes = [VoteSeen(committee.vote(index)) for index in range(3)]
    state, effects = feed(fresh(committee, me=None), votes[:2])
    assert effects == []
    state, effects = feed(state, votes[2:])
    assert [type(effect) for effect in effects] == [Decide]


def test_nil_quorum_decides_nothing() -> None:
    committee = Committee(1)
    state, effects = feed(
        fresh(committee), [Start(), VoteSeen(committee.vote(0, PRECOMMIT, NIL))]
    )
    assert effects == [Build(1, 0)]
    assert state.phase is Phase.PROPOSE


def test_prevotes_for_an_unseen_block_get_no_precommit() -> None:
    committee = Committee(1, 1, 1, 1)
    events: list[Input] = [Start(), ProposalSeen(BLOCK, valid=True)]
    events += [VoteSeen(committee.vote(i, PREVOTE, OTHER_BLOCK)) for i in range(3)]
    state, effects = feed(fresh(committee), events)
    assert not [e for e in effects if isinstance(e, Sign) and e.subject.kind == 3]
    assert state.phase is Phase.PREVOTE


def test_certificate_leaves_votes_for_other_blocks_out() -> None:
    committee = Committee(1, 1, 1, 1)
    votes = [committee.vote(3, PRECOMMIT, OTHER_BLOCK)]
    votes += [committee.vote(index) for index in (2, 0, 1)]
    _, effects = feed(fresh(committee, me=None), map(VoteSeen, votes))
    (decide,) = effects
    assert isinstance(decide, Decide)
    assert [vote.validator for vote in decide.precommits] == [0, 1, 2]


def test_equivocation_is_reported_and_the_first_vote_stands() -> None:
    committee = Committee(1, 1, 1, 1)
    first, second = committee.vote(0), committee.vote(0, PRECOMMIT, OTHER_BLOCK)
    state, effects = feed(
        fresh(committee, me=None), [VoteSeen(first), VoteSeen(second)]
    )
    assert effects == [Equivocation(first, second)]
    assert state.precommits == {0: first}


def test_repeated_vote_changes_nothing() -> None:
    committee = Committee(1, 1, 1)
    once, _ = apply(fresh(committee, me=None), VoteSeen(committee.vote(0)))
    twice, effects = apply(once, VoteSeen(committee.vote(0)))
    assert (twice, effects) == (once, ())


def test_votes_after_the_decision_change_nothing() -> None:
    committee = Committee(1)
    decided, _ = apply(fresh(committee, me=None), VoteSeen(committee.vote(0)))
    late = committee.vote(0, PREVOTE)
    assert apply(decided, VoteSeen(late)) == (decided, ())


@pytest.mark.parametrize("where", [{"height": 2}, {"round_": 1}])
def test_vote_for_elsewhere_is_refused(where: dict[str, int]) -> None:
    committee = Committee(1)
    with pytest.raises(InvalidVote, match="expected height 1 round 0"):
        apply(fresh(committee), VoteSeen(committee.vote(0, **where)))  # type: ignore[arg-type]  # height or round


def test_proposal_signature_is_no_vote() -> None:
    committee = Committee(1)
    with pytest.raises(InvalidVote, match="no vote"):
        apply(fresh(committee), VoteSeen(committee.vote(0, VoteKind.PROPOSAL)))


def test_vote_of_an_outsider_is_refused() -> None:
    with pytest.raises(InvalidValidatorSet, match="index"):
        apply(fresh(Committee(1)), VoteSeen(Committee(1, 1).vote(1)))


def test_forged_vote_is_refused() -> None:
    forged = Committee(1, 1).vote(1)
    committee = Committee(3, 2)
    with pytest.raises(InvalidVote, match="expected signer"):
        apply(
            fresh(committee),
            VoteSeen(type(forged)(forged.subject, 0, forged.signature)),
        )


def test_inputs_out_of_order_are_refused() -> None:
    state = fresh(Committee(1))
    with pytest.raises(IllegalInput, match="phase propose"):
        apply(state, ProposalSeen(BLOCK, valid=True))
    started, _ = apply(state, Start())
    with pytest.raises(IllegalInput, match="phase new"):
        apply(started, Start())


@given(st.permutations(range(8)))
def test_any_order_of_votes_decides_the_same_block(order: list[int]) -> None:
    committee = Committee(1, 1, 1, 1)
    votes = [committee.vote(i, kind) for kind in (PREVOTE, PRECOMMIT) for i in range(4)]
    events: list[Input] = [Start(), ProposalSeen(BLOCK, valid=True)]
    events += [VoteSeen(votes[i]) for i in order]
    state, effects = feed(fresh(committee, me=None), events)
    assert state.decision == BLOCK
    assert len([effect for effect in effects if isinstance(effect, Decide)]) == 1
