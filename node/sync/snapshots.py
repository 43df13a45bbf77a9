"""Snapshots: what a node needs to go on from one height, in chunks (docs/spec/sync.md).

A snapshot of height n lets a node execute block n itself: it holds the state *before*
block n, the block with its certificate, older headers and the validator sets they name.
Everything follows from the hash of block n, which the operator trusts, by hashes, but
for the steps of the parent; executing block n shows whether these are right as well.

    record   one byte for its kind, then its content
      0x01   header, from n downwards
      0x02   piece of block n, 64 KiB or the rest
      0x03   certificate of block n
      0x04   validator set, where a header names it for the first time
      0x05   interpreter steps of block n - 1, 8 bytes
      0x06   node of a state or storage trie
      0x07   contract code
    chunk    rlp([record, ...]), closed as soon as its records have 128 KiB
    manifest rlp([version, height, block hash, history, chunks, root])

The chunks depend on nothing but the chain, so that many nodes serve the same ones, and
`root` (`node.sync.merkle`) lets each be checked alone when it comes. What decides is
the restorer, which knows of every record what it must be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chain import rlp
from chain.database import ChainDatabase
from chain.errors import Malformed, MalformedRLP, NotFound
from chain.header import Header
from consensus.parts import PART_BYTES
from node.sync.errors import BadSnapshotError, SyncError
from node.sync.walk import CODE, StateWalk

VERSION = 1
HEADER, PIECE, CERTIFICATE, SET, STEPS, NODE, CODES = range(1, 8)
CHUNK_BYTES = 128 << 10
MAX_RECORD_BYTES = 192 << 10
# A chunk is closed by the record that fills it; each record has a prefix.
MAX_CHUNK_BYTES = CHUNK_BYTES + MAX_RECORD_BYTES + (32 << 10)
MAX_CHUNKS = 1 << 22
MAX_MANIFEST_BYTES = 128
MIN_HISTORY = 256
MAX_HISTORY = 1 << 20


class MalformedManifest(Malformed):
    """Bytes that are no manifest."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is.

    Attributes:
        height: Of the block that is executed first.
        block_hash: Of that block.
        history: How many headers before it are there, if the chain is so long.
        chunks: How many.
        root: Of the tree over their hashes.
    """

    height: int
    block_hash: bytes
    history: int
    chunks: int
    root: bytes

    def encode(self) -> bytes:
        """Canonical bytes."""
        numbers = (VERSION, self.height, self.history, self.chunks)
        version, height, history, chunks = map(rlp.encode_uint, numbers)
        return rlp.encode(
            [version, height, self.block_hash, history, chunks, self.root]
        )

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """Read `encode`'s output.

        Raises:
            Malformed: anything else.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise MalformedManifest(f"manifest of {len(data)} bytes")
        items = rlp.decode_list(data, length=6, max_items=7)
        version, height, block_hash, history, chunks, root = items
        if rlp.as_uint(version, 64) != VERSION:
            raise MalformedManifest(
                f"snapshot of version {rlp.as_uint(version, 64)}, this program reads "
                f"{VERSION}"
            )
        found = cls(
            rlp.as_uint(height, 64),
            rlp.as_bytes(block_hash, 32),
            rlp.as_uint(history, 64),
            rlp.as_uint(chunks, 64),
            rlp.as_bytes(root, 32),
        )
        if (
            not found.height
            or not 0 < found.chunks <= MAX_CHUNKS
            or not MIN_HISTORY <= found.history <= MAX_HISTORY
        ):
            raise MalformedManifest(f"impossible manifest: {found}")
        return found


# -- making ----------------------------------------------------------------------------


