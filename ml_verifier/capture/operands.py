# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Operands of lowering rules, and the words that rules are written with.

An operand is not always a value of the program. A tensor of one value, a tensor that
the model holds and a transpose of the last two axes become nodes when a rule asks for
their number, and mostly none does: products read transposes, arithmetic broadcasts.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.literals import Expanded, Filled, Plain, Ramp, Staircase, read
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.operators import AttributeValue
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


class Operands:
    """What a rule asks of its operands and builds of them.

    Attributes:
        builder: Receives the nodes.
        streams: Streams of randomness that the step has drawn from.
    """

    def __init__(self, builder: Builder, streams: int = 0) -> None:
        self.builder = builder
        self.streams = streams

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
