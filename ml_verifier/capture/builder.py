"""A program under construction: values are numbered as nodes are added."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ml_verifier.operators import BY_NAME, AttributeValue, infer
from ml_verifier.program import Field, Node, Program, Slot, build
from ml_verifier.types import TensorType


@dataclass
class Builder:
    """Collects nodes; two that compute the same are one."""

    batch: int
    slots: tuple[Slot, ...]
    fields: tuple[Field, ...]
    nodes: list[Node] = field(default_factory=list[Node])
    types: list[TensorType] = field(default_factory=list[TensorType])
    _known: dict[object, int] = field(default_factory=dict[object, int])
    _counted: set[int] = field(default_factory=set[int])
    _broadcasts: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        """Number the slots and the batched fields."""
        self.types += [slot.type for slot in self.slots]
        self.types += [
            TensorType(f.type.dtype, (self.batch, *f.type.shape)) for f in self.fields
        ]

    def add(self, name: str, *inputs: int, **attributes: AttributeValue) -> int:
        """Append a node unless there is one like it; return its first output."""
        operator = BY_NAME[name]
        rounded = _rounded(attributes)
        key = name, inputs, tuple(sorted((k, _bits(v)) for k, v in rounded.items()))
        if key in self._known:
            return self._known[key]
        outputs = infer(operator, [self.types[i] for i in inputs], rounded)
        self.nodes.append(Node(operator, inputs, rounded))
        first = len(self.types)
        self.types.extend(outputs)
        self._known[key] = first
        if name == "broadcast":
            self._broadcasts[first] = inputs[0]
        if name == "iota" or (
            name in {"reshape", "broadcast"} and inputs[0] in self._counted
        ):
            self._counted.add(first)
        return first

    def before_broadcast(self, number: int) -> int:
        """Return what a value repeats, or the value if it repeats nothing."""
        return self._broadcasts.get(number, number)

    def is_counted(self, number: int) -> bool:
        """Return whether a value counts 0, 1, 2, ..."""
        return number in self._counted

    def constant(self, value: float, shape: tuple[int, ...] = ()) -> int:
        """Return a tensor filled with ``value``, rounded once to float32."""
        return self.add("constant", shape=shape, value=float(value))

    def finish(self, next_state: tuple[int, ...]) -> Program:
        """Drop what no slot depends on and return the validated program."""
        inputs = len(self.slots) + len(self.fields)
        firsts: list[int] = []
        number = inputs
        for node in self.nodes:
            firsts.append(number)
            number += self._output_count(node)
        needed = set(next_state)
        kept: list[int] = []
        for position in reversed(range(len(self.nodes))):
            node = self.nodes[position]
            outputs = range(
                firsts[position], firsts[position] + self._output_count(node)
            )
            if needed.intersection(outputs):
                needed.update(node.inputs)
                kept.append(position)
        renumber = {i: i for i in range(inputs)}
        nodes: list[Node] = []
        number = inputs
        for position in reversed(kept):
            node = self.nodes[position]
            nodes.append(
                Node(
                    node.operator,
                    tuple(renumber[i] for i in node.inputs),
                    node.attributes,
                )
            )
            for offset in range(self._output_count(node)):
                renumber[firsts[position] + offset] = number
                number += 1
        final = tuple(renumber[value] for value in next_state)
        return build(self.batch, self.slots, self.fields, tuple(nodes), final)

    def _output_count(self, node: Node) -> int:
        types = [self.types[i] for i in node.inputs]
        return len(infer(node.operator, types, node.attributes))


def _rounded(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Round float attributes to float32, as the program's bytes hold them."""
    return {
        name: float(np.float32(value)) if isinstance(value, float) else value
        for name, value in attributes.items()
    }


def _bits(value: AttributeValue) -> object:
    """Tell -0.0 from 0.0, which compare equal."""
    return float.hex(value) if isinstance(value, float) else value
