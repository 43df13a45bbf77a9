"""Roots of tensors and states, and openings of single tiles.

A tensor is viewed as a row-major matrix [prod(shape[:-1]), shape[-1]] and cut into
64x64 tiles (edge tiles unpadded). Tiles, inner nodes and the root are BLAKE3 in
key-derivation mode under separate contexts; the root binds dtype and shape. A state is
a SHA-256 tree over (step index, tensor root of slot 0, slot 1, ...), so that a contract
can check an opening of it down to a tensor's root. ``kernels.hashing`` does the work.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ml_verifier import merkle
from ml_verifier.errors import MalformedOpening
from ml_verifier.kernels import hashing
from ml_verifier.kernels.hashing import Hashes
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


def tile_bytes(array: Array, tile: int) -> bytes:
    """Return the elements of one tile, row-major, little-endian."""
    rows, columns = tile_shape(array.shape, tile)
    top, left = (TILE * i for i in divmod(tile, tile_grid(array.shape)[1]))
    matrix = array.reshape(matrix_shape(array.shape))
    return matrix[top : top + rows, left : left + columns].tobytes()


TILE_KEY, NODE_KEY, ROOT_KEY = map(
    hashing.derive_key, (TILE_CONTEXT, NODE_CONTEXT, ROOT_CONTEXT)
)
_KEYS = TILE_KEY + NODE_KEY + ROOT_KEY


def encode_type(type_: TensorType) -> bytes:
    """Return u8 dtype, u8 rank, u32 dimensions."""
    rank = len(type_.shape)
    return struct.pack(f">BB{rank}I", type_.dtype, rank, *type_.shape)


def seal_tensor(type_: TensorType, top: bytes) -> bytes:
    """Return the root: the top of the tile tree bound to the tensor's type."""
    return hashing.hash_chunk(encode_type(type_) + top, ROOT_KEY)


def type_of(array: Array) -> TensorType:
    """Return the type of an array of one of our dtypes."""
    return TensorType(dtype_of(array.dtype), array.shape)


def hash_tile(type_: TensorType, tile: int, data: bytes) -> bytes:
    """Return the hash of a tile's elements."""
    elements = np.frombuffer(data, type_.dtype.numpy)
    alone = elements.reshape(tile_shape(type_.shape, tile))
    return hashing.tensor_levels(alone, 1, _KEYS)[0].tobytes()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Return the parent of two nodes of a tile tree."""
    return hashing.hash_chunk(left + right, NODE_KEY)


def tensor_levels(array: Array) -> list[Hashes]:
    """Return the tile tree of a C-contiguous array, tile hashes first.

    Levels are padded like those of the SHA-256 trees.
    """
    return hashing.tensor_levels(array, tile_count(array.shape), _KEYS)


def tensor_roots(tensors: Sequence[Array]) -> list[bytes]:
    """Return the roots of C-contiguous arrays."""
    codes = [dtype_of(tensor.dtype) for tensor in tensors]
    return hashing.tensor_roots(tensors, codes, _KEYS)


def tensor_root(array: Array) -> bytes:
    """Return the root of a C-contiguous array."""
    return tensor_roots([array])[0]


def state_tree(position: int, tensors: Sequence[Array]) -> Tree:
    """Return the tree of a state: leaf 0 is the step index, leaf 1+s is slot s."""
    payloads = [position.to_bytes(32, "big"), *tensor_roots(tensors)]
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
                encode_type(self.type),
                *self.state_path,
                *self.tile_path,
                self.tile,
            )
        )


def open_tile(position: int, tensors: Sequence[Array], slot: int, tile: int) -> Opening:
    """Open tile ``tile`` of slot ``slot`` of a state."""
    tree = state_tree(position, tensors)
    array = tensors[slot]
    levels = tensor_levels(array)
    return Opening(
        leaves=tree.count,
        type=type_of(array),
        state_path=tuple(tree.path(slot + 1)),
        tile_path=tuple(
            level[tile >> i ^ 1].tobytes() for i, level in enumerate(levels[:-1])
        ),
        tile=tile_bytes(array, tile),
    )


def verify_opening(root: bytes, slot: int, tile: int, data: bytes) -> Opening:
    """Check an opening's bytes against a state root and return it.

    Raises:
        MalformedOpening: The bytes are not exactly one opening of that tile.
    """
    opening = _decode_opening(slot, tile, data)
    node = hash_tile(opening.type, tile, opening.tile)
    for level, sibling in enumerate(opening.tile_path):
        pair = sibling + node if tile >> level & 1 else node + sibling
        node = hashing.hash_chunk(pair, NODE_KEY)
    payload = seal_tensor(opening.type, node)
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
