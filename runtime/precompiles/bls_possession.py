"""Proof of possession of a BLS12-381 key, at 0x504f50.

Input: public key, 48 bytes, and proof, 96 bytes, both compressed. Output: 1 as a
32-byte word when the proof is valid (PopVerify of the BLS signature draft, public keys
in G1), nothing otherwise. A wrong input is not an error.

EIP-2537's precompiles could do the same, if a contract decompressed points and hashed
to the curve first. Gas is what its pairing of two pairs costs here, times the ratio of
the two times measured; so are the steps.
"""

from typing import Final

from chain.crypto import bls_verify_possession
from runtime.precompiles.interface import Precompile

_KEY_BYTES: Final = 48
_INPUT_BYTES: Final = 144
_VALID: Final = (1).to_bytes(32, "big")


def _verify(data: bytes) -> bytes:
    if len(data) != _INPUT_BYTES:
        return b""
    valid = bls_verify_possession(data[:_KEY_BYTES], data[_KEY_BYTES:])
    return _VALID if valid else b""


VERIFY = Precompile(gas=lambda _: 140_000, steps=lambda _: 3_000, run=_verify)
