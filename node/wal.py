r"""The write-ahead log: what consensus was told about a height, before it acts on it.

One file for each height, `<height>.log` in a directory of its own:

    file   = "lockstep/wal/v1\n" || uint64 height || record*
    record = uint32 length || uint32 crc32(payload) || payload

Numbers are big-endian. A record is handed to the operating system before it is acted
on, so a killed process loses nothing; `sync` makes it survive power loss, and is called
before anything that we signed leaves. After a crash the last record may be torn: it is
cut off, since nothing that followed from it can have left. Damage before the last
record is an error, because a log that lost its middle could make us contradict
ourselves. Once a height is committed its file serves nobody, and the files of the last
few heights are kept for people.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import structlog

from node.errors import WalError
from node.files import PRIVATE, PRIVATE_DIRECTORY, sync_directory

MAGIC = b"lockstep/wal/v1\n"
MAX_RECORD_BYTES = 16 << 20
KEPT_HEIGHTS = 4
_HEAD_BYTES = len(MAGIC) + 8
_RECORD_HEAD = 8

_log = structlog.get_logger("node.wal")


class WriteAheadLog:
    """The logs of one node; `open` begins or continues a height."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, made if needed."""
        self._directory = directory
        directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        self._descriptor: int | None = None

    def open(self, height: int) -> list[bytes]:
        """Log for this height from now on; what is there already is returned.

        Raises:
            WalError: damaged before its end, of another version, or unwritable.
        """
        self.close()
        path = self._path(height)
        try:
            records = self._existing(path, height)
            if records is None:
                self._create(path, height)
                records = []
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._forget_before(height - KEPT_HEIGHTS)
        except OSError as error:
            raise WalError(f"{path}: {error}") from error
        return records

    def append(self, record: bytes) -> None:
        """Hand a record to the operating system.

        Raises:
            WalError: no height is open, the record is too large, or the disk refuses.
        """
        descriptor = self._opened()
        if not 0 < len(record) <= MAX_RECORD_BYTES:
            raise WalError(
                f"record: expected 1..{MAX_RECORD_BYTES} bytes, got {len(record)}"
            )
        head = len(record).to_bytes(4) + zlib.crc32(record).to_bytes(4)
        left = memoryview(head + record)
        start = os.fstat(descriptor).st_size
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError as error:
            # What is half there would be taken for a torn end, or hide what follows.
            os.ftruncate(descriptor, start)
            raise WalError(f"write-ahead log: {error}") from error

    def sync(self) -> None:
        """Make everything appended survive power loss.

        Raises:
            WalError: no height is open, or the disk refuses.
        """
        try:
            os.fdatasync(self._opened())
        except OSError as error:
            raise WalError(f"write-ahead log: {error}") from error

    def close(self) -> None:
        """Stop logging; `open` starts again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            raise WalError("no height is open")
        return self._descriptor

    def _path(self, height: int) -> Path:
        return self._directory / f"{height:020}.log"

    def _create(self, path: Path, height: int) -> None:
        temporary = path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(os.open(temporary, flags, PRIVATE), "wb") as stream:  # noqa: PTH123 - a descriptor
            stream.write(MAGIC + height.to_bytes(8))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_directory(self._directory)

    def _existing(self, path: Path, height: int) -> list[bytes] | None:
        """The records in a file, its torn end cut off; None when there is no file."""
        if not path.exists():
            return None
        data = path.read_bytes()
        if data[:_HEAD_BYTES] != MAGIC + height.to_bytes(8):
            raise WalError(
                f"{path} is no write-ahead log of height {height} that this program "
                "reads; move it away if the last-sign-state is intact"
            )
        records, end = _read(data, path)
        if end < len(data):
            _log.warning(
                "cut off the torn end of the log", file=str(path), at=end, of=len(data)
            )
            with path.open("r+b") as stream:
                stream.truncate(end)
                os.fsync(stream.fileno())
        return records

    def _forget_before(self, height: int) -> None:
        for path in self._logs():
            if int(path.stem) < height:
                path.unlink()

    def _logs(self) -> Iterator[Path]:
        for path in sorted(self._directory.glob("*.log")):
            if path.stem.isdecimal():
                yield path


def _read(data: bytes, path: Path) -> tuple[list[bytes], int]:
    """Whole records, and where they end.

    Raises:
        WalError: a damaged record that is not the last one.
    """
    records: list[bytes] = []
    start = _HEAD_BYTES
    while start + _RECORD_HEAD <= len(data):
        length = int.from_bytes(data[start : start + 4])
        checksum = int.from_bytes(data[start + 4 : start + 8])
        end = start + _RECORD_HEAD + length
        payload = data[start + _RECORD_HEAD : end]
        if end > len(data) or not length:
            break
        if zlib.crc32(payload) != checksum:
            if end == len(data):
                break
            raise WalError(
                f"{path}: the record at byte {start} is damaged and others follow it; "
                "restore the file from a backup of this very moment, or move it away "
                "if the last-sign-state is intact"
            )
        records.append(payload)
        start = end
    return records, start
