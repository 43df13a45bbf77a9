"""Keys that everybody knows, for chains that hold no value.

They come from the mnemonic that Hardhat and Anvil print, by BIP-44, so wallets and
tools find the same accounts. Validators of the devnet use account 1' of the same tree.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from eth_account.hdaccount import key_from_seed, seed_from_mnemonic

from chain.crypto import address_of, bls_public_key, public_key, sha256
from genesis.spec import ValidatorEntry

MNEMONIC: Final = "test test test test test test test test test test test junk"

VALIDATOR_STAKE: Final = 1_000 * 10**18

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

    @property
    def address(self) -> bytes:
        """What consensus calls it, 20 bytes."""
        return address_of(self.public_key)


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


def validator_entries(
    count: int, stake: int = VALIDATOR_STAKE
) -> tuple[ValidatorEntry, ...]:
    """Genesis entries of the first `count` devnet validators, with equal stakes.

    Account i operates validator i.
    """
    return tuple(
        ValidatorEntry.of(
            validator(index).public_key,
            validator(index).beacon_key,
            stake,
            account(index).address,
        )
        for index in range(count)
    )
