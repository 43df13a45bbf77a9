"""Execution of a program: memory planned once, every kernel bound once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ml_verifier import kernels
from ml_verifier.commitment import Array, Indices
from ml_verifier.memory import (
    ALIASES,
    ALIGNMENT,
    FACTS,
    kept_slots,
    memory_plan,
    outputs_of,
)
from ml_verifier.operators import AttributeValue
from ml_verifier.program import Program
from ml_verifier.types import TensorType, i64

Call = Callable[[], int]


class Backend(Protocol):
    """What computes the operators: ``ml_verifier.kernels`` or ``.oracle``."""

    def bind(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue],
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
    ) -> Call:
        """Return a call that reads ``inputs``, writes ``outputs``; non-zero: trap."""
        ...

    def sequence(self, calls: Sequence[Call]) -> Call:
        """Return a call that makes these of ``bind`` in order, up to the first trap."""
        ...

    def finite(self, array: np.ndarray) -> Call:
        """Return a call that traps when an element is infinite or NaN."""
        ...


class Engine:
    """A program bound to memory and kernels, holding one current state."""

    def __init__(self, program: Program, backend: Backend = kernels) -> None:
        self.program = program
        self._backend = backend
        self._plan = memory_plan(program)
        self._block = _aligned(self._plan.block)
        first = len(program.slots)
        fields = program.types[first : first + len(program.fields)]
        self._fields = [_buffer(t) for t in fields]
        self._facts = {name: _buffer(i64()) for name in FACTS}
        kept = {slot: _buffer(program.slots[slot].type) for slot in kept_slots(program)}
        self._states = [
            [
                kept[slot] if slot in kept else self._slot(side, slot)
                for slot in range(len(program.slots))
            ]
            for side in range(2)
        ]
        self._kept = tuple(kept.values())
        self._traps = False
        self._steps: list[Call | None] = [None, None]
        self._side = 0

    def _view(self, side: int, place: int, type_: TensorType) -> Array:
        """Return memory at a place, counted from the far end of state ``side``."""
        start = place if side == 0 else self._plan.block - place - type_.nbytes
        if side == 1:  # keep the padding behind the elements: both ends are aligned
            start -= -type_.nbytes % ALIGNMENT
        raw = self._block[start : start + type_.nbytes]
        return raw.view(type_.dtype.numpy).reshape(type_.shape)

    def _slot(self, side: int, slot: int) -> Array:
        type_ = self.program.slots[slot].type
        view = self._view(side, self._plan.slot_place[slot], type_)
        view.fill(0)
        return view

    def _bind(self, side: int) -> Call:
        """Bind all nodes, reading state ``side`` and writing the other one."""
        program, plan, backend = self.program, self._plan, self._backend
        values: list[Array] = [*self._states[side], *self._fields]
        calls: list[Call] = []
        written = {
            program.next_state[slot]
            for slot in plan.slot_place
            if slot not in plan.copies
        }
        for position, node in enumerate(program.nodes):
            numbers = outputs_of(program, position)
            name = node.operator.name
            if name in FACTS:
                values.append(self._facts[name])
                continue
            if name in ALIASES:
                shape = program.types[numbers[0]].shape
                values.append(values[node.inputs[0]].reshape(shape))
                continue
            outputs = [
                self._view(1 - side, plan.place[v], program.types[v]) for v in numbers
            ]
            inputs = [values[v] for v in node.inputs]
            calls.append(backend.bind(name, node.attributes, inputs, outputs))
            values += outputs
            # While they are in the cache: a next state that is not finite is a trap.
            calls += [backend.finite(values[v]) for v in numbers if v in written]
        for slot in plan.copies:
            source, target = (
                values[program.next_state[slot]],
                self._states[1 - side][slot],
            )
            reshaped: dict[str, AttributeValue] = {"shape": target.shape}
            calls.append(backend.bind("reshape", reshaped, [source], [target]))
            calls.append(backend.finite(target))
        return backend.sequence(calls)

    @property
    def tensors(self) -> tuple[Array, ...]:
        """The current state's buffers; overwritten by the second step from now."""
        return tuple(self._states[self._side])

    def load(self, tensors: Iterable[Array]) -> None:
        """Copy a state in, slot by slot."""
        for buffer, tensor in zip(self._states[self._side], tensors, strict=True):
            np.copyto(buffer, tensor, casting="no")
        # Slots that no step changes are in every next state: they are checked here.
        self._traps = any(self._backend.finite(slot)() for slot in self._kept)

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
        step = self._steps[self._side]
        if step is None:
            step = self._steps[self._side] = self._bind(self._side)
        if self._traps or step():
            return False
        self._side = 1 - self._side
        return True


def _buffer(type_: TensorType) -> Array:
    return np.zeros(type_.shape, type_.dtype.numpy)


def _aligned(nbytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    shift = -int(raw.__array_interface__["data"][0]) % ALIGNMENT
    return raw[shift : shift + nbytes]
