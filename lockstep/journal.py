"""An actor's memory on disk: what must survive a `kill -9`.

One file, appended to, one record per line: eight hexadecimal digits of the CRC-32 of
the text, a space, the record as canonical JSON, a newline. `append` returns once the
record is on the disk (fsync), so whoever writes first and acts after never forgets
that it acted: a salt is in the journal before its commitment is in a transaction.

A crash can tear the last line only; a torn last line is cut off when the journal is
opened. A damaged line anywhere else means that the disk or an editor changed the past,
and is refused. A lock keeps a second process out of the directory.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from lockstep.errors import JournalError

__all__ = ["Entry", "Journal", "write_durably", "write_whole"]

Entry = Mapping[str, object]


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`: a killed process leaves the old or the new.

    A power cut may leave neither, so use it for what can be checked and done again.
    """
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)


def write_durably(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, whole or not at all, also on power loss."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_directory(path.parent)


class Journal:
    """The journal of one directory, open and locked by this process."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal.

        Raises:
            JournalError: another process holds it, or a line is damaged.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise JournalError(
                f"{path.parent} is in use by another process; stop it first, or give "
                "this one a directory of its own"
            ) from None
        if not existed:
            _sync_directory(path.parent)
        self._entries = self._recover()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every record, oldest first."""
        return tuple(self._entries)

    def append(self, kind: str, **fields: object) -> Entry:
        """Write a record `{"kind": kind, **fields}` and return when it is on disk."""
        entry: dict[str, object] = {"kind": kind, **fields}
        text = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
        self._file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._file.flush()
        os.fsync(self._file.fileno())
        # What a later run will read, not what was passed (tuples become lists).
        self._entries.append(json.loads(text))
        return self._entries[-1]

    def select(self, kind: str, **fields: object) -> list[Entry]:
        """The records of this kind whose named fields are equal, oldest first."""
        return [
            entry
            for entry in self._entries
            if entry["kind"] == kind
            and all(entry.get(name) == value for name, value in fields.items())
        ]

    def latest(self, kind: str, **fields: object) -> Entry | None:
        """The newest of `select`, or None."""
        found = self.select(kind, **fields)
        return found[-1] if found else None

    def close(self) -> None:
        """Release the directory."""
        self._file.close()

    def _recover(self) -> list[Entry]:
        self._file.seek(0)
        content = self._file.read()
        entries: list[Entry] = []
        offset = 0
        for line in content.splitlines(keepends=True):
            entry = _decode(line)
            if entry is None:
                if offset + len(line) < len(content):
                    self._file.close()
                    raise JournalError(
                        f"{self._path} is damaged at byte {offset} (line "
                        f"{len(entries) + 1}): its checksum does not match; restore "
                        "the file from a backup, or start in a new directory"
                    )
                self._file.truncate(offset)
                break
            entries.append(entry)
            offset += len(line)
        self._file.seek(0, os.SEEK_END)
        return entries


def _decode(line: bytes) -> Entry | None:
    """The record of one line, or None if the line is torn or damaged."""
    checksum, _, text = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    entry: Entry = json.loads(text)
    return entry


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
