import pytest
from eth_bloom.bloom import BloomFilter
from hypothesis import given, strategies as st

from chain import rlp
from chain.bloom import EMPTY_BLOOM, bloom_of, may_contain, union
from chain.errors import Malformed
from chain.receipt import Log, Receipt
from tests.support.vectors import Vectors

LOGS = st.builds(
    Log,
    address=st.binary(min_size=20, max_size=20),
    topics=st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple),
    data=st.binary(max_size=70),
)
RECEIPTS = st.builds(
    Receipt,
    type=st.sampled_from([0, 1, 2, 4]),
    succeeded=st.booleans(),
    cumulative_gas_used=st.integers(0, 2**64 - 1),
    logs=st.lists(LOGS, max_size=4).map(tuple),
)


@given(RECEIPTS)
def test_round_trip(receipt: Receipt) -> None:
    assert Receipt.decode(receipt.encode()) == receipt


@given(st.lists(st.binary(max_size=40), max_size=10), st.binary(max_size=40))
def test_blooms_agree_with_eth_bloom(values: list[bytes], other: bytes) -> None:
    theirs = BloomFilter.from_iterable(values)
    ours = bloom_of(values)
    assert int.from_bytes(ours, "big") == int(theirs)
    assert all(may_contain(ours, value) for value in values)
    assert may_contain(ours, other) == (other in theirs)
    assert union([ours, bloom_of([other])]) == bloom_of([*values, other])


def test_a_receipt_without_logs_has_an_empty_bloom() -> None:
    assert (
        Receipt(0, succeeded=True, cumulative_gas_used=21_000, logs=()).bloom()
        == EMPTY_BLOOM
    )


def test_refusals() -> None:
    good = Receipt(
        2, succeeded=True, cumulative_gas_used=21_000, logs=(Log(b"\1" * 20, (), b""),)
    )
    fields = rlp.decode_list(good.encode()[1:])
    for broken in (
        b"\2" + rlp.encode([*fields[:2], bytes(256), fields[3]]),
        b"\2" + rlp.encode([b"\2", *fields[1:]]),
        b"\2" + rlp.encode(fields[:3]),
        b"",
        b"\2",
    ):
        with pytest.raises(Malformed):
            Receipt.decode(broken)


def test_vector(vectors: Vectors) -> None:
    receipts = [
        Receipt(0, succeeded=True, cumulative_gas_used=21_000, logs=()),
        Receipt(2, succeeded=False, cumulative_gas_used=63_000, logs=()),
        Receipt(
            4,
            succeeded=True,
            cumulative_gas_used=90_000,
            logs=(Log(b"\1" * 20, (b"\2" * 32, b"\3" * 32), b"x"),),
        ),
    ]
    vectors.check("receipts", [each.encode().hex() for each in receipts])
