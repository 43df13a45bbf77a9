"""Block sync on the wire: one byte for the kind, then an RLP list.

    1  status        [base, head]
    2  request       [first, count]
    3  block         [height, block, certificate]
    4  large block   [height, size, root of parts, certificate]
    5  part          [height, index, count, piece, [hash, ...]]
    6  end           [first, served]

Status tells which whole blocks a node has, and is sent again when they change. A
request is answered by blocks of ascending heights, each as message 3 or, when its
encoding exceeds 64 KiB, as message 4 and all its parts in order; then by the end, which
says how many blocks there were: fewer when the answer grew too long, none when the
first is not here. Requests of one peer are answered one after the other.
"""

from dataclasses import dataclass
from typing import ClassVar

from chain import rlp
from chain.block import MAX_BLOCK_BYTES
from chain.errors import Malformed
from chain.sidecar import MAX_SIGNATURES
from consensus.parts import MAX_PARTS, PART_BYTES, Part

HASH_BYTES = 32
MAX_PROOF = 8
# Address, time and signature with their prefixes, and what stands before them.
MAX_CERTIFICATE_BYTES = MAX_SIGNATURES * 100 + 100
MAX_MESSAGE_BYTES = PART_BYTES + MAX_CERTIFICATE_BYTES + 512
MAX_COUNT = 64
# No block follows in an answer that has as many bytes of blocks and certificates.
ANSWER_BYTES = 4 << 20


class MalformedSyncMessage(Malformed):
    """Bytes that are no message of block sync."""


@dataclass(frozen=True, slots=True)
class Status:
    """Whole blocks from `base` to `head` are here; none when `head` is below."""

    KIND: ClassVar[int] = 1
    base: int
    head: int

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [rlp.encode_uint(self.base), rlp.encode_uint(self.head)]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Status":
        """Read the decoded list."""
        base, head = _fields(items, 2)
        status = cls(rlp.as_uint(base, 64), rlp.as_uint(head, 64))
        if status.base == 0 or status.head + 1 < status.base:
            raise MalformedSyncMessage(
                f"status: blocks from {status.base} to {status.head}"
            )
        return status


@dataclass(frozen=True, slots=True)
class Request:
    """Send me `count` blocks from `first` on."""

    KIND: ClassVar[int] = 2
    first: int
    count: int

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [rlp.encode_uint(self.first), rlp.encode_uint(self.count)]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Request":
        """Read the decoded list."""
        first, count = _fields(items, 2)
        request = cls(rlp.as_uint(first, 64), rlp.as_uint(count, 64))
        if request.first == 0 or not 0 < request.count <= MAX_COUNT:
            raise MalformedSyncMessage(
                f"request of {request.count} blocks from {request.first}: "
                f"expected 1..{MAX_COUNT} from 1 on"
            )
        return request


@dataclass(frozen=True, slots=True)
class SmallBlock:
    """A block of at most 64 KiB and its certificate, both encoded."""

    KIND: ClassVar[int] = 3
    height: int
    block: bytes
    certificate: bytes

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [rlp.encode_uint(self.height), self.block, self.certificate]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "SmallBlock":
        """Read the decoded list."""
        height, block, certificate = _fields(items, 3)
        return cls(
            rlp.as_uint(height, 64),
            _sized(rlp.as_bytes(block), 1, PART_BYTES, "block"),
            _certificate(certificate),
        )


@dataclass(frozen=True, slots=True)
class LargeBlock:
    """A block whose parts follow."""

    KIND: ClassVar[int] = 4
    height: int
    size: int
    root: bytes
    certificate: bytes

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        height, size = rlp.encode_uint(self.height), rlp.encode_uint(self.size)
        return [height, size, self.root, self.certificate]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "LargeBlock":
        """Read the decoded list."""
        height, size, root, certificate = _fields(items, 4)
        length = rlp.as_uint(size, 64)
        if not PART_BYTES < length <= MAX_BLOCK_BYTES:
            raise MalformedSyncMessage(
                f"large block: expected {PART_BYTES + 1}..{MAX_BLOCK_BYTES} bytes, "
                f"got {length}"
            )
        return cls(
            rlp.as_uint(height, 64),
            length,
            rlp.as_bytes(root, HASH_BYTES),
            _certificate(certificate),
        )


@dataclass(frozen=True, slots=True)
class BlockPart:
    """One part of the large block that was announced last."""

    KIND: ClassVar[int] = 5
    height: int
    part: Part

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        part = self.part
        return [
            rlp.encode_uint(self.height),
            rlp.encode_uint(part.index),
            rlp.encode_uint(part.count),
            part.piece,
            list(part.proof),
        ]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "BlockPart":
        """Read the decoded list."""
        height, index, count, piece, proof = _fields(items, 5)
        hashes = rlp.as_list(proof)
        if len(hashes) > MAX_PROOF:
            raise MalformedSyncMessage(f"part: a proof of {len(hashes)} hashes")
        total = rlp.as_uint(count, 32)
        if total > MAX_PARTS:
            raise MalformedSyncMessage(f"part: {total} parts, at most {MAX_PARTS}")
        part = Part(
            rlp.as_uint(index, 32),
            total,
            _sized(rlp.as_bytes(piece), 1, PART_BYTES, "piece"),
            tuple(rlp.as_bytes(each, HASH_BYTES) for each in hashes),
        )
        return cls(rlp.as_uint(height, 64), part)


@dataclass(frozen=True, slots=True)
class End:
    """The request for blocks from `first` on was answered with `served` blocks."""

    KIND: ClassVar[int] = 6
    first: int
    served: int

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [rlp.encode_uint(self.first), rlp.encode_uint(self.served)]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "End":
        """Read the decoded list."""
        first, served = _fields(items, 2)
        return cls(rlp.as_uint(first, 64), rlp.as_uint(served, 64))


Message = Status | Request | SmallBlock | LargeBlock | BlockPart | End

_KINDS: dict[int, type[Message]] = {
    each.KIND: each
    for each in (Status, Request, SmallBlock, LargeBlock, BlockPart, End)
}


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    return bytes((message.KIND,)) + rlp.encode(message.items())


def decode(data: bytes) -> Message:
    """Read `encode`'s output.

    Raises:
        Malformed: anything else.
    """
    kind = _KINDS.get(data[0]) if data else None
    if kind is None:
        raise MalformedSyncMessage(f"unknown kind {data[:1].hex() or 'of nothing'}")
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedSyncMessage(
            f"{len(data)} bytes, at most {MAX_MESSAGE_BYTES} are possible"
        )
    return kind.from_items(rlp.decode_list(data[1:], max_items=MAX_PROOF + 8))


def _fields(items: list[rlp.Decoded], count: int) -> list[rlp.Decoded]:
    return rlp.as_list(items, count)


def _sized(value: bytes, least: int, most: int, what: str) -> bytes:
    if not least <= len(value) <= most:
        raise MalformedSyncMessage(
            f"{what}: expected {least}..{most} bytes, got {len(value)}"
        )
    return value


def _certificate(item: rlp.Decoded) -> bytes:
    return _sized(rlp.as_bytes(item), 1, MAX_CERTIFICATE_BYTES, "certificate")
