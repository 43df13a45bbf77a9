"""One step's values: what a solver commits when a single operator is to be found.

The trace is a SHA-256 tree (``ml_verifier.merkle``, purpose ``TRACE``) over the tensor
roots of all values in their numbering order: the slots before the step, the batch, then
every node's outputs. Its ends are bound to the states on both sides: the first leaves
are the slots of h_i, and the leaves that ``next_state`` names are the slots of h_{i+1}.
A value that a trap left uncomputed has the leaf payload of 32 zero bytes.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ml_verifier import kernels, merkle
from ml_verifier.adjudication.refinement import Facts, Values, canonical
from ml_verifier.commitment import Array, Indices, tensor_root
from ml_verifier.engine import Backend
from ml_verifier.memory import FACTS
from ml_verifier.merkle import Purpose, Tree
from ml_verifier.program import Program

MISSING = bytes(32)  # payload of a value that was never computed


@dataclass(frozen=True)
class Trace:
    """All values of one step, as far as it came.

    Attributes:
        program: The step.
        facts: Seed and position.
        values: One array per value, NaN canonical; shorter when the step trapped.
    """

    program: Program
    facts: Facts
    values: tuple[Array, ...]

    @property
    def trapped_node(self) -> int | None:
        """The node that found an index out of range, if one did."""
        if len(self.values) == len(self.program.types):
            return None
        return self.program.first_output.index(len(self.values))

    @cached_property
    def roots(self) -> tuple[bytes, ...]:
        """The payload of every leaf."""
        found = [tensor_root(np.asarray(value, order="C")) for value in self.values]
        return (*found, *[MISSING] * (len(self.program.types) - len(found)))

    @cached_property
    def tree(self) -> Tree:
        """The tree over all values."""
        return trace_tree(self.roots)

    def inputs(self, node: int) -> list[Array]:
        """Return the input values of a node."""
        return [self.values[value] for value in self.program.nodes[node].inputs]


def trace_tree(roots: Sequence[bytes]) -> Tree:
    """Return the tree over tensor roots."""
    return Tree(Purpose.TRACE, [merkle.leaf(Purpose.TRACE, root) for root in roots])


def trace_step(
    program: Program,
    facts: Facts,
    state: Sequence[Array],
    columns: Sequence[Array],
    records: Sequence[int] | Indices,
    backend: Backend = kernels,
) -> Trace:
    """Take one step and keep every value.

    Args:
        program: The step.
        facts: The job's seed and the position before the step.
        state: The tensors of all slots before it.
        columns: One array per field, [records, ...].
        records: The record of each place in the batch.
        backend: What computes.
    """
    values: list[Array] = [np.asarray(tensor, order="C") for tensor in state]
    values += [_kept(np.take(column, records, axis=0)) for column in columns]
    for number, node in enumerate(program.nodes):
        types = program.node_types(node)[1]
        outputs = [np.zeros(t.shape, t.dtype.numpy) for t in types]
        name = node.operator.name
        if name in FACTS:
            outputs[0][...] = fact(name, facts)
        else:
            inputs = [values[i] for i in node.inputs]
            if backend.bind(name, node.attributes, inputs, outputs)():
                return Trace(
                    program, facts, tuple(values[: program.first_output[number]])
                )
        values += [_kept(output) for output in outputs]
    return Trace(program, facts, tuple(values))


def fact(name: str, facts: Facts) -> Values:
    """Return the value of a ``seed`` or ``step`` node."""
    value = np.uint64(facts.seed) if name == "seed" else np.uint64(facts.position)
    return np.asarray(value.astype(np.int64))


def _kept(output: Array) -> Array:
    """Return a value as it is committed."""
    return np.asarray(canonical(output), order="C").reshape(output.shape)


def owner(program: Program, value: int) -> int | None:
    """Return the node whose output a value is; None for slots and fields."""
    if value < len(program.slots) + len(program.fields):
        return None
    return bisect_right(program.first_output, value) - 1
