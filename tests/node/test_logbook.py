"""Entries of the write-ahead log have bytes, and garbage is refused."""

import pytest
from hypothesis import given, strategies as st

from consensus.machine import TimedOut, TimeoutKind
from consensus.messages import Ballot
from node.errors import WalError
from node.logbook import Begun, Received, Whole, decode_entry, encode_entry
from tests.consensus.committee import Committee
from tests.node.blocks import make_block

ENTRIES = [
    Begun(),
    TimedOut(TimeoutKind.PRECOMMIT, 3),
    Received(Ballot(Committee(1).vote(0))),
    Whole(bytes(32), make_block()),
    Whole(bytes(32), None),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=range(len(ENTRIES)))
def test_entries_round_trip(entry: object) -> None:
    assert decode_entry(encode_entry(entry)) == entry


@given(st.binary(max_size=60))
def test_garbage_is_no_entry(data: bytes) -> None:
    try:
        entry = decode_entry(data)
    except WalError:
        return
    assert encode_entry(entry) == data
