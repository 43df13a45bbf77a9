"""ecrecover, SHA-256, RIPEMD-160, identity and modexp (addresses 1 to 5)."""

from Crypto.Hash import RIPEMD160

from chain.crypto import address_of, recover, sha256
from chain.errors import BadSignature
from runtime.precompiles.interface import Precompile, words

_MAX_EXPONENT_HEAD = 32


def _ecrecover(data: bytes) -> bytes:
    padded = data[:128].ljust(128, b"\0")
    v, r, s = (int.from_bytes(padded[at : at + 32], "big") for at in (32, 64, 96))
    if v not in (27, 28):
        return b""
    try:
        return bytes(12) + address_of(recover(padded[:32], r, s, v - 27))
    except BadSignature:  # an answer here, not an error: no address
        return b""


ECRECOVER = Precompile(gas=lambda _: 3_000, steps=lambda _: 60, run=_ecrecover)

SHA256 = Precompile(
    gas=lambda data: 60 + 12 * words(data),
    steps=lambda data: 2 + len(data) // 512,
    run=sha256,
)


def _ripemd160(data: bytes) -> bytes:
    # Not hashlib's: whether OpenSSL offers RIPEMD-160 depends on its configuration.
    return bytes(12) + RIPEMD160.new(data).digest()


RIPEMD = Precompile(
    gas=lambda data: 600 + 120 * words(data),
    steps=lambda data: 10 + len(data) // 128,
    run=_ripemd160,
)

IDENTITY = Precompile(
    gas=lambda data: 15 + 3 * words(data),
    steps=lambda data: 1 + len(data) // 2_048,
    run=bytes,
)


def _lengths(data: bytes) -> tuple[int, int, int]:
    """Byte lengths of base, exponent and modulus; each may be absurd."""
    head = data[:96].ljust(96, b"\0")
    base, exponent, modulus = (
        int.from_bytes(head[at : at + 32], "big") for at in (0, 32, 64)
    )
    return base, exponent, modulus


def _read(data: bytes, start: int, size: int) -> int:
    """`size` bytes at `start`, zeros behind the end, as an integer."""
    found = data[start : start + size]
    return int.from_bytes(found, "big") << 8 * (size - len(found))


def _multiplications(data: bytes) -> tuple[int, int]:
    """Squared operand size in 8-byte words, and iterations (EIP-2565)."""
    base, exponent, modulus = _lengths(data)
    size = (max(base, modulus) + 7) // 8
    head = _read(data, 96 + base, min(exponent, _MAX_EXPONENT_HEAD))
    tail = max(exponent - _MAX_EXPONENT_HEAD, 0)
    return size * size, max(8 * tail + max(head.bit_length() - 1, 0), 1)


def _modexp_gas(data: bytes) -> int:
    complexity, iterations = _multiplications(data)
    return max(200, complexity * iterations // 3)


def _modexp_steps(data: bytes) -> int:
    # Python's pow takes 7 ns per word product, and 100 ns per bit at least.
    complexity, iterations = _multiplications(data)
    if complexity == 0:
        return 20  # no modulus: nothing is computed, whatever exponent is announced
    return 20 + iterations * (complexity + 10) // 100


def _modexp(data: bytes) -> bytes:
    base_size, exponent_size, modulus_size = _lengths(data)
    if modulus_size == 0:
        return b""
    base = _read(data, 96, base_size)
    exponent = _read(data, 96 + base_size, exponent_size)
    modulus = _read(data, 96 + base_size + exponent_size, modulus_size)
    result = 0 if modulus == 0 else pow(base, exponent, modulus)
    return result.to_bytes(modulus_size, "big")


MODEXP = Precompile(gas=_modexp_gas, steps=_modexp_steps, run=_modexp)
