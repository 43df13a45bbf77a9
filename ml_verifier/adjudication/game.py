"""A dispute from a trajectory down to one tile, as a pure state machine.

Only one commitment is on trial, the solver's. The challenger points, the solver opens:

    trajectory   the first state that differs            Open / Follow
    step         the solver commits the step's values    ShowBefore / PostStep
    values       the first value that differs            Descend, Open / Follow
    operator     the solver commits the stages           PostStages / ChooseStage
    tiles        the first tile that differs             Open / Follow, Reveal
    unit         recomputed from opened pieces           Prove

At each level everything left of the path is equal on both sides, so whoever holds the
honest values can open it. The ends of a step's values are bound by moves of their own:
slots before (``ShowSlot``) and after (``SlotDiffers``), the batch (``ShowRecord``),
traps (``DenyTrap``, answered by ``NodeTraps`` or ``NotFinite``). Wrong wires and
constants need none: a node's inputs and attributes are the program's.

``apply`` returns the next dispute or a verdict, or raises ``IllegalMove`` and changes
nothing: then the clock of the side to move runs on. A side that lets it run out loses.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ml_verifier import commitment, merkle, pieces
from ml_verifier.adjudication.evidence import holds, traps
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
from ml_verifier.adjudication.phases import (
    AtOperator,
    AtSlot,
    AtStages,
    AtState,
    AtStep,
    AtTile,
    Case,
    Descent,
    Dispute,
    InTiles,
    InTrace,
    InTrajectory,
    Phase,
    Posted,
    Revealed,
    Side,
    Tensor,
    TrapDenied,
    Verdict,
    node_of,
    refinement_of,
)
from ml_verifier.adjudication.refinement import canonical
from ml_verifier.adjudication.trace import MISSING
from ml_verifier.commitment import TILE, matrix_shape, tile_grid, tile_shape
from ml_verifier.descent import child_level
from ml_verifier.errors import Malformed
from ml_verifier.merkle import Purpose, depth
from ml_verifier.rng import batch_indices
from ml_verifier.types import DType, TensorType

Result: TypeAlias = "Phase | Verdict"
CONVICTED = Verdict.SOLVER_CONVICTED


class IllegalMove(Exception):
    """A move that is not the mover's to make, or does not prove what it says."""


def start(case: Case) -> Dispute:
    """Return the dispute about a trajectory whose first state is right.

    Raises:
        ValueError: The job has no steps: there is nothing to dispute.
    """
    if case.steps < 1:
        raise ValueError(f"expected a job of at least one step, got {case.steps}")
    return Dispute(case, InTrajectory(Descent(depth(case.steps + 1))))


def apply(dispute: Dispute, move: Move) -> Dispute | Verdict:
    """Return what a move leads to.

    Raises:
        IllegalMove: It leads nowhere; the dispute stands as it was.
    """
    phase = dispute.phase
    if isinstance(move, Timeout):
        solver = phase.mover is Side.SOLVER
        return CONVICTED if solver else Verdict.CHALLENGE_FAILED
    handler = _HANDLERS.get((type(phase), type(move)))
    if handler is None:
        raise IllegalMove(f"no {type(move).__name__} in {type(phase).__name__}")
    try:
        result = handler(dispute.case, phase, move)
    except Malformed as error:
        raise IllegalMove(str(error)) from error
    return result if isinstance(result, Verdict) else replace(dispute, phase=result)


def _require(ok: object, message: str) -> None:
    if not ok:
        raise IllegalMove(message)


# ── walking down ─────────────────────────────────────────────────────────────

IsTop: TypeAlias = Callable[[bytes], bool]
Parent: TypeAlias = Callable[[bytes, bytes], bytes]


