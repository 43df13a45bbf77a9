"""Who is named after a fork, and who never is."""

from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from consensus.accountability import (
    Finding,
    Misdeed,
    investigate,
    named_stake,
    votes_in,
)
from consensus.errors import InvalidValidatorSet, InvalidVote
from consensus.machine import Input, ProposalSeen, QuorumSeen, Start, VoteSeen
from consensus.validators import Validator, ValidatorSet
from consensus.votes import NIL, Subject, Vote, VoteKind

PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT
X, Y = b"x" * 32, b"y" * 32
FOUR = ValidatorSet.of(
    Validator(bytes((number,)) * 64, bytes((number,)) * 48, 1) for number in range(4)
)


def said(
    who: Iterable[int], kind: VoteKind, block_hash: bytes, round_: int = 0
) -> list[Vote]:
    subject = Subject(kind, 1, round_, block_hash)
    return [Vote(subject, index, b"signed") for index in who]


def named(votes: Iterable[Vote]) -> dict[int, set[Misdeed]]:
    found: dict[int, set[Misdeed]] = {}
    for finding in investigate(votes, FOUR, 1):
        found.setdefault(finding.validator, set()).add(finding.misdeed)
    return found


def test_a_quiet_height_names_nobody() -> None:
    votes = [*said(range(4), PREVOTE, X), *said(range(4), PRECOMMIT, X)]
    assert named(votes) == {}
    assert named([]) == {}


@pytest.mark.parametrize("kind", [PREVOTE, PRECOMMIT])
def test_two_votes_in_one_round_are_a_duplicate(kind: VoteKind) -> None:
    votes = [*said([0], kind, NIL), *said([0], kind, X), *said(range(1, 4), PREVOTE, X)]
    assert Misdeed.DUPLICATE in named(votes)[0]
    (finding,) = (
        each
        for each in investigate(votes, FOUR, 1)
        if each.misdeed is Misdeed.DUPLICATE
    )
    first, second = finding.votes
    assert first.subject.contradicts(second.subject)


def test_the_same_precommit_with_another_time_is_no_duplicate() -> None:
    polka = said(range(4), PREVOTE, X)
    times = [
        Vote(Subject(PRECOMMIT, 1, 0, X, detail), 0, b"signed") for detail in (5, 9)
    ]
    assert named([*polka, *times]) == {}


def test_votes_in_different_rounds_are_no_duplicate() -> None:
    assert named([*said([0], PREVOTE, X, 0), *said([0], PREVOTE, Y, 1)]) == {}


def test_leaving_a_lock_without_a_polka_is_amnesia() -> None:
    votes = [
        *said(range(3), PREVOTE, X),
        *said([0], PRECOMMIT, X),
        *said([0], PREVOTE, Y, 2),
    ]
    (finding,) = investigate(votes, FOUR, 1)
    lock, vote = votes[3:]
    assert finding == Finding(0, Misdeed.AMNESIA, (lock, vote))


@pytest.mark.parametrize(("polka", "guilty"), [(0, False), (1, False), (2, True)])
def test_a_polka_in_between_allows_it(polka: int, guilty: bool) -> None:  # noqa: FBT001
    votes = [
        *said(range(3), PREVOTE, X),
        *said([3], PRECOMMIT, X),
        *said(range(3), PREVOTE, Y, polka),
        *said([3], PREVOTE, Y, 2),
    ]
    assert (Misdeed.AMNESIA in named(votes).get(3, set())) is guilty


def test_prevoting_nil_or_the_same_block_after_a_lock_is_allowed() -> None:
    votes = [
        *said(range(3), PREVOTE, X),
        *said([0], PRECOMMIT, X),
        *said([0], PREVOTE, NIL, 1),
        *said([0], PREVOTE, X, 2),
    ]
    assert named(votes) == {}


def test_a_nil_precommit_locks_nothing() -> None:
    assert named([*said([0], PRECOMMIT, NIL), *said([0], PREVOTE, Y, 1)]) == {}


def test_a_precommit_without_a_polka_is_groundless() -> None:
    votes = [*said(range(2), PREVOTE, X), *said([0], PRECOMMIT, X)]
    assert named(votes) == {0: {Misdeed.GROUNDLESS}}


def test_stake_is_counted_once_for_each_validator() -> None:
    votes = [
        *said([0], PREVOTE, X),
        *said([0], PREVOTE, Y),
        *said([0], PRECOMMIT, X),
        *said([1], PRECOMMIT, X),
    ]
    findings = investigate(votes, FOUR, 1)
    assert len(findings) == 3
    assert named_stake(findings, FOUR) == 2


def test_a_log_yields_the_votes_of_certificates_too() -> None:
    single, whole = said([0], PREVOTE, X), said(range(1, 4), PREVOTE, X)
    log: list[Input] = [
        Start(),
        ProposalSeen(0, X),
        VoteSeen(single[0]),
        QuorumSeen(PREVOTE, 0, X, tuple(whole)),
    ]
    assert list(votes_in(log)) == [*single, *whole]


def test_votes_of_another_height_are_refused() -> None:
    vote = Vote(Subject(PREVOTE, 2, 0, X), 0, b"signed")
    with pytest.raises(InvalidVote, match="expected height 1, got 2"):
        investigate([vote], FOUR, 1)


def test_proposals_are_refused() -> None:
    vote = Vote(Subject(VoteKind.PROPOSAL, 1, 0, X), 0, b"signed")
    with pytest.raises(InvalidVote, match="no vote"):
        investigate([vote], FOUR, 1)


def test_outsiders_are_refused() -> None:
    with pytest.raises(InvalidValidatorSet):
        investigate(said([4], PREVOTE, X), FOUR, 1)


BALLOTS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from((PREVOTE, PRECOMMIT)),
        st.sampled_from((NIL, X, Y)),
        st.integers(0, 3),
    ),
    max_size=60,
)


def tally(votes: list[Vote], round_: int, kind: VoteKind, block_hash: bytes) -> bool:
    voters = {
        vote.validator
        for vote in votes
        if (vote.subject.round, vote.subject.kind, vote.subject.block_hash)
        == (round_, kind, block_hash)
    }
    return FOUR.is_quorum(len(voters))


@given(BALLOTS)
def test_any_votes_that_decide_two_blocks_name_a_third(
    ballots: list[tuple[int, VoteKind, bytes, int]],
) -> None:
    """The theorem of the module, over votes that no protocol made."""
    votes = [
        Vote(Subject(kind, 1, round_, block_hash), index, b"signed")
        for index, kind, block_hash, round_ in ballots
    ]
    decided = {
        block_hash
        for block_hash in (X, Y)
        for round_ in range(4)
        if tally(votes, round_, PRECOMMIT, block_hash)
    }
    if len(decided) == 2:
        assert FOUR.is_third(named_stake(investigate(votes, FOUR, 1), FOUR))


@given(
    st.lists(st.sampled_from((NIL, X, Y)), min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(0, 3),
    st.data(),
)
def test_two_quorums_of_precommits_name_a_third(
    polkas: list[bytes], first: int, second: int, data: st.DataObject
) -> None:
    """As above, with the quorums given, so that every example is a fork."""
    trios = st.sets(st.integers(0, 3), min_size=3, max_size=4)
    votes = [
        *said(data.draw(trios), PRECOMMIT, X, first),
        *said(data.draw(trios), PRECOMMIT, Y, second),
    ]
    for round_, block_hash in enumerate(polkas):
        votes += said(data.draw(trios), PREVOTE, block_hash, round_)
    assert FOUR.is_third(named_stake(investigate(votes, FOUR, 1), FOUR))
