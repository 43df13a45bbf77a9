from dataclasses import replace
from typing import Any

import pytest
import rlp as pyrlp  # type: ignore[import-untyped]  # an oracle
from eth.vm.forks.prague.blocks import PragueBlockHeader
from hypothesis import given, strategies as st

from chain import rlp
from chain.errors import MalformedHeader
from chain.header import Header
from tests.support.vectors import Vectors

# Its fields have types of their own, all of them bytes and integers.
THEIRS: Any = PragueBlockHeader
HASH = st.binary(min_size=32, max_size=32)
NUMBER = st.integers(0, 2**64 - 1)


def header(**fields: object) -> Header:
    values: dict[str, Any] = {
        "parent_hash": b"\1" * 32,
        "coinbase": b"\2" * 20,
        "state_root": b"\3" * 32,
        "transactions_root": b"\4" * 32,
        "receipts_root": b"\5" * 32,
        "logs_bloom": bytes(256),
        "number": 7,
        "gas_limit": 30_000_000,
        "gas_used": 21_000,
        "timestamp": 1_767_225_600,
        "extra_data": b"\6" * 32,
        "mix_hash": b"\7" * 32,
        "base_fee_per_gas": 10**9,
        "parent_beacon_block_root": b"\x08" * 32,
        **fields,
    }
    return Header(**values)


HEADERS = st.builds(
    header,
    parent_hash=HASH,
    state_root=HASH,
    extra_data=HASH,
    mix_hash=HASH,
    number=NUMBER,
    gas_used=NUMBER,
    timestamp=NUMBER,
    base_fee_per_gas=st.integers(0, 2**256 - 1),
)


@given(HEADERS)
def test_round_trip(value: Header) -> None:
    found = Header.decode(value.encode())
    assert found == value
    assert found.hash == value.hash


@given(HEADERS)
def test_hash_is_what_ethereum_computes(value: Header) -> None:
    theirs = THEIRS(
        difficulty=0,
        block_number=value.number,
        gas_limit=value.gas_limit,
        timestamp=value.timestamp,
        coinbase=value.coinbase,
        parent_hash=value.parent_hash,
        state_root=value.state_root,
        transaction_root=value.transactions_root,
        receipt_root=value.receipts_root,
        gas_used=value.gas_used,
        extra_data=value.extra_data,
        mix_hash=value.mix_hash,
        nonce=value.nonce,
        base_fee_per_gas=value.base_fee_per_gas,
        parent_beacon_block_root=value.parent_beacon_block_root,
        requests_hash=value.requests_hash,
    )
    # py-evm writes the bloom as a number; the yellow paper as 256 bytes.
    expected = rlp.decode_list(pyrlp.encode(theirs))
    found = rlp.decode_list(value.encode())
    assert found[:6] + found[7:] == expected[:6] + expected[7:]


@pytest.mark.parametrize(
    "fields",
    [
        {"extra_data": b""},
        {"extra_data": bytes(33)},
        {"coinbase": bytes(19)},
        {"logs_bloom": bytes(255)},
        {"number": -1},
        {"timestamp": 2**64},
        {"base_fee_per_gas": 2**256},
        {"nonce": bytes(7)},
    ],
)
def test_sizes_are_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedHeader, match=next(iter(fields))):
        header(**fields)


def test_decoding_refuses() -> None:
    fields = header().fields()
    for data, reason in (
        (rlp.encode(fields[:20]), "20 fields"),
        (rlp.encode([*fields, b""]), "22 fields"),
        (rlp.encode([*fields[:12], b"\6" * 31, *fields[13:]]), "extra_data"),
        (rlp.encode([*fields[:8], b"\0\7", *fields[9:]]), "number"),
        (rlp.encode([[], *fields[1:]]), "parent_hash"),
        (header().encode()[:-1], "announced"),
        (b"\x80", "expected a list"),
        (bytes(2_000), "at most"),
    ):
        with pytest.raises(MalformedHeader, match=reason):
            Header.decode(data)


def test_vector(vectors: Vectors) -> None:
    value = header()
    vectors.check("header", {"rlp": value.encode().hex(), "hash": value.hash.hex()})
    assert replace(value, number=8).hash != value.hash
