"""Execution of a program: every buffer is laid out once, every kernel bound once.

Values whose lifetimes do not overlap share a buffer; a reshape is an alias. The state
lives in two sets of buffers: a step reads one and writes the other, so the state before
a step is still there when the step traps.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from ml_verifier import kernels
from ml_verifier.commitment import Array, Indices
from ml_verifier.operators import AttributeValue
from ml_verifier.program import Node, Program
from ml_verifier.types import TensorType, i64

FACTS = ("seed", "step")  # operators whose output the engine knows
UNBOUND = {"reshape", *FACTS}  # operators that no backend computes here


class Backend(Protocol):
    """What computes the operators: ``ml_verifier.kernels`` or ``.oracle``."""

    def bind(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue],
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
    ) -> Callable[[], int]:
        """Return a call that reads ``inputs``, writes ``outputs``; non-zero: trap."""
        ...

    def all_finite(self, array: np.ndarray) -> bool:
        """Return whether no element of a float32 array is infinite or NaN."""
        ...


class Layout:
    """Which buffer each value of a program lives in.

    Attributes:
        root: For each value, the value whose buffer it shares through reshapes.
        direct: Computed values that go straight into a slot of the next state.
        buffer: For each value that is computed into a pool buffer, its number.
        sizes: Bytes of each pool buffer.
    """

    def __init__(self, program: Program) -> None:
        self.root = list(range(len(program.types)))
        for node, first in zip(program.nodes, program.first_output, strict=True):
            if node.operator.name == "reshape":
                self.root[first] = self.root[node.inputs[0]]
        inputs = len(program.slots) + len(program.fields)
        self.direct: dict[int, int] = {}
        for slot, value in enumerate(program.next_state):
            if value >= inputs and self.root[value] == value:
                self.direct.setdefault(value, slot)
        self.sizes: list[int] = []
        self.buffer: dict[int, int] = {}
        self._assign(program)

    def _assign(self, program: Program) -> None:
        inputs = len(program.slots) + len(program.fields)
        kept = {self.root[v] for v in program.next_state}
        last_use = self._last_uses(program)
        free: dict[int, list[int]] = {}
        expiring: dict[int, list[int]] = {}
        for value, position in last_use.items():
            if value >= inputs and value not in kept:
                expiring.setdefault(position, []).append(value)
        for position, node in enumerate(program.nodes):
            if node.operator.name not in UNBOUND:
                for value in _outputs(program, position):
                    if value not in self.direct:
                        self._take_buffer(value, program.types[value].nbytes, free)
            for value in expiring.get(position, ()):
                if value not in self.buffer:
                    continue
                free.setdefault(program.types[value].nbytes, []).append(
                    self.buffer[value]
                )

    def _take_buffer(self, value: int, nbytes: int, free: dict[int, list[int]]) -> None:
        if free.get(nbytes):
            self.buffer[value] = free[nbytes].pop()
        else:
            self.buffer[value] = len(self.sizes)
            self.sizes.append(nbytes)

    def _last_uses(self, program: Program) -> dict[int, int]:
        """Return, per computed value, the last node that reads or writes it."""
        last: dict[int, int] = {}
        for position, node in enumerate(program.nodes):
            for value in (*node.inputs, *_outputs(program, position)):
                last[self.root[value]] = position
        return last


@lru_cache(maxsize=16)
def layout_of(program: Program) -> Layout:
    """Return the layout of a program's values."""
    return Layout(program)


def _outputs(program: Program, position: int) -> range:
    """Return the numbers of the output values of a node."""
    first = program.first_output
    end = first[position + 1] if position + 1 < len(first) else len(program.types)
    return range(first[position], end)


@lru_cache(maxsize=16)
def peak_memory(program: Program) -> int:
    """Return the bytes that one execution allocates: both states, values, scratch."""
    scratch = sum(_scratch(program, node) for node in program.nodes)
    fields = sum(t.nbytes for t in _field_types(program))
    return 2 * program.state_bytes + fields + sum(layout_of(program).sizes) + scratch


