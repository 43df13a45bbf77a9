"""Block time: a weighted median that no third of the stake can move too far."""

from hypothesis import given, strategies as st

from chain.sidecar import CommitCertificate, CommitSignature
from consensus.blocktime import block_time, median_time
from tests.consensus.committee import BLOCK, Committee


def certificate(committee: Committee, times: dict[int, int]) -> CommitCertificate:
    entries = tuple(
        CommitSignature(committee.set.at(index).address, time, bytes(65))
        for index, time in sorted(times.items())
    )
    return CommitCertificate(1, 0, BLOCK, entries)


FOUR = Committee(1, 1, 1, 1)


def test_median_of_equal_stakes() -> None:
    assert median_time(certificate(FOUR, {0: 9, 1: 1, 2: 5}), FOUR.set) == 5
    assert median_time(certificate(FOUR, {0: 9, 1: 1, 2: 5, 3: 7}), FOUR.set) == 5


def test_stake_weighs() -> None:
    committee = Committee(10, 1, 1, 1)
    found = certificate(committee, {0: 100, 1: 1, 2: 2, 3: 3})
    assert median_time(found, committee.set) == 100


def test_seconds_never_before_the_parent() -> None:
    found = certificate(FOUR, {0: 12_999, 1: 12_999, 2: 12_999})
    assert block_time(11, found, FOUR.set) == 12
    assert block_time(12, found, FOUR.set) == 12
    assert block_time(13, found, FOUR.set) == 13
    assert block_time(7, None, FOUR.set) == 7


@given(
    st.lists(st.integers(0, 10**6), min_size=5, max_size=5),
    st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=2),
)
def test_less_than_a_third_cannot_leave_the_honest_range(
    honest: list[int], lies: list[int]
) -> None:
    committee = Committee(*[1] * 7)
    times = dict(enumerate(honest + lies))
    found = median_time(certificate(committee, times), committee.set)
    assert min(honest) <= found <= max(honest)
