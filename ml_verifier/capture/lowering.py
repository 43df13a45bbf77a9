# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""The walk over an aten graph, and the words that lowering rules are written with.

A table maps each aten operator to a rule (``capture.rules``). A rule that meets an
option it cannot express raises ``Unsupported``; the walk goes on, so that every problem
is reported at once.

An operand is not always a value of the program. A tensor of one value, a tensor that
the model holds and a transpose of the last two axes become nodes when a rule asks for
their number, and mostly none does: products read transposes, arithmetic broadcasts.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch.fx import Node

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.literals import Expanded, Filled, Plain, Ramp, Staircase, read
from ml_verifier.capture.source import BACKWARD, Sources
from ml_verifier.capture.trace import Traced
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.operators import AttributeValue, ShapeError
from ml_verifier.operators.base import broadcast_shape
from ml_verifier.types import DType, TensorType, boolean, f32, i64

ANY_DTYPE = {
    *("reshape", "transpose", "broadcast", "slice", "pad", "concat", "flip", "cast"),
    *("take", "gather", "scatter", "where"),
}
UNARY = {
    *("relu", "exp", "log", "tanh", "sigmoid", "sqrt", "rsqrt", "erf", "sin", "cos"),
    *("neg", "abs", "sign", "floor", "ceil", "trunc", "round", "gelu", "gelu_tanh"),
    *("silu", "not"),
}
BROADCASTING = {
    *("add", "sub", "mul", "div", "maximum", "minimum", "where"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor"),
    *("int_add", "int_sub", "int_mul", "int_floordiv", "int_remainder"),
}
DTYPES: Mapping[torch.dtype, DType] = {
    torch.float32: DType.F32,
    torch.bfloat16: DType.BF16,
    torch.bool: DType.BOOL,
    torch.int64: DType.I64,
    torch.int32: DType.I64,
    torch.int16: DType.I64,
    torch.int8: DType.I64,
    torch.uint8: DType.I64,
}


aten = torch.ops.aten
VIEWS = {
    *(aten.view.default, aten.slice.Tensor, aten.select.int, aten.expand.default),
    *(aten.permute.default, aten.transpose.int, aten.t.default, aten.alias.default),
    *(aten.unsqueeze.default, aten.squeeze.dim, aten.detach.default),
}


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the program, or its transpose that no node has computed yet."""

    number: int
    transposed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A tensor that the model or its loss holds and no step changes."""

    tensor: torch.Tensor


class Unknown:
    """A value that cannot be had: reported already, or a counter of steps."""


UNKNOWN = Unknown()
Tensor: TypeAlias = Value | Filled | Held
Operand: TypeAlias = (
    Tensor | tuple["Operand", ...] | float | int | bool | Unknown | None
)


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


def dtype_of(dtype: torch.dtype) -> DType:
    """Return the element type that holds a tensor of torch's."""
    if dtype not in DTYPES:
        raise Unsupported(f"{dtype}: use float32, bfloat16, int64 or bool")
    return DTYPES[dtype]


def held(tensor: torch.Tensor) -> Operand:
    """Return the operand of a tensor that no step changes."""
    if tensor.numel() == 1 and tensor.dtype in DTYPES:
        type_ = TensorType(DTYPES[tensor.dtype], tuple(tensor.shape))
        return Filled(tensor.detach().item(), type_)
    return Held(tensor.detach())


class Lowering:
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
        self.builder = builder
        self.problems: list[str] = []
        self.values: dict[Node, Operand] = {}
        self.streams = streams
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

    # ── what rules ask of operands ──────────────────────────────────────────

    def type(self, operand: Operand) -> TensorType:  # noqa: PLR0911 - one of each kind
        """Return an operand's type; Python numbers are scalars."""
        match operand:
            case Value(number, transposed):
                type_ = self.builder.types[number]
                if transposed:
                    return TensorType(type_.dtype, _swapped(type_.shape))
                return type_
            case Filled():
                return operand.type
            case Held(tensor):
                return TensorType(dtype_of(tensor.dtype), tuple(tensor.shape))
            case bool():
                return boolean()
            case int():
                return i64()
            case float():
                return f32()
            case _:
                raise Unsupported(f"expected one tensor, got {operand!r}")

    def shape(self, operand: Operand) -> tuple[int, ...]:
        """Return an operand's shape."""
        return self.type(operand).shape

    def dtype(self, operand: Operand) -> DType:
        """Return an operand's element type."""
        return self.type(operand).dtype

    def rank(self, operand: Operand) -> int:
        """Return an operand's number of dimensions."""
        return len(self.shape(operand))

    def computing(self, operand: Operand) -> DType:
        """Return the element type in which an operand is computed with."""
        dtype = self.dtype(operand)
        return DType.F32 if dtype is DType.BF16 else dtype

    def uniform(self, operand: Operand) -> float | int | None:
        """Return the value that all elements have, if that is known."""
        if isinstance(operand, (int, float)):
            return operand
        return operand.value if isinstance(operand, Filled) else None

    def number(self, operand: Operand) -> int:
        """Return an operand as a value number; computes what is pending."""
        match operand:
            case Value(number, transposed):
                if not transposed:
                    return number
                order = list(range(len(self.builder.types[number].shape)))
                order[-2:] = reversed(order[-2:])
                return self.builder.add("transpose", number, permutation=tuple(order))
            case Filled():
                return self._fill(operand)
            case Held(tensor):
                return self._hold(tensor)
            case int() | float():
                return self._fill(Filled(operand, self.type(operand)))
            case _:
                raise Unsupported(f"expected one tensor, got {operand!r}")

    def _fill(self, filled: Filled) -> int:
        dtype, shape = filled.type.dtype, filled.type.shape
        if dtype is DType.F32:
            return self.builder.constant(float(filled.value), shape)
        if dtype is DType.BF16:
            number = self.builder.constant(float(filled.value))
            number = self.builder.add("cast", number, dtype=int(dtype))
        else:
            data = dtype.numpy.type(filled.value).tobytes()
            number = self.builder.add("literal", dtype=int(dtype), shape=(), data=data)
        return self.builder.add("broadcast", number, shape=shape) if shape else number

    def _hold(self, tensor: torch.Tensor) -> int:
        match read(tensor, dtype_of(tensor.dtype)):
            case Filled() as filled:
                return self._fill(filled)
            case Ramp(start, step, size):
                ramp: Operand = Value(self.builder.add("iota", size=size))
                if step != 1:
                    ramp = self.add("int_mul", ramp, step)
                return self.number(self.add("int_add", ramp, start) if start else ramp)
            case Staircase() as stairs:
                return self.number(self._stairs(stairs))
            case Expanded(base, shape):
                number = self.number(held(base))
                return self.builder.add("broadcast", number, shape=shape)
            case Plain(dtype, shape, data):
                return self.builder.add(
                    "literal", dtype=int(dtype), shape=shape, data=data
                )

    def _stairs(self, stairs: Staircase) -> Tensor:
        """Return where(column - row <= offset, below, above)."""
        *_, rows, columns = stairs.type.shape
        row = self.reshape(Value(self.builder.add("iota", size=rows)), (rows, 1))
        column = Value(self.builder.add("iota", size=columns))
        edge = self.add("int_add", row, stairs.offset) if stairs.offset else row
        dtype = stairs.type.dtype
        if dtype is DType.BOOL:
            name = "le" if stairs.below else "gt"
            return self.reshape(self.add(name, column, edge), stairs.type.shape)
        below, above = (
            self.filled(value, dtype, ()) for value in (stairs.below, stairs.above)
        )
        chosen = self.add("where", self.add("le", column, edge), below, above)
        return self.reshape(chosen, stairs.type.shape)

    # ── what rules build ────────────────────────────────────────────────────

    def add(self, name: str, *operands: Operand, **attributes: AttributeValue) -> Value:
        """Append a node over operands; return its first output.

        Operators that compute read a bf16 as the f32 it stands for.
        """
        if name not in ANY_DTYPE:
            operands = tuple(self._widened(operand) for operand in operands)
        swapped = name in UNARY | BROADCASTING and self._all_transposed(operands)
        if swapped:
            operands = tuple(
                Value(o.number) if isinstance(o, Value) and o.transposed else o
                for o in operands
            )
        if name in BROADCASTING:
            inputs = self._broadcasting(operands)
        else:
            inputs = [self.number(operand) for operand in operands]
        return Value(self.builder.add(name, *inputs, **attributes), swapped)

    def _all_transposed(self, operands: Sequence[Operand]) -> bool:
        """Return whether all are pending transposes of one shape, or scalars."""
        tensors = [o for o in operands if self.shape(o)]
        swapped = (isinstance(o, Value) and o.transposed for o in tensors)
        return (
            bool(tensors)
            and all(swapped)
            and len({self.shape(o) for o in tensors}) == 1
        )

    def outputs(
        self, count: int, name: str, *operands: Operand, **attributes: AttributeValue
    ) -> tuple[Value, ...]:
        """Append a node of several outputs."""
        first = self.add(name, *operands, **attributes).number
        return tuple(Value(first + offset) for offset in range(count))

    def _widened(self, operand: Operand) -> Operand:
        if self.dtype(operand) is DType.BF16:
            return self.cast(operand, DType.F32)
        return operand

    def _broadcasting(self, operands: Sequence[Operand]) -> list[int]:
        """Number operands; what only repeats elements is left to the operator."""
        shape = _joint(self.shape(operand) for operand in operands)
        inputs = [
            self.number(
                Filled(operand.value, TensorType(operand.type.dtype, ()))
                if isinstance(operand, Filled)
                else operand
            )
            for operand in operands
        ]
        types = self.builder.types
        for position, number in enumerate(inputs):
            inputs[position] = self.builder.before_broadcast(number)
            if _joint(types[i].shape for i in inputs) != shape:
                inputs[position] = number
        if _joint(types[i].shape for i in inputs) != shape:
            inputs[0] = self.builder.add("broadcast", inputs[0], shape=shape)
        return inputs

    def filled(self, value: float, dtype: DType, shape: Sequence[int]) -> Filled:
        """Return a tensor of one value."""
        return Filled(value, TensorType(dtype, tuple(shape)))

    def cast(self, operand: Operand, dtype: DType) -> Tensor:
        """Return an operand in another element type."""
        type_ = self.type(operand)
        if isinstance(operand, (int, float)):
            operand = Filled(operand, type_)
        if isinstance(operand, (Value, Filled, Held)) and type_.dtype is dtype:
            return operand
        if isinstance(operand, Filled) and dtype is not DType.BF16:
            kinds: dict[DType, Callable[[float], float | int]]
            kinds = {DType.F32: float, DType.I64: int, DType.BOOL: bool}
            return Filled(kinds[dtype](operand.value), TensorType(dtype, type_.shape))
        if dtype is DType.BOOL:
            return self.add("ne", operand, self.filled(0, self.computing(operand), ()))
        if isinstance(operand, Value) and operand.transposed:
            number = self.add("cast", Value(operand.number), dtype=int(dtype)).number
            return Value(number, transposed=True)
        return self.add("cast", operand, dtype=int(dtype))

    def reshape(self, operand: Operand, shape: Sequence[int]) -> Tensor:
        """View an operand in another shape; -1 is derived."""
        type_ = self.type(operand)
        known = tuple(int(n) for n in shape)
        if -1 in known:
            rest = -math.prod(known)
            known = tuple(type_.size // rest if n == -1 else n for n in known)
        match operand:
            case Value() if type_.shape == known:
                return operand
            case Value(number, True) if type_.shape[-2:] == known[-2:]:
                plain = self.reshape(Value(number), _swapped(known))
                return Value(self.number(plain), transposed=True)
            case Filled(value, _):
                return Filled(value, TensorType(type_.dtype, known))
            case Held(tensor):
                return Held(tensor.reshape(known))
            case _:
                return self.add("reshape", operand, shape=known)

    def broadcast(self, operand: Operand, shape: Sequence[int]) -> Tensor:
        """Repeat an operand to a larger shape."""
        known = tuple(shape)
        match operand:
            case Value() if self.shape(operand) == known:
                return operand
            case Filled(value, type_):
                return Filled(value, TensorType(type_.dtype, known))
            case Held(tensor):
                return Held(tensor.expand(known))
            case _:
                return self.add("broadcast", operand, shape=known)

    def permute(self, operand: Operand, order: Sequence[int]) -> Tensor:
        """Reorder an operand's axes; a swap of the last two costs nothing yet."""
        rank = len(order)
        straight = list(range(rank))
        swap = [*straight[:-2], *reversed(straight[-2:])]
        match operand:
            case Filled(value, type_):
                shape = tuple(type_.shape[axis] for axis in order)
                return Filled(value, TensorType(type_.dtype, shape))
            case Held(tensor):
                return Held(tensor.permute(tuple(order)))
            case Value() if list(order) == straight:
                return operand
            case Value(number, transposed) if rank >= 2 and list(order) == swap:
                return Value(number, not transposed)
            case Value(number, True):
                order = [swap[axis] for axis in order]
                return self.permute(Value(number), order)
            case _:
                return self.add("transpose", operand, permutation=tuple(order))

    def last(self, operand: Operand, axis: int) -> Tensor:
        """Move one axis to the end; ``permute`` with ``returning`` undoes it."""
        return self.permute(operand, _to_last(self.rank(operand), axis))

    def back(self, operand: Operand, axis: int) -> Tensor:
        """Undo ``last``."""
        order = _to_last(self.rank(operand), axis)
        inverse = [order.index(i) for i in range(len(order))]
        return self.permute(operand, inverse)

    def cut(
        self, operand: Operand, axis: int, start: int, end: int, step: int = 1
    ) -> Tensor:
        """Slice one axis; the bounds lie inside."""
        shape = self.shape(operand)
        if (start, end, step) == (0, shape[axis], 1) and isinstance(operand, Value):
            return operand
        size = len(range(start, end, step))
        match operand:
            case Filled(value, type_):
                known = (*shape[:axis], size, *shape[axis + 1 :])
                return Filled(value, TensorType(type_.dtype, known))
            case Held(tensor):
                index = [slice(None)] * axis + [slice(start, end, step)]
                return Held(tensor[tuple(index)])
            case _:
                starts, ends, steps = [0] * len(shape), list(shape), [1] * len(shape)
                starts[axis], ends[axis], steps[axis] = start, end, step
                return self.add(
                    "slice",
                    operand,
                    starts=tuple(starts),
                    ends=tuple(ends),
                    steps=tuple(steps),
                )

    def stream(self) -> int:
        """Return a number that no other draw of the step has."""
        self.streams += 1
        return self.streams - 1


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


def _joint(shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    joint: tuple[int, ...] = ()
    for shape in shapes:
        joint = broadcast_shape(joint, shape)
    return joint


def _swapped(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def _to_last(rank: int, axis: int) -> list[int]:
    axis %= rank
    return [*(i for i in range(rank) if i != axis), axis]
