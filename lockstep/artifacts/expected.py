"""What each kind of artifact must be, worked out from the chain and the program."""

import struct
from collections.abc import Sequence

from lockstep.artifacts.kinds import Expected, Kind
from ml_verifier import merkle
from ml_verifier.commitment import Opening, state_tree, verify_opening
from ml_verifier.data import Dataset
from ml_verifier.errors import Malformed
from ml_verifier.program import MAX_POSTED_BYTES, Program, program_root
from ml_verifier.state import State, state_from_bytes
from ml_verifier.trajectory import Trajectory, leaf_count
from ml_verifier.types import f32

__all__ = [
    "LOSS_SLOT",
    "data",
    "leaves",
    "losses",
    "opened_loss",
    "opened_losses",
    "program",
    "state",
]

LOSS_SLOT = 0
_SCALAR_HEAD_BYTES = 6  # u32 leaves of the state tree, u8 dtype, u8 rank (no dims)
_F32_BYTES = 4


def program(root: bytes) -> Expected:
    """A program's canonical bytes."""
    return Expected(
        Kind.PROGRAM,
        root,
        1,
        MAX_POSTED_BYTES,
        lambda found: program_root(found) == root,
    )


def data(root: bytes, job_program: Program, records: int) -> Expected:
    """All records of a job, concatenated."""
    size = records * job_program.record_bytes
    return Expected(
        Kind.DATA,
        root,
        size,
        size,
        lambda found: Dataset(job_program, found).root == root,
    )


def leaves(root: bytes, steps: int, commit_every: int) -> Expected:
    """The leaves of a committed trajectory, 32 bytes each."""
    size = 32 * leaf_count(steps, commit_every)
    return Expected(
        Kind.LEAVES,
        root,
        size,
        size,
        lambda found: Trajectory.from_bytes(steps, commit_every, found).root == root,
    )


def state(root: bytes, job_program: Program, position: int) -> Expected:
    """All slots of the state at a position, concatenated."""
    size = job_program.state_bytes
    return Expected(
        Kind.STATE,
        root,
        size,
        size,
        lambda found: state_from_bytes(job_program, position, found).root == root,
    )


def losses(root: bytes, job_program: Program, roots: Sequence[bytes]) -> Expected:
    """The openings of the loss of each committed state up to the trap, if any.

    Args:
        root: of the commitment.
        job_program: the job's.
        roots: the leaves of the trajectory, already verified.
    """
    size = _opening_bytes(job_program)
    return Expected(
        Kind.LOSSES,
        root,
        0,
        size * len(roots),
        lambda found: opened_losses(found, job_program, roots) is not None,
    )


def opened_loss(held: State) -> tuple[bytes, bytes]:
    """A state's root and the opening of its loss, hashing the state once."""
    tree = state_tree(held.position, held.tensors)
    loss = held.tensors[LOSS_SLOT]
    opening = Opening(
        leaves=tree.count,
        type=f32(),
        state_path=tuple(tree.path(LOSS_SLOT + 1)),
        tile_path=(),
        tile=loss.tobytes(),
    )
    return tree.root, opening.encode()


def opened_losses(
    found: bytes, job_program: Program, roots: Sequence[bytes]
) -> list[float] | None:
    """The losses that published openings prove, one per leaf from leaf 0 on.

    Returns:
        None if an opening does not lead to its leaf. Shorter than `roots` if the
        training diverged: a trap state has no loss.
    """
    size = _opening_bytes(job_program)
    if len(found) % size or len(found) > size * len(roots):
        return None
    values: list[float] = []
    for index in range(len(found) // size):
        piece = found[index * size : (index + 1) * size]
        try:
            opening = verify_opening(roots[index], LOSS_SLOT, 0, piece)
        except Malformed:
            return None
        values.append(_scalar(opening.tile))
    return values


def _opening_bytes(job_program: Program) -> int:
    path = merkle.depth(len(job_program.slots) + 1)
    return _SCALAR_HEAD_BYTES + 32 * path + _F32_BYTES


def _scalar(tile: bytes) -> float:
    (value,) = struct.unpack("<f", tile)
    return float(value)
