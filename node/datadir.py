"""The data directory of a node.

LOCK                      held while a process works here
chain.json                the chain specification this directory belongs to
database/                 LevelDB: blocks, receipts, state
snapshots/                see node.housekeeping
mempool.journal           see node.pool_journal
wal/                      see node.wal
validator/                keys and what they signed, see node.keydir
"""

from pathlib import Path
from typing import Self

from node.disk import PRIVATE_DIRECTORY
from node.errors import DataDirectoryError, KeyFileError
from node.files import DirectoryLock, write_durably
from node.keydir import KeyDirectory, Password
from node.validatorkey import ValidatorKey

MAX_SPEC_BYTES = 4 << 20


def _no_password() -> str:
    raise KeyFileError(
        "the validator's key is encrypted: name a file that holds its password with "
        "--password-file, LOCKSTEP_PASSWORD_FILE or password_file"
    )


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

    @property
    def keys(self) -> KeyDirectory:
        """The validator's keys, if there are any."""
        return KeyDirectory(self.validator)

    def validator_key(self, password: Password = _no_password) -> ValidatorKey | None:
        """The validator's key, or None when this node only follows.

        Raises:
            KeyFileError: damaged, out of range, readable by others or under another
                password.
        """
        return self.keys.read(password) if self.keys.holds_key else None

    def store_validator_key(self, key: ValidatorKey) -> None:
        """Write the validator's key, not encrypted; it is never overwritten.

        Raises:
            KeyFileError: there is one already.
        """
        self.keys.store(key, None)