def _scratch(program: Program, node: Node) -> int:
    inputs, outputs = program.node_types(node)
    return node.operator.scratch(inputs, outputs, node.attributes)


def _field_types(program: Program) -> Sequence[TensorType]:
    slots = len(program.slots)
    return program.types[slots : slots + len(program.fields)]


class Engine:
    """A program bound to buffers and kernels, holding one current state."""

    def __init__(self, program: Program, backend: Backend = kernels) -> None:
        self.program = program
        self._backend = backend
        self._fields = [_buffer(t) for t in _field_types(program)]
        self._states = [[_buffer(s.type) for s in program.slots] for _ in range(2)]
        self._layout = layout_of(program)
        self._pool = [np.empty(size, np.uint8) for size in self._layout.sizes]
        self._facts = {name: _buffer(i64()) for name in FACTS}
        self._calls: list[list[Callable[[], int]] | None] = [None, None]
        self._side = 0

    def _bind(self, side: int) -> list[Callable[[], int]]:
        """Bind all nodes, reading state ``side`` and writing the other one."""
        program, layout = self.program, self._layout
        values: list[Array] = [*self._states[side], *self._fields]
        target = self._states[1 - side]
        calls: list[Callable[[], int]] = []
        for position, node in enumerate(program.nodes):
            for value in _outputs(program, position):
                type_ = program.types[value]
                if node.operator.name in FACTS:
                    values.append(self._facts[node.operator.name])
                elif value in layout.direct:
                    values.append(target[layout.direct[value]])
                elif layout.root[value] != value:
                    values.append(values[layout.root[value]].reshape(type_.shape))
                else:
                    raw = self._pool[layout.buffer[value]]
                    values.append(raw.view(type_.dtype.numpy).reshape(type_.shape))
            if node.operator.name not in UNBOUND:
                outputs = [values[v] for v in _outputs(program, position)]
                inputs = [values[v] for v in node.inputs]
                calls.append(
                    self._backend.bind(
                        node.operator.name, node.attributes, inputs, outputs
                    )
                )
        for slot, value in enumerate(program.next_state):
            if layout.direct.get(value) != slot:
                calls.append(_copier(values[value], target[slot]))
        return calls

    @property
    def tensors(self) -> tuple[Array, ...]:
        """The current state's buffers; overwritten by the second step from now."""
        return tuple(self._states[self._side])

    def load(self, tensors: Sequence[Array]) -> None:
        """Copy a state in."""
        for buffer, tensor in zip(self._states[self._side], tensors, strict=True):
            np.copyto(buffer, tensor, casting="no")

    def step(
        self,
        columns: Sequence[Array],
        indices: Sequence[int] | Indices,
        seed: int,
        position: int,
    ) -> bool:
        """Take one step on records ``indices`` of ``columns``.

        Args:
            columns: One array per field, [records, ...].
            indices: The record of each place in the batch.
            seed: The job's seed; with ``position`` it is all the randomness there is.
            position: Steps taken before this one.

        Returns:
            Whether the state advanced; otherwise it trapped and is unchanged.
        """
        for buffer, column in zip(self._fields, columns, strict=True):
            np.take(column, indices, axis=0, out=buffer, mode="clip")
        self._facts["seed"][...] = np.uint64(seed).astype(np.int64)
        self._facts["step"][...] = position
        calls = self._calls[self._side]
        if calls is None:
            calls = self._calls[self._side] = self._bind(self._side)
        for call in calls:
            if call():
                return False
        target = self._states[1 - self._side]
        if not all(self._backend.all_finite(tensor) for tensor in target):
            return False
        self._side = 1 - self._side
        return True


def _buffer(type_: TensorType) -> Array:
    return np.zeros(type_.shape, type_.dtype.numpy)


def _copier(source: Array, target: Array) -> Callable[[], int]:
    def copy() -> int:
        np.copyto(target, source)
        return 0

    return copy
