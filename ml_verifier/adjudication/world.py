"""All that a party knows of a job's execution, and how it opens it.

A ``World`` answers for one trajectory: states, the values of each step, the stages of
each node. ``HonestWorld`` computes them; a cheater's is another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ml_verifier import commitment, merkle, pieces
from ml_verifier.adjudication.execution import stage_tensors
from ml_verifier.adjudication.overlay import Overlay
from ml_verifier.adjudication.phases import Case, refinement_of
from ml_verifier.adjudication.refinement import Facts, Indices, Values
from ml_verifier.adjudication.trace import Trace, trace_step
from ml_verifier.commitment import TILE, Array, tile_grid, tile_shape
from ml_verifier.data import Dataset
from ml_verifier.merkle import Tree
from ml_verifier.program import Program
from ml_verifier.rng import batch_indices
from ml_verifier.session import AnyState, Session
from ml_verifier.state import State
from ml_verifier.trajectory import Trajectory
from ml_verifier.types import TensorType


@dataclass(frozen=True)
class Held:
    """A committed tensor that a party holds (an ``evidence.Source``).

    Attributes:
        array: C-contiguous.
        levels: Its tile tree, where it is not the array's own.
    """

    array: Array
    levels: tuple[Values, ...] | None = None

    @property
    def type(self) -> TensorType:
        """Its dtype and shape."""
        return commitment.type_of(self.array)

    def read(self, indices: Indices) -> Values:
        """Return elements at flat positions."""
        result: Values = self.array.reshape(-1)[indices]
        return result

    def open(self, wanted: set[tuple[int, int]]) -> bytes:
        """Return the opening of these pieces."""
        return pieces.open_pieces(self.array, wanted, self.levels)


def shown(array: Array, tile: int, data: bytes, overlay: Overlay) -> Held:
    """Return another party's tensor: one's own but for a revealed tile."""
    theirs = array.copy()
    rows, columns = tile_shape(array.shape, tile)
    top, left = (TILE * i for i in divmod(tile, tile_grid(array.shape)[1]))
    matrix = theirs.reshape(commitment.matrix_shape(array.shape))
    values = np.frombuffer(data, array.dtype).reshape(rows, columns)
    matrix[top : top + rows, left : left + columns] = values
    levels = tuple(
        np.frombuffer(b"".join(level), np.uint8).reshape(-1, 32)
        for level in overlay.levels
    )
    return Held(theirs, levels)


class World(Protocol):
    """One account of a job's execution."""

    @property
    def program(self) -> Program:
        """The job's step."""
        ...

    @property
    def seed(self) -> int:
        """The job's seed."""
        ...

    @property
    def dataset(self) -> Dataset:
        """The job's data."""
        ...

    def root(self, position: int) -> bytes:
        """Return h_position."""
        ...

    def tensors(self, position: int) -> Sequence[Array]:
        """Return the slots of a state; none of a trap state."""
        ...

    def trace(self, position: int) -> Trace:
        """Return the values of the step after ``position`` steps."""
        ...

    def stages(self, position: int, node: int) -> Sequence[Array]:
        """Return the stages of a node in that step."""
        ...


class HonestWorld:
    """What really happens; steps are taken once and their states kept."""

    def __init__(
        self, program: Program, seed: int, dataset: Dataset, steps: int
    ) -> None:
        """Train all steps."""
        self.program = program
        self.seed = seed
        self.dataset = dataset
        session = Session(program, seed, dataset)
        self._states: list[AnyState] = [session.state()]
        for _ in session.run(steps):
            self._states.append(session.state())

    @property
    def steps(self) -> int:
        """T."""
        return len(self._states) - 1

    def root(self, position: int) -> bytes:
        """Return h_position."""
        return self._states[position].root

    def tensors(self, position: int) -> Sequence[Array]:
        """Return the slots of a state; none of a trap state."""
        state = self._states[position]
        return state.tensors if isinstance(state, State) else ()

    def trace(self, position: int) -> Trace:
        """Return the values of a step that starts from an ordinary state."""
        if position not in self._traces:
            self._traces[position] = self.traced(position)
        return self._traces[position]

    def stages(self, position: int, node: int) -> Sequence[Array]:
        """Return the stages of a node."""
        if (position, node) not in self._stages:
            self._stages[position, node] = self.staged(position, node)
        return self._stages[position, node]

    @cached_property
    def _traces(self) -> dict[int, Trace]:
        return {}

    @cached_property
    def _stages(self) -> dict[tuple[int, int], Sequence[Array]]:
        return {}

    def traced(self, position: int) -> Trace:
        """Take a step again and keep its values."""
        records = batch_indices(
            self.seed, self.dataset.records, self.program.batch, position
        )
        facts = Facts(self.seed, position)
        state, columns = self.tensors(position), self.dataset.columns
        return trace_step(self.program, facts, state, columns, records)

    def staged(self, position: int, node: int) -> Sequence[Array]:
        """Compute the stages of a node, its outputs taken from the kernels."""
        trace = self.trace(position)
        case = self.case
        refinement = refinement_of(case, node, position)
        first = self.program.first_output[node]
        known = {
            stage: trace.values[first + number]
            for number, stage in enumerate(refinement.outputs)
        }
        return stage_tensors(refinement, trace.inputs(node), known)

    @cached_property
    def case(self) -> Case:
        """The case in which this very account is on trial."""
        return case_of(self, self.steps)


def case_of(world: World, steps: int) -> Case:
    """Return the case about a world's trajectory."""
    return Case(
        world.program, world.seed, world.dataset.root, world.dataset.records, steps,
        trajectory_of(world, steps).root,
    )  # fmt: skip


def trajectory_of(world: World, steps: int) -> Tree:
    """Return the dense trajectory tree of a world."""
    roots = tuple(world.root(position) for position in range(steps + 1))
    return Trajectory(steps, 1, roots).tree


def state_tree_of(world: World, position: int) -> Tree:
    """Return the tree of an ordinary state."""
    return commitment.state_tree(position, world.tensors(position))


def tile_levels(array: Array) -> list[list[bytes]]:
    """Return the tile tree of a tensor as lists of hashes."""
    return [
        [bytes(node) for node in level] for level in commitment.tensor_levels(array)
    ]


def sha_overlay(tree: Tree) -> Overlay:
    """Return a party's own SHA-256 tree, to be overlaid."""
    purpose = tree.purpose
    return Overlay(tree.levels, lambda left, right: merkle.parent(purpose, left, right))
