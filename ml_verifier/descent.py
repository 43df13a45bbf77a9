"""The dispute's descent, pure: which nodes are opened and which child is followed.

The commitment's tree is walked from the top, six levels (64 descendants) a move: the
solver opens a node's descendants, the challenger follows the first one that differs
from its own tree. Everything left of the path is then equal on both sides, so the leaf
that is reached is the first wrong one and its left neighbour is right. Between two
sparse leaves the solver posts up to 63 inner roots a move, evenly spread by
``inner_positions``.
"""

from collections.abc import Sequence

from ml_verifier import merkle
from ml_verifier.merkle import Purpose, Tree

LEVELS_PER_MOVE = 6
PARTS = 1 << LEVELS_PER_MOVE


def child_level(level: int) -> int:
    """Return the level (0: leaves) of the descendants that open a node."""
    return max(0, level - LEVELS_PER_MOVE)


def descendants(tree: Tree, level: int, index: int) -> list[bytes]:
    """Return the hashes that open node ``index`` of ``level``: at most 64."""
    below = child_level(level)
    width = 1 << (level - below)
    return tree.levels[below][index * width : (index + 1) * width]


def fold_descendants(purpose: Purpose, children: Sequence[bytes]) -> bytes:
    """Return the node that these descendants hash to."""
    level = list(children)
    while len(level) > 1:
        level = [
            merkle.parent(purpose, level[i], level[i + 1])
            for i in range(0, len(level), 2)
        ]
    return level[0]


def first_different_child(
    mine: Tree, level: int, index: int, children: Sequence[bytes]
) -> int | None:
    """Return which opened child of a node first differs from ``mine``; None if none."""
    own = descendants(mine, level, index)
    return next(
        (k for k, (a, b) in enumerate(zip(own, children, strict=True)) if a != b), None
    )


def child_path(purpose: Purpose, children: Sequence[bytes], child: int) -> list[bytes]:
    """Return the siblings from one opened child up to its node."""
    siblings: list[bytes] = []
    level, index = list(children), child
    while len(level) > 1:
        siblings.append(level[index ^ 1])
        level = [
            merkle.parent(purpose, level[i], level[i + 1])
            for i in range(0, len(level), 2)
        ]
        index >>= 1
    return siblings


def inner_positions(start: int, end: int) -> list[int]:
    """Return the positions inside a segment whose roots the solver must post.

    The segment [start, end] is cut into min(64, end - start) parts.
    """
    length = end - start
    parts = min(PARTS, length)
    return [start + length * part // parts for part in range(1, parts)]
