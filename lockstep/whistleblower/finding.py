"""What a whistleblower finds out about a commitment. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.client.views import WITHHELD
from ml_verifier import descent
from ml_verifier.trajectory import Trajectory, first_difference

__all__ = ["Finding", "compare", "differing_part"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A wrong commitment.

    Attributes:
        named: the step to name: the first bad one, in a sparse commitment the start of
            the first bad segment; WITHHELD if the leaves are not published.
        leaf: index of the first differing leaf; None if the leaves are not published.
    """

    named: int
    leaf: int | None


def compare(
    mine: Trajectory, root: bytes, leaves: Sequence[bytes] | None
) -> Finding | None:
    """Compare a commitment with our own trajectory of the same job.

    Args:
        mine: our trajectory.
        root: of the commitment.
        leaves: as published and verified against `root`; None if nobody has them.

    Returns:
        None if the commitment is right.
    """
    if mine.root == root:
        return None
    if leaves is None:
        return Finding(WITHHELD, None)
    leaf = first_difference(mine.leaves, leaves)
    if leaf is None:
        # Two trees over the same leaves have the same root.
        raise AssertionError(f"equal leaves under {mine.root.hex()} and {root.hex()}")
    return Finding((leaf - 1) * mine.commit_every, leaf)


def differing_part(
    mine: Sequence[bytes], start: int, end: int, posted: Sequence[bytes]
) -> int:
    """Which part of a segment first ends in a wrong state.

    Args:
        mine: our root at every position.
        start: first state of the segment, which is right.
        end: last state of it, which is wrong.
        posted: the solver's inner roots.
    """
    positions = descent.inner_positions(start, end)
    for part, (position, root) in enumerate(zip(positions, posted, strict=True)):
        if mine[position] != root:
            return part
    return len(posted)
