"""Durable and private files."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from node.disk import PRIVATE, SYSTEM, Disk, write_all
from node.errors import DataDirectoryError, DataDirectoryLockedError, KeyFileError


def write_durably(path: Path, content: bytes, *, disk: Disk = SYSTEM) -> None:
    """Replace a file; afterwards the new content survives power loss.

    Either the old or the new content is there at every instant. The file is readable
    by its owner only.

    Raises:
        OSError: the disk refused. The old content is there, or, if even the name of
            the new file could not be synced, either.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = disk.create(temporary)
    try:
        write_all(disk, descriptor, content)
        disk.sync(descriptor)
    except OSError:
        with suppress(OSError):  # the first error says what is wrong
            disk.remove(temporary)
        raise
    finally:
        disk.close(descriptor)
    disk.rename(temporary, path)
    disk.sync_directory(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read; never overwrite one.

    Raises:
        KeyFileError: the file exists.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(path, flags, PRIVATE)
    except FileExistsError as error:
        raise KeyFileError(f"{path} exists already; move it away first") from error
    with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor, not a path
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    SYSTEM.sync_directory(path.parent)


def read_private(path: Path, *, limit: int, disk: Disk = SYSTEM) -> bytes:
    """Read a file of at most `limit` bytes that only its owner may read.

    Raises:
        KeyFileError: missing, too large, or open to others.
    """
    try:
        mode = disk.mode(path)
        if mode is not None and mode & 0o077:
            raise KeyFileError(
                f"{path} has mode {mode:o}; a key must be private: chmod 600 {path}"
            )
        content = disk.read(path, limit + 1)
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error}") from error
    if len(content) > limit:
        raise KeyFileError(f"{path} is larger than {limit} bytes")
    return content


class DirectoryLock:
    """An exclusive lock on a directory, released by `release` or by process death."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises:
            DataDirectoryLockedError: another process holds it.
            DataDirectoryError: the lock file cannot be made.
        """
        path = directory / "LOCK"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, PRIVATE)
        except OSError as error:
            raise DataDirectoryError(f"cannot make {path}: {error}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise DataDirectoryLockedError(
                f"{directory} is in use by process {owner or 'unknown'}; stop it first"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)
