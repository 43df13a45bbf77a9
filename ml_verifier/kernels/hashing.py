"""BLAKE3 over tensors: all tiles, nodes and roots of many tensors in one call.

Tensors are read where they lie, several chunks side by side in vector lanes, tiles
shared among the pool's threads. What a tile, a node and a root is, and under which
contexts they are hashed, is decided by ``ml_verifier.commitment``.
"""

import ctypes
import errno
import struct
from collections.abc import Sequence
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from ml_verifier.kernels.errors import BindingError
from ml_verifier.kernels.library import LIBRARY
from ml_verifier.kernels.request import Array, address

HASH_BYTES, BLOCK_BYTES, CHUNK_BYTES = 32, 64, 1024
MAX_RANK = 8
ITEM_BYTES = (1, 2, 4, 8)

_TENSOR = struct.Struct(f"4q{MAX_RANK}q")  # the fields of source/kernels.h that we fill
_TENSOR_BYTES: int = LIBRARY.lockstep_tensor_bytes()
_INITIAL_VALUE = struct.pack(
    "<8I",
    *(0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A),
    *(0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19),
)
_PADDING = tuple((0,) * (MAX_RANK - rank) for rank in range(MAX_RANK + 1))

Hashes = NDArray[np.uint8]  # [count, 32]


class Flag(IntFlag):
    """What a block is for (BLAKE3 paper, table 3)."""

    CHUNK_START = 1
    CHUNK_END = 2
    PARENT = 4
    ROOT = 8
    DERIVE_KEY_CONTEXT = 32
    DERIVE_KEY_MATERIAL = 64


def hash_messages(
    data: bytes,
    table: NDArray[np.int64],
    key: bytes,
    purpose: Flag = Flag.DERIVE_KEY_MATERIAL,
) -> Hashes:
    """Return the chaining values, or with ``ROOT`` the hashes, of chunks and parents.

    Args:
        data: where the messages lie.
        table: [count, 5]; of each message the offset in ``data``, the length (at most
            a chunk), the place of a chunk in its message, and the flags of its first
            and its last block.
        key: the derived key, 32 bytes.
        purpose: the flag that all blocks carry.

    Raises:
        BindingError: a message is not inside of ``data``, or longer than a chunk.
    """
    table = np.ascontiguousarray(table, np.int64)
    if table.ndim != 2 or table.shape[1] != 5 or len(key) != HASH_BYTES:
        raise BindingError(
            f"expected rows of 5 and 32 bytes, got {table.shape}, {key!r}"
        )
    start, length = table[:, 0], table[:, 1]
    fits = (start >= 0) & (length >= 0) & (length <= CHUNK_BYTES)
    if not np.all(fits & (start <= len(data) - length)):
        raise BindingError(f"expected chunks inside of {len(data)} bytes, got {table}")
    hashes = np.empty((len(table), HASH_BYTES), np.uint8)
    LIBRARY.lockstep_hash_messages(
        data, address(table), len(table), key, purpose, address(hashes)
    )
    return hashes


def _chunk(data: bytes, key: bytes, purpose: Flag) -> bytes:
    row = [0, len(data), 0, Flag.CHUNK_START, Flag.CHUNK_END | Flag.ROOT]
    return hash_messages(data, np.array([row]), key, purpose).tobytes()


def hash_chunk(data: bytes, key: bytes) -> bytes:
    """Return the hash, under a derived key, of a message of at most a chunk."""
    return _chunk(data, key, Flag.DERIVE_KEY_MATERIAL)


def derive_key(context: str) -> bytes:
    """Return the key that BLAKE3 derives from a context of at most 1024 bytes."""
    return _chunk(context.encode(), _INITIAL_VALUE, Flag.DERIVE_KEY_CONTEXT)


def _packed(tensors: Sequence[Array], codes: Sequence[int]) -> bytearray:
    packed = bytearray(_TENSOR_BYTES * len(tensors))
    at = 0
    for array, code in zip(tensors, codes, strict=True):
        memory = array.__array_interface__  # once: it is most of a small tensor's cost
        shape, size = memory["shape"], array.itemsize
        if memory["strides"] is not None or size not in ITEM_BYTES or 0 in shape:
            raise BindingError(
                "expected a C-contiguous array, not empty, of 1, 2, 4 or 8 byte"
                f" elements, got {array.dtype}{list(shape)}, strides {array.strides}"
            )
        rank = len(shape)
        if rank > MAX_RANK:
            raise BindingError(f"expected at most {MAX_RANK} dimensions, got {shape}")
        where = memory["data"][0]
        _TENSOR.pack_into(packed, at, where, size, code, rank, *shape, *_PADDING[rank])
        at += _TENSOR_BYTES
    return packed


def _hash(
    tensors: Sequence[Array], codes: Sequence[int], keys: bytes, nodes: Hashes | None
) -> bytes:
    if len(keys) != 3 * HASH_BYTES:
        raise BindingError(f"expected three keys of 32 bytes, got {len(keys)} bytes")
    packed = _packed(tensors, codes)
    start = ctypes.byref(ctypes.c_char.from_buffer(packed)) if tensors else None
    roots = ctypes.create_string_buffer(HASH_BYTES * len(tensors))
    where, count = (None, 0) if nodes is None else (address(nodes), len(nodes))
    status = LIBRARY.lockstep_hash_tensors(
        start, len(tensors), keys, roots, where, count
    )
    if status == errno.ENOMEM:
        raise MemoryError("no memory for the trees of these tensors")
    if status != 0:
        raise BindingError(f"expected a tree of other than {count} nodes")
    return roots.raw


def tensor_roots(
    tensors: Sequence[Array], codes: Sequence[int], keys: bytes
) -> list[bytes]:
    """Return the roots of C-contiguous, little-endian arrays.

    Args:
        tensors: of elements of 1, 2, 4 or 8 bytes; none empty.
        codes: the dtype's code of each, part of its root.
        keys: of tiles, nodes and roots, 96 bytes.

    Raises:
        BindingError: an array is not such a one.
        MemoryError: there is no memory for the nodes.
    """
    roots = _hash(tensors, codes, keys, None)
    return [roots[at : at + HASH_BYTES] for at in range(0, len(roots), HASH_BYTES)]


def tensor_levels(tensor: Array, tiles: int, keys: bytes) -> list[Hashes]:
    """Return the levels of the tree over a tensor's tiles, leaves first.

    Args:
        tensor: as for ``tensor_roots``.
        tiles: how many tiles it has.
        keys: of tiles, nodes and roots, 96 bytes.

    Raises:
        BindingError: the array is not such a one, or has other tiles.
    """
    leaves = 1 << (tiles - 1).bit_length()
    nodes = np.empty((2 * leaves - 1, HASH_BYTES), np.uint8)
    _hash([tensor], [0], keys, nodes)
    sizes = [leaves >> level for level in range(leaves.bit_length())]
    return np.split(nodes, np.cumsum(sizes)[:-1])
