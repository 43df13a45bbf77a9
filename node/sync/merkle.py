"""The Merkle tree over the chunks of a snapshot.

    leaf(i) = sha256(0x00 || uint32 i || uint32 count || sha256(chunk i))
    node    = sha256(0x01 || left || right)

A level's last node without a sibling is carried up as it is (the tree of RFC 6962).
"""

from collections.abc import Sequence

from chain.crypto import sha256

HASH_BYTES = 32
MAX_PROOF = 32


def leaf(index: int, count: int, digest: bytes) -> bytes:
    """The leaf of a chunk with this SHA-256."""
    return sha256(b"\0" + index.to_bytes(4) + count.to_bytes(4) + digest)


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right)


class Tree:
    """A tree in memory: 64 bytes for each chunk."""

    def __init__(self, digests: Sequence[bytes]) -> None:
        """Build it over the SHA-256 of each chunk, at least one.

        Raises:
            ValueError: there is none.
        """
        if not digests:
            raise ValueError("a tree has at least one leaf")
        count = len(digests)
        level = [leaf(index, count, each) for index, each in enumerate(digests)]
        self._levels = [level]
        while len(level) > 1:
            pairs = range(0, len(level) - 1, 2)
            above = [_node(level[at], level[at + 1]) for at in pairs]
            if len(level) % 2:
                above.append(level[-1])
            self._levels.append(above)
            level = above

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._levels[-1][0]

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The hashes that lead from a leaf to the root."""
        found: list[bytes] = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                found.append(level[sibling])
            index //= 2
        return tuple(found)


def leads_to(
    root: bytes, index: int, count: int, chunk: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether a proof shows that `chunk` is number `index` of `count` under `root`."""
    if not 0 <= index < count:
        return False
    value, rest = leaf(index, count, sha256(chunk)), list(reversed(proof))
    width = count
    while width > 1:
        if index ^ 1 < width:
            if not rest:
                return False
            sibling = rest.pop()
            value = _node(sibling, value) if index % 2 else _node(value, sibling)
        index, width = index // 2, (width + 1) // 2
    return not rest and value == root
