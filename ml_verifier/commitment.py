"""Roots of tensors and states, and openings of single tiles.

A tensor is viewed as a row-major matrix [prod(shape[:-1]), shape[-1]] and cut into
64x64 tiles (edge tiles unpadded). Tiles, inner nodes and the root are BLAKE3 in
key-derivation mode under separate contexts; the root binds dtype and shape. A state is
a SHA-256 tree over (step index, tensor root of slot 0, slot 1, ...), so that a contract
can check an opening of it down to a tensor's root.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from blake3 import blake3

from ml_verifier import merkle
from ml_verifier.errors import MalformedOpening
from ml_verifier.merkle import Purpose, Tree
from ml_verifier.types import MAX_ELEMENTS, MAX_RANK, DType, TensorType, dtype_of

TILE = 64
TILE_CONTEXT = "Lockstep 1 tensor tile"
NODE_CONTEXT = "Lockstep 1 tensor node"
ROOT_CONTEXT = "Lockstep 1 tensor root"

Indices: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return [rows, columns] of the matrix view of a shape."""
    return (math.prod(shape[:-1]), shape[-1]) if shape else (1, 1)


def tile_grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many tiles a tensor has down and across."""
    rows, columns = matrix_shape(shape)
    return -(-rows // TILE), -(-columns // TILE)


def tile_count(shape: tuple[int, ...]) -> int:
    """Return the number of tiles of a tensor."""
    return math.prod(tile_grid(shape))


def tile_shape(shape: tuple[int, ...], tile: int) -> tuple[int, int]:
    """Return [rows, columns] of one tile; smaller than 64 at the edges."""
    rows, columns = matrix_shape(shape)
    top, left = (TILE * i for i in divmod(tile, tile_grid(shape)[1]))
    return min(TILE, rows - top), min(TILE, columns - left)


_HASHERS = {
    context: blake3(derive_key_context=context)
    for context in (TILE_CONTEXT, NODE_CONTEXT, ROOT_CONTEXT)
}


def _hash(data: bytes | memoryview, context: str) -> bytes:
    hasher = _HASHERS[context].copy()  # a copy skips hashing the context again
    hasher.update(data)
    return hasher.digest()


def tile_hashes(array: Array) -> list[bytes]:
    """Hash every tile of a tensor, row-major over the tile grid."""
    matrix = array.reshape(matrix_shape(array.shape))
    rows, columns = matrix.shape
    if columns <= TILE:  # each tile is a run of whole rows: one copy serves all
        data, size = memoryview(matrix.tobytes()), TILE * columns * array.itemsize
        pieces = range(0, len(data), size)
        return [_hash(data[at : at + size], TILE_CONTEXT) for at in pieces]
    hashes: list[bytes] = []
    for top in range(0, rows, TILE):
        for left in range(0, columns, TILE):
            tile = matrix[top : top + TILE, left : left + TILE]
            hashes.append(_hash(tile.tobytes(), TILE_CONTEXT))
    return hashes


def _tensor_levels(hashes: list[bytes]) -> list[list[bytes]]:
    """Return the levels of a tile tree, padded like the SHA-256 trees."""
    padding = (1 << merkle.depth(len(hashes))) - len(hashes)
    levels = [hashes + [merkle.EMPTY] * padding]
    while len(levels[-1]) > 1:
        level = levels[-1]
        levels.append(
            [
                _hash(level[i] + level[i + 1], NODE_CONTEXT)
                for i in range(0, len(level), 2)
            ]
        )
    return levels


def _seal_tensor(type_: TensorType, top: bytes) -> bytes:
    return _hash(_encode_type(type_) + top, ROOT_CONTEXT)


def _encode_type(type_: TensorType) -> bytes:
    rank = len(type_.shape)
    return struct.pack(f">BB{rank}I", type_.dtype, rank, *type_.shape)


def _type_of(array: Array) -> TensorType:
    return TensorType(dtype_of(array.dtype), array.shape)


def tensor_root(array: Array) -> bytes:
    """Return the root of a C-contiguous float32 or int64 array."""
    top = _tensor_levels(tile_hashes(array))[-1][0]
    return _seal_tensor(_type_of(array), top)


def state_tree(position: int, tensors: Sequence[Array]) -> Tree:
    """Return the tree of a state: leaf 0 is the step index, leaf 1+s is slot s."""
    payloads = [position.to_bytes(32, "big"), *(tensor_root(t) for t in tensors)]
    return Tree(Purpose.STATE, [merkle.leaf(Purpose.STATE, p) for p in payloads])


def state_root(position: int, tensors: Sequence[Array]) -> bytes:
    """Return h_i of the state at step ``position``."""
    return state_tree(position, tensors).root


def trap_root(previous: bytes) -> bytes:
    """Return the root of the trap state that follows ``previous``."""
    return hashlib.sha256(b"lockstep/trap" + previous).digest()


# ── openings ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Opening:
    """One tile of one slot, with what leads from it to a state root.

    Bytes: u32 leaves of the state tree, type (u8 dtype, u8 rank, u32 dims), state path,
    tile path, tile. Every length follows from the counts, so none is claimed.
    """

    leaves: int
    type: TensorType
    state_path: tuple[bytes, ...]
    tile_path: tuple[bytes, ...]
    tile: bytes

    def encode(self) -> bytes:
        """Return the opening's bytes."""
        return b"".join(
            (
                struct.pack(">I", self.leaves),
                _encode_type(self.type),
                *self.state_path,
                *self.tile_path,
                self.tile,
            )
        )


