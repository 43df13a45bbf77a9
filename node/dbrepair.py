"""A database whose last write was under way when the power failed.

LevelDB opens a log that ends short, and refuses one whose end is there but wrong: a
size that the file system had made known, and bytes that it had not yet written (ext4
then reads zeros). What was acknowledged is on the disk before the next batch begins, so
what is lost by cutting off the last one was not. Damage that whole batches follow, or
in another file, is an error: who knows what it was. Also where LevelDB would say
nothing: it takes a length that points past the end for the end of the log, and leaves
out the rest of a block where a record's head is zeros.

LevelDB's own ways out lose more: docs/adr/0012-cutting-a-torn-batch.md.

The format is google/leveldb's doc/log_format.md: blocks of 32 KiB, in them records of
`crc32c (masked) || uint16 length || type || data`, little-endian; a batch is one record
of type FULL, or FIRST, MIDDLE ... LAST, and begins with its uint64 sequence number.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from chain.errors import StoreCorrupt
from chain.store import Store
from node.disk import SYSTEM, Disk

_BLOCK: Final = 32_768
_HEAD: Final = 7
_SEQUENCE: Final = 8
_FULL, _FIRST, _LAST = 1, 2, 4
_MASK_DELTA: Final = 0xA282EAD8
_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli, reflected
_MAX_LOG_BYTES: Final = 1 << 30

_log = structlog.get_logger("node.database")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A good record: where it is and where it ends."""

    kind: int
    start: int
    end: int


def open_store(directory: Path) -> Store:
    """Open, or create, a database; without what was under way when the power failed.

    Raises:
        StoreError: as `Store.open`.
        OSError: the disk refuses the repair.
    """
    _refuse_skipped_batches(directory)
    try:
        return Store.open(directory)
    except StoreCorrupt:
        if not cut_torn_batch(directory):
            raise
    return Store.open(directory)


def cut_torn_batch(directory: Path, *, disk: Disk = SYSTEM) -> bool:
    """Cut the last batch off the newest log, if it is damaged and nothing follows it.

    Args:
        directory: Of the database, which nobody has open.
        disk: The file system.

    Returns:
        Whether something was cut off; if not, the damage is of another kind.

    Raises:
        OSError: the disk refuses.
    """
    logs = _logs(directory, disk)
    if not logs:
        return False
    path = logs[-1]
    data = disk.read(path, _MAX_LOG_BYTES)
    end, bad = _whole(data)
    if bad is None or len(data) == _MAX_LOG_BYTES or _begins_batch_after(data, bad):
        return False
    _log.warning(
        "cut a torn batch off the database's log",
        file=str(path),
        at=end,
        of=len(data),
    )
    descriptor = disk.extend(path)
    try:
        disk.truncate(descriptor, end)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    return True


def _refuse_skipped_batches(directory: Path) -> None:
    """Raise `StoreCorrupt` where LevelDB would leave out whole batches in silence."""
    try:
        logs = _logs(directory, SYSTEM)
    except OSError:  # there is none yet, or `Store.open` says why not
        return
    for path in logs:
        try:
            data = SYSTEM.read(path, _MAX_LOG_BYTES)
        except OSError:  # `Store.open` says why, or whose it is
            continue
        place = _skipped(data)
        if place is not None and _begins_batch_after(data, place):
            raise StoreCorrupt(
                f"{path}: the database's log is damaged at byte {place}, and whole "
                "batches follow; restore a copy or sync again into an empty directory"
            )


def _logs(directory: Path, disk: Disk) -> list[Path]:
    """The write-ahead logs, oldest first."""
    names = [each[:-4] for each in disk.names(directory) if each.endswith(".log")]
    numbered = sorted((name for name in names if name.isdecimal()), key=int)
    return [directory / f"{name}.log" for name in numbered]


def _skipped(data: bytes) -> int | None:
    """Where LevelDB stops reading, or leaves out a block's rest, without an error.

    By the lengths alone: what doesn't match its checksum, LevelDB refuses itself.
    """
    start = 0
    while start + _HEAD <= len(data):
        length = int.from_bytes(data[start + 4 : start + 6], "little")
        end = start + _HEAD + length
        if end > len(data) or (data[start + 6] == 0 and length == 0):
            return start
        if start // _BLOCK != (end - 1) // _BLOCK:
            return None
        start = _after(end)
    return None


def _whole(data: bytes) -> tuple[int, int | None]:
    """Where the last whole batch ends, and the first bad record is, if there is one."""
    end = start = 0
    while start + _HEAD <= len(data):
        piece = _piece(data, start)
        if piece is None:
            return end, start
        if piece.kind in (_FULL, _LAST):
            end = piece.end
        start = _after(piece.end)
    return end, None


def _begins_batch_after(data: bytes, bad: int) -> bool:
    """Whether a good record after a bad one begins another batch."""
    for start in range(bad + 1, len(data) - _HEAD - _SEQUENCE + 1):
        # What rules out nearly all places before a checksum is computed: the type, and
        # that a batch begins with its sequence number, far below 2^48.
        body = start + _HEAD
        if data[body - 1] in (_FULL, _FIRST) and not any(data[body + 6 : body + 8]):
            piece = _piece(data, start)
            if piece is not None and piece.end > body:
                return True
    return False


def _after(end: int) -> int:
    """Where the next record begins: too short an end of a block is left empty."""
    left = _BLOCK - end % _BLOCK
    return end + left if left < _HEAD else end


def _piece(data: bytes, start: int) -> _Piece | None:
    stored = int.from_bytes(data[start : start + 4], "little")
    length = int.from_bytes(data[start + 4 : start + 6], "little")
    kind, end = data[start + 6], start + _HEAD + length
    if not _FULL <= kind <= _LAST or end > len(data):
        return None
    if start // _BLOCK != (end - 1) // _BLOCK:
        return None
    if _masked(crc32c(data[start + 6 : end])) != stored:
        return None
    return _Piece(kind, start, end)


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    found: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        found.append(crc)
    return tuple(found)


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC (RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
