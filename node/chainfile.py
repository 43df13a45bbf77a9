"""Chain files: a whole chain in one file (docs/spec/chain-file.md).

Reading is strict and bounded: lengths are checked before bytes are read, and any
deviation raises `ChainFileError` with the offset at which it was found.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from chain import rlp
from chain.block import Block
from chain.errors import Malformed
from chain.sidecar import CommitCertificate
from node.errors import ChainFileError

MAGIC: Final = b"LOCKSTEP"
VERSION: Final = 1
MAX_SPEC_BYTES: Final = 4 << 20
MAX_RECORD_BYTES: Final = 32 << 20
MAX_RECEIPTS: Final = 65_536
_RECORD: Final = 1
_END: Final = 0
_END_BYTES: Final = 40


@dataclass(frozen=True, slots=True)
class Record:
    """One committed block as a node stores it.

    Attributes:
        block: With its sidecar.
        receipts: Encoded as in the receipts trie.
        certificate: The votes for this very block; None only for block 0.
        steps: Interpreter steps.
    """

    block: Block
    receipts: tuple[bytes, ...]
    certificate: CommitCertificate | None
    steps: int

    def encode(self) -> bytes:
        """The payload of a record."""
        certificate = self.certificate
        return rlp.encode(
            [
                self.block.encode(),
                list(self.receipts),
                b"" if certificate is None else certificate.encode(),
                rlp.encode_uint(self.steps),
            ]
        )

    @classmethod
    def decode(cls, payload: bytes) -> "Record":
        """Read `encode`'s output.

        Raises:
            Malformed: anything else.
        """
        block, receipts, certificate, steps = rlp.decode_list(
            payload, length=4, max_items=MAX_RECEIPTS + 5
        )
        voted = rlp.as_bytes(certificate)
        return cls(
            block=Block.decode(rlp.as_bytes(block)),
            receipts=tuple(rlp.as_bytes(each) for each in rlp.as_list(receipts)),
            certificate=CommitCertificate.decode(voted) if voted else None,
            steps=rlp.as_uint(steps, 64),
        )


def write_chain_file(
    stream: BinaryIO, specification: bytes, records: Iterable[Record]
) -> int:
    """Write a chain file; returns the number of records.

    Raises:
        ChainFileError: something exceeds the bounds that a reader enforces.
    """
    digest = hashlib.sha256()

    def put(part: bytes) -> None:
        digest.update(part)
        stream.write(part)

    if len(specification) > MAX_SPEC_BYTES:
        raise ChainFileError(
            f"specification of {len(specification)} bytes, at most {MAX_SPEC_BYTES}"
        )
    put(MAGIC + VERSION.to_bytes(2) + len(specification).to_bytes(4) + specification)
    count = 0
    for record in records:
        payload = record.encode()
        if len(payload) > MAX_RECORD_BYTES:
            raise ChainFileError(
                f"block {record.block.number}: {len(payload)} bytes, "
                f"at most {MAX_RECORD_BYTES}"
            )
        put(bytes((_RECORD,)) + len(payload).to_bytes(4) + payload)
        count += 1
    end = bytes((_END,)) + _END_BYTES.to_bytes(4)
    stream.write(end + count.to_bytes(8) + digest.digest())
    return count


class ChainFileReader:
    """Reads a chain file front to back.

    Attributes:
        specification: The bytes of the chain specification.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """Read the head of the file.

        Raises:
            ChainFileError: no chain file, or of another version.
        """
        self._stream = stream
        self._offset = 0
        self._digest = hashlib.sha256()
        head = self._take(14, "head")
        if head[:8] != MAGIC:
            raise ChainFileError(
                f"not a chain file: expected magic {MAGIC!r}, got {head[:8]!r}"
            )
        version = int.from_bytes(head[8:10])
        if version != VERSION:
            raise ChainFileError(
                f"chain file of version {version}, this program reads {VERSION}"
            )
        length = self._bounded(head[10:], MAX_SPEC_BYTES, "specification")
        self.specification = self._take(length, "specification")

    def records(self) -> Iterator[Record]:
        """Every record in order, then the checks at the end.

        Raises:
            ChainFileError: malformed, cut off, or its digest does not fit.
        """
        height = 0
        while True:
            start = self._offset
            so_far = self._digest.digest()
            head = self._take(5, f"record of block {height}")
            if head[0] == _END:
                self._check_end(head[1:], height, so_far)
                return
            if head[0] != _RECORD:
                raise ChainFileError(f"byte {start}: unknown tag {head[0]}")
            length = self._bounded(head[1:], MAX_RECORD_BYTES, f"block {height}")
            payload = self._take(length, f"block {height}")
            try:
                record = Record.decode(payload)
            except Malformed as error:
                raise ChainFileError(
                    f"byte {start}: block {height}: {error}"
                ) from error
            if record.block.number != height:
                raise ChainFileError(
                    f"byte {start}: expected block {height}, got {record.block.number}"
                )
            yield record
            height += 1

    def _check_end(self, length: bytes, count: int, digest: bytes) -> None:
        start = self._offset
        if int.from_bytes(length) != _END_BYTES:
            raise ChainFileError(f"byte {start}: the end must have {_END_BYTES} bytes")
        end = self._take(_END_BYTES, "end")
        if int.from_bytes(end[:8]) != count:
            raise ChainFileError(
                f"byte {start}: the file announces {int.from_bytes(end[:8])} "
                f"blocks and holds {count}"
            )
        if end[8:] != digest:
            raise ChainFileError(
                f"byte {start}: digest: expected {digest.hex()}, got {end[8:].hex()}"
            )
        if self._stream.read(1):
            raise ChainFileError(f"byte {self._offset}: bytes after the end")

    def _bounded(self, length: bytes, most: int, what: str) -> int:
        size = int.from_bytes(length)
        if size > most:
            raise ChainFileError(
                f"byte {self._offset}: {what} of {size} bytes, at most {most}"
            )
        return size

    def _take(self, size: int, what: str) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise ChainFileError(
                f"byte {self._offset}: the file is cut off inside the {what}: "
                f"expected {size} bytes, got {len(data)}"
            )
        self._offset += size
        self._digest.update(data)
        return data
