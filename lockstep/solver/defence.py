"""How a solver answers: from its own run to the move that a challenge asks for.

Pure: a challenge and the run go in, a move comes out. Openings come from the tree that
was committed, so whoever committed to the truth can always answer.
"""

from dataclasses import dataclass

from lockstep.client.views import Challenge, Clocks, Job
from lockstep.training import Run
from ml_verifier import descent, merkle
from ml_verifier.commitment import open_tile
from ml_verifier.judge import ReplayCall, replay
from ml_verifier.state import State
from ml_verifier.witness import build_witness

__all__ = [
    "OpenNode",
    "PostInner",
    "Record",
    "Tile",
    "answer_record",
    "answer_tile",
    "bound_path",
    "node_children",
    "owed_opening",
    "stands_up",
    "step_call",
]


@dataclass(frozen=True, slots=True)
class OpenNode:
    """Open node (`level`, `index`) by its `children`."""

    level: int
    index: int
    children: list[bytes]


@dataclass(frozen=True, slots=True)
class PostInner:
    """Post the `roots` between the states `start` and `end`."""

    start: int
    end: int
    roots: list[bytes]


@dataclass(frozen=True, slots=True)
class Record:
    """The answer to a demand for a record."""

    payload: bytes
    path: list[bytes]


@dataclass(frozen=True, slots=True)
class Tile:
    """The answer to a demand for a tile of a state."""

    state_root: bytes
    path: list[bytes]
    opening: bytes


def owed_opening(
    challenge: Challenge, clocks: Clocks, run: Run
) -> OpenNode | PostInner | None:
    """The opening that a challenge waits for, or None if it waits for nothing."""
    if not clocks.solver_moves:
        return None
    if challenge.level > 0:
        children = node_children(run, challenge.level, challenge.index)
        return OpenNode(challenge.level, challenge.index, children)
    positions = descent.inner_positions(challenge.start, challenge.end)
    roots = [run.roots[position] for position in positions]
    return PostInner(challenge.start, challenge.end, roots)


def node_children(run: Run, level: int, index: int) -> list[bytes]:
    """What opens a node: hashes six levels below, or the leaves' state roots."""
    trajectory = run.trajectory()
    children = descent.descendants(trajectory.tree, level, index)
    if descent.child_level(level) > 0:
        return children
    first = index << level
    leaves = trajectory.leaves[first : first + len(children)]
    return [*leaves, *[merkle.EMPTY] * (len(children) - len(leaves))]


def step_call(job: Job, run: Run, step: int) -> ReplayCall:
    """The question to the judge about one of our own steps, with its witness."""
    work = run.work
    witness = build_witness(work.program, work.seed, work.dataset, run.state_at(step))
    return ReplayCall(
        trial=job.trial,
        position=step,
        pre_root=run.roots[step],
        post_root=run.roots[step + 1],
        program_root=job.program_root,
        data_root=job.terms.data_root,
        seed=work.seed,
        records=work.dataset.records,
        witness=witness,
    )


def stands_up(call: ReplayCall) -> bool:
    """Whether the judge will say VALID: asked here before it is asked on the chain."""
    return replay(call)


def bound_path(run: Run, position: int) -> list[bytes]:
    """The path of a state in the commitment; empty between committed states."""
    every, steps = run.work.commit_every, run.work.steps
    if position % every and position != steps:
        return []
    return run.trajectory().path(-(-position // every))


def answer_record(run: Run, record: int) -> Record:
    """Open one record of the data."""
    dataset = run.work.dataset
    return Record(dataset.record(record), dataset.path(record))


def answer_tile(run: Run, position: int, slot: int, tile: int) -> Tile:
    """Open one tile of a committed state; a trap state shows what it hashes."""
    held = run.state_at(position)
    if isinstance(held, State):
        opening = open_tile(position, held.tensors, slot, tile).encode()
    else:
        opening = held.previous
    return Tile(run.roots[position], bound_path(run, position), opening)
