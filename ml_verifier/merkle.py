"""SHA-256 Merkle trees whose leaves a contract can open.

Rules (``docs/spec/commitments.md``): leaves, nodes and roots are hashed under
different prefixes and a purpose byte; the bottom level is padded with zero hashes to
a power of two; the root binds the number of leaves, so padding can't be named.
"""

import hashlib
from collections.abc import Sequence
from enum import IntEnum

from ml_verifier.errors import MalformedOpening

EMPTY = bytes(32)
MAX_DEPTH = 40


class Purpose(IntEnum):
    """What a tree is about; part of every hash."""

    RECORD = 1
    TRAJECTORY = 2
    STATE = 3
    TRACE = 4
    NODES = 5


def depth(count: int) -> int:
    """Return the number of levels between a leaf and the top of ``count`` leaves."""
    return (count - 1).bit_length()


def leaf(purpose: Purpose, payload: bytes) -> bytes:
    """Hash a leaf's payload."""
    return hashlib.sha256(bytes((0, purpose)) + payload).digest()


def parent(purpose: Purpose, left: bytes, right: bytes) -> bytes:
    """Hash two children."""
    return hashlib.sha256(bytes((1, purpose)) + left + right).digest()


def seal(purpose: Purpose, count: int, top: bytes) -> bytes:
    """Return the root: the top node bound to the number of leaves."""
    return hashlib.sha256(bytes((2, purpose)) + count.to_bytes(8, "big") + top).digest()


class Tree:
    """A tree held whole: ``levels[0]`` are padded leaf hashes, the last is the top."""

    def __init__(self, purpose: Purpose, leaves: Sequence[bytes]) -> None:
        """Build from leaf hashes (not payloads); at least one."""
        if not leaves:
            raise ValueError("expected at least one leaf")
        self.purpose = purpose
        self.count = len(leaves)
        level = list(leaves) + [EMPTY] * ((1 << depth(len(leaves))) - len(leaves))
        self.levels = [level]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [parent(purpose, left, right) for left, right in pairs]
            self.levels.append(level)
        self.root = seal(purpose, self.count, level[0])

    @property
    def depth(self) -> int:
        """Levels above the leaves."""
        return len(self.levels) - 1

    def path(self, index: int) -> list[bytes]:
        """Return the siblings of leaf ``index``, bottom-up."""
        if not 0 <= index < self.count:
            raise IndexError(f"expected a leaf below {self.count}, got {index}")
        return [level[index >> i ^ 1] for i, level in enumerate(self.levels[:-1])]

    def multiproof(self, indices: Sequence[int]) -> list[bytes]:
        """Return the siblings that ``indices`` need together, in ``fold`` order."""
        known = sorted(set(indices))
        proof: list[bytes] = []
        for level in self.levels[:-1]:
            held = set(known)
            proof += [level[i ^ 1] for i in known if i ^ 1 not in held]
            known = sorted({i >> 1 for i in known})
        return proof


def verify_path(
    purpose: Purpose,
    root: bytes,
    count: int,
    index: int,
    payload: bytes,
    siblings: Sequence[bytes],
) -> None:
    """Check that ``payload`` is leaf ``index`` of ``count`` under ``root``.

    Raises:
        MalformedOpening: It is not, or the path has the wrong length.
    """
    if not 0 <= index < count or len(siblings) != depth(count):
        raise MalformedOpening(
            f"expected leaf below {count} and {depth(max(count, 1))} siblings, "
            f"got leaf {index} and {len(siblings)}"
        )
    node = leaf(purpose, payload)
    for level, sibling in enumerate(siblings):
        pair = (sibling, node) if index >> level & 1 else (node, sibling)
        node = parent(purpose, *pair)
    if seal(purpose, count, node) != root:
        raise MalformedOpening(
            f"{purpose.name.lower()} {index}: expected root {root.hex()}, "
            f"got {seal(purpose, count, node).hex()}"
        )


def multiproof_size(count: int, indices: Sequence[int]) -> int:
    """Return how many siblings ``multiproof`` yields for these indices."""
    known = sorted(set(indices))
    size = 0
    for _ in range(depth(count)):
        held = set(known)
        size += sum(i ^ 1 not in held for i in known)
        known = sorted({i >> 1 for i in known})
    return size


def fold(
    purpose: Purpose, count: int, leaves: dict[int, bytes], proof: Sequence[bytes]
) -> bytes:
    """Return the root that leaf hashes and a multiproof lead to.

    The proof lists, level by level from the bottom and in ascending index, each
    sibling that is not itself known.

    Raises:
        MalformedOpening: The proof has the wrong number of siblings, or a leaf is
            out of range.
    """
    if not leaves or not all(0 <= i < count for i in leaves):
        raise MalformedOpening(f"expected leaves below {count}, got {sorted(leaves)}")
    expected = multiproof_size(count, list(leaves))
    if len(proof) != expected:
        raise MalformedOpening(f"expected {expected} siblings, got {len(proof)}")
    supply = iter(proof)
    level = dict(leaves)
    for _ in range(depth(count)):
        for index in sorted(level):
            if index ^ 1 not in level:
                level[index ^ 1] = next(supply)
        level = {
            index >> 1: parent(purpose, level[index], level[index + 1])
            for index in sorted(level)
            if not index & 1
        }
    return seal(purpose, count, level[0])
