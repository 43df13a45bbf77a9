"""The key-value store: LevelDB on disk, a dictionary in tests.

Promises:

- `write` is atomic and, unless told otherwise, on the disk when it returns. A crash
  leaves either all of a batch or nothing of it.
- After a write that failed no other one is tried: LevelDB would append it to what is
  left of the first, and drop both when it is opened again.
- One process at a time: a second opener gets `StoreLocked`.
- Reads need no lock; a `Store` may be read from several threads.

The layout of keys belongs to `chain.database`.
"""

# plyvel has no types; what leaves this file has.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import plyvel  # type: ignore[import-untyped]  # this file is its typed wrapper
from typing_extensions import override

from chain.errors import StoreCorrupt, StoreError, StoreLocked

_CACHE_BYTES: Final = 64 << 20
_WRITE_BUFFER_BYTES: Final = 16 << 20
_BLOOM_BITS: Final = 10


class Store(ABC):
    """An ordered map of bytes to bytes with atomic batches."""

    @staticmethod
    def open(path: str | Path) -> "Store":
        """Open, or create, the LevelDB directory at `path`.

        Raises:
            StoreLocked: Another process has it open.
            StoreCorrupt: The directory holds a damaged database.
            StoreError: The directory cannot be made or read.
        """
        return _LevelStore(Path(path))

    @staticmethod
    def memory() -> "Store":
        """An empty store that lives as long as the object."""
        return _MemoryStore()

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    @abstractmethod
    def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        sync: bool = True,
    ) -> None:
        """Apply all of `puts`, then all of `deletes`, or nothing.

        Args:
            puts: Values to set.
            deletes: Keys to remove; absent ones are no error.
            sync: Return only when the batch is on the disk.

        Raises:
            StoreError: The disk refused this batch, or an earlier one.
        """

    @abstractmethod
    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) whose key starts with `prefix`, in key order."""

    @abstractmethod
    def compact(self) -> None:
        """Give the space of removed entries back; may take long."""

    @abstractmethod
    def close(self) -> None:
        """Release the database; further use raises `StoreError`."""


class PassThrough(Store):
    """Another store, for subclasses that have something to do when it is written."""

    def __init__(self, inner: Store) -> None:
        """Wrap the store; closing this one closes it."""
        self._inner = inner

    @override
    def get(self, key: bytes) -> bytes | None:
        return self._inner.get(key)

    @override
    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._inner.scan(prefix)

    @override
    def compact(self) -> None:
        self._inner.compact()

    @override
    def close(self) -> None:
        self._inner.close()


class _MemoryStore(Store):
    def __init__(self) -> None:
        self._values: dict[bytes, bytes] | None = {}

    def _open(self) -> dict[bytes, bytes]:
        if self._values is None:
            raise StoreError("the store is closed")
        return self._values

    @override
    def get(self, key: bytes) -> bytes | None:
        return self._open().get(key)

    @override
    def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        sync: bool = True,
    ) -> None:
        values = self._open()
        values.update(puts)
        for key in deletes:
            values.pop(key, None)

    @override
    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted(
            (key, value)
            for key, value in self._open().items()
            if key.startswith(prefix)
        )

    @override
    def compact(self) -> None:
        """Nothing to give back."""
        self._open()

    @override
    def close(self) -> None:
        self._values = None


class _LevelStore(Store):
    def __init__(self, path: Path) -> None:
        self._failure = ""
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._database = plyvel.DB(
                str(path),
                create_if_missing=True,
                paranoid_checks=True,
                lru_cache_size=_CACHE_BYTES,
                write_buffer_size=_WRITE_BUFFER_BYTES,
                bloom_filter_bits=_BLOOM_BITS,
            )
        except plyvel.CorruptionError as error:
            raise StoreCorrupt(
                f"{path}: the database is damaged ({_told(error)}); restore a "
                "copy or sync again into an empty directory"
            ) from error
        except plyvel.IOError as error:
            # LevelDB reports a held lock and a missing permission alike; only the
            # message tells them apart, and the path in it may be anything.
            if _told(error).startswith("IO error: lock "):
                raise StoreLocked(
                    f"{path}: another process has this database open; stop it, or "
                    "choose another data directory"
                ) from error
            raise StoreError(
                f"{path}: cannot open the database: {_told(error)}"
            ) from error
        except OSError as error:
            raise StoreError(f"{path}: cannot make the directory: {error}") from error

    @override
    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._database.get(key)
        except (plyvel.Error, RuntimeError) as error:  # RuntimeError: already closed
            raise StoreError(f"cannot read the database: {_told(error)}") from error
        return value

    @override
    def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        sync: bool = True,
    ) -> None:
        if self._failure:
            raise StoreError(f"the database failed before: {self._failure}")
        try:
            with self._database.write_batch(transaction=True, sync=sync) as batch:
                for key, value in puts.items():
                    batch.put(key, value)
                for key in deletes:
                    batch.delete(key)
        except (plyvel.Error, RuntimeError) as error:
            self._failure = _told(error)
            raise StoreError(f"cannot write the database: {_told(error)}") from error

    @override
    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            with self._database.iterator(prefix=prefix) as rows:
                yield from rows
        except (plyvel.Error, RuntimeError) as error:
            raise StoreError(f"cannot read the database: {_told(error)}") from error

    @override
    def compact(self) -> None:
        try:
            self._database.compact_range()
        except (plyvel.Error, RuntimeError) as error:
            raise StoreError(f"cannot compact the database: {error}") from error

    @override
    def close(self) -> None:
        self._database.close()


def _told(error: Exception) -> str:
    """What LevelDB says, which plyvel leaves as bytes."""
    (said,) = error.args or ("",)
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
