"""What is asked of a file system, as a port: tests fill it with one that crashes.

Everything that must survive power loss goes through here: the write-ahead log, the
last-sign-state, proposals. A file's bytes are on the disk after `sync`, its name after
`sync_directory`; before that a crash may keep any part of what was written.
"""

import os
from pathlib import Path
from typing import Protocol

from typing_extensions import override

PRIVATE = 0o600
PRIVATE_DIRECTORY = 0o700


class Disk(Protocol):
    """Files and directories; every method raises `OSError` as the system does."""

    def make_directory(self, path: Path) -> None:
        """Make a private directory and its parents, if it is missing."""
        ...

    def create(self, path: Path) -> int:
        """A descriptor to write an empty file that only its owner can read."""
        ...

    def extend(self, path: Path) -> int:
        """A descriptor to append to a file that exists."""
        ...

    def write(self, descriptor: int, data: bytes) -> int:
        """Write at the end; the number of bytes taken, which may be fewer."""
        ...

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file to `size` bytes."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when the file's bytes and size are on the disk."""
        ...

    def close(self, descriptor: int) -> None:
        """Give the descriptor back; nothing is synced."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, in one instant, replacing what had it."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Return when the names in a directory are on the disk."""
        ...

    def read(self, path: Path, limit: int) -> bytes:
        """The first `limit` bytes of a file."""
        ...

    def mode(self, path: Path) -> int | None:
        """Permission bits of a file; None when there is none."""
        ...

    def names(self, directory: Path) -> list[str]:
        """The names in a directory, sorted."""
        ...


class SystemDisk(Disk):
    """The operating system's."""

    @override
    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)

    @override
    def create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, PRIVATE)

    @override
    def extend(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    @override
    def write(self, descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data)

    @override
    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    @override
    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    @override
    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    @override
    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    @override
    def remove(self, path: Path) -> None:
        path.unlink()

    @override
    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @override
    def read(self, path: Path, limit: int) -> bytes:
        with path.open("rb") as stream:
            return stream.read(limit)

    @override
    def mode(self, path: Path) -> int | None:
        try:
            return path.stat().st_mode & 0o777
        except FileNotFoundError:
            return None

    @override
    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory))  # noqa: PTH208 - names, not paths


SYSTEM = SystemDisk()


def write_all(disk: Disk, descriptor: int, data: bytes) -> None:
    """Write every byte, however few the system takes at once.

    Raises:
        OSError: the disk refused; some of the bytes may be in the file.
    """
    left = memoryview(data)
    while left:
        taken = disk.write(descriptor, bytes(left) if len(left) < len(data) else data)
        left = left[taken:]
