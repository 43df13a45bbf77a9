"""RLP, strict and bounded (Ethereum yellow paper, appendix B).

Written in plain Python on purpose: one decoder for 30-byte keys and 384 KiB
transactions alike, so two implementations can never disagree about validity. Byte
strings come back as slices; a large payload costs one copy.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from chain.errors import MalformedRLP

Item: TypeAlias = "bytes | Sequence[Item]"
Decoded: TypeAlias = "bytes | list[Decoded]"

MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 65_536

_SHORT: Final = 55


def encode(item: Item) -> bytes:
    """The canonical encoding of a byte string or of nested sequences of them."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(len(item), 0x80) + item
    return wrap(b"".join([encode(part) for part in item]))


def wrap(payload: bytes) -> bytes:
    """The list whose encoded members, joined, are `payload`."""
    return _prefix(len(payload), 0xC0) + payload


def payload(data: bytes) -> bytes:
    """The encoded members, joined, of the list that `data` is; `wrap` undone.

    Raises:
        MalformedRLP: `data` is no list, or not that alone; members are not looked at.
    """
    return _Reader(data, 0).payload()


def encode_uint(value: int) -> bytes:
    """The big-endian integer without leading zeros that RLP fields hold."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _prefix(length: int, offset: int) -> bytes:
    if length <= _SHORT:
        return bytes((offset + length,))
    size = encode_uint(length)
    return bytes((offset + _SHORT + len(size),)) + size


def decode(data: bytes, *, max_items: int = MAX_ITEMS) -> Decoded:
    """Decode one item that fills `data` exactly.

    Args:
        data: The encoding; the caller has bounded its length.
        max_items: The most byte strings and lists, together, to create.

    Raises:
        MalformedRLP: On trailing bytes, non-canonical prefixes, truncation, nesting
            below `MAX_DEPTH` lists or more than `max_items` items.
    """
    reader = _Reader(data, max_items)
    item, end = reader.item(0, len(data), 0)
    if end != len(data):
        raise MalformedRLP(f"expected one item, {len(data) - end} bytes follow it")
    return item


class _Reader:
    """One decoding pass; counts the items it creates."""

    __slots__ = ("data", "left")

    def __init__(self, data: bytes, max_items: int) -> None:
        self.data = data
        self.left = max_items

    def item(self, start: int, limit: int, depth: int) -> tuple[Decoded, int]:
        """Decode the item at `start`, which must end at or before `limit`."""
        self.left -= 1
        if self.left < 0:
            raise MalformedRLP("more items than allowed")
        if start >= limit:
            raise MalformedRLP(f"expected an item at byte {start}, the data ends")
        first = self.data[start]
        if first < 0x80:
            return self.data[start : start + 1], start + 1
        if first < 0xC0:
            begin, end = self._span(start, limit, first - 0x80)
            if end - begin == 1 and self.data[begin] < 0x80:
                raise MalformedRLP(f"byte {start}: a single byte below 0x80 is itself")
            return self.data[begin:end], end
        if depth >= MAX_DEPTH:
            raise MalformedRLP(f"byte {start}: more than {MAX_DEPTH} nested lists")
        begin, end = self._span(start, limit, first - 0xC0)
        items: list[Decoded] = []
        while begin < end:
            part, begin = self.item(begin, end, depth + 1)
            items.append(part)
        return items, end

    def payload(self) -> bytes:
        """The payload of the one list that the data is."""
        if self.data[:1] < b"\xc0":
            raise MalformedRLP("expected a list")
        begin, end = self._span(0, len(self.data), self.data[0] - 0xC0)
        if end != len(self.data):
            raise MalformedRLP(
                f"expected one list, {len(self.data) - end} bytes follow it"
            )
        return self.data[begin:end]

    def _span(self, start: int, limit: int, code: int) -> tuple[int, int]:
        begin = start + 1
        if code <= _SHORT:
            length = code
        else:
            size = code - _SHORT
            if begin + size > limit:
                raise MalformedRLP(f"byte {start}: the length prefix is cut off")
            if self.data[begin] == 0:
                raise MalformedRLP(f"byte {start}: length with a leading zero")
            length = int.from_bytes(self.data[begin : begin + size], "big")
            if length <= _SHORT:
                raise MalformedRLP(f"byte {start}: long form for {length} bytes")
            begin += size
        end = begin + length
        if end > limit:
            raise MalformedRLP(
                f"byte {start}: {length} bytes announced, {limit - begin} left"
            )
        return begin, end


def decode_list(
    data: bytes, *, length: int | None = None, max_items: int = MAX_ITEMS
) -> list[Decoded]:
    """Decode a list, optionally of exactly `length` elements."""
    return as_list(decode(data, max_items=max_items), length)


def as_list(item: Decoded, length: int | None = None) -> list[Decoded]:
    """`item` as a list of `length` elements (any number when None)."""
    if isinstance(item, bytes):
        raise MalformedRLP("expected a list, got a byte string")
    if length is not None and len(item) != length:
        raise MalformedRLP(f"expected a list of {length}, got {len(item)}")
    return item


def as_bytes(item: Decoded, size: int | None = None) -> bytes:
    """`item` as a byte string of exactly `size` bytes (any when None)."""
    if not isinstance(item, bytes):
        raise MalformedRLP("expected a byte string, got a list")
    if size is not None and len(item) != size:
        raise MalformedRLP(f"expected {size} bytes, got {len(item)}")
    return item


def as_uint(item: Decoded, bits: int = 256) -> int:
    """`item` as a canonical unsigned integer below 2**bits."""
    data = as_bytes(item)
    if data[:1] == b"\0":
        raise MalformedRLP("integer with a leading zero")
    if len(data) > (bits + 7) // 8 or int.from_bytes(data, "big") >> bits:
        raise MalformedRLP(f"integer of {len(data)} bytes where {bits} bits fit")
    return int.from_bytes(data, "big")
