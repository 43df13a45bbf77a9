"""The compression function of BLAKE2b (EIP-152, address 9)."""

from typing import Final

from runtime.errors import PrecompileFailure
from runtime.precompiles.interface import Precompile

_INPUT_BYTES: Final = 213
_WORD: Final = (1 << 64) - 1

# RFC 7693, sections 2.6 and 2.7.
_IV: Final = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
_SIGMA: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_LANES: Final = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def _rotate(word: int, bits: int) -> int:
    return (word >> bits | word << 64 - bits) & _WORD


def _words(data: bytes) -> list[int]:
    return [
        int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)
    ]


def compress(
    rounds: int, state: list[int], block: list[int], offset: int, *, last: bool
) -> list[int]:
    """BLAKE2b's F: 8 words of state, 16 of message, a 128-bit offset."""
    v = [*state, *_IV]
    v[12] ^= offset & _WORD
    v[13] ^= offset >> 64
    if last:
        v[14] ^= _WORD
    for number in range(rounds):
        order = _SIGMA[number % 10]
        for lane, (a, b, c, d) in enumerate(_LANES):
            v[a] = v[a] + v[b] + block[order[2 * lane]] & _WORD
            v[d] = _rotate(v[d] ^ v[a], 32)
            v[c] = v[c] + v[d] & _WORD
            v[b] = _rotate(v[b] ^ v[c], 24)
            v[a] = v[a] + v[b] + block[order[2 * lane + 1]] & _WORD
            v[d] = _rotate(v[d] ^ v[a], 16)
            v[c] = v[c] + v[d] & _WORD
            v[b] = _rotate(v[b] ^ v[c], 63)
    return [h ^ v[i] ^ v[i + 8] for i, h in enumerate(state)]


def _rounds(data: bytes) -> int:
    return int.from_bytes(data[:4], "big") if len(data) == _INPUT_BYTES else 0


def _run(data: bytes) -> bytes:
    if len(data) != _INPUT_BYTES:
        raise PrecompileFailure(f"BLAKE2b: {len(data)} bytes, expected {_INPUT_BYTES}")
    if data[212] > 1:
        raise PrecompileFailure(f"BLAKE2b: the last byte must be 0 or 1: {data[212]}")
    result = compress(
        _rounds(data),
        _words(data[4:68]),
        _words(data[68:196]),
        int.from_bytes(data[196:212], "little"),
        last=data[212] == 1,
    )
    return b"".join(word.to_bytes(8, "little") for word in result)


BLAKE2F = Precompile(gas=_rounds, steps=lambda data: 20 + 20 * _rounds(data), run=_run)
