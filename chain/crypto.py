"""Hashes and signatures, each from one fast library and no other.

Importing this module fails when a fast library is missing: a slow fallback would be
the same chain at a hundredth of the speed, which a validator notices too late.

secp256k1 signatures are 65 bytes, r || s || y_parity, with s in the lower half
(EIP-2). BLS signatures follow the proof-of-possession scheme's ciphersuite: public
keys in G1 (48 bytes), signatures in G2 (96 bytes).
"""

import hashlib
from typing import Final

from coincurve import PrivateKey, PublicKey
from eth_hash.backends.pysha3 import keccak256 as _keccak256
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from chain.errors import BadSignature

SECP256K1_ORDER: Final = (
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
)
SECP256K1_HALF_ORDER: Final = SECP256K1_ORDER // 2

_BLS_DST: Final = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_BLS_POSSESSION_DST: Final = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_BLS_REVEAL: Final = b"lockstep/reveal"
_CONSENT: Final = b"lockstep/validator/v1"
_G1: Final = G1Point()


def keccak(data: bytes) -> bytes:
    """Keccak-256, 32 bytes."""
    return _keccak256(data)


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


EMPTY_KECCAK: Final = keccak(b"")


def address_of(public_key: bytes) -> bytes:
    """The 20-byte address of a 64-byte uncompressed public key."""
    return keccak(public_key)[12:]


def recover(digest: bytes, r: int, s: int, y_parity: int) -> bytes:
    """The 64-byte public key that signed the 32-byte `digest`.

    Accepts both halves of s: the caller decides whether EIP-2 applies.

    Raises:
        BadSignature: A value out of range, or no point has this abscissa.
    """
    if not 0 < r < SECP256K1_ORDER or not 0 < s < SECP256K1_ORDER:
        raise BadSignature("r and s must lie between 1 and the group order")
    if y_parity not in (0, 1):
        raise BadSignature(f"y parity must be 0 or 1, got {y_parity}")
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((y_parity,))
    try:
        key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except ValueError as error:  # coincurve's word for "no such point"
        raise BadSignature("no public key matches this signature") from error
    return key.format(compressed=False)[1:]


def recover_address(digest: bytes, signature: bytes) -> bytes:
    """The address that made a 65-byte low-s `signature` over `digest`.

    Raises:
        BadSignature: Wrong length, high s, or no such key.
    """
    if len(signature) != 65:
        raise BadSignature(f"expected 65 bytes, got {len(signature)}")
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:64], "big")
    if s > SECP256K1_HALF_ORDER:
        raise BadSignature("s lies in the upper half (EIP-2)")
    return address_of(recover(digest, r, s, signature[64]))


def sign(digest: bytes, secret: bytes) -> bytes:
    """Sign a 32-byte digest (RFC 6979); 65 bytes r || s || y_parity, low s."""
    key = PrivateKey(secret)
    # Another parameter of this function, which stays at its default, has no type.
    return key.sign_recoverable(  # pyright: ignore[reportUnknownMemberType]
        digest, hasher=None
    )


def public_key(secret: bytes) -> bytes:
    """The 64-byte uncompressed public key of a 32-byte secret."""
    return PrivateKey(secret).public_key.format(compressed=False)[1:]


def bls_public_key(secret: int) -> bytes:
    """The 48-byte compressed BLS public key of a secret scalar."""
    return (_G1 * Scalar(secret)).to_compressed_bytes()


def reveal_message(genesis_hash: bytes, height: int) -> bytes:
    """What a proposer's RANDAO reveal signs for the block at `height`."""
    return _BLS_REVEAL + genesis_hash + height.to_bytes(8, "big")


def consent_digest(genesis_hash: bytes, operator: bytes, beacon_key: bytes) -> bytes:
    """What a consensus key signs so that `operator`, an address, may register it."""
    return sha256(_CONSENT + genesis_hash + operator + beacon_key)


def bls_sign(message: bytes, secret: int) -> bytes:
    """The 96-byte BLS signature of `message`: unique for a key and a message."""
    return _bls_sign(message, secret, _BLS_DST)


def bls_verify(message: bytes, signature: bytes, public: bytes) -> bool:
    """Whether the 96-byte `signature` over `message` is by the 48-byte `public`."""
    return _bls_verify(message, signature, public, _BLS_DST)


def bls_prove_possession(secret: int) -> bytes:
    """The 96-byte proof that somebody has the secret of a BLS public key.

    It signs the public key under a tag of its own (PopProve of the BLS signature
    draft), so that no other signature can stand for it.
    """
    return _bls_sign(bls_public_key(secret), secret, _BLS_POSSESSION_DST)


def bls_verify_possession(public: bytes, proof: bytes) -> bool:
    """Whether `proof` is the proof of possession of the 48-byte key `public`."""
    return _bls_verify(public, proof, public, _BLS_POSSESSION_DST)


def _bls_sign(message: bytes, secret: int, tag: bytes) -> bytes:
    hashed = G2Point.hash_to_curve(message, tag)
    return (hashed * Scalar(secret)).to_compressed_bytes()


def _bls_verify(message: bytes, signature: bytes, public: bytes, tag: bytes) -> bool:
    if len(signature) != 96 or len(public) != 48:
        return False
    try:
        key = G1Point.from_compressed_bytes(public)
        point = G2Point.from_compressed_bytes(signature)
    except ValueError:  # not a point of the prime-order subgroup
        return False
    # The library reads some encodings that it would not write; a reveal that has two
    # byte forms would let its author choose between two beacons.
    if (
        key == G1Point.identity()
        or key.to_compressed_bytes() != public
        or point.to_compressed_bytes() != signature
    ):
        return False
    hashed = G2Point.hash_to_curve(message, tag)
    return GT.pairing_check([key, -_G1], [hashed, point])
