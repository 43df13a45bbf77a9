r"""The write-ahead log: what consensus was told, written down before it acts on it.

The format is docs/spec/wal.md: records in segment files, each with a checksum that
binds it to its place, and marks where a height ended. What this module promises:

- `append` hands a record to the operating system: a killed process loses nothing.
- `sync` makes everything that was appended survive power loss. It is called before
  anything that we signed leaves, so what others saw of us can be replayed.
- After power loss the log is a prefix of what was appended, and holds all that was
  synced. A torn end is cut off with a warning.
- Damage to what was once synced, where that can be told, is an error: a log that lost
  its middle could make us forget a lock.
- An error of the disk leaves the log as it was before the call. When not even that is
  possible, or when syncing failed, the log takes nothing more.

Every record says how much of its segment was on the disk when it was written. So a hole
before a good record is a crash's if the record doesn't vouch for the place of the hole,
and a damaged disk's if it does.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from node.disk import SYSTEM, Disk, write_all
from node.errors import WalError

MAGIC = b"lockstep/wal/v1\n"
MARKER = b"\xf5wal"
MAX_RECORD_BYTES = 16 << 20
SEGMENT_BYTES = 16 << 20
KEPT_HEIGHTS = 4
SEGMENT_HEAD = len(MAGIC) + 8 + 8 + 8
RECORD_HEAD = len(MARKER) + 4 + 4 + 1 + 8
_MAX_FILE_BYTES = 1 << 30
_INPUT, _ENDED = 1, 2

_log = structlog.get_logger("node.wal")


@dataclass(frozen=True, slots=True)
class _Record:
    kind: int
    payload: bytes
    synced: int  # bytes of the segment that were on the disk before
    end: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """One file. `ended` is the height whose mark was the last one before it."""

    number: int
    ended: int


class WriteAheadLog:
    """The log of one node, in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk = SYSTEM,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Open the log, made if needed, and cut off what a crash left at its end.

        Args:
            directory: For the log alone; one process at a time.
            disk: The file system.
            segment_bytes: A segment that is larger gets no further records.

        Raises:
            WalError: it is damaged, of another version, or the disk refuses.
        """
        self._directory = directory
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._descriptor: int | None = None
        self._why_shut = "the write-ahead log is closed"
        self._size = self._synced = 0
        self._ended = 0
        self._followed = False  # whether records follow the last mark
        try:
            disk.make_directory(directory)
            self._segments = [self._head(each) for each in self._numbers()]
            self._recover()
        except OSError as error:
            self.close()
            raise WalError(f"{directory}: {error}") from error

    @property
    def ended(self) -> int:
        """The last height that was marked as ended; 0 in a new log."""
        return self._ended

    def open(self, height: int) -> list[bytes]:
        """Log for this height from now on; what was logged for it is returned.

        Raises:
            WalError: as `records_after` and `end_height`.
        """
        records = self.records_after(height - 1)
        if self._ended != height - 1:
            self.end_height(height - 1)
        return records

    def records_after(self, height: int) -> list[bytes]:
        """The records since the mark of `height`, if that is the last mark.

        Raises:
            WalError: the log is closed, or cannot be read.
        """
        self._opened()
        if height != self._ended or not self._followed:
            return []
        try:
            return self._since_mark()
        except OSError as error:
            raise WalError(f"{self._directory}: {error}") from error

    def append(self, record: bytes) -> None:
        """Hand a record to the operating system.

        Raises:
            WalError: the record is empty or too large, the log is closed, or the disk
                refuses; then the record is not in the log.
        """
        if not 0 < len(record) <= MAX_RECORD_BYTES:
            raise WalError(
                f"record: expected 1..{MAX_RECORD_BYTES} bytes, got {len(record)}"
            )
        self._write(_INPUT, record)
        self._followed = True

    def end_height(self, height: int) -> None:
        """Mark that a height is committed: its records serve no restart any more.

        Segments that hold only heights up to `height - KEPT_HEIGHTS` are removed. The
        mark itself need not be synced: the database knows the height.

        Raises:
            WalError: the log is closed, or the disk refuses.
        """
        if height < self._ended:
            _log.warning(
                "the log is ahead of the database; its end is not replayed",
                logged=self._ended,
                committed=height,
            )
        self._write(_ENDED, height.to_bytes(8))
        self._ended, self._followed = height, False
        try:
            self._drop_until(height - KEPT_HEIGHTS)
        except OSError as error:
            raise WalError(f"{self._directory}: {error}") from error

    def sync(self) -> None:
        """Make everything appended survive power loss.

        Raises:
            WalError: the log is closed, or the disk refuses. In that case nobody knows
                what is on the disk, and the log takes nothing more.
        """
        descriptor = self._opened()
        if self._synced == self._size:
            return
        try:
            self._disk.sync(descriptor)
        except OSError as error:
            self._shut(f"{self._path()}: could not be synced: {error}")
            raise WalError(
                f"{self._why_shut}; look after the disk, then start again"
            ) from error
        self._synced = self._size

    def close(self) -> None:
        """Take nothing more; a new object opens the log again."""
        self._shut("the write-ahead log is closed")

    # -- writing -----------------------------------------------------------------

    def _opened(self) -> int:
        if self._descriptor is None:
            raise WalError(self._why_shut)
        return self._descriptor

    def _shut(self, why: str) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._why_shut = why
            with suppress(OSError):  # what had to be written was synced
                self._disk.close(descriptor)

    def _write(self, kind: int, payload: bytes) -> None:
        self._opened()
        start = self._size
        if start > SEGMENT_HEAD and start + len(payload) > self._segment_bytes:
            self._rotate()
        descriptor, start = self._opened(), self._size
        number = self._segments[-1].number
        data = encode_record(number, start, self._synced, kind, payload)
        try:
            write_all(self._disk, descriptor, data)
        except OSError as error:
            self._undo(descriptor, start)
            raise self._refused(error) from error
        self._size += len(data)

    def _undo(self, descriptor: int, start: int) -> None:
        """Cut off a half-written record, which would hide what follows it."""
        try:
            self._disk.truncate(descriptor, start)
        except OSError as error:
            self._shut(
                f"{self._path()}: a record was written in part and cannot be cut off: "
                f"{error}; look after the disk, then start again"
            )

    def _rotate(self) -> None:
        """Go on in a new segment; all before it is on the disk then."""
        self.sync()
        try:
            self._begin(self._segments[-1].number + 1)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> WalError:
        if self._descriptor is None:
            return WalError(self._why_shut)
        return WalError(f"{self._path()}: {error}; nothing was logged")

    def _begin(self, number: int) -> None:
        """Start a segment.

        The one before it must not grow once this one may be found after a crash.
        """
        disk, path = self._disk, self._path(number)
        temporary = path.with_suffix(".new")
        head = encode_head(number, self._ended)
        descriptor = disk.create(temporary)
        try:
            write_all(disk, descriptor, head)
            disk.sync(descriptor)
            disk.rename(temporary, path)
        except OSError:
            disk.close(descriptor)
            with suppress(OSError):  # the first error says what is wrong
                disk.remove(temporary)
            raise
        try:
            disk.sync_directory(self._directory)
        except OSError as error:
            disk.close(descriptor)
            self._shut(
                f"{path}: its name could not be synced: {error}; look after the disk, "
                "then start again"
            )
            raise
        self._shut("")
        self._descriptor = descriptor
        self._segments.append(_Segment(number, self._ended))
        self._size = self._synced = len(head)

    def _drop_until(self, height: int) -> None:
        while len(self._segments) > 1 and self._segments[1].ended <= height:
            self._disk.remove(self._path(self._segments[0].number))
            del self._segments[0]

    # -- reading -----------------------------------------------------------------

    def _path(self, number: int | None = None) -> Path:
        if number is None:
            number = self._segments[-1].number
        return self._directory / f"{number:020}.wal"

    def _numbers(self) -> list[int]:
        """Numbers of the segments that are here.

        Raises:
            WalError: one in the middle is missing.
        """
        found: list[int] = []
        for name in self._disk.names(self._directory):
            stem, _, suffix = name.partition(".")
            if suffix == "new":
                self._disk.remove(self._directory / name)
            elif suffix == "wal" and stem.isdecimal():
                found.append(int(stem))
        if found and found != list(range(found[0], found[-1] + 1)):
            raise WalError(
                f"{self._directory} holds segments {found}: one is missing. {_ADVICE}"
            )
        return found

    def _head(self, number: int) -> _Segment:
        path = self._path(number)
        head = self._disk.read(path, SEGMENT_HEAD)
        ended = int.from_bytes(head[-16:-8])
        if head != encode_head(number, ended):
            raise WalError(
                f"{path} does not begin as segment {number} of a write-ahead log that "
                f"this program reads. {_ADVICE}"
            )
        return _Segment(number, ended)

    def _recover(self) -> None:
        """Find the end of the log, cut off what a crash left, and go on there."""
        if not self._segments:
            self._begin(1)
            self._disk.sync_directory(self._directory.parent)
            return
        # Whoever made the last segment may have died before its name was on the disk.
        for directory in (self._directory, self._directory.parent):
            self._disk.sync_directory(directory)
        last = self._segments[-1]
        records, end, size = self._parsed(last)
        marks = [each.payload for each in records if each.kind == _ENDED]
        self._ended = int.from_bytes(marks[-1]) if marks else last.ended
        if records:
            self._followed = records[-1].kind == _INPUT
        else:  # to be read from the segments before it
            self._followed = len(self._segments) > 1
        path = self._path()
        descriptor = self._descriptor = self._disk.extend(path)
        if end < size:
            _log.warning("cut off the end of the log", file=str(path), at=end, of=size)
            self._disk.truncate(descriptor, end)
        # What is replayed must not be lost later, when what followed from it has left.
        self._disk.sync(descriptor)
        self._size = self._synced = end

    def _since_mark(self) -> list[bytes]:
        """Payloads after the last mark, from as many segments as they fill."""
        found: list[bytes] = []
        for segment in reversed(self._segments):
            records, _, _ = self._parsed(segment)
            marks = [i for i, each in enumerate(records) if each.kind == _ENDED]
            tail = records[marks[-1] + 1 :] if marks else records
            found[:0] = [each.payload for each in tail]
            if marks:
                break
        return found

    def _parsed(self, segment: _Segment) -> tuple[list[_Record], int, int]:
        """Whole records of a segment, where they end, and the size of the file.

        Raises:
            WalError: damage that no crash explains.
        """
        path = self._path(segment.number)
        data = self._disk.read(path, _MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise WalError(f"{path} is larger than any segment. {_ADVICE}")
        records = list(_records(segment.number, data, SEGMENT_HEAD))
        end = records[-1].end if records else SEGMENT_HEAD
        if end < len(data):
            later = _found_after(segment.number, data, end)
            is_last = segment is self._segments[-1]
            if not is_last or any(each.synced > end for each in later):
                raise WalError(
                    f"{path} is damaged at byte {end}, in what was on the disk "
                    f"already. {_ADVICE}"
                )
        return records, end, len(data)


_ADVICE = (
    "The log is what keeps this validator's lock after a restart. Look after the disk; "
    "then restore the directory as it was at this very moment, or move it away and let "
    "the node follow without its validator's key until the chain has passed this height"
)


def encode_head(number: int, ended: int) -> bytes:
    """The beginning of a segment."""
    head = MAGIC + number.to_bytes(8) + ended.to_bytes(8)
    return head + _checksum(head)


def encode_record(
    segment: int, offset: int, synced: int, kind: int, payload: bytes
) -> bytes:
    """A record as it stands at `offset` of that segment."""
    fields = len(payload).to_bytes(4) + synced.to_bytes(4) + bytes((kind,))
    checksum = _checksum(segment.to_bytes(8), offset.to_bytes(8), fields, payload)
    return b"".join((MARKER, fields, checksum, payload))


def _checksum(*parts: bytes) -> bytes:
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        state.update(part)
    return state.digest()


def _records(segment: int, data: bytes, start: int) -> Iterator[_Record]:
    """Good records, one after the other, until one is not."""
    while (record := _record(segment, data, start)) is not None:
        yield record
        start = record.end


def _found_after(segment: int, data: bytes, start: int) -> Iterator[_Record]:
    """Good records anywhere after a bad one; by its checksum each is in its place."""
    while (start := data.find(MARKER, start + 1)) >= 0:
        record = _record(segment, data, start)
        if record is not None:
            yield record


def _record(segment: int, data: bytes, start: int) -> _Record | None:
    head = data[start : start + RECORD_HEAD]
    if len(head) < RECORD_HEAD or head[:4] != MARKER:
        return None
    length, synced = int.from_bytes(head[4:8]), int.from_bytes(head[8:12])
    end = start + RECORD_HEAD + length
    if end > len(data):
        return None
    payload = data[start + RECORD_HEAD : end]
    if encode_record(segment, start, synced, head[12], payload) != data[start:end]:
        return None
    return _Record(head[12], payload, synced, end)
