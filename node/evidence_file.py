"""Evidence on the disk: what no block has punished yet survives a restart.

One file, `MAGIC || sha256(body) || body`, where body = rlp([evidence, ...]), oldest
first. It is written anew, in one atomic step, whenever a piece comes or goes: that is
rare, and the pool is small. Nothing in it is trusted: every piece is checked again when
it is read (`node.accusations`). A file that is damaged is set aside; one that can't be
written is told to the operator and stops nobody, as peers and the write-ahead log know
the same.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

from chain import rlp
from chain.crypto import sha256
from chain.errors import MalformedRLP
from consensus.errors import InvalidEvidence
from consensus.evidence import MAX_EVIDENCE_BYTES, Evidence
from node.disk import SYSTEM, Disk
from node.errors import DataDirectoryError
from node.files import write_durably

MAGIC: Final = b"lockstep/evidence/1\n"
MAX_EVIDENCE: Final = 256
_HEAD: Final = len(MAGIC) + 32
_RLP_HEAD: Final = 9  # the most that it puts before a string or a list
_MAX_BYTES: Final = _HEAD + _RLP_HEAD + MAX_EVIDENCE * (_RLP_HEAD + MAX_EVIDENCE_BYTES)

_log = structlog.get_logger("node.evidence")


class EvidenceFile:
    """One file; one task uses it."""

    def __init__(self, path: Path, *, disk: Disk = SYSTEM) -> None:
        """Name the file; nothing is read yet."""
        self._path = path
        self._disk = disk

    def load(self) -> Sequence[Evidence]:
        """What was stored last, oldest first; nothing if there is no whole file.

        Raises:
            DataDirectoryError: it cannot be read, or be set aside.
        """
        try:
            content = self._disk.read(self._path, _MAX_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise DataDirectoryError(f"cannot read {self._path}: {error}") from error
        try:
            return _decode(content)
        except (MalformedRLP, InvalidEvidence) as error:
            self._set_aside(str(error))
            return ()

    def _set_aside(self, why: str) -> None:
        aside = self._path.with_name(self._path.name + ".damaged")
        _log.warning("evidence is damaged and set aside", file=str(aside), reason=why)
        try:
            self._disk.rename(self._path, aside)
        except OSError as error:
            raise DataDirectoryError(
                f"{self._path} is damaged ({why}) and cannot be renamed: {error}"
            ) from error

    def store(self, waiting: Iterable[Evidence]) -> None:
        """Replace what is there."""
        body = rlp.encode([each.encode() for each in waiting])
        try:
            write_durably(self._path, MAGIC + sha256(body) + body, disk=self._disk)
        except OSError as error:
            _log.warning("evidence was not stored", error=str(error))


def _decode(content: bytes) -> Sequence[Evidence]:
    """The evidence in a file.

    Raises:
        InvalidEvidence: another kind of file, too large, or damaged.
        MalformedRLP: likewise.
    """
    body = content[_HEAD:]
    if content[:_HEAD] != MAGIC + sha256(body) or len(content) > _MAX_BYTES:
        raise InvalidEvidence(f"{len(content)} bytes that do not match their hash")
    return [Evidence.decode(rlp.as_bytes(each)) for each in rlp.decode_list(body)]
