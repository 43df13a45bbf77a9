"""The two sides of a dispute as they play it: what to answer, given a world.

A solver opens what it has committed. A challenger holds the honest world and follows
the first difference. Neither trusts what the other shows; ``game.apply`` checks it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ml_verifier import commitment, merkle, pieces
from ml_verifier.adjudication.evidence import build_at
from ml_verifier.adjudication.execution import first_trap
from ml_verifier.adjudication.game import IllegalMove
from ml_verifier.adjudication.moves import (
    ChooseStage,
    DenyTrap,
    Descend,
    Follow,
    Leaf,
    Move,
    NodeTraps,
    NotFinite,
    Open,
    PostStages,
    PostStep,
    Prove,
    Reveal,
    ShowBefore,
    ShowRecord,
    ShowSlot,
    SlotDiffers,
    Timeout,
)
from ml_verifier.adjudication.overlay import Overlay
from ml_verifier.adjudication.phases import (
    AtOperator,
    AtSlot,
    AtStages,
    AtState,
    AtStep,
    AtTile,
    Descent,
    Dispute,
    InTiles,
    InTrace,
    InTrajectory,
    Posted,
    Revealed,
    Tensor,
    TrapDenied,
    refinement_of,
)
from ml_verifier.adjudication.refinement import Values
from ml_verifier.adjudication.trace import Trace
from ml_verifier.adjudication.units import Unit
from ml_verifier.adjudication.world import (
    Held,
    World,
    sha_overlay,
    shown,
    state_tree_of,
    tile_levels,
    trajectory_of,
)
from ml_verifier.commitment import Array, tensor_root
from ml_verifier.descent import child_level
from ml_verifier.rng import batch_indices
from ml_verifier.types import DType


def _descendants(levels: Sequence[Sequence[bytes]], at: Descent) -> tuple[bytes, ...]:
    below = child_level(at.level)
    width = 1 << (at.level - below)
    return tuple(levels[below][at.index * width : (at.index + 1) * width])


def not_finite(array: Array) -> int | None:
    """Return the flat position of the first element that is infinite or NaN."""
    values: Values = array
    if array.dtype == DType.BF16.numpy:
        values = np.where(values & 0x7F80 == 0x7F80, np.inf, 0.0)
    found = np.flatnonzero(~np.isfinite(values))
    return int(found[0]) if found.size else None


class Solver:
    """Opens its own world."""

    def __init__(self, world: World, steps: int) -> None:
        self._world = world
        self._tree = trajectory_of(world, steps)

    def answer(self, dispute: Dispute) -> Move:  # noqa: PLR0911 - one case a phase
        """Return the next move of the side whose commitment is on trial."""
        match dispute.phase:
            case InTrajectory(descent):
                root = self._world.root(descent.index)
                return _open(self._tree.levels, descent, root)
            case AtStep(position=position):
                return self._post_step(position)
            case InTrace(step, descent):
                trace = self._world.trace(step.position)
                root = trace.roots[min(descent.index, len(trace.roots) - 1)]
                return _open(trace.tree.levels, descent, root)
            case AtOperator(step, value):
                return self._post_stages(dispute, step, value)
            case InTiles(tensor, descent):
                levels = tile_levels(self._tensor(tensor))
                return Open(_descendants(levels, descent))
            case AtTile(tensor, tile):
                return Reveal(commitment.tile_bytes(self._tensor(tensor), tile))
            case TrapDenied(step):
                return self._show_trap(dispute, step)
            case phase:
                raise IllegalMove(f"not the solver's move in {type(phase).__name__}")

    def _post_step(self, position: int) -> Move:
        trace = self._world.trace(position)
        after = self._world.tensors(position + 1)
        slots = tuple(tensor_root(tensor) for tensor in after)
        return PostStep(trace.tree.root, slots)

    def _post_stages(self, dispute: Dispute, step: Posted, value: int) -> Move:
        program = dispute.case.program
        trace = self._world.trace(step.position)
        node = max(n for n, first in enumerate(program.first_output) if first <= value)
        stages = self._world.stages(step.position, node)
        first = program.first_output[node]
        count = len(program.node_types(program.nodes[node])[1])
        return PostStages(
            tuple(tensor_root(np.asarray(stage, order="C")) for stage in stages),
            tuple(_traced(trace, first + i) for i in range(count)),
        )

    def _tensor(self, tensor: Tensor) -> Array:
        position = tensor.step.position
        if tensor.at is None:
            program = self._world.program
            field = tensor.field or 0
            return self._world.trace(position).values[len(program.slots) + field]
        array = self._world.stages(position, tensor.at.node)[tensor.stage]
        return np.asarray(array, order="C")

    def _show_trap(self, dispute: Dispute, step: Posted) -> Move:
        trace = self._world.trace(step.position)
        node = trace.trapped_node
        if node is not None:
            return _node_traps(dispute, trace, node)
        for slot, value in enumerate(dispute.case.program.next_state):
            position = not_finite(trace.values[value])
            if position is not None:
                opening = _piece(trace.values[value], position)
                return NotFinite(slot, _traced(trace, value), opening)
        return Timeout()


def _open(levels: Sequence[Sequence[bytes]], at: Descent, payload: bytes) -> Move:
    return Open((payload,) if at.level == 0 else _descendants(levels, at))


def _traced(trace: Trace, value: int) -> Leaf:
    return Leaf(trace.roots[value], tuple(trace.tree.path(value)))


def _piece(array: Array, position: int) -> bytes:
    type_ = commitment.type_of(array)
    tile, chunk, _ = pieces.piece_of(type_, position)
    return pieces.open_piece(np.asarray(array, order="C"), tile, chunk)


def _node_traps(dispute: Dispute, trace: Trace, node: int) -> Move:
    """Show where an index of a node is out of range."""
    refinement = refinement_of(dispute.case, node, trace.facts.position)
    inputs = trace.inputs(node)
    found = first_trap(refinement, inputs)
    if found is None:
        return Timeout()
    stage, position = found
    sources = [Held(array) for array in inputs]
    unit, evidence = build_at(refinement, sources, stage, position, trap=True)
    values = dispute.case.program.nodes[node].inputs
    leaves = tuple(_traced(trace, value) for value in values)
    return NodeTraps(node, stage, unit, evidence, leaves)


class Challenger:
    """Holds the honest world and follows the first difference from it.

    It remembers what the other side has shown, to lead from equal leaves to roots that
    are not its own.
    """

    def __init__(self, world: World, steps: int) -> None:
        """Build one's own trajectory."""
        self._world = world
        self._states = sha_overlay(trajectory_of(world, steps))
        self._values: Overlay | None = None
        self._tiles: Overlay | None = None

    def answer(self, dispute: Dispute) -> Move:  # noqa: PLR0911 - a case a phase
        """Return the next move of the side that says that something is wrong."""
        match dispute.phase:
            case InTrajectory(descent):
                return _follow(self._states, descent)
            case AtState(position, after):
                return self._show_before(position, after)
            case Posted() as step:
                return self._accuse(dispute, step)
            case InTrace(step, descent):
                if self._values is None:
                    self._values = sha_overlay(self._trace(step).tree)
                return _follow(self._values, descent)
            case AtSlot(step, slot):
                tree = state_tree_of(self._world, step.position)
                root = tensor_root(self._world.tensors(step.position)[slot])
                return ShowSlot(Leaf(root, tuple(tree.path(slot + 1))))
            case AtStages(step, node, stages):
                return self._choose(dispute, step, node, stages)
            case InTiles(tensor, descent):
                return _follow(self._overlay(tensor), descent)
            case Revealed(tensor, tile, data):
                if tensor.at is None:
                    return self._show_record(dispute, tensor, tile, data)
                return self._prove(dispute, tensor, tile, data)
            case phase:
                raise IllegalMove(f"not the challenger's move: {type(phase).__name__}")

    def _trace(self, step: Posted) -> Trace:
        return self._world.trace(step.position)

    def _show_before(self, position: int, after: bytes) -> Move:
        # The leaf after it has been shown by its payload alone.
        self._states.show(
            0, position + 1, [merkle.leaf(merkle.Purpose.TRAJECTORY, after)]
        )
        before = self._world.root(position)
        leaf = Leaf(before, tuple(self._states.path(position)))
        if self._world.tensors(position):
            return ShowBefore(leaf)
        last = position
        while not self._world.tensors(last):
            last -= 1
        return ShowBefore(leaf, self._world.root(last))

    def _accuse(self, dispute: Dispute, step: Posted) -> Move:
        """Find what is wrong with a step: its values, its ends, or its trap."""
        trace = self._trace(step)
        if step.trace != trace.tree.root:
            return Descend()
        if not step.slots:
            return DenyTrap()
        for slot, value in enumerate(dispute.case.program.next_state):
            if step.slots[slot] != trace.roots[value]:
                return SlotDiffers(slot, _traced(trace, value))
        if trace.trapped_node is not None:
            return _node_traps(dispute, trace, trace.trapped_node)
        for slot, value in enumerate(dispute.case.program.next_state):
            position = not_finite(trace.values[value])
            if position is not None:
                opening = _piece(trace.values[value], position)
                return NotFinite(slot, _traced(trace, value), opening)
        return Timeout()

    def _leaves(self, dispute: Dispute, node: int, trace: Trace) -> tuple[Leaf, ...]:
        """Return a node's inputs under the other side's trace."""
        overlay = self._values or sha_overlay(trace.tree)
        return tuple(
            Leaf(trace.roots[value], tuple(overlay.path(value)))
            for value in dispute.case.program.nodes[node].inputs
        )

    def _choose(
        self, dispute: Dispute, step: Posted, node: int, stages: Sequence[bytes]
    ) -> Move:
        trace = self._trace(step)
        if trace.trapped_node == node:
            move = _node_traps(dispute, trace, node)
            if isinstance(move, NodeTraps):
                return replace(move, inputs=self._leaves(dispute, node, trace))
            return move
        mine = self._world.stages(step.position, node)
        for number, (array, root) in enumerate(zip(mine, stages, strict=True)):
            if tensor_root(array) != root:
                self._tiles = None
                return ChooseStage(number)
        return Timeout()

    def _array(self, tensor: Tensor) -> Array:
        """Return one's own tensor in place of the one on trial."""
        position = tensor.step.position
        if tensor.at is not None:
            return self._world.stages(position, tensor.at.node)[tensor.stage]
        if tensor.field is None:
            raise IllegalMove("a tensor that is neither a stage nor a field")
        place = len(self._world.program.slots) + tensor.field
        return self._world.trace(position).values[place]

    def _overlay(self, tensor: Tensor) -> Overlay:
        if self._tiles is None:
            levels = tile_levels(self._array(tensor))
            self._tiles = Overlay(levels, commitment.hash_node)
        return self._tiles

    def _prove(self, dispute: Dispute, tensor: Tensor, tile: int, data: bytes) -> Move:
        at = tensor.at
        if at is None:
            return Timeout()
        step, node = tensor.step, at.node
        trace = self._trace(step)
        refinement = refinement_of(dispute.case, node, step.position)
        stages = self._world.stages(step.position, node)
        mine = stages[tensor.stage]
        overlay = self._overlay(tensor)
        overlay.show(0, tile, [commitment.hash_tile(tensor.type, tile, data)])
        sources = [Held(array) for array in (*trace.inputs(node), *stages)]
        me = len(trace.inputs(node)) + tensor.stage
        sources[me] = shown(mine, tile, data, overlay)
        position = _first_difference(mine, tile, data)
        unit, evidence = build_at(refinement, sources, tensor.stage, position)
        return Prove(unit, evidence, self._leaves(dispute, node, trace))

    def _show_record(
        self, dispute: Dispute, tensor: Tensor, tile: int, data: bytes
    ) -> Move:
        mine = commitment.tile_bytes(self._array(tensor), tile)
        size = tensor.type.dtype.numpy.itemsize
        element = next(
            i for i in range(len(data) // size)
            if mine[i * size : (i + 1) * size] != data[i * size : (i + 1) * size]
        )  # fmt: skip
        place = _place(tensor, tile, element)
        dataset, case = self._world.dataset, dispute.case
        record = batch_indices(
            case.seed, case.records, case.program.batch, tensor.step.position
        )[place]
        path = tuple(dataset.tree.path(record))
        return ShowRecord(element, Leaf(dataset.record(record), path))


def _follow(overlay: Overlay, descent: Descent) -> Move:
    """Follow the first child that is not one's own, and remember all of them."""
    below = child_level(descent.level)
    first = descent.index * len(descent.children)
    mine = overlay.levels[below][first : first + len(descent.children)]
    child = next(
        (i for i, (a, b) in enumerate(zip(mine, descent.children, strict=True))
         if a != b), None
    )  # fmt: skip
    overlay.show(below, first, descent.children)
    return Timeout() if child is None else Follow(child)


def _first_difference(mine: Array, tile: int, data: bytes) -> int:
    """Return the flat position of the first element of a tile that differs."""
    own = commitment.tile_bytes(mine, tile)
    size = mine.dtype.itemsize
    element = next(
        i for i in range(len(data) // size)
        if own[i * size : (i + 1) * size] != data[i * size : (i + 1) * size]
    )  # fmt: skip
    return int(Unit(tile).positions(mine.shape)[element])


def _place(tensor: Tensor, tile: int, element: int) -> int:
    """Return the place in the batch of an element of a tile."""
    position = int(Unit(tile).positions(tensor.type.shape)[element])
    return position // (tensor.type.size // tensor.type.shape[0])