def open_tile(position: int, tensors: Sequence[Array], slot: int, tile: int) -> Opening:
    """Open tile ``tile`` of slot ``slot`` of a state."""
    tree = state_tree(position, tensors)
    array = tensors[slot]
    levels = _tensor_levels(tile_hashes(array))
    rows, columns = tile_shape(array.shape, tile)
    top, left = (TILE * i for i in divmod(tile, tile_grid(array.shape)[1]))
    matrix = array.reshape(matrix_shape(array.shape))
    return Opening(
        leaves=tree.count,
        type=_type_of(array),
        state_path=tuple(tree.path(slot + 1)),
        tile_path=tuple(level[tile >> i ^ 1] for i, level in enumerate(levels[:-1])),
        tile=matrix[top : top + rows, left : left + columns].tobytes(),
    )


def verify_opening(root: bytes, slot: int, tile: int, data: bytes) -> Opening:
    """Check an opening's bytes against a state root and return it.

    Raises:
        MalformedOpening: The bytes are not exactly one opening of that tile.
    """
    opening = _decode_opening(slot, tile, data)
    node = _hash(opening.tile, TILE_CONTEXT)
    for level, sibling in enumerate(opening.tile_path):
        pair = sibling + node if tile >> level & 1 else node + sibling
        node = _hash(pair, NODE_CONTEXT)
    payload = _seal_tensor(opening.type, node)
    merkle.verify_path(
        Purpose.STATE, root, opening.leaves, slot + 1, payload, opening.state_path
    )
    return opening


def _decode_opening(slot: int, tile: int, data: bytes) -> Opening:
    head = struct.Struct(">IBB")
    if len(data) < head.size:
        raise MalformedOpening(f"expected at least {head.size} bytes, got {len(data)}")
    leaves, code, rank = head.unpack_from(data)
    at = head.size + 4 * rank
    if code not in set(DType) or rank > MAX_RANK or len(data) < at:
        raise MalformedOpening(f"unknown dtype {code}, rank {rank} or truncated shape")
    type_ = TensorType(DType(code), struct.unpack_from(f">{rank}I", data, head.size))
    if not 0 < type_.size <= MAX_ELEMENTS or not slot + 1 < leaves:
        raise MalformedOpening(f"unusable type {type_} or slot {slot} of {leaves - 1}")
    if tile >= tile_count(type_.shape):
        raise MalformedOpening(
            f"expected a tile below {tile_count(type_.shape)}, got {tile}"
        )
    sizes = merkle.depth(leaves), merkle.depth(tile_count(type_.shape))
    nbytes = math.prod(tile_shape(type_.shape, tile)) * type_.dtype.numpy.itemsize
    expected = at + 32 * sum(sizes) + nbytes
    if len(data) != expected:
        raise MalformedOpening(f"expected {expected} bytes, got {len(data)}")
    hashes = [data[at + 32 * i : at + 32 * (i + 1)] for i in range(sum(sizes))]
    return Opening(
        leaves,
        type_,
        tuple(hashes[: sizes[0]]),
        tuple(hashes[sizes[0] :]),
        data[expected - nbytes :],
    )
