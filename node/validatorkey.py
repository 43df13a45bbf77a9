"""The two secrets of a validator: one signs votes, one makes the beacon's reveals."""

from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from chain.crypto import SECP256K1_ORDER, address_of, bls_public_key, public_key
from node.errors import KeyFileError

# Order of BLS12-381's scalar field.
BLS_ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What everybody may know of a validator's keys.

    Attributes:
        public_key: secp256k1, 64 bytes, x || y.
        beacon_key: 48 bytes, compressed BLS public key.
    """

    public_key: bytes
    beacon_key: bytes

    @property
    def address(self) -> bytes:
        """The validator's Ethereum address."""
        return address_of(self.public_key)


@dataclass(frozen=True, slots=True)
class ValidatorKey:
    """The secrets of one validator. Not shown by `repr`."""

    secret: bytes
    beacon_secret: int

    @override
    def __repr__(self) -> str:
        """The address only; a log must never hold a secret."""
        return f"ValidatorKey(0x{self.address.hex()})"

    @property
    def public(self) -> PublicKeys:
        """What everybody may know."""
        return PublicKeys(self.public_key, self.beacon_key)

    @property
    def public_key(self) -> bytes:
        """64 bytes, x || y."""
        return public_key(self.secret)

    @property
    def address(self) -> bytes:
        """The validator's Ethereum address."""
        return address_of(self.public_key)

    @property
    def beacon_key(self) -> bytes:
        """48 bytes, compressed BLS public key."""
        return bls_public_key(self.beacon_secret)

    @classmethod
    def from_seed(cls, secret: bytes, beacon_seed: bytes) -> "ValidatorKey":
        """A key from 32 and 64 uniformly random bytes.

        Raises:
            KeyFileError: the seeds give no valid scalars.
        """
        return cls.checked(secret, int.from_bytes(beacon_seed) % BLS_ORDER)

    @classmethod
    def checked(cls, secret: bytes, beacon_secret: int) -> "ValidatorKey":
        """A key whose scalars are in range.

        Raises:
            KeyFileError: a scalar is zero or not below its group's order.
        """
        if len(secret) != 32 or not 0 < int.from_bytes(secret) < SECP256K1_ORDER:
            raise KeyFileError("secp256k1: expected 32 bytes below the group's order")
        if not 0 < beacon_secret < BLS_ORDER:
            raise KeyFileError("bls12_381: expected a scalar below the group's order")
        return cls(secret, beacon_secret)
