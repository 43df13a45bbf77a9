"""Validator sets: order, hash, proposer and quorum."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import example, given, strategies as st

from chain.crypto import sha256
from consensus.errors import InvalidValidatorSet
from consensus.validators import Validator, ValidatorSet
from tests.consensus.committee import Committee, validator
from tests.support.vectors import Vectors

STAKES = [[1], [10**18] * 4, [5, 1, 3], [2**255, 1]]


def computed() -> list[dict[str, object]]:
    """The validator sets of these tests, as another implementation would read them."""
    found: list[dict[str, object]] = []
    for stakes in STAKES:
        committee = Committee(*stakes)
        found.append(
            {
                "members": [
                    {
                        "public_key": "0x" + member.public_key.hex(),
                        "beacon_key": "0x" + member.beacon_key.hex(),
                        "stake": str(member.stake),
                        "address": "0x" + member.address.hex(),
                    }
                    for member in committee.set.members
                ],
                "encoded": "0x" + committee.set.encode().hex(),
                "hash": "0x" + committee.set.hash.hex(),
                "proposers": [
                    committee.set.members.index(committee.set.proposer(height, 0))
                    for height in range(1, 13)
                ],
            }
        )
    return found


def test_vectors(vectors: Vectors) -> None:
    vectors.check("validator_sets", computed())


def test_order_is_by_stake_and_does_not_depend_on_the_input() -> None:
    members = [validator(0, 5), validator(1, 9), validator(2, 5)]
    forwards, backwards = ValidatorSet.of(members), ValidatorSet.of(members[::-1])
    assert forwards == backwards
    assert [member.stake for member in forwards.members] == [9, 5, 5]
    assert forwards.total_stake == 19


def test_hash_changes_with_a_stake() -> None:
    assert Committee(1, 2).set.hash != Committee(1, 3).set.hash


def test_member_is_found_by_address_and_index() -> None:
    committee = Committee(1, 2, 3)
    for index, member in enumerate(committee.set.members):
        assert committee.set.index_of(member.address) == index
        assert committee.set.at(index) is member
    assert committee.set.index_of(bytes(20)) is None


@pytest.mark.parametrize("index", [-1, 3])
def test_index_outside_the_set_is_refused(index: int) -> None:
    with pytest.raises(InvalidValidatorSet, match=r"expected 0\.\.2"):
        Committee(1, 2, 3).set.at(index)


def test_empty_set_is_refused() -> None:
    with pytest.raises(InvalidValidatorSet, match="got 0"):
        ValidatorSet.of([])


def test_shared_key_is_refused() -> None:
    with pytest.raises(InvalidValidatorSet, match="share a key"):
        ValidatorSet.of([validator(0, 1), validator(0, 2)])


def test_shared_beacon_key_is_refused() -> None:
    first, second = validator(0), validator(1)
    copied = Validator(second.public_key, first.beacon_key, 1)
    with pytest.raises(InvalidValidatorSet, match="share a key"):
        ValidatorSet.of([first, copied])


@pytest.mark.parametrize("stake", [0, -1, 2**256])
def test_stake_outside_uint256_is_refused(stake: int) -> None:
    with pytest.raises(InvalidValidatorSet, match="stake"):
        validator(0, stake)


def test_keys_of_a_wrong_length_are_refused() -> None:
    good = validator(0)
    with pytest.raises(InvalidValidatorSet, match="public key: expected 64 bytes"):
        Validator(good.public_key[:-1], good.beacon_key, 1)
    with pytest.raises(InvalidValidatorSet, match="beacon key: expected 48 bytes"):
        Validator(good.public_key, good.beacon_key + b"\0", 1)


def test_equal_validators_take_turns() -> None:
    chosen = Committee(*[10**18] * 4).set
    turns = Counter(chosen.proposer(height, 0) for height in range(400))
    assert sorted(turns.values()) == pytest.approx([100] * 4, abs=2)


def test_turns_follow_stake() -> None:
    committee = Committee(6 * 10**18, 3 * 10**18, 10**18).set
    turns = Counter(committee.proposer(height, 0).stake for height in range(1_000))
    assert turns[6 * 10**18] == pytest.approx(600, abs=5)
    assert turns[10**18] == pytest.approx(100, abs=5)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
@example([20, 13, 13, 5, 4])
def test_nobody_is_left_out(stakes: list[int]) -> None:
    """In as many turns as there is stake, each proposes once for each unit of his."""
    chosen = Committee(*stakes).set
    turns = Counter(chosen.proposer(height, 0) for height in range(sum(stakes)))
    assert all(turns[member] == member.stake for member in chosen.members)


def test_next_round_moves_on_like_the_next_height() -> None:
    committee = Committee(*[10**18] * 4).set
    assert committee.proposer(5, 1) == committee.proposer(6, 0)


@given(st.lists(st.integers(1, 10**30), min_size=1, max_size=5), st.integers(0, 2**64))
def test_everybody_but_a_third_is_a_quorum(stakes: list[int], height: int) -> None:
    chosen = Committee(*stakes).set
    total = sum(stakes)
    assert chosen.proposer(height, 0) in chosen.members
    assert chosen.is_quorum(total)
    assert chosen.is_quorum(2 * total // 3 + 1)
    assert not chosen.is_quorum(2 * total // 3)


def test_encoding_is_what_is_hashed_and_comes_back() -> None:
    for stakes in STAKES:
        found = Committee(*stakes).set
        assert found.hash == sha256(b"lockstep/validators" + found.encode())
        assert ValidatorSet.decode(found.encode()) == found


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-1], "got 435 bytes"),
        (lambda data: data + b"\0", "got 437 bytes"),
        (lambda _: b"\0\0\1", "got 3 bytes"),
        (lambda _: bytes(4), "got 0"),
        (lambda data: data[:4] + data[148:] + data[4:148], "canonical order"),
        (lambda data: data[:4] + data[4:148] * 3, "share a key"),
        (lambda data: data[:116] + bytes(32) + data[148:], "stake"),
        (lambda _: (1025).to_bytes(4) + bytes(1025 * 144), "got 1025"),
    ],
    ids=["cut", "longer", "tiny", "empty", "order", "twice", "no stake", "many"],
)
def test_other_bytes_are_no_set(spoil: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(InvalidValidatorSet, match=message):
        ValidatorSet.decode(spoil(Committee(3, 2, 1).set.encode()))


@given(st.binary(max_size=600))
def test_a_set_has_one_encoding(data: bytes) -> None:
    try:
        found = ValidatorSet.decode(data)
    except InvalidValidatorSet:
        return
    assert found.encode() == data