def records(database: ChainDatabase, height: int, history: int) -> Iterator[bytes]:
    """The records of a snapshot, in order.

    Args:
        database: Holds the blocks and the state before `height`.
        height: From 1 to the head.
        history: Headers before `height` to give; at least 256, and at least the age
            that evidence may have.

    Raises:
        SyncError: this database lacks something.
    """
    if not MIN_HISTORY <= history <= MAX_HISTORY:
        raise SyncError(
            f"history: expected {MIN_HISTORY}..{MAX_HISTORY}, got {history}"
        )
    try:
        yield from _records(database, height, history)
    except NotFound as error:
        raise SyncError(f"cannot make a snapshot of block {height}: {error}") from error


def _records(database: ChainDatabase, height: int, history: int) -> Iterator[bytes]:
    block_hash = database.hash_at(height)
    if block_hash is None or not height:
        raise SyncError(f"there is no block {height} to make a snapshot of")
    block = database.encoded_block(block_hash)
    if not database.has_state(height - 1):
        raise SyncError(f"the state before block {height} is pruned here")
    certificate = database.encoded_certificate(block_hash)
    if certificate is None:
        raise SyncError(f"block {height} has no certificate here")
    headers: list[Header] = []
    for number in range(height, lowest(height, history) - 1, -1):
        header = database.header_at(number)
        if header is None:
            raise SyncError(f"the header of block {number} is not here")
        headers.append(header)
        yield _record(HEADER, header.encode())
    for start in range(0, len(block), PART_BYTES):
        yield _record(PIECE, block[start : start + PART_BYTES])
    yield _record(CERTIFICATE, certificate)
    genesis = database.header(database.genesis_hash())
    for digest in named_sets(headers, genesis):
        yield _record(SET, database.validators(digest))
    parent = database.header(headers[0].parent_hash)
    yield _record(STEPS, database.steps(parent.hash).to_bytes(8))
    codes: set[bytes] = set()
    walk = StateWalk.of(parent.state_root, codes.__contains__)
    while (wanted := walk.wanted) is not None:
        kind, digest = wanted
        data = database.code(digest) if kind == CODE else database.node(digest)
        walk.take(data)
        if kind == CODE:
            codes.add(digest)
        yield _record(CODES if kind == CODE else NODE, data)


def snapshot_history(evidence_age: int) -> int:
    """How many headers a snapshot of a chain holds."""
    return max(MIN_HISTORY, evidence_age)


def lowest(height: int, history: int) -> int:
    """The lowest header of a snapshot; genesis belongs to the specification."""
    return max(1, height - history)


def named_sets(headers: Sequence[Header], genesis: Header) -> tuple[bytes, ...]:
    """The hashes of the validator sets that a snapshot holds, in order."""
    named = [header.extra_data for header in headers]
    if headers[-1].number == 1:
        named.append(genesis.extra_data)
    return tuple(dict.fromkeys(named))


def _record(kind: int, content: bytes) -> bytes:
    if len(content) >= MAX_RECORD_BYTES:
        raise SyncError(f"a record of {len(content)} bytes fits no snapshot")
    return bytes((kind,)) + content


def chunks(found: Iterator[bytes]) -> Iterator[bytes]:
    """Records put into chunks."""
    chunk: list[bytes] = []
    size = 0
    for record in found:
        chunk.append(record)
        size += len(record)
        if size >= CHUNK_BYTES:
            yield rlp.encode(chunk)
            chunk, size = [], 0
    if chunk:
        yield rlp.encode(chunk)


def opened_chunk(chunk: bytes) -> list[bytes]:
    """The records of a chunk.

    Raises:
        BadSnapshotError: it is none.
    """
    if len(chunk) > MAX_CHUNK_BYTES:
        raise BadSnapshotError(
            f"chunk of {len(chunk)} bytes, at most {MAX_CHUNK_BYTES} are possible"
        )
    try:
        found = [rlp.as_bytes(each) for each in rlp.decode_list(chunk)]
    except MalformedRLP as error:
        raise BadSnapshotError(f"chunk: {error}") from error
    if not found or not all(found):
        raise BadSnapshotError("a chunk without records, or a record without a kind")
    return found
