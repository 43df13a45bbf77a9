"""Where each value of a step lives: one block of memory, planned from lifetimes.

The block is [state A | extra | state B]. A step reads one state and writes the other,
so that the state before a step is still there when the step traps. Until a slot of the
next state is written its place is free: temporaries live in the next state's memory and
spill into the extra part. Places are counted from the far end of the state that is
written, which makes one plan serve both directions.

Values whose lifetimes do not overlap share memory; a reshape is an alias; the gradient
that an optimiser consumes lies where the optimiser puts the new parameter; a slot that
the step does not change has one buffer for both states.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ml_verifier.commitment import Indices
from ml_verifier.program import Node, Program

ALIGNMENT = 64
FACTS = ("seed", "step")  # operators whose output the engine knows
ALIASES = ("reshape",)  # operators whose output is their input
# Operators that may write their first output over their second input.
IN_PLACE = ("sgd", "adamw", "lion")


@dataclass(frozen=True)
class MemoryPlan:
    """Places in the block, in bytes.

    Attributes:
        root: For each value, the value whose buffer it shares through reshapes.
        place: Of each computed value that has memory of its own.
        slot_place: Of each slot that the step changes, in the next state.
        copies: Slots whose next content is copied there at the end of the step.
        state: Bytes of one state.
        extra: Bytes between the states.
    """

    root: tuple[int, ...]
    place: dict[int, int]
    slot_place: dict[int, int]
    copies: tuple[int, ...]
    state: int
    extra: int

    @property
    def block(self) -> int:
        """Bytes of the whole block."""
        return 2 * self.state + self.extra


def padded(nbytes: int) -> int:
    """Return a size that keeps what follows aligned."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def outputs_of(program: Program, position: int) -> range:
    """Return the numbers of the output values of a node."""
    first = program.first_output
    end = first[position + 1] if position + 1 < len(first) else len(program.types)
    return range(first[position], end)


def kept_slots(program: Program) -> frozenset[int]:
    """Return the slots that a step does not change."""
    pairs = enumerate(program.next_state)
    return frozenset(slot for slot, value in pairs if slot == value)


@lru_cache(maxsize=16)
def memory_plan(program: Program) -> MemoryPlan:
    """Return the plan of a program's values."""
    return _Planner(program).plan()


class _Planner:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._inputs = len(program.slots) + len(program.fields)
        self._end = len(program.nodes)
        self._root = list(range(len(program.types)))
        self._made: dict[int, int] = {}
        for position, node in enumerate(program.nodes):
            outputs = outputs_of(program, position)
            if node.operator.name in ALIASES:
                self._root[outputs[0]] = self._root[node.inputs[0]]
            elif node.operator.name not in FACTS:
                self._made |= dict.fromkeys(outputs, position)
        self._last = self._last_uses()

    def _last_uses(self) -> dict[int, int]:
        """Return the last node that reads or writes each value with memory."""
        last = dict(self._made)
        for position, node in enumerate(self._program.nodes):
            for value in node.inputs:
                last[self._root[value]] = position
        last |= {self._root[value]: self._end for value in self._program.next_state}
        return last

    def plan(self) -> MemoryPlan:
        program, kept = self._program, kept_slots(self._program)
        slot_place: dict[int, int] = {}
        direct: dict[int, int] = {}
        state = 0
        for slot, value in enumerate(program.next_state):
            if slot in kept:
                continue
            slot_place[slot] = state
            state += padded(program.slots[slot].type.nbytes)
            if value in self._made:
                direct.setdefault(value, slot)
        copies = tuple(s for s in slot_place if direct.get(program.next_state[s]) != s)
        place = {value: slot_place[slot] for value, slot in direct.items()}
        start = dict(self._made)
        for value, gradient in self._consumed(direct):
            place[gradient] = place[value]
            start[value] = min(start[value], start[gradient])
        blocks = _Blocks(len(program.types) + len(slot_place))
        for value in direct:
            size = program.types[value].nbytes
            blocks.add(place[value], padded(size), start[value], self._end)
        for slot in copies:
            size = padded(program.slots[slot].type.nbytes)
            blocks.add(slot_place[slot], size, self._end, self._end)
        rest = [value for value in self._made if value not in place]
        rest.sort(key=lambda value: (-program.types[value].nbytes, value))
        for value in rest:
            size = padded(program.types[value].nbytes)
            place[value] = blocks.fit(size, self._made[value], self._last[value])
        extra = max(0, blocks.top - state)
        return MemoryPlan(tuple(self._root), place, slot_place, copies, state, extra)

    def _consumed(self, direct: dict[int, int]) -> list[tuple[int, int]]:
        """Return (new parameter, gradient) where the one may overwrite the other."""
        pairs: list[tuple[int, int]] = []
        taken: set[int] = set(direct)
        for position, node in enumerate(self._program.nodes):
            if node.operator.name not in IN_PLACE:
                continue
            value, gradient = outputs_of(self._program, position)[0], node.inputs[1]
            free = gradient in self._made and gradient not in taken
            free = free and self._last[gradient] == position
            # A gradient that is read under several names keeps its own memory.
            if value in direct and free and node.inputs.count(gradient) == 1:
                taken.add(gradient)
                pairs.append((value, gradient))
        return pairs


class _Blocks:
    """Placed blocks, each with the span of nodes during which it is in use."""

    def __init__(self, most: int) -> None:
        self._rows: Indices = np.zeros((most, 4), np.int64)
        self._count = 0
        self.top = 0

    def add(self, place: int, size: int, start: int, end: int) -> None:
        self._rows[self._count] = place, size, start, end
        self._count += 1
        self.top = max(self.top, place + size)

    def fit(self, size: int, start: int, end: int) -> int:
        """Put a block at the lowest free place; return it."""
        rows = self._rows[: self._count]
        rows = rows[(rows[:, 2] <= end) & (rows[:, 3] >= start)]
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        ends = np.maximum.accumulate(rows[:, 0] + rows[:, 1])
        gaps = np.concatenate([[0], ends])
        room = np.append(rows[:, 0], np.iinfo(np.int64).max) - gaps
        place = int(gaps[int(np.argmax(room >= size))])
        self.add(place, size, start, end)
        return place


def scratch_bytes(program: Program, node: Node) -> int:
    """Return the bytes a node's kernel needs beside its inputs and outputs."""
    inputs, outputs = program.node_types(node)
    return node.operator.scratch(inputs, outputs, node.attributes)


@lru_cache(maxsize=16)
def peak_memory(program: Program) -> int:
    """Return the bytes that one execution allocates: states, values, batch, scratch."""
    first = len(program.slots)
    fields = program.types[first : first + len(program.fields)]
    kept = sum(program.slots[slot].type.nbytes for slot in kept_slots(program))
    scratch = max((scratch_bytes(program, node) for node in program.nodes), default=0)
    return memory_plan(program).block + kept + sum(t.nbytes for t in fields) + scratch