def _opened(descent: Descent, nodes: Sequence[bytes], parent: Parent, is_top: IsTop
            ) -> Descent:  # fmt: skip
    """Take the descendants of the node where a descent stands."""
    wanted = 1 << (descent.level - child_level(descent.level))
    sound = len(nodes) == wanted and all(len(node) == 32 for node in nodes)
    _require(sound, f"expected {wanted} hashes, got {len(nodes)}")
    level = list(nodes)
    while len(level) > 1:
        level = [parent(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    _check_node(descent, level[0], is_top)
    return replace(descent, children=tuple(nodes))


def _check_node(descent: Descent, node: bytes, is_top: IsTop) -> None:
    matches = node == descent.node if descent.node else is_top(node)
    _require(matches, "this does not hash to the node that it opens")


def _followed(descent: Descent, move: Follow, leaves: int) -> Descent:
    """Step to an opened child."""
    _require(0 <= move.child < len(descent.children), f"no child {move.child}")
    below = child_level(descent.level)
    index = descent.index * len(descent.children) + move.child
    _require(index << below < leaves, "padding can't be named")
    return Descent(below, index, descent.children[move.child])


def _sealed(purpose: Purpose, count: int, root: bytes) -> IsTop:
    return lambda top: merkle.seal(purpose, count, top) == root


def _sha(purpose: Purpose) -> Parent:
    return lambda left, right: merkle.parent(purpose, left, right)


def _payload(
    descent: Descent, move: Open, purpose: Purpose, is_top: IsTop
) -> bytes | None:
    """Return the payload of the leaf where a descent arrived; None: not there yet."""
    if descent.level > 0:
        return None
    _require(len(move.nodes) == 1 and len(move.nodes[0]) == 32, "expected one payload")
    _check_node(descent, merkle.leaf(purpose, move.nodes[0]), is_top)
    return move.nodes[0]


def _open_trajectory(case: Case, phase: InTrajectory, move: Open) -> Result:
    is_top = _sealed(Purpose.TRAJECTORY, case.steps + 1, case.trajectory)
    descent = phase.descent
    payload = _payload(descent, move, Purpose.TRAJECTORY, is_top)
    if payload is not None:
        return AtState(descent.index - 1, payload)
    return InTrajectory(_opened(descent, move.nodes, _sha(Purpose.TRAJECTORY), is_top))


def _follow_trajectory(case: Case, phase: InTrajectory, move: Follow) -> Result:
    descent = _followed(phase.descent, move, case.steps + 1)
    _require(descent.level or descent.index, "the first state is agreed on")
    return InTrajectory(descent)


def _open_trace(case: Case, phase: InTrace, move: Open) -> Result:
    is_top = _sealed(Purpose.TRACE, len(case.program.types), phase.step.trace)
    descent = phase.descent
    payload = _payload(descent, move, Purpose.TRACE, is_top)
    if payload is not None:
        return _value_found(case, phase.step, descent.index, payload)
    opened = _opened(descent, move.nodes, _sha(Purpose.TRACE), is_top)
    return replace(phase, descent=opened)


def _follow_trace(case: Case, phase: InTrace, move: Follow) -> Result:
    descent = _followed(phase.descent, move, len(case.program.types))
    return replace(phase, descent=descent)


def _value_found(case: Case, step: Posted, value: int, root: bytes) -> Result:
    """Say what is to be shown about the first value that differs."""
    node = node_of(case, value)
    if node is None:
        if value < len(case.program.slots):
            return AtSlot(step, value, root)
        field = value - len(case.program.slots)
        return _tiles(Tensor(step, case.program.types[value], root, field=field))
    if root == MISSING:
        return TrapDenied(step, node)
    return AtOperator(step, value, root)


def _tiles(tensor: Tensor) -> Result:
    top = tensor.top
    return InTiles(tensor, top) if top.level else AtTile(tensor, 0, b"")


def _open_tiles(_: Case, phase: InTiles, move: Open) -> Result:
    tensor = phase.tensor
    opened = _opened(
        phase.descent, move.nodes, commitment.hash_node,
        lambda top: commitment.seal_tensor(tensor.type, top) == tensor.root,
    )  # fmt: skip
    return replace(phase, descent=opened)


def _follow_tiles(_: Case, phase: InTiles, move: Follow) -> Result:
    tiles = commitment.tile_count(phase.tensor.type.shape)
    descent = _followed(phase.descent, move, tiles)
    if descent.level == 0:
        return AtTile(phase.tensor, descent.index, descent.node)
    return replace(phase, descent=descent)


def _reveal(_: Case, phase: AtTile, move: Reveal) -> Result:
    tensor = phase.tensor
    size = math.prod(tile_shape(tensor.type.shape, phase.tile))
    nbytes = size * tensor.type.dtype.numpy.itemsize
    _require(len(move.data) == nbytes, f"expected {nbytes} bytes, got {len(move.data)}")
    found = commitment.hash_tile(tensor.type, phase.tile, move.data)
    _check_node(
        Descent(0, phase.tile, phase.hash), found,
        lambda top: commitment.seal_tensor(tensor.type, top) == tensor.root,
    )  # fmt: skip
    return Revealed(tensor, phase.tile, move.data)


# ── the ends of a step ───────────────────────────────────────────────────────


def _show_before(case: Case, phase: AtState, move: ShowBefore) -> Result:
    before = _leaf(
        Purpose.TRAJECTORY, case.trajectory, case.steps + 1, phase.position, move.before
    )
    if move.trapped:
        _require(commitment.trap_root(move.trapped) == before, "not a trap state")
        _require(phase.after != before, "the trap state repeats, as it must")
        return CONVICTED
    return AtStep(phase.position, before, phase.after)


def _leaf(purpose: Purpose, root: bytes, count: int, index: int, leaf: Leaf) -> bytes:
    merkle.verify_path(purpose, root, count, index, leaf.payload, leaf.path)
    return leaf.payload


def _post_step(case: Case, phase: AtStep, move: PostStep) -> Result:
    _require(len(move.trace) == 32, "expected a root of 32 bytes")
    if move.slots:
        _require(
            len(move.slots) == len(case.program.slots)
            and all(len(root) == 32 for root in move.slots),
            f"expected {len(case.program.slots)} roots, got {len(move.slots)}",
        )
        payloads = [(phase.position + 1).to_bytes(32, "big"), *move.slots]
        after = merkle.Tree(
            Purpose.STATE, [merkle.leaf(Purpose.STATE, p) for p in payloads]
        ).root
    else:
        after = commitment.trap_root(phase.before)
    _require(after == phase.after, "this does not hash to the state after the step")
    return Posted(phase.position, phase.before, move.trace, move.slots)


def _descend(case: Case, phase: Posted, _: Descend) -> Result:
    return InTrace(phase, Descent(depth(len(case.program.types))))


def _value(case: Case, step: Posted, value: int, leaf: Leaf) -> bytes:
    """Return the root of a value in the solver's trace."""
    count = len(case.program.types)
    return _leaf(Purpose.TRACE, step.trace, count, value, leaf)


def _slot_differs(case: Case, phase: Posted, move: SlotDiffers) -> Result:
    _require(phase.slots, "the step trapped: it has no slots after it")
    _require(0 <= move.slot < len(phase.slots), f"no slot {move.slot}")
    value = _value(case, phase, case.program.next_state[move.slot], move.leaf)
    _require(value != phase.slots[move.slot], "the slot is that value")
    return CONVICTED


def _not_finite(case: Case, phase: Posted, move: NotFinite) -> Result:
    """The challenger: there is no trap, and there should be one."""
    _require(phase.slots, "the step trapped already")
    _require(0 <= move.slot < len(phase.slots), f"no slot {move.slot}")
    type_ = case.program.slots[move.slot].type
    _show_not_finite(type_, phase.slots[move.slot], move.opening)
    return CONVICTED


def _show_not_finite(type_: TensorType, root: bytes, opening: bytes) -> None:
    found = pieces.verify_pieces(root, type_, opening)
    mask = 0x7F800000 if type_.dtype is DType.F32 else 0x7F80
    kind = "<u4" if type_.dtype is DType.F32 else "<u2"
    values = (np.frombuffer(piece, kind) for piece in found.values())
    _require(any(bool(np.any(v & mask == mask)) for v in values), "all are finite")


def _deny_trap(_: Case, phase: Posted, __: DenyTrap) -> Result:
    _require(not phase.slots, "the solver does not say that the step trapped")
    return TrapDenied(phase, None)


def _trap_not_finite(case: Case, phase: TrapDenied, move: NotFinite) -> Result:
    """The solver: the next state would not be finite."""
    _require(phase.node is None, f"node {phase.node} is to be shown to trap")
    _require(0 <= move.slot < len(case.program.slots), f"no slot {move.slot}")
    root = _value(case, phase.step, case.program.next_state[move.slot], move.leaf)
    _show_not_finite(case.program.slots[move.slot].type, root, move.opening)
    return Verdict.CHALLENGE_FAILED


def _node_traps(case: Case, phase: TrapDenied, move: NodeTraps) -> Result:
    """The solver: a node finds an index out of range."""
    _require(phase.node in {None, move.node}, f"node {phase.node} is to be shown")
    _require(0 <= move.node < len(case.program.nodes), f"no node {move.node}")
    position = phase.step.position
    refinement = refinement_of(case, move.node, position)
    roots = _input_roots(case, phase.step, move.node, move.inputs)
    _require(0 <= move.stage < len(refinement.stages), f"no stage {move.stage}")
    _require(
        traps(refinement, roots, move.stage, move.unit, move.evidence),
        "no index is out of range there",
    )
    return Verdict.CHALLENGE_FAILED


def _should_trap(case: Case, phase: Posted | AtStages, move: NodeTraps) -> Result:
    """The challenger: the step, or the node on trial, should have trapped."""
    step = phase if isinstance(phase, Posted) else phase.step
    _require(step.slots, "the step trapped already")
    node = phase.node if isinstance(phase, AtStages) else None
    _node_traps(case, TrapDenied(step, node), move)
    return CONVICTED


def _show_slot(case: Case, phase: AtSlot, move: ShowSlot) -> Result:
    count = len(case.program.slots) + 1
    _leaf(Purpose.STATE, phase.step.before, count, phase.slot + 1, move.leaf)
    _require(move.leaf.payload != phase.root, "the value is the slot before the step")
    return CONVICTED


# ── operators, tiles, elements ───────────────────────────────────────────────


def _post_stages(case: Case, phase: AtOperator, move: PostStages) -> Result:
    node = node_of(case, phase.value)
    if node is None:
        raise IllegalMove("no node computes this value")
    refinement = refinement_of(case, node, phase.step.position)
    wanted = len(refinement.stages), len(refinement.outputs)
    got = len(move.roots), len(move.outputs)
    _require(wanted == got, f"expected {wanted} stages and outputs, got {got}")
    first = case.program.first_output[node]
    for number, leaf in enumerate(move.outputs):
        root = _value(case, phase.step, first + number, leaf)
        stage = move.roots[refinement.outputs[number]]
        _require(root == stage, f"stage of output {number} is not the output")
    return AtStages(phase.step, node, move.roots)


def _choose_stage(case: Case, phase: AtStages, move: ChooseStage) -> Result:
    refinement = refinement_of(case, phase.node, phase.step.position)
    _require(0 <= move.stage < len(phase.stages), f"no stage {move.stage}")
    stage = refinement.stages[move.stage]
    root = phase.stages[move.stage]
    return _tiles(Tensor(phase.step, stage.type, root, at=phase, stage=move.stage))


def _input_roots(
    case: Case, step: Posted, node: int, inputs: Sequence[Leaf]
) -> dict[int, bytes]:
    values = case.program.nodes[node].inputs
    _require(len(inputs) == len(values), f"expected {len(values)} inputs")
    pairs = enumerate(zip(values, inputs, strict=True))
    return {i: _value(case, step, value, leaf) for i, (value, leaf) in pairs}


def _prove(case: Case, phase: Revealed, move: Prove) -> Result:
    at = phase.tensor.at
    if at is None:
        raise IllegalMove("a batch is proved wrong by its records")
    _require(move.unit.tile == phase.tile, f"expected a unit of tile {phase.tile}")
    stage = phase.tensor.stage
    refinement = refinement_of(case, at.node, at.step.position)
    roots = _input_roots(case, at.step, at.node, move.inputs)
    roots |= {len(roots) + i: root for i, root in enumerate(at.stages)}
    right = holds(refinement, roots, stage, move.unit, move.evidence)
    _require(not right, "the unit is what its rule gives")
    return CONVICTED


def _show_record(case: Case, phase: Revealed, move: ShowRecord) -> Result:
    tensor, field = phase.tensor, phase.tensor.field
    if field is None:
        raise IllegalMove("only a batch is proved wrong by its records")
    place, offset, value = _element(tensor.type, phase.tile, move.element, phase.data)
    record = batch_indices(
        case.seed, case.records, case.program.batch, tensor.step.position
    )[place]
    _leaf(Purpose.RECORD, case.data_root, case.records, record, move.record)
    before = sum(f.type.nbytes for f in case.program.fields[:field])
    expected = move.record.payload[before + offset : before + offset + len(value)]
    expected = _committed(expected, tensor.type)
    _require(expected != value, "the element is the record's")
    return CONVICTED


def _element(
    type_: TensorType, tile: int, element: int, data: bytes
) -> tuple[int, int, bytes]:
    """Return the place in the batch, offset in its field, and bytes of an element."""
    height, width = tile_shape(type_.shape, tile)
    _require(0 <= element < height * width, f"no element {element}")
    top, left = divmod(tile, tile_grid(type_.shape)[1])
    row, column = top * TILE + element // width, left * TILE + element % width
    size = type_.dtype.numpy.itemsize
    flat = (row * matrix_shape(type_.shape)[1] + column) * size
    place, offset = divmod(flat, type_.nbytes // type_.shape[0])
    return place, offset, data[element * size : (element + 1) * size]


def _committed(data: bytes, type_: TensorType) -> bytes:
    """Return an element of a record as a trace commits it: NaN canonical."""
    return canonical(np.frombuffer(data, type_.dtype.numpy)).tobytes()


_HANDLERS: dict[tuple[type, type], Callable[[Case, Any, Any], Result]] = {
    (InTrajectory, Open): _open_trajectory,
    (InTrajectory, Follow): _follow_trajectory,
    (AtState, ShowBefore): _show_before,
    (AtStep, PostStep): _post_step,
    (Posted, Descend): _descend,
    (Posted, SlotDiffers): _slot_differs,
    (Posted, NotFinite): _not_finite,
    (Posted, DenyTrap): _deny_trap,
    (TrapDenied, NotFinite): _trap_not_finite,
    (TrapDenied, NodeTraps): _node_traps,
    (InTrace, Open): _open_trace,
    (InTrace, Follow): _follow_trace,
    (AtSlot, ShowSlot): _show_slot,
    (AtOperator, PostStages): _post_stages,
    (AtStages, ChooseStage): _choose_stage,
    (Posted, NodeTraps): _should_trap,
    (AtStages, NodeTraps): _should_trap,
    (InTiles, Open): _open_tiles,
    (InTiles, Follow): _follow_tiles,
    (AtTile, Reveal): _reveal,
    (Revealed, Prove): _prove,
    (Revealed, ShowRecord): _show_record,
}
