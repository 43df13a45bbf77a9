"""The journal of local transactions: what clients of this node sent survives a restart.

One file, `MAGIC` and then records:

    length   4 bytes, big-endian, of the transaction
    check    4 bytes, CRC-32 of the transaction
    transaction

Records are only appended. When the file is full it is written anew, in one atomic step,
with what still waits. A tail that was torn by a crash, or is damaged, is cut off with
all that follows it; nothing in a journal is trusted, everything is admitted again.

Appending does not wait for the disk: a power cut may lose the last seconds, which a
client notices as with any transaction that no block took. A journal that cannot be
written is told to the operator and costs no client its transaction.
"""

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

from chain.transaction import MAX_TRANSACTION_BYTES
from node.disk import PRIVATE
from node.errors import NodeError
from node.files import write_durably

MAGIC: Final = b"lockstep/pool/1\n"
DEFAULT_LIMIT: Final = 16 << 20
_HEAD: Final = 8

_log = structlog.get_logger("node.pool")


class PoolJournalError(NodeError):
    """The journal cannot be read, or is another kind of file."""


class PoolJournal:
    """One journal. Not thread-safe: one task owns it.

    Attributes:
        recovered: What the file held when it was opened, oldest first.
        lost: Bytes at its end that were cut off.
    """

    def __init__(self, path: Path, *, limit: int = DEFAULT_LIMIT) -> None:
        """Open or make the file, and read it.

        Args:
            path: Of the file; its directory exists.
            limit: Bytes that the file may have.

        Raises:
            PoolJournalError: unreadable, too large, or no journal.
        """
        self._path = path
        self._limit = limit
        self._descriptor = -1
        try:
            content = _read(path, limit)
            if content and not _is_journal(content):
                raise PoolJournalError(
                    f"{path} is no journal of transactions; move it away"
                )
            self.recovered, end = _records(content)
            self.lost = len(content) - end
            self._open(content[:end] or MAGIC, keep=end > 0)
        except OSError as error:
            raise PoolJournalError(f"cannot use {path}: {error}") from error
        if self.lost:
            _log.warning("journal of transactions had a torn tail", bytes=self.lost)

    def _open(self, content: bytes, *, keep: bool) -> None:
        if not keep:
            write_durably(self._path, content)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND, PRIVATE)
        os.ftruncate(self._descriptor, len(content))
        self.size = len(content)

    def fits(self, raw: bytes) -> bool:
        """Whether there is room to append that."""
        return self.size + _HEAD + len(raw) <= self._limit

    def append(self, raw: bytes) -> bool:
        """Add a transaction; tell whether it was written.

        It is not when there is no room: rotate first.
        """
        if self._descriptor < 0 or not self.fits(raw):
            return False
        record = _record(raw)
        try:
            written = os.write(self._descriptor, record)
        except OSError as error:
            _log.warning("transaction was not journalled", error=str(error))
            return False
        if written < len(record):
            _log.warning("transaction was not journalled", error="disk full")
            self._cut()
            return False
        self.size += len(record)
        return True

    def _cut(self) -> None:
        """Take back half a record; later ones would be lost behind it."""
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError as error:
            _log.warning("journal of transactions is closed", error=str(error))
            self.close()

    def rotate(self, waiting: Iterable[bytes]) -> None:
        """Write the file anew with these, oldest first, until it is half full.

        The other half is for what comes, so that rotations are rare.
        """
        content = bytearray(MAGIC)
        left_out = 0
        for raw in waiting:
            if len(content) + _HEAD + len(raw) <= self._limit // 2:
                content += _record(raw)
            else:
                left_out += 1
        if left_out:
            _log.warning(
                "too many local transactions for the journal", left_out=left_out
            )
        try:
            self.close()
            self._open(bytes(content), keep=False)
        except OSError as error:
            _log.warning("journal of transactions not rotated", error=str(error))

    def close(self) -> None:
        """Let go of the file; later transactions are not journalled."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _read(path: Path, limit: int) -> bytes:
    """The content, empty when there is no file."""
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except FileNotFoundError:
        return b""
    if len(content) > limit:
        raise PoolJournalError(f"{path} is larger than {limit} bytes")
    return content


def _is_journal(content: bytes) -> bool:
    """Whether it begins like one; a torn beginning counts."""
    return content.startswith(MAGIC) or MAGIC.startswith(content)


def _record(raw: bytes) -> bytes:
    return len(raw).to_bytes(4) + zlib.crc32(raw).to_bytes(4) + raw


def _records(content: bytes) -> tuple[Sequence[bytes], int]:
    """Whole records, and where the last one of them ends."""
    found: list[bytes] = []
    if not content.startswith(MAGIC):
        return found, 0
    position = len(MAGIC)
    while position + _HEAD <= len(content):
        length = int.from_bytes(content[position : position + 4])
        check = int.from_bytes(content[position + 4 : position + _HEAD])
        end = position + _HEAD + length
        raw = content[position + _HEAD : end]
        if length > MAX_TRANSACTION_BYTES or end > len(content):
            break
        if zlib.crc32(raw) != check:
            break
        found.append(raw)
        position = end
    return found, position
