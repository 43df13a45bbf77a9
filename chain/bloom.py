"""The 2048-bit logs bloom (yellow paper, section 4.3.1)."""

from collections.abc import Iterable
from typing import Final

from chain.crypto import keccak

BLOOM_BYTES: Final = 256
EMPTY_BLOOM: Final = bytes(BLOOM_BYTES)
_BIT_MASK: Final = 2047


def bloom_of(values: Iterable[bytes]) -> bytes:
    """The bloom of addresses and topics: three bits of keccak for each."""
    bits = 0
    for value in values:
        digest = keccak(value)
        for start in (0, 2, 4):
            pair = int.from_bytes(digest[start : start + 2], "big")
            bits |= 1 << (pair & _BIT_MASK)
    return bits.to_bytes(BLOOM_BYTES, "big")


def union(blooms: Iterable[bytes]) -> bytes:
    """The bloom that contains every one of `blooms`."""
    bits = 0
    for bloom in blooms:
        bits |= int.from_bytes(bloom, "big")
    return bits.to_bytes(BLOOM_BYTES, "big")


def may_contain(bloom: bytes, value: bytes) -> bool:
    """Whether `value` may be in `bloom`: false is certain, true is likely."""
    bits = int.from_bytes(bloom, "big")
    wanted = int.from_bytes(bloom_of((value,)), "big")
    return bits & wanted == wanted
