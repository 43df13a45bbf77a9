"""The randomness beacon: one BLS reveal per block, mixed into `mixHash`.

The proposer of height n signs (genesis hash, n) with its beacon key. A BLS signature
is unique, so it has no choice but to reveal this value or to give up its turn:

    mixHash(n) = sha256("lockstep/beacon" || mixHash(n - 1) || reveal)

with the genesis block's mixHash as written in the chain specification.
"""

from chain.crypto import bls_sign, bls_verify, reveal_message, sha256
from consensus.errors import InvalidReveal

BEACON_DOMAIN = b"lockstep/beacon"
REVEAL_BYTES = 96


def make_reveal(genesis_hash: bytes, height: int, secret: int) -> bytes:
    """The 96-byte reveal of the holder of `secret` for the block at `height`."""
    return bls_sign(reveal_message(genesis_hash, height), secret)


def verify_reveal(
    genesis_hash: bytes, height: int, reveal: bytes, beacon_key: bytes
) -> None:
    """Check a reveal against the proposer's 48-byte beacon key.

    Raises:
        InvalidReveal: malformed, or not that key's signature for this height.
    """
    if len(reveal) != REVEAL_BYTES:
        raise InvalidReveal(f"expected {REVEAL_BYTES} bytes, got {len(reveal)}")
    if not bls_verify(reveal_message(genesis_hash, height), reveal, beacon_key):
        raise InvalidReveal(
            f"not the signature of 0x{beacon_key.hex()} for height {height}"
        )


def next_mix(previous_mix: bytes, reveal: bytes) -> bytes:
    """The `mixHash` of the block that carries `reveal`."""
    return sha256(BEACON_DOMAIN + previous_mix + reveal)
