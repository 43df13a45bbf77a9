"""When a validator may sign: at once with a current state, late or never without."""

from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given, strategies as st
from structlog.testing import capture_logs

from chain.crypto import sha256
from consensus.votes import NIL, Subject, VoteKind
from node.doppelganger import Guard
from node.signer import Signed, Signer

A, B = sha256(b"a"), sha256(b"b")


def prevote(height: int, round_: int = 0, block_hash: bytes = A) -> Subject:
    return Subject(VoteKind.PREVOTE, height, round_, block_hash)


@dataclass
class State:
    """As much of a signer as the guard looks at."""

    last: Signed | None
    last_height: int | None


class Stopwatch:
    """A clock that tests turn."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def guard(
    last: Subject | int | None,
    committed: int = 10,
    *,
    heights: int = 3,
    now: Stopwatch | None = None,
) -> Guard:
    """The last subject signed, or 0 for a new key, or None for a lost state."""
    if isinstance(last, Subject):
        state = State(Signed(last, b""), last.height)
    else:
        state = State(None, last)
    signer = cast("Signer", state)
    if now is None:
        return Guard(signer, committed, heights=heights)
    return Guard(signer, committed, heights=heights, seconds=10.0, now=now)


@pytest.mark.parametrize("last", [10, 11, 12])
def test_a_state_that_reaches_the_head_signs_at_once(last: int) -> None:
    mine = guard(prevote(last))
    assert mine.may_sign(11)
    assert mine.reason is None


def test_a_new_key_signs_the_first_block_at_once_and_listens_on_an_old_chain() -> None:
    assert guard(0, committed=0).may_sign(1)
    assert not guard(0, committed=10).may_sign(11)


def test_a_lost_state_listens_even_at_the_first_block() -> None:
    mine = guard(None, committed=0)
    assert [mine.may_sign(height) for height in (1, 2, 3, 4)] == [False] * 3 + [True]


@pytest.mark.parametrize("last", [None, prevote(9), prevote(1)])
def test_an_old_state_listens_for_some_heights(last: Subject | None) -> None:
    mine = guard(last)
    with capture_logs() as told:
        answers = [mine.may_sign(height) for height in (11, 11, 12, 13)]
        assert answers == [False] * 4
        reasons = [mine.reason]
        assert mine.may_sign(14)
    reasons.append(mine.reason)
    assert reasons == ["listening until height 14 before signing", None]
    assert mine.may_sign(15)
    assert [each["log_level"] for each in told] == ["warning", "info"]
    assert "doppelganger_heights" in told[0]["hint"]


def test_a_network_that_went_on_makes_a_state_old_that_was_not() -> None:
    """The whole machine was restored from a backup: state and database agree."""
    mine = guard(prevote(10), committed=10)
    assert not mine.may_sign(500)
    assert mine.may_sign(503)


@pytest.mark.parametrize(
    ("last", "committed"), [(prevote(10), 10), (prevote(11), 10), (0, 0)]
)
def test_who_was_only_away_does_not_wait_for_a_chain_that_stands_still(
    last: Subject | int, committed: int
) -> None:
    now = Stopwatch()
    mine = guard(last, committed, now=now)
    assert not mine.may_sign(40)
    now.seconds = 9.0
    assert not mine.may_sign(41)
    now.seconds = 18.5
    assert not mine.may_sign(41)
    now.seconds = 19.0
    assert mine.may_sign(41)
    assert mine.may_sign(41)
    assert mine.reason is None


@pytest.mark.parametrize("last", [None, prevote(9)])
def test_who_lost_its_state_waits_for_heights_however_long(
    last: Subject | None,
) -> None:
    now = Stopwatch()
    mine = guard(last, now=now)
    assert not mine.may_sign(40)
    now.seconds = 10_000.0
    assert not mine.may_sign(40)
    assert mine.may_sign(43)


def test_a_double_that_is_heard_while_the_chain_stands_still_ends_signing() -> None:
    now = Stopwatch()
    mine = guard(prevote(10), now=now)
    assert not mine.may_sign(40)
    mine.saw_own_vote(prevote(40))
    now.seconds = 100.0
    assert not mine.may_sign(40)


def test_nothing_is_decided_while_blocks_are_fetched() -> None:
    behind = [True]
    mine = guard(prevote(10))
    mine.wait_while(lambda: bool(behind))
    assert not mine.may_sign(11)
    behind.clear()
    assert not mine.may_sign(400)
    assert mine.may_sign(403)
    behind.append(True)
    assert mine.may_sign(404)


def test_no_heights_to_listen_to() -> None:
    assert guard(None, heights=0).may_sign(11)


@pytest.mark.parametrize(
    "seen",
    [
        prevote(11, 1),
        prevote(11, 0, B),
        prevote(12),
        Subject(VoteKind.PRECOMMIT, 11, 0, NIL),
    ],
)
def test_a_vote_that_is_not_ours_ends_signing_for_good(seen: Subject) -> None:
    mine = guard(prevote(11))
    assert mine.may_sign(11)
    with capture_logs() as told:
        mine.saw_own_vote(seen)
        mine.saw_own_vote(seen)
    assert not mine.may_sign(11)
    assert not mine.may_sign(1_000)
    assert mine.reason is not None
    assert "another node runs with this key" in mine.reason
    assert [each["log_level"] for each in told] == ["error"]


def test_a_vote_heard_while_listening_ends_it() -> None:
    mine = guard(prevote(5))
    assert not mine.may_sign(11)
    mine.saw_own_vote(prevote(12))
    assert not mine.may_sign(14)


@pytest.mark.parametrize("seen", [prevote(11), prevote(11, 0), prevote(10, 7, B)])
def test_our_own_votes_come_back_without_harm(seen: Subject) -> None:
    mine = guard(prevote(11))
    mine.saw_own_vote(seen)
    assert mine.may_sign(11)


def test_what_was_signed_since_is_ours() -> None:
    mine = guard(prevote(10))
    assert mine.may_sign(11)
    mine.signed(prevote(11))
    mine.signed(prevote(10, 5))  # given out again
    mine.saw_own_vote(prevote(11))
    assert mine.may_sign(11)
    mine.saw_own_vote(prevote(11, 1))
    assert not mine.may_sign(11)


@given(
    last=st.one_of(st.none(), st.integers(0, 30)),
    committed=st.integers(0, 30),
    start=st.integers(1, 40),
    heights=st.integers(1, 5),
)
def test_nothing_is_signed_where_an_earlier_self_may_have_signed(
    last: int | None, committed: int, start: int, heights: int
) -> None:
    """An earlier self signed at most one height above what the network committed."""
    subject = prevote(last) if last else last
    mine = guard(subject, committed, heights=heights)
    known = -1 if last is None else last
    signed = [height for height in range(start, start + 12) if mine.may_sign(height)]
    assert signed
    first = signed[0]
    assert known >= max(committed, start - 1) or first == start + heights
    assert signed == list(range(first, start + 12))


def test_a_state_that_reached_the_head_is_judged_again_when_others_were_ahead() -> None:
    mine = guard(prevote(10))
    assert mine.may_sign(11)
    mine.fetched()  # block 11, while nothing was signed yet
    assert not mine.may_sign(12)
    mine.saw_own_vote(prevote(12))
    assert "the state is an old one" in (mine.reason or "")


def test_who_has_signed_in_this_life_may_fetch_blocks_and_sign_on() -> None:
    mine = guard(prevote(10))
    assert mine.may_sign(11)
    mine.signed(prevote(11))
    mine.fetched()
    assert mine.may_sign(12)


def test_heights_that_were_fetched_were_not_listened_to() -> None:
    mine = guard(prevote(5))
    assert not mine.may_sign(11)
    mine.fetched()
    assert [mine.may_sign(height) for height in (15, 16, 17, 18)] == [False] * 3 + [
        True
    ]
