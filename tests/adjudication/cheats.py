"""Ways in which a solver's account can be wrong, each at one exact place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import override

from ml_verifier import commitment, kernels
from ml_verifier.adjudication.execution import stage_tensors
from ml_verifier.adjudication.phases import refinement_of
from ml_verifier.adjudication.refinement import Facts, Values, canonical
from ml_verifier.adjudication.trace import Trace, fact
from ml_verifier.adjudication.world import HonestWorld
from ml_verifier.commitment import Array
from ml_verifier.memory import FACTS
from ml_verifier.program import Program


def flipped(array: Array, element: int, bit: int = 12) -> Array:
    """A copy with one bit of one element flipped."""
    result = array.copy()
    raw = result.reshape(-1).view(np.uint8)
    size = array.dtype.itemsize
    at = element % array.size
    raw[at * size + bit // 8 % size] ^= 1 << bit % 8
    return result


def continued(
    program: Program, facts: Facts, values: list[Array], *, invent: bool = False
) -> tuple[Array, ...]:
    """Go on computing from the values that are there; invent what traps, or stop."""
    done = len(values)
    for number, node in enumerate(program.nodes):
        first = program.first_output[number]
        if first < done:
            continue
        types = program.node_types(node)[1]
        outputs = [np.zeros(t.shape, t.dtype.numpy) for t in types]
        if node.operator.name in FACTS:
            outputs[0][...] = fact(node.operator.name, facts)
        else:
            inputs = [values[i] for i in node.inputs]
            if kernels.bind(node.operator.name, node.attributes, inputs, outputs)():
                if not invent:
                    return tuple(values)
                for output in outputs:
                    output.fill(1)
        values += [canonical(output).reshape(output.shape) for output in outputs]
    return tuple(values)


class Cheat(HonestWorld):
    """An account that is wrong from one step on."""

    def __init__(self, honest: HonestWorld, at: int) -> None:
        """Share the honest states up to step ``at``."""
        self.program, self.seed = honest.program, honest.seed
        self.dataset, self.at = honest.dataset, at
        self._states = list(honest._states)
        trace = self.trace(at)
        self._after = self.slots_after(trace)

    def slots_after(self, trace: Trace) -> tuple[Array, ...]:
        """The slots after the wrong step; none: it trapped."""
        if trace.trapped_node is not None:
            return ()
        return tuple(trace.values[value] for value in self.program.next_state)

    @override
    def root(self, position: int) -> bytes:
        """Any root will do after the wrong step."""
        if position <= self.at:
            return self._states[position].root
        if position == self.at + 1 and self._after:
            return commitment.state_root(position, self._after)
        before = self._states[self.at].root
        return commitment.trap_root(before)

    @override
    def tensors(self, position: int) -> Sequence[Array]:
        return super().tensors(position) if position <= self.at else self._after


class WrongElement(Cheat):
    """One element of one stage of one node is wrong; all else follows from it."""

    def __init__(
        self, honest: HonestWorld, at: int, node: int, stage: int, element: int
    ) -> None:
        self.node, self.element = node, element
        count = len(refinement_of(honest.case, node, at).stages)
        self.stage = stage % count
        self._honest = honest
        super().__init__(honest, at)

    def _wrong(self, inputs: Sequence[Values]) -> list[Values]:
        refinement = refinement_of(self._honest.case, self.node, self.at)
        right = stage_tensors(refinement, inputs)
        known = dict(enumerate(right[: self.stage]))
        known[self.stage] = flipped(right[self.stage], self.element)
        try:
            return stage_tensors(refinement, inputs, known)
        except IndexError:  # no later stage follows from such an index: keep them
            return [*right[: self.stage], known[self.stage], *right[self.stage + 1 :]]

    @override
    def traced(self, position: int) -> Trace:
        trace = self._honest.trace(position)
        if position != self.at:
            return trace
        refinement = refinement_of(self._honest.case, self.node, position)
        stages = self._wrong(trace.inputs(self.node))
        first = self.program.first_output[self.node]
        values = list(trace.values[:first])
        values += [stages[stage] for stage in refinement.outputs]
        return replace(trace, values=continued(self.program, trace.facts, values))

    @override
    def staged(self, position: int, node: int) -> Sequence[Array]:
        if node == self.node:
            return self._wrong(self._honest.trace(position).inputs(node))
        return super().staged(position, node)


@dataclass
class _Ends:
    """Which slots or fields a trace starts from."""

    value: int
    element: int


class WrongStart(Cheat):
    """The step starts from another slot or batch than it should."""

    def __init__(self, honest: HonestWorld, at: int, value: int, element: int) -> None:
        self._honest, self._ends = honest, _Ends(value, element)
        super().__init__(honest, at)

    @override
    def traced(self, position: int) -> Trace:
        trace = self._honest.trace(position)
        if position != self.at:
            return trace
        starts = len(self.program.slots) + len(self.program.fields)
        values = list(trace.values[:starts])
        at = self._ends.value % starts
        bit = 0 if values[at].dtype == np.int64 else 12
        values[at] = flipped(values[at], self._ends.element, bit)
        return replace(trace, values=continued(self.program, trace.facts, values))


class WrongEnd(Cheat):
    """A slot after the step is not the value that the program says."""

    def __init__(self, honest: HonestWorld, at: int, slot: int, element: int) -> None:
        self._slot, self._element = slot % len(honest.program.slots), element
        super().__init__(honest, at)

    @override
    def slots_after(self, trace: Trace) -> tuple[Array, ...]:
        slots = list(super().slots_after(trace))
        slots[self._slot] = flipped(slots[self._slot], self._element)
        return tuple(slots)


class FalseTrap(Cheat):
    """The step did not trap, and the account says so: with all values, or without."""

    def __init__(self, honest: HonestWorld, at: int, node: int | None) -> None:
        self._node = node
        super().__init__(honest, at)

    @override
    def traced(self, position: int) -> Trace:
        trace = super().traced(position)
        if self._node is None:
            return trace
        end = self.program.first_output[self._node]
        return replace(trace, values=trace.values[:end])

    @override
    def slots_after(self, trace: Trace) -> tuple[Array, ...]:
        return ()


class SilentTrap(Cheat):
    """The step trapped, and the account goes on with made-up values."""

    def __init__(self, honest: HonestWorld, at: int) -> None:
        self._honest = honest
        super().__init__(honest, at)

    @override
    def traced(self, position: int) -> Trace:
        trace = self._honest.trace(position)
        if position != self.at or trace.trapped_node is None:
            return trace
        values = continued(self.program, trace.facts, list(trace.values), invent=True)
        return replace(trace, values=values)

    @override
    def staged(self, position: int, node: int) -> Sequence[Array]:
        trace = self.trace(position)
        refinement = refinement_of(self._honest.case, node, position)
        if node != self._honest.trace(position).trapped_node:
            return super().staged(position, node)
        made = [np.zeros(s.type.shape, s.type.dtype.numpy) for s in refinement.stages]
        first = self.program.first_output[node]
        for number, stage in enumerate(refinement.outputs):
            made[stage] = trace.values[first + number]
        return made
