# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""The walk over an aten graph.

A table maps each aten operator to a rule (``capture.rules``). A rule that meets an
option it cannot express raises ``Unsupported``; the walk goes on, so that every problem
is reported at once.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch.fx import Node

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.literals import Filled
from ml_verifier.capture.operands import (
    UNKNOWN,
    Operand,
    Operands,
    Unknown,
    Value,
    dtype_of,
    held,
)
from ml_verifier.capture.source import BACKWARD, Sources
from ml_verifier.capture.trace import Traced
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.operators import ShapeError
from ml_verifier.types import DType, TensorType

aten = torch.ops.aten
VIEWS = {
    *(aten.view.default, aten.slice.Tensor, aten.select.int, aten.expand.default),
    *(aten.permute.default, aten.transpose.int, aten.t.default, aten.alias.default),
    *(aten.unsqueeze.default, aten.squeeze.dim, aten.detach.default),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the graph.

    Attributes:
        node: The call itself.
        arguments: What it was called with, by the names of its schema.
    """

    node: Node
    arguments: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - whatever the schema has
        """Return one argument; tensors are operands."""
        return self.arguments[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that torch says the call yields."""
        return tuple(self.node.meta["val"].shape)

    @property
    def dtype(self) -> DType:
        """The element type that torch says the call yields."""
        return dtype_of(self.node.meta["val"].dtype)


Rule: TypeAlias = Callable[["Lowering", Call], Operand]
Rules: TypeAlias = Mapping[Any, Rule]


@dataclass(frozen=True, slots=True)
class Result:
    """What the traced step yields, as value numbers."""

    loss: int
    gradients: Mapping[str, int]
    buffers: Mapping[str, int]


class Lowering(Operands):
    """One walk over a traced graph."""

    def __init__(
        self,
        builder: Builder,
        rules: Rules,
        advice: Mapping[str, str],
        inputs: Mapping[str, Operand],
        streams: int = 0,
    ) -> None:
        """Start a walk.

        Args:
            builder: Receives the nodes.
            rules: The rule of each aten operator.
            advice: What to write instead of operators without a rule, by how their
                names start.
            inputs: Operand of each parameter and buffer; one that is missing is a
                counter, on which no value may depend.
            streams: Streams of randomness that the step has drawn from already.
        """
        super().__init__(builder, streams)
        self.problems: list[str] = []
        self.values: dict[Node, Operand] = {}
        self._rules = rules
        self._advice = advice
        self._inputs = inputs

    def run(self, traced: Traced, fields: Sequence[int]) -> Result:
        """Lower every call; problems are collected, not raised.

        Args:
            traced: The graph.
            fields: The values that take the places of the sample's tensors.
        """
        sources = Sources(traced.graph)
        placeholders = [n for n in traced.graph.nodes if n.op == "placeholder"]
        operands: list[Operand] = [self._inputs.get(n, UNKNOWN) for n in traced.inputs]
        operands += [Value(number) for number in fields]
        self.values.update(zip(placeholders, operands, strict=True))
        outputs: Sequence[Any] = ()
        for node in traced.graph.nodes:
            if node.op == "call_function" and node not in self.values:
                self._attempt(node, sources)
            elif node.op == "get_attr":
                self.values[node] = held(traced.constants[str(node.target)])
            elif node.op == "output":
                outputs = node.args[0]
        forward = [p for p in self.problems if BACKWARD not in p]
        self.problems = forward or self.problems
        if self.problems:
            return Result(0, {}, {})
        return self._result(traced, outputs)

    def _result(self, traced: Traced, outputs: Sequence[Any]) -> Result:
        names = ("the loss", *(f"the gradient of {n}" for n in traced.trained))
        numbers: list[int] = []
        for name, node in zip(names, outputs[: len(names)], strict=True):
            if isinstance(self.values[node], Unknown):
                self.problems.append(
                    f"{name} depends on an integer buffer that changes"
                )
            else:
                numbers.append(self.number(self.values[node]))
        if not self.problems:
            numbers[0] = self.number(self.cast(Value(numbers[0]), DType.F32))
        if self.problems:
            return Result(0, {}, {})
        return Result(
            loss=numbers[0],
            gradients=dict(zip(traced.trained, numbers[1:], strict=True)),
            buffers={
                name: self.number(self.values[node])
                for name, node in zip(
                    traced.buffers, outputs[len(names) :], strict=True
                )
                if name in self._inputs and name not in traced.unchanged
            },
        )

    def _attempt(self, node: Node, sources: Sources) -> None:
        try:
            self.values[node] = self._call(node)
        except (Unsupported, ShapeError) as error:
            self.values[node] = UNKNOWN
            line = f"{node.target}: {error} ({sources.location(node)})"
            if line not in self.problems:
                self.problems.append(line)

    def _call(self, node: Node) -> Operand:
        if node.target is operator.getitem:
            source, index = cast("tuple[Node, int]", node.args)
            outputs = self.values[source]
            return outputs[index] if isinstance(outputs, tuple) else UNKNOWN
        rule = self._rules.get(node.target)
        written = None
        if rule is None:
            written = _out_of_place(node.target)
            rule = self._rules.get(written)
        if rule is None:
            raise Unsupported(self._advised(str(node.target)))
        call = Call(node, self._arguments(node))
        if any(_unknown(argument) for argument in call.arguments.values()):
            return UNKNOWN
        result = self._narrowed(rule(self, call), node.meta.get("val"))
        if written is not None:
            self._overwrite(node.args[0], result)
        return result

    def _overwrite(self, target: object, result: Operand) -> None:
        """Let an in-place call change what it was called on.

        Tracing removes such calls, except on tensors that are made of constants alone.
        """
        if not isinstance(target, Node) or target.target in VIEWS:
            raise Unsupported("writes into a part of a constant: clone() it first")
        self.values[target] = result

    def _advised(self, name: str) -> str:
        for start, advice in self._advice.items():
            if name.startswith(start):
                return advice
        return "no reproducible operator; docs/creator.md says what there is"

    def _arguments(self, node: Node) -> dict[str, Any]:
        schema: Any = node.target
        arguments: dict[str, Any] = {}
        for position, parameter in enumerate(schema._schema.arguments):  # noqa: SLF001 - torch has no other door
            if position < len(node.args):
                argument = node.args[position]
            else:
                argument = node.kwargs.get(parameter.name, parameter.default_value)
            arguments[parameter.name] = self._lowered(argument)
        return arguments

    def _lowered(self, argument: Any) -> Any:  # noqa: ANN401 - whatever the schema has
        """Return an argument with operands in place of nodes."""
        if isinstance(argument, (list, tuple)):
            return [self._lowered(item) for item in argument]
        return self.values[argument] if isinstance(argument, Node) else argument

    def _narrowed(self, operand: Operand, expected: object) -> Operand:
        """Round results to the type that torch gives them; check their shape."""
        if isinstance(operand, tuple) and isinstance(expected, (tuple, list)):
            pairs = zip(operand, expected, strict=False)
            return tuple(self._narrowed(o, e) for o, e in pairs)
        if not isinstance(expected, torch.Tensor) or operand is None:
            return operand
        wanted = TensorType(dtype_of(expected.dtype), tuple(expected.shape))
        if isinstance(operand, (Value, Filled)):
            if wanted.dtype is DType.BF16:
                operand = self.cast(operand, DType.BF16)
            if self.type(operand) != wanted:
                raise RuntimeError(f"expected {wanted}, got {self.type(operand)}")
        return operand


def _out_of_place(target: Any) -> object:  # noqa: ANN401 - torch's operators are untyped
    """Return the operator that computes what an in-place one writes."""
    namespace, _, rest = str(target).partition(".")
    name, _, overload = rest.partition(".")
    packet = getattr(torch.ops.aten, name.rstrip("_"), None)
    if namespace != "aten" or not name.endswith("_") or packet is None:
        return None
    return getattr(packet, overload, None)


def _unknown(argument: object) -> bool:
    if isinstance(argument, (tuple, list)):
        return any(_unknown(a) for a in argument)
    return isinstance(argument, Unknown)
