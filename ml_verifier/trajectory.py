"""A trajectory h_0..h_T and what a solver commits of it.

Dense (``commit_every`` c = 1): leaf k is h_k. Sparse: leaf k is h_min(k*c, T).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ml_verifier import merkle
from ml_verifier.errors import MalformedData
from ml_verifier.merkle import Purpose, Tree


def leaf_count(steps: int, commit_every: int) -> int:
    """Return how many leaves commit to ``steps`` steps."""
    return -(-steps // commit_every) + 1


def leaf_position(leaf: int, steps: int, commit_every: int) -> int:
    """Return the step index of a leaf's state."""
    return min(leaf * commit_every, steps)


def committed_positions(steps: int, commit_every: int) -> list[int]:
    """Return the step index of every leaf."""
    count = leaf_count(steps, commit_every)
    return [leaf_position(k, steps, commit_every) for k in range(count)]


@dataclass(frozen=True)
class Trajectory:
    """The committed roots of one training run.

    Attributes:
        steps: T.
        commit_every: c.
        leaves: h_0, h_c, h_2c, ..., h_T.
    """

    steps: int
    commit_every: int
    leaves: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Check the number of leaves."""
        expected = leaf_count(self.steps, self.commit_every)
        if len(self.leaves) != expected:
            raise MalformedData(f"expected {expected} leaves, got {len(self.leaves)}")

    @classmethod
    def from_bytes(cls, steps: int, commit_every: int, data: bytes) -> "Trajectory":
        """Decode published leaves, 32 bytes each.

        Raises:
            MalformedData: The size does not fit the job.
        """
        if len(data) != 32 * leaf_count(steps, commit_every):
            raise MalformedData(
                f"expected {32 * leaf_count(steps, commit_every)} bytes of leaves, "
                f"got {len(data)}"
            )
        leaves = tuple(data[i : i + 32] for i in range(0, len(data), 32))
        return cls(steps, commit_every, leaves)

    def to_bytes(self) -> bytes:
        """Return the leaves as they are published."""
        return b"".join(self.leaves)

    @cached_property
    def tree(self) -> Tree:
        """The Merkle tree over the leaves."""
        purpose = Purpose.TRAJECTORY
        return Tree(purpose, [merkle.leaf(purpose, leaf) for leaf in self.leaves])

    @property
    def root(self) -> bytes:
        """The commitment root."""
        return self.tree.root

    def path(self, leaf: int) -> list[bytes]:
        """Return the siblings that open leaf ``leaf``."""
        return self.tree.path(leaf)


def first_difference(mine: Sequence[bytes], theirs: Sequence[bytes]) -> int | None:
    """Return the first index at which two sequences of roots differ.

    The step before it is the first bad one: states before it agree, so replaying that
    step from the agreed state cannot give what the other side committed to.
    """
    for index, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        if a != b:
            return index
    return None
