"""Openings of a tensor in pieces of 1 KiB.

A tile's hash is BLAKE3, which itself is a tree over chunks of 1 KiB. A piece is one
chunk of one tile's bytes; the last of a tile may be shorter. An opening shows a set of
pieces of one tensor under its root: the pieces, then the chaining values that lead to
the hashes of their tiles, then the tile hashes that lead to the top of the tile tree.
What several pieces need is there once, what follows from them is not, and every length
follows from the tensor's type and the set, so an opening has exactly one encoding
(``docs/spec/commitments.md``, "Pieces").
"""

import struct
from collections.abc import Iterator, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, overload

import numpy as np

from ml_verifier import commitment, merkle
from ml_verifier.commitment import NODE_KEY, TILE, TILE_KEY, Array, Indices
from ml_verifier.errors import MalformedOpening
from ml_verifier.kernels.hashing import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    HASH_BYTES,
    Flag,
    Hashes,
    hash_messages,
)
from ml_verifier.types import TensorType

CHUNK_BITS = 5  # a tile has at most 64 * 64 * 8 / 1024 = 2^5 chunks
MAX_CHUNKS = 1 << CHUNK_BITS

_COUNT = struct.Struct(">I")
_NO_HASHES: Hashes = np.empty((0, HASH_BYTES), np.uint8)
_ENTRY = np.dtype([("tile", ">u4"), ("chunks", ">u4")])


class Piece(NamedTuple):
    """Which chunk of which tile."""

    tile: int
    chunk: int


Wanted: TypeAlias = AbstractSet[Piece] | AbstractSet[tuple[int, int]]


# ── which piece holds which elements ─────────────────────────────────────────


def tile_nbytes(type_: TensorType, tile: int) -> int:
    """Return the bytes of a tile."""
    rows, columns = commitment.tile_shape(type_.shape, tile)
    return rows * columns * type_.dtype.numpy.itemsize


