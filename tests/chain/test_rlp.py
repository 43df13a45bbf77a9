import pytest
import rlp as reference  # type: ignore[import-untyped]  # an oracle
from hypothesis import given, strategies as st
from rlp import codec

from chain import rlp
from chain.errors import MalformedRLP

ITEMS = st.recursive(
    st.binary(max_size=80), lambda inner: st.lists(inner, max_size=6), max_leaves=20
)


def _depth(item: object) -> int:
    if isinstance(item, list):
        return 1 + max((_depth(part) for part in item), default=0)
    return 0


@given(ITEMS.filter(lambda item: _depth(item) <= rlp.MAX_DEPTH))
def test_round_trip_and_agreement_with_pyrlp(item: rlp.Item) -> None:
    encoded = rlp.encode(item)
    assert encoded == reference.encode(item)
    assert rlp.decode(encoded) == item


@given(st.binary(max_size=60))
def test_accepts_exactly_what_it_would_write(data: bytes) -> None:
    """pyrlp's Python decoder agrees; its Rust one reads some truncated lists."""
    try:
        item = rlp.decode(data)
    except MalformedRLP:
        with pytest.raises((codec.DecodingError, IndexError)):
            _reference(data)
    else:
        assert rlp.encode(item) == data
        assert _reference(data) == item


def _reference(data: bytes) -> object:
    item, _, end = codec.consume_item(data, 0)
    if end != len(data):
        raise codec.DecodingError("trailing bytes", data)
    return item


def test_rust_is_not_the_judge() -> None:
    """Why the decoder is our own: rusty-rlp takes this, and two nodes would fork."""
    truncated = b"\xc7" + bytes(6) + b"\x81"
    assert reference.decode(truncated, strict=True)
    with pytest.raises(MalformedRLP, match="1 bytes announced, 0 left"):
        rlp.decode(truncated)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the data ends"),
        (b"\x80\x80", "follow it"),
        (b"\x81\x05", "a single byte below"),
        (b"\xb8\x01\x61", "long form"),
        (b"\xb9\x00\x40" + bytes(64), "leading zero"),
        (b"\xb8", "cut off"),
        (b"\x83ab", "announced"),
        (b"\xc2\x83a", "announced"),
        (b"\xbf" + b"\xff" * 8, "announced"),
        (b"\xc1" * 9 + b"\xc0", "nested|announced"),
    ],
)
def test_refusals(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedRLP, match=reason):
        rlp.decode(data)


def test_depth_and_items_are_bounded() -> None:
    item: rlp.Item = b""
    for _ in range(rlp.MAX_DEPTH + 1):
        item = [item]
    with pytest.raises(MalformedRLP, match="nested"):
        rlp.decode(rlp.encode(item))
    with pytest.raises(MalformedRLP, match="more items"):
        rlp.decode(rlp.encode([b""] * 10), max_items=10)
    assert rlp.decode(rlp.encode([b""] * 10), max_items=11) == [b""] * 10


def test_integers_are_canonical() -> None:
    assert rlp.as_uint(b"") == 0
    assert rlp.as_uint(b"\xff" * 8, 64) == 2**64 - 1
    for data, bits in ((b"\0", 64), (b"\1" + bytes(8), 64), (b"\2", 1)):
        with pytest.raises(MalformedRLP):
            rlp.as_uint(data, bits)


def test_shapes_are_checked() -> None:
    with pytest.raises(MalformedRLP, match="expected a list"):
        rlp.as_list(b"")
    with pytest.raises(MalformedRLP, match="list of 2"):
        rlp.as_list([b""], 2)
    with pytest.raises(MalformedRLP, match="byte string"):
        rlp.as_bytes([])
    with pytest.raises(MalformedRLP, match="3 bytes"):
        rlp.as_bytes(b"ab", 3)


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_a_list_is_its_payload_wrapped(items: list[bytes]) -> None:
    data = rlp.encode(items)
    joined = b"".join(rlp.encode(each) for each in items)
    assert rlp.payload(data) == joined
    assert rlp.wrap(joined) == data


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x83abc", b"\xc1", b"\xc0\xc0"])
def test_what_is_no_list_has_no_payload(data: bytes) -> None:
    with pytest.raises(MalformedRLP):
        rlp.payload(data)
