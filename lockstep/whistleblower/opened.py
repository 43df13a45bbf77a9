"""A solver's tree as far as it has opened it, beside the whistleblower's own.

When leaves are withheld, the tree of the commitment becomes known node by node: each
opening gives up to 64 descendants of a node that the challenger walked to. Where an
opened node equals ours, everything below it equals ours too (SHA-256), so paths for
both states around the first difference can be put together from opened and own nodes.
"""

from collections.abc import Callable, Sequence

from ml_verifier import descent, merkle
from ml_verifier.errors import Malformed
from ml_verifier.merkle import Purpose
from ml_verifier.trajectory import Trajectory

__all__ = ["Move", "OpenedTree", "Openings"]

_TREE = Purpose.TRAJECTORY

Openings = Callable[[int, int, bytes], Sequence[bytes] | None]
"""The children that opened the node (level, index, hash), or None if it is not open."""


class Move:
    """The child of an opened node to follow.

    Attributes:
        child: which of the opened children.
        node: its hash (a state root at the leaves).
        siblings: from it up to the node; empty at the leaves.
    """

    __slots__ = ("child", "node", "siblings")

    def __init__(self, child: int, node: bytes, siblings: list[bytes]) -> None:
        self.child = child
        self.node = node
        self.siblings = siblings


class OpenedTree:
    """What is known of the committed tree along the first difference from ours."""

    def __init__(self, root: bytes, mine: Trajectory, openings: Openings) -> None:
        """Walk down the openings that are there.

        Args:
            root: of the commitment.
            mine: our own trajectory of the same job.
            openings: what the solver, or anyone, has opened.
        """
        self._mine = mine
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._leaves: dict[int, bytes] = {}
        self._moves: dict[tuple[int, int], Move] = {}
        level, index, node = mine.tree.depth, 0, root
        while level > 0:
            children = openings(level, index, node)
            move = None if children is None else self._add(level, index, children)
            if move is None:
                return
            self._moves[level, index] = move
            level, index, node = (
                descent.child_level(level),
                (index << (level - descent.child_level(level))) + move.child,
                move.node,
            )

    def move(self, level: int, index: int) -> Move | None:
        """The child to follow from a node; None if it is not open yet."""
        return self._moves.get((level, index))

    def leaf(self, index: int) -> bytes:
        """The state root the solver committed to; ours where the trees agree."""
        return self._leaves.get(index, self._mine.leaves[index])

    def path(self, index: int) -> list[bytes]:
        """The path of a leaf on the walk, or of its left neighbour.

        Raises:
            Malformed: the leaf is neither, so its path is not known.
        """
        levels = self._mine.tree.levels
        siblings = [
            self._nodes.get(
                (level, index >> level ^ 1), levels[level][index >> level ^ 1]
            )
            for level in range(self._mine.tree.depth)
        ]
        node = merkle.leaf(_TREE, self.leaf(index))
        for level, sibling in enumerate(siblings):
            known = self._nodes.get((level, index >> level))
            if known is not None and known != node:
                raise Malformed(f"the path of leaf {index} is not known")
            pair = (sibling, node) if index >> level & 1 else (node, sibling)
            node = merkle.parent(_TREE, *pair)
        return siblings

    def _add(self, level: int, index: int, children: Sequence[bytes]) -> Move | None:
        """Learn an opened node's subtree; returns where it first differs from ours."""
        below = descent.child_level(level)
        first = index << (level - below)
        hashes = list(children)
        if below == 0:
            count = len(self._mine.leaves)
            for offset, child in enumerate(children):
                if first + offset < count:
                    self._leaves[first + offset] = child
                    hashes[offset] = merkle.leaf(_TREE, child)
        row, height, start = hashes, below, first
        while True:
            for offset, node in enumerate(row):
                self._nodes[height, start + offset] = node
            if len(row) == 1:
                break
            row = [
                merkle.parent(_TREE, left, right)
                for left, right in zip(row[::2], row[1::2], strict=True)
            ]
            height, start = height + 1, start >> 1
        different = descent.first_different_child(self._mine.tree, level, index, hashes)
        if different is None:
            return None
        siblings = descent.child_path(_TREE, hashes, different) if below else []
        return Move(different, children[different], siblings)