def chunk_count(type_: TensorType, tile: int) -> int:
    """Return how many pieces a tile has."""
    return -(-tile_nbytes(type_, tile) // CHUNK_BYTES)


@overload
def piece_of(type_: TensorType, index: int) -> tuple[int, int, int]: ...
@overload
def piece_of(type_: TensorType, index: Indices) -> tuple[Indices, Indices, Indices]: ...
def piece_of(
    type_: TensorType, index: int | Indices
) -> tuple[int, int, int] | tuple[Indices, Indices, Indices]:
    """Return tile, chunk and offset in the chunk of elements.

    Args:
        type_: of the tensor.
        index: row-major, of one element or an array of any shape.

    Raises:
        IndexError: there is no such element.
    """
    wanted = np.asarray(index, np.int64)
    if wanted.size and (wanted.min() < 0 or wanted.max() >= type_.size):
        raise IndexError(f"expected elements below {type_.size}, got {index}")
    columns = commitment.matrix_shape(type_.shape)[1]
    across = commitment.tile_grid(type_.shape)[1]
    row, column = np.divmod(wanted, columns)
    down, row = np.divmod(row, TILE)
    right, column = np.divmod(column, TILE)
    width = np.minimum(TILE, columns - TILE * right)
    chunk, offset = np.divmod(
        (row * width + column) * type_.dtype.numpy.itemsize, CHUNK_BYTES
    )
    tile = down * across + right
    if isinstance(index, int):
        return int(tile), int(chunk), int(offset)
    return tile, chunk, offset


def ranges_of(type_: TensorType, piece: tuple[int, int]) -> list[range]:
    """Return the elements of a piece, in the order of its bytes.

    Each range is a run of row-major indices within one row of the matrix.

    Raises:
        IndexError: there is no such piece.
    """
    start, stop = _bounds(type_, piece)
    itemsize = type_.dtype.numpy.itemsize
    _, width = commitment.tile_shape(type_.shape, piece[0])
    columns = commitment.matrix_shape(type_.shape)[1]
    down, right = divmod(piece[0], commitment.tile_grid(type_.shape)[1])
    first = TILE * (down * columns + right)
    runs: list[range] = []
    at, end = start // itemsize, stop // itemsize
    while at < end:
        row, place = divmod(at, width)
        size = min(width - place, end - at)
        begin = first + row * columns + place
        runs.append(range(begin, begin + size))
        at += size
    return runs


def _bounds(type_: TensorType, piece: tuple[int, int]) -> tuple[int, int]:
    """Where a piece begins and ends in the bytes of its tile."""
    tile, chunk = piece
    if not 0 <= tile < commitment.tile_count(type_.shape):
        raise IndexError(f"expected a tile of {type_}, got {tile}")
    if not 0 <= chunk < chunk_count(type_, tile):
        raise IndexError(
            f"expected a chunk below {chunk_count(type_, tile)} of tile {tile} of"
            f" {type_}, got {chunk}"
        )
    start = CHUNK_BYTES * chunk
    return start, min(start + CHUNK_BYTES, tile_nbytes(type_, tile))


# ── trees of which some nodes are known ──────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Level:
    """One level of several trees side by side.

    Node i of tree t has key t << bits | i. A last node without a sibling moves up.

    Attributes:
        known: keys of known nodes, ascending.
        absent: keys of the siblings that are needed and not known, ascending.
        pairs: of known and absent nodes together, whether a left one has a sibling.
        sealed: of those pairs, whether their parent is the top of its tree.
    """

    known: Indices
    absent: Indices
    pairs: np.ndarray[tuple[int], np.dtype[np.bool_]]
    sealed: np.ndarray[tuple[int], np.dtype[np.bool_]]


def _levels(known: Indices, sizes: Indices, bits: int) -> Iterator[_Level]:
    """Climb from known leaves to the tops, ``sizes`` leaves in each tree."""
    for height in range(bits, 0, -1):
        if np.all(sizes == 1):
            return
        size = sizes[known >> height]
        index = known & ((1 << height) - 1)
        siblings = known[(index ^ 1) < size] ^ 1
        absent = np.setdiff1d(siblings, known, assume_unique=True)
        lefts = np.union1d(known, absent)
        lefts = lefts[lefts & 1 == 0]
        size = sizes[lefts >> height]
        pairs = (lefts & ((1 << height) - 1)) + 1 < size
        yield _Level(known, absent, pairs, size[pairs] == 2)
        known, sizes = lefts >> 1, (sizes + 1) >> 1


def _climb(
    level: _Level, values: Hashes, absent: Hashes, key: bytes, *, inside: bool
) -> Hashes:
    """Return the values one level up; ``inside`` of a tile parents are BLAKE3's own."""
    keys = np.concatenate([level.known, level.absent])
    order = np.argsort(keys)
    nodes = np.concatenate([values, absent])[order]
    left = np.flatnonzero(keys[order] & 1 == 0)
    both = left[level.pairs]
    table = np.zeros((len(both), 5), np.int64)
    table[:, 0] = BLOCK_BYTES * np.arange(len(both))
    table[:, 1] = BLOCK_BYTES
    table[:, 3] = Flag.PARENT if inside else Flag.CHUNK_START
    table[:, 4] = (
        np.where(level.sealed, Flag.ROOT, 0) if inside else Flag.CHUNK_END | Flag.ROOT
    )
    above = nodes[left]
    blocks = np.stack([nodes[both], nodes[both + 1]], axis=1).tobytes()
    above[level.pairs] = hash_messages(blocks, table, key)
    return above


# ── a set of pieces and what leads from it to the root ───────────────────────


def _nbytes(type_: TensorType, tiles: Indices) -> Indices:
    """Return the bytes of each tile."""
    rows, columns = commitment.matrix_shape(type_.shape)
    down, right = np.divmod(tiles, commitment.tile_grid(type_.shape)[1])
    height = np.minimum(TILE, rows - TILE * down)
    width = np.minimum(TILE, columns - TILE * right)
    nbytes: Indices = height * width * type_.dtype.numpy.itemsize
    return nbytes


def _messages(
    type_: TensorType, tiles: Indices, chunks: Indices
) -> tuple[Indices, Indices]:
    """Return the chunks of each tile, and pieces as messages that follow each other.

    Args:
        type_: of the tensor.
        tiles: ascending.
        chunks: of each piece, ascending, place of its tile << CHUNK_BITS | chunk.
    """
    nbytes = _nbytes(type_, tiles)
    counts = -(-nbytes // CHUNK_BYTES)
    slot, chunk = chunks >> CHUNK_BITS, chunks & (MAX_CHUNKS - 1)
    lengths = np.minimum(CHUNK_BYTES, nbytes[slot] - CHUNK_BYTES * chunk)
    first = np.full_like(chunk, Flag.CHUNK_START)
    last = np.where(counts[slot] == 1, Flag.CHUNK_END | Flag.ROOT, Flag.CHUNK_END)
    start = np.cumsum(lengths) - lengths
    return counts, np.stack([start, lengths, chunk, first, last], axis=1)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything is in an opening of some pieces.

    Attributes:
        tiles: ascending.
        chunks: of each piece, as for ``_messages``.
        table: the pieces as messages within the opening.
        inner: levels inside of the tiles.
        outer: levels of the tile tree.
        hashes_at: where the hashes begin.
        size: bytes of the opening.
    """

    tiles: Indices
    chunks: Indices
    table: Indices
    inner: list[_Level]
    outer: list[_Level]
    hashes_at: int
    size: int

    @classmethod
    def of(cls, type_: TensorType, tiles: Indices, chunks: Indices) -> "_Layout":
        """Lay out the opening of these pieces."""
        counts, table = _messages(type_, tiles, chunks)
        table[:, 0] += _COUNT.size + _ENTRY.itemsize * len(tiles)
        depth = merkle.depth(commitment.tile_count(type_.shape))
        inner = list(_levels(chunks, counts, CHUNK_BITS))
        outer = list(_levels(tiles, np.array([1 << depth]), depth))
        hashes = sum(len(level.absent) for level in (*inner, *outer))
        at = int(table[-1, 0] + table[-1, 1])
        size = at + HASH_BYTES * hashes
        return cls(tiles, chunks, table, inner, outer, at, size)


def _layout_of(type_: TensorType, wanted: Wanted) -> _Layout:
    if not wanted:
        raise ValueError("expected at least one piece")
    for piece in wanted:
        _bounds(type_, piece)
    pieces = np.array(sorted(wanted), np.int64)
    tiles, slots = np.unique(pieces[:, 0], return_inverse=True)
    return _Layout.of(type_, tiles, slots << CHUNK_BITS | pieces[:, 1])


def opening_size(type_: TensorType, wanted: Wanted) -> int:
    """Return the exact bytes of an opening of these pieces.

    Raises:
        IndexError: there is no such piece.
        ValueError: no piece is wanted.
    """
    return _layout_of(type_, wanted).size


def open_piece(array: Array, tile: int, chunk: int) -> bytes:
    """Return the opening of one piece; see ``open_pieces``."""
    return open_pieces(array, {Piece(tile, chunk)})


def open_pieces(
    array: Array, wanted: Wanted, levels: Sequence[Hashes] | None = None
) -> bytes:
    """Return the opening of a set of pieces.

    Args:
        array: the tensor, C-contiguous.
        wanted: the pieces.
        levels: ``commitment.tensor_levels(array)``, if the caller has them.

    Raises:
        IndexError: there is no such piece.
        ValueError: no piece is wanted.
    """
    type_ = commitment.type_of(array)
    layout = _layout_of(type_, wanted)
    entries = np.zeros(len(layout.tiles), _ENTRY)
    entries["tile"] = layout.tiles
    masks = np.zeros(len(layout.tiles), np.int64)
    np.add.at(masks, layout.chunks >> CHUNK_BITS, 1 << layout.table[:, 2])
    entries["chunks"] = masks
    parts = [_COUNT.pack(len(entries)), entries.tobytes()]

    tiles = [commitment.tile_bytes(array, tile) for tile in layout.tiles.tolist()]
    contents = b"".join(tiles)
    counts = -(-_nbytes(type_, layout.tiles) // CHUNK_BYTES)
    slots, chunks = np.nonzero(np.arange(MAX_CHUNKS) < counts[:, None])
    every = slots << CHUNK_BITS | chunks
    table = _messages(type_, layout.tiles, every)[1]
    for at, size, *_ in table[np.searchsorted(every, layout.chunks)].tolist():
        parts.append(contents[at : at + size])

    values = hash_messages(contents, table, TILE_KEY)
    for level, full in zip(
        layout.inner, _levels(every, counts, CHUNK_BITS), strict=True
    ):
        parts.append(values[np.searchsorted(full.known, level.absent)].tobytes())
        values = _climb(full, values, _NO_HASHES, TILE_KEY, inside=True)
    if levels is None:
        levels = commitment.tensor_levels(array)
    for level, nodes in zip(layout.outer, levels, strict=False):
        parts.append(nodes[level.absent].tobytes())
    return b"".join(parts)


def verify_pieces(root: bytes, type_: TensorType, data: bytes) -> dict[Piece, bytes]:
    """Return the pieces that an opening shows under a tensor's root.

    Args:
        root: of the tensor.
        type_: of the tensor, known to the caller; the root binds it.
        data: untrusted.

    Raises:
        MalformedOpening: the bytes are not exactly one opening under this root.
    """
    layout = _decode_layout(type_, data)
    values = hash_messages(data, layout.table, TILE_KEY)
    supply = np.frombuffer(data, np.uint8, offset=layout.hashes_at)
    hashes, at = supply.reshape(-1, HASH_BYTES), 0
    for levels, key, inside in (
        (layout.inner, TILE_KEY, True),
        (layout.outer, NODE_KEY, False),
    ):
        for level in levels:
            absent = hashes[at : at + len(level.absent)]
            values = _climb(level, values, absent, key, inside=inside)
            at += len(absent)
    found = commitment.seal_tensor(type_, values.tobytes())
    if found != root:
        raise MalformedOpening(
            f"pieces of {type_}: expected root {root.hex()}, got {found.hex()}"
        )
    return {
        Piece(int(layout.tiles[key >> CHUNK_BITS]), chunk): data[at : at + size]
        for key, (at, size, chunk, _, _) in zip(
            layout.chunks.tolist(), layout.table.tolist(), strict=True
        )
    }


def _decode_layout(type_: TensorType, data: bytes) -> _Layout:
    """Read which pieces are opened; refuse a set or a size that cannot be."""
    count = int.from_bytes(data[: _COUNT.size], "big")
    if not 0 < count <= (len(data) - _COUNT.size) // _ENTRY.itemsize:
        raise MalformedOpening(f"{count} tiles do not fit in {len(data)} bytes")
    entries = np.frombuffer(data, _ENTRY, count, _COUNT.size)
    tiles, masks = entries["tile"].astype(np.int64), entries["chunks"].astype(np.int64)
    if np.any(np.diff(tiles) <= 0) or tiles[-1] >= commitment.tile_count(type_.shape):
        raise MalformedOpening(f"expected ascending tiles of {type_}, got {tiles}")
    counts = -(-_nbytes(type_, tiles) // CHUNK_BYTES)
    if np.any(masks == 0) or np.any(masks >> counts):
        raise MalformedOpening(f"expected chunks below {counts}, got masks {masks}")
    slots, chunks = np.nonzero(masks[:, None] >> np.arange(MAX_CHUNKS) & 1)
    layout = _Layout.of(type_, tiles, slots << CHUNK_BITS | chunks)
    if len(data) != layout.size:
        raise MalformedOpening(f"expected {layout.size} bytes, got {len(data)}")
    return layout
