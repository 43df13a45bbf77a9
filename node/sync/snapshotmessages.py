"""Snapshots on the wire: one byte for the kind, then an RLP list.

    1  offers   [manifest, ...]
    2  fetch    [root, index]
    3  chunk    [root, index, chunk, [hash, ...]]
    4  absent   [root, index]

Offers are sent when two nodes meet and when they changed. Fetches of one peer are
answered in order.
"""

from dataclasses import dataclass
from typing import ClassVar

from chain import rlp
from chain.errors import Malformed
from node.sync.merkle import HASH_BYTES, MAX_PROOF
from node.sync.snapshots import MAX_CHUNK_BYTES, MAX_CHUNKS, Manifest

MAX_OFFERS = 8
MAX_MESSAGE_BYTES = MAX_CHUNK_BYTES + MAX_PROOF * (HASH_BYTES + 1) + 128


class MalformedSnapshotMessage(Malformed):
    """Bytes that are no message about snapshots."""


@dataclass(frozen=True, slots=True)
class Offers:
    """Snapshots that are served here."""

    KIND: ClassVar[int] = 1
    manifests: tuple[Manifest, ...]

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [each.encode() for each in self.manifests]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Offers":
        """Read the decoded list."""
        if len(items) > MAX_OFFERS:
            raise MalformedSnapshotMessage(f"{len(items)} offers, at most {MAX_OFFERS}")
        return cls(tuple(Manifest.decode(rlp.as_bytes(each)) for each in items))


@dataclass(frozen=True, slots=True)
class Fetch:
    """Send me chunk `index` of the snapshot with this root."""

    KIND: ClassVar[int] = 2
    root: bytes
    index: int

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [self.root, rlp.encode_uint(self.index)]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Fetch":
        """Read the decoded list."""
        return cls(*_place(rlp.as_list(items, 2)))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk with its proof."""

    KIND: ClassVar[int] = 3
    root: bytes
    index: int
    content: bytes
    proof: tuple[bytes, ...]

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        index = rlp.encode_uint(self.index)
        return [self.root, index, self.content, list(self.proof)]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Chunk":
        """Read the decoded list."""
        *place, content, proof = rlp.as_list(items, 4)
        hashes = rlp.as_list(proof)
        if len(hashes) > MAX_PROOF:
            raise MalformedSnapshotMessage(f"a proof of {len(hashes)} hashes")
        data = rlp.as_bytes(content)
        if not 0 < len(data) <= MAX_CHUNK_BYTES:
            raise MalformedSnapshotMessage(f"a chunk of {len(data)} bytes")
        path = tuple(rlp.as_bytes(each, HASH_BYTES) for each in hashes)
        return cls(*_place(place), data, path)


@dataclass(frozen=True, slots=True)
class Absent:
    """The chunk is not served here, or no longer."""

    KIND: ClassVar[int] = 4
    root: bytes
    index: int

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [self.root, rlp.encode_uint(self.index)]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Absent":
        """Read the decoded list."""
        return cls(*_place(rlp.as_list(items, 2)))


SnapshotMessage = Offers | Fetch | Chunk | Absent

_KINDS: dict[int, type[SnapshotMessage]] = {
    each.KIND: each for each in (Offers, Fetch, Chunk, Absent)
}


def encode(message: SnapshotMessage) -> bytes:
    """The bytes of a message."""
    return bytes((message.KIND,)) + rlp.encode(message.items())


def decode(data: bytes) -> SnapshotMessage:
    """Read `encode`'s output.

    Raises:
        Malformed: anything else.
    """
    kind = _KINDS.get(data[0]) if data else None
    if kind is None:
        raise MalformedSnapshotMessage(f"unknown kind {data[:1].hex() or 'of nothing'}")
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedSnapshotMessage(
            f"{len(data)} bytes, at most {MAX_MESSAGE_BYTES} are possible"
        )
    return kind.from_items(rlp.decode_list(data[1:], max_items=MAX_PROOF + 8))


def _place(items: list[rlp.Decoded]) -> tuple[bytes, int]:
    index = rlp.as_uint(items[1], 32)
    if index >= MAX_CHUNKS:
        raise MalformedSnapshotMessage(f"chunk {index}: at most {MAX_CHUNKS} exist")
    return rlp.as_bytes(items[0], HASH_BYTES), index
