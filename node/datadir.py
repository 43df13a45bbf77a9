"""The data directory of a node.

LOCK                      held while a process works here
chain.json                the chain specification this directory belongs to
database/                 LevelDB: blocks, receipts, state
mempool.journal           see node.pool_journal
wal/                      see node.wal
validator/key.json        secp256k1 and BLS secrets of the validator, mode 0600
validator/last-sign.json  see node.signer
validator/last-proposal.rlp
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from typing_extensions import override

from chain.crypto import (
    SECP256K1_ORDER,
    address_of,
    bls_public_key,
    public_key,
)
from node.disk import PRIVATE_DIRECTORY
from node.errors import DataDirectoryError, KeyFileError
from node.files import (
    DirectoryLock,
    create_private,
    read_private,
    write_durably,
)

MAX_SPEC_BYTES = 4 << 20
_MAX_KEY_BYTES = 4_096
# Order of BLS12-381's scalar field.
_BLS_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


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
        return cls.checked(secret, int.from_bytes(beacon_seed) % _BLS_ORDER)

    @classmethod
    def read(cls, path: Path) -> "ValidatorKey":
        """The key in a file that `store_validator_key` wrote.

        Raises:
            KeyFileError: damaged, out of range or readable by others.
        """
        content = read_private(path, limit=_MAX_KEY_BYTES)
        try:
            document: dict[str, Any] = dict(json.loads(content))
            secret = bytes.fromhex(str(document["secp256k1"]))
            beacon_secret = int(str(document["bls12_381"]), 16)
        except (ValueError, KeyError, TypeError) as error:
            # The error may quote the file; only its kind is told.
            raise KeyFileError(f"{path} is damaged ({type(error).__name__})") from None
        return cls.checked(secret, beacon_secret)

    @classmethod
    def checked(cls, secret: bytes, beacon_secret: int) -> "ValidatorKey":
        """A key whose scalars are in range.

        Raises:
            KeyFileError: a scalar is zero or not below its group's order.
        """
        if len(secret) != 32 or not 0 < int.from_bytes(secret) < SECP256K1_ORDER:
            raise KeyFileError("secp256k1: expected 32 bytes below the group's order")
        if not 0 < beacon_secret < _BLS_ORDER:
            raise KeyFileError("bls12_381: expected a scalar below the group's order")
        return cls(secret, beacon_secret)


class DataDirectory:
    """A locked data directory; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Make the directory if needed, and lock it.

        Raises:
            DataDirectoryLockedError: another process works here.
            DataDirectoryError: it cannot be made.
        """
        self.path = path
        try:
            path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        except OSError as error:
            raise DataDirectoryError(f"cannot make {path}: {error}") from error
        self._lock = DirectoryLock(path)

    @classmethod
    def existing(cls, path: Path) -> "DataDirectory":
        """Lock a directory that must be there already.

        Raises:
            DataDirectoryError: it is not there, or as the constructor.
        """
        if not path.is_dir():
            raise DataDirectoryError(f"there is no data directory at {path}")
        return cls(path)

    def __enter__(self) -> Self:
        """The directory is locked already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock it."""
        self._lock.release()

    @property
    def database(self) -> Path:
        """Where LevelDB lives."""
        return self.path / "database"

    @property
    def validator(self) -> Path:
        """Where the validator's key and signing state live."""
        return self.path / "validator"

    def specification(self) -> bytes | None:
        """The chain specification that was stored here, if any.

        Raises:
            DataDirectoryError: unreadable or too large.
        """
        path = self.path / "chain.json"
        if not path.exists():
            return None
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_SPEC_BYTES + 1)
        except OSError as error:
            raise DataDirectoryError(f"cannot read {path}: {error}") from error
        if len(content) > MAX_SPEC_BYTES:
            raise DataDirectoryError(f"{path} is larger than {MAX_SPEC_BYTES} bytes")
        return content

    def store_specification(self, specification: bytes) -> None:
        """Make this the directory of a chain, once.

        Raises:
            DataDirectoryError: it is the directory of another one.
        """
        present = self.specification()
        if present is None:
            write_durably(self.path / "chain.json", specification)
        elif present != specification:
            raise DataDirectoryError(
                f"{self.path} belongs to another chain (its chain.json differs from "
                "the specification given); choose another data directory"
            )

    def validator_key(self) -> ValidatorKey | None:
        """The validator's key, or None when this node only follows.

        Raises:
            KeyFileError: damaged, out of range or readable by others.
        """
        path = self.validator / "key.json"
        if not path.exists():
            return None
        return ValidatorKey.read(path)

    def store_validator_key(self, key: ValidatorKey) -> None:
        """Write the validator's key; it is never overwritten.

        Raises:
            KeyFileError: there is one already.
        """
        self.validator.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        document = {
            "address": "0x" + key.address.hex(),
            "secp256k1": key.secret.hex(),
            "bls12_381": f"{key.beacon_secret:064x}",
        }
        text = json.dumps(document, indent=1) + "\n"
        create_private(self.validator / "key.json", text.encode())
