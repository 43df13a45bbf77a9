"""Keys that everybody knows, for chains that hold no value.

They come from the mnemonic that Hardhat and Anvil print, by BIP-44, so wallets and
tools find the same accounts. Validators of the devnet use account 1' of the same tree.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from eth_account.hdaccount import key_from_seed, seed_from_mnemonic

from chain.crypto import address_of, bls_public_key, public_key, sha256

MNEMONIC: Final = "test test test test test test test test test test test junk"

_BEACON_DOMAIN: Final = b"lockstep/devnet beacon key"
# Below the order of BLS12-381's scalar field, and never zero.
_SCALAR_BITS: Final = 254


@dataclass(frozen=True, slots=True)
class Account:
    """An account whose key is public knowledge.

    Attributes:
        secret: secp256k1, 32 bytes.
        address: 20 bytes.
    """

    secret: bytes
    address: bytes


@dataclass(frozen=True, slots=True)
class ValidatorAccount:
    """A devnet validator's keys.

    Attributes:
        secret: secp256k1, 32 bytes.
        public_key: 64 bytes.
        beacon_secret: BLS scalar.
        beacon_key: 48 bytes.
    """

    secret: bytes
    public_key: bytes
    beacon_secret: int
    beacon_key: bytes


@cache
def _seed() -> bytes:
    return seed_from_mnemonic(MNEMONIC, "")


def account(index: int) -> Account:
    """The funded account m/44'/60'/0'/0/index."""
    secret = key_from_seed(_seed(), f"m/44'/60'/0'/0/{index}")
    return Account(secret, address_of(public_key(secret)))


def validator(index: int) -> ValidatorAccount:
    """The validator m/44'/60'/1'/0/index of a devnet."""
    secret = key_from_seed(_seed(), f"m/44'/60'/1'/0/{index}")
    digest = sha256(_BEACON_DOMAIN + secret)
    beacon_secret = (int.from_bytes(digest, "big") >> (256 - _SCALAR_BITS)) | 1
    return ValidatorAccount(
        secret=secret,
        public_key=public_key(secret),
        beacon_secret=beacon_secret,
        beacon_key=bls_public_key(beacon_secret),
    )
