"""Blocks in parts: a block's encoding cut into pieces of 64 KiB, each with its proof.

A proposer signs the root over the parts, so a validator checks every piece on arrival,
from whomever it came, and passes it on before it has the whole block:

    leaf(i)  = sha256(0x00 || uint32 i || uint32 count || piece i)
    node     = sha256(0x01 || left || right)

The tree is that of RFC 6962: the left subtree holds the largest power of two below the
number of leaves. All pieces have `PART_BYTES` but the last, which is not empty; thus
one block has one root. The number of parts is in every leaf, hence in the root.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chain.block import MAX_BLOCK_BYTES
from chain.crypto import sha256
from consensus.errors import InvalidPart

PART_BYTES = 64 * 1024
MAX_PARTS = -(-MAX_BLOCK_BYTES // PART_BYTES)


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a block and the hashes that lead from it to the root."""

    index: int
    count: int
    piece: bytes
    proof: tuple[bytes, ...]


def cut(encoded: bytes) -> tuple[bytes, tuple[Part, ...]]:
    """The root and the parts of a block's encoding.

    Raises:
        InvalidPart: the encoding is empty or larger than a block may be.
    """
    if not 0 < len(encoded) <= MAX_BLOCK_BYTES:
        raise InvalidPart(
            f"block: expected 1..{MAX_BLOCK_BYTES} bytes, got {len(encoded)}"
        )
    pieces = [
        encoded[start : start + PART_BYTES]
        for start in range(0, len(encoded), PART_BYTES)
    ]
    leaves = [_leaf(i, len(pieces), piece) for i, piece in enumerate(pieces)]
    parts = tuple(
        Part(i, len(pieces), piece, _proof(leaves, i)) for i, piece in enumerate(pieces)
    )
    return _root(leaves), parts


def verify_part(root: bytes, part: Part) -> None:
    """Check that a part belongs to the block with this root of parts.

    Raises:
        InvalidPart: a wrong size, index, or proof.
    """
    if not 0 < part.count <= MAX_PARTS or not 0 <= part.index < part.count:
        raise InvalidPart(
            f"part {part.index} of {part.count}: at most {MAX_PARTS} are possible"
        )
    last = part.index == part.count - 1
    size = len(part.piece)
    if not 0 < size <= PART_BYTES or (size != PART_BYTES and not last):
        raise InvalidPart(f"part {part.index} of {part.count} has {size} bytes")
    found = _climb(
        _leaf(part.index, part.count, part.piece), part.index, part.count, part.proof
    )
    if found != root:
        raise InvalidPart(
            f"part {part.index} of {part.count} does not lead to 0x{root.hex()}"
        )


def _leaf(index: int, count: int, piece: bytes) -> bytes:
    return sha256(b"\0" + index.to_bytes(4) + count.to_bytes(4) + piece)


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right)


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _root(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return _node(_root(leaves[:split]), _root(leaves[split:]))


def _proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    if len(leaves) == 1:
        return ()
    split = _split(len(leaves))
    if index < split:
        return (*_proof(leaves[:split], index), _root(leaves[split:]))
    return (*_proof(leaves[split:], index - split), _root(leaves[:split]))


def _climb(leaf: bytes, index: int, count: int, proof: tuple[bytes, ...]) -> bytes:
    """The root that a leaf and its proof give; the proof's length must fit."""
    if count == 1:
        if proof:
            raise InvalidPart(f"the proof is {len(proof)} hashes too long")
        return leaf
    if not proof or len(proof[-1]) != 32:
        raise InvalidPart("the proof is too short or holds what is no hash")
    split, sibling = _split(count), proof[-1]
    if index < split:
        return _node(_climb(leaf, index, split, proof[:-1]), sibling)
    return _node(sibling, _climb(leaf, index - split, count - split, proof[:-1]))
