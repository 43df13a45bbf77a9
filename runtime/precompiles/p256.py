"""P256VERIFY: ECDSA over secp256r1 (EIP-7951, before it RIP-7212), at 0x100.

Input: message hash, r, s, x, y, 32 bytes each. Output: 1 as a 32-byte word when the
signature is valid, nothing otherwise. A wrong input is not an error. Both halves of s
are valid, as in every passkey.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from runtime.precompiles.interface import Precompile

_INPUT_BYTES: Final = 160
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_CURVE: Final = ec.SECP256R1()
_ECDSA: Final = ec.ECDSA(Prehashed(SHA256()))
_VALID: Final = (1).to_bytes(32, "big")


def _verify(data: bytes) -> bytes:
    if len(data) != _INPUT_BYTES:
        return b""
    r, s = int.from_bytes(data[32:64], "big"), int.from_bytes(data[64:96], "big")
    if not 0 < r < _ORDER or not 0 < s < _ORDER:
        return b""
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, b"\x04" + data[96:])
    except ValueError:  # not a point of the curve, or infinity
        return b""
    try:
        key.verify(encode_dss_signature(r, s), data[:32], _ECDSA)
    except InvalidSignature:
        return b""
    return _VALID


VERIFY = Precompile(gas=lambda _: 6_900, steps=lambda _: 80, run=_verify)
