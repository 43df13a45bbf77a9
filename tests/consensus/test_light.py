"""The light client: each rule, whole searches, and forks."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from chain.header import Header
from chain.sidecar import CommitCertificate, CommitSignature
from consensus.light import (
    Fork,
    InvalidLightBlock,
    LightBlock,
    NotEnoughTrust,
    Policy,
    Search,
    Trusted,
    TrustExpired,
    bifurcation,
    fork,
    verify,
    verify_backwards,
)
from consensus.validators import ValidatorSet
from consensus.votes import Subject, VoteKind, sign_vote
from tests.chain.test_header import header as sample
from tests.consensus.committee import GENESIS, OTHER_GENESIS, secret, validator

POLICY = Policy(period=1_000)
START = 1_000_000
NOW = START + 500


def group(*numbers: int) -> tuple[int, ...]:
    return numbers


class LightChain:
    """Headers and certificates, without blocks.

    Attributes:
        groups: Numbers of the validators that vote from a height on.
    """

    def __init__(
        self,
        length: int,
        groups: Mapping[int, tuple[int, ...]],
        *,
        salt: bytes = b"",
        since: int = 0,
        before: "LightChain | None" = None,
    ) -> None:
        self.groups = groups
        self.headers: list[Header] = list(before.headers[:since]) if before else []
        for number in range(len(self.headers), length + 1):
            parent = self.headers[-1].hash if self.headers else bytes(32)
            self.headers.append(
                sample(
                    number=number,
                    parent_hash=parent,
                    timestamp=START + number // 2,
                    extra_data=self.voters(number + 1).hash,
                    mix_hash=salt.ljust(32, b"\0"),
                )
            )

    def numbers(self, height: int) -> tuple[int, ...]:
        return self.groups[max(each for each in self.groups if each <= height)]

    def voters(self, height: int) -> ValidatorSet:
        return ValidatorSet.of(validator(number) for number in self.numbers(height))

    def certificate(
        self, height: int, *, round_: int = 0, absent: int = 0
    ) -> CommitCertificate:
        validators = self.voters(height)
        by_address = {validator(n).address: n for n in self.numbers(height)}
        block_hash = self.headers[height].hash
        entries: list[CommitSignature] = []
        for index, member in enumerate(validators.members[absent:], start=absent):
            subject = Subject(VoteKind.PRECOMMIT, height, round_, block_hash, 7)
            number = by_address[member.address]
            vote = sign_vote(GENESIS, subject, index, secret(number))
            entries.append(CommitSignature(member.address, 7, vote.signature))
        return CommitCertificate(height, round_, block_hash, tuple(entries))

    def block(self, height: int, *, round_: int = 0, absent: int = 0) -> LightBlock:
        return LightBlock(
            parent=self.headers[height - 1],
            header=self.headers[height],
            certificate=self.certificate(height, round_=round_, absent=absent),
            validators=self.voters(height),
            following=self.voters(height + 1),
        )

    def trusted(self, height: int) -> Trusted:
        return Trusted(self.headers[height], self.voters(height + 1))


FOUR = group(0, 1, 2, 3)
CHAIN = LightChain(40, {0: FOUR, 20: group(2, 3, 4, 5), 30: group(4, 5, 6, 7)})


def check(
    trusted: int, block: LightBlock, policy: Policy = POLICY, now: float = NOW
) -> Trusted:
    return verify(GENESIS, CHAIN.trusted(trusted), block, policy, now=now)


@pytest.mark.parametrize("height", [1, 2, 10, 19, 25])
def test_headers_are_verified_from_genesis(height: int) -> None:
    assert check(0, CHAIN.block(height)) == CHAIN.trusted(height)


def test_a_quorum_is_enough() -> None:
    assert check(0, CHAIN.block(5, absent=1)) == CHAIN.trusted(5)


def test_trust_needs_more_than_a_third_of_the_known_stake() -> None:
    # Half of the set that genesis names votes at 25; at 35 none of it.
    check(0, CHAIN.block(25))
    with pytest.raises(NotEnoughTrust, match="0 signed block 35"):
        check(0, CHAIN.block(35))
    with pytest.raises(NotEnoughTrust):
        check(0, CHAIN.block(25), Policy(1_000, numerator=1, denominator=2))
    check(28, CHAIN.block(29))
    check(29, CHAIN.block(30))  # adjacent, whoever votes


def test_trust_ends() -> None:
    last = START + POLICY.period - 0.001
    check(0, CHAIN.block(1), now=last)
    with pytest.raises(TrustExpired, match="the trust period is 1000 s"):
        check(0, CHAIN.block(1), now=START + POLICY.period)


def test_the_future_is_refused() -> None:
    check(0, CHAIN.block(20), now=START)
    with pytest.raises(InvalidLightBlock, match="more than 10 s ahead"):
        check(0, CHAIN.block(22), now=START)


def _rebuilt(height: int, **fields: object) -> LightBlock:
    block = CHAIN.block(height)
    return replace(block, header=replace(block.header, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (lambda: CHAIN.block(4), "expected a height above 5, got 4"),
        (lambda: CHAIN.block(5), "expected a height above 5, got 5"),
        (lambda: CHAIN.block(9, absent=2), "more than 2/3"),
        (lambda: _rebuilt(9, gas_used=1), "expected block 9"),
        (lambda: _rebuilt(9, timestamp=START), "before it of"),
        (lambda: _rebuilt(9, parent_hash=bytes(32)), "parent hash: expected 0x00"),
        (lambda: replace(CHAIN.block(9), parent=CHAIN.headers[7]), "parent number"),
        (lambda: replace(CHAIN.block(9), validators=CHAIN.voters(25)), "validator set"),
        (
            lambda: replace(CHAIN.block(9), following=CHAIN.voters(25)),
            "next validator set",
        ),
        (
            lambda: replace(CHAIN.block(9), certificate=CHAIN.certificate(8)),
            "got block 8",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    block: Callable[[], LightBlock], reason: str
) -> None:
    with pytest.raises(InvalidLightBlock, match=reason):
        check(5, block())


def test_an_adjacent_block_must_follow_the_trusted_one() -> None:
    other = LightChain(10, {0: FOUR}, salt=b"other")
    with pytest.raises(InvalidLightBlock, match="parent hash"):
        check(5, other.block(6))


def test_signatures_of_another_chain_are_none() -> None:
    with pytest.raises(InvalidLightBlock, match="expected signer"):
        verify(OTHER_GENESIS, CHAIN.trusted(0), CHAIN.block(3), POLICY, now=NOW)


def test_the_root_is_what_the_user_names() -> None:
    header, voters = CHAIN.headers[5], CHAIN.voters(6)
    assert Trusted.root(5, header.hash, header, voters) == CHAIN.trusted(5)
    for height, block_hash, following, reason in (
        (6, header.hash, voters, "trusted height: expected 6, got 5"),
        (5, bytes(32), voters, "trusted hash"),
        (5, header.hash, CHAIN.voters(25), "next validator set"),
    ):
        with pytest.raises(InvalidLightBlock, match=reason):
            Trusted.root(height, block_hash, header, following)


def test_backwards_by_hash() -> None:
    verify_backwards(CHAIN.headers[5], CHAIN.headers[4])
    for other in (CHAIN.headers[3], replace(CHAIN.headers[4], gas_used=1)):
        with pytest.raises(InvalidLightBlock):
            verify_backwards(CHAIN.headers[5], other)


@pytest.mark.parametrize(
    ("numerator", "denominator"), [(1, 4), (3, 2), (0, 3), (1, 0), (-1, -3)]
)
def test_impossible_levels_are_refused(numerator: int, denominator: int) -> None:
    with pytest.raises(ValueError, match="trust level"):
        Policy(1, numerator=numerator, denominator=denominator)


def test_impossible_times_are_refused() -> None:
    for period, drift in ((0, 1), (1, -1)):
        with pytest.raises(ValueError, match="must be above 0"):
            Policy(period, drift)


# -- searches --------------------------------------------------------------------------


def finish(search: Search, chain: LightChain = CHAIN) -> tuple[Search, list[int]]:
    asked: list[int] = []
    while (needed := search.needed) is not None:
        asked.append(needed)
        block = chain.block(needed)
        search = search.advance(GENESIS, block, POLICY, now=NOW)
    return search, asked


def test_skipping_asks_for_the_target_and_then_for_the_middle() -> None:
    search, asked = finish(Search(CHAIN.trusted(0), 40))
    assert asked == [40, 20]
    assert [block.height for block in search.trace] == [20, 40]
    assert search.latest == CHAIN.trusted(40)
    assert finish(Search(CHAIN.trusted(0), 15))[1] == [15]
    assert finish(Search(CHAIN.trusted(9), 9))[1] == []


def test_sequential_asks_for_every_height() -> None:
    search, asked = finish(Search(CHAIN.trusted(3), 40, sequential=True))
    assert asked == [*range(4, 41)]
    assert search.latest == CHAIN.trusted(40)


def test_the_wrong_height_and_a_bad_block_are_refused() -> None:
    search = Search(CHAIN.trusted(0), 10)
    with pytest.raises(InvalidLightBlock, match="of height 10, got 9"):
        search.advance(GENESIS, CHAIN.block(9), POLICY, now=NOW)
    with pytest.raises(InvalidLightBlock, match="2/3"):
        search.advance(GENESIS, CHAIN.block(10, absent=2), POLICY, now=NOW)


@given(st.lists(st.integers(1, 5), max_size=6), st.integers(0, 30), st.data())
def test_a_search_ends_at_the_target_whoever_votes(
    gaps: list[int], start: int, data: st.DataObject
) -> None:
    groups, height = {0: FOUR}, 0
    for index, gap in enumerate(gaps, start=1):
        height += gap
        groups[height] = tuple(range(2 * index, 2 * index + 4))
    chain = LightChain(31, groups)
    target = data.draw(st.integers(start, 31))
    search, asked = finish(Search(chain.trusted(start), target), chain)
    assert search.latest == chain.trusted(target)
    assert len(asked) == len(set(asked)) <= max(0, target - start)


# -- forks -----------------------------------------------------------------------------

OTHER = LightChain(40, CHAIN.groups, salt=b"fork", since=11, before=CHAIN)


def test_a_fork_is_found_where_the_chains_part() -> None:
    search, _ = finish(Search(CHAIN.trusted(0), 20, sequential=True))
    hashes = {block.height: OTHER.headers[block.height].hash for block in search.trace}
    parting = bifurcation(search, hashes)
    assert parting is not None
    common, ours = parting
    assert (common, ours.height) == (CHAIN.trusted(10), 11)
    theirs, _ = finish(Search(common, 11), OTHER)
    found = fork(common, ours, theirs.trace[-1])
    assert found == Fork(CHAIN.trusted(10), CHAIN.block(11), OTHER.block(11))
    voters = {member.address for member in CHAIN.voters(11).members}
    assert set(found.equivocators) == voters


def test_in_different_rounds_nobody_voted_twice() -> None:
    found = fork(CHAIN.trusted(10), CHAIN.block(11), OTHER.block(11, round_=1))
    assert found is not None
    assert found.equivocators == ()


def test_equal_chains_are_no_fork() -> None:
    search, _ = finish(Search(CHAIN.trusted(0), 10))
    hashes = {block.height: block.header.hash for block in search.trace}
    assert bifurcation(search, hashes) is None
    assert bifurcation(search, {}) == (CHAIN.trusted(0), CHAIN.block(10))
    assert fork(CHAIN.trusted(0), CHAIN.block(3), CHAIN.block(3)) is None
    assert fork(CHAIN.trusted(0), CHAIN.block(3), OTHER.block(13)) is None
