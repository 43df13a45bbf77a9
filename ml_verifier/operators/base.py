"""What a row of the operator table is, and the words its rules are written with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ml_verifier.types import DType, TensorType

AttributeValue: TypeAlias = int | float | tuple[int, ...] | bytes
Attributes: TypeAlias = Mapping[str, AttributeValue]
AttributeKind: TypeAlias = Literal["int", "ints", "float", "bytes"]
AttributeNames: TypeAlias = tuple[tuple[str, AttributeKind], ...]
Types: TypeAlias = Sequence[TensorType]
ShapeRule: TypeAlias = Callable[[Types, Attributes], tuple[TensorType, ...]]
WorkRule: TypeAlias = Callable[[Types, Types, Attributes], int]

VARIADIC = -1  # arity of an operator whose nodes say how many inputs they have
MAX_VARIADIC = 8  # as many buffers as a call of the kernels holds

MAX_INTEGER = 2**31 - 1  # kernels index windows with 32 bits
TRANSCENDENTAL_MACS = 32  # one correctly rounded function, in MACs of time


class ShapeError(Exception):
    """An operator was given input types or attributes it does not take."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table.

    Attributes:
        code: Its byte in a program; never reused.
        name: Its name in listings and in the kernels' ``bind``.
        arity: Number of inputs, or ``VARIADIC``.
        attributes: Name and kind of each attribute, in encoding order.
        infer: Shape rule.
        macs: Multiply-adds of one execution, from types and attributes alone.
        scratch: Bytes a kernel needs beside its inputs and outputs.
        traffic: Bytes it moves through that scratch.
        rounded: Correctly rounded functions (exp, log, tanh, erf, sin, cos) evaluated
            per element of its largest tensor, in units of one exp; a hostile input
            takes the slow, exact path at each of them.
    """

    code: int
    name: str
    arity: int
    attributes: AttributeNames
    infer: ShapeRule
    macs: WorkRule
    scratch: WorkRule
    traffic: WorkRule
    rounded: int


def integer(attributes: Attributes, name: str) -> int:
    """Return attribute ``name`` as an int."""
    value = attributes[name]
    if not isinstance(value, int):
        raise ShapeError(f"attribute {name}: expected an integer, got {value!r}")
    return value


def integers(attributes: Attributes, name: str, count: int = -1) -> tuple[int, ...]:
    """Return attribute ``name`` as a tuple of ``count`` ints (any, if negative)."""
    value = attributes[name]
    if not isinstance(value, tuple):
        raise ShapeError(f"attribute {name}: expected a list, got {value!r}")
    if count >= 0 and len(value) != count:
        raise ShapeError(f"attribute {name}: expected {count} numbers, got {value}")
    if any(number > MAX_INTEGER for number in value):
        raise ShapeError(
            f"attribute {name}: expected at most {MAX_INTEGER}, got {value}"
        )
    return value


def expect(ok: object, expected: str, inputs: Types) -> None:
    """Raise ``ShapeError`` with what was expected and what came unless ``ok``."""
    if not ok:
        got = ", ".join(str(t) for t in inputs)
        raise ShapeError(f"expected {expected}, got ({got})")


def is_f32(*types: TensorType) -> bool:
    """Return whether all types are float32."""
    return all(t.dtype is DType.F32 for t in types)


def broadcast_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the numpy broadcast of two shapes."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    shape: list[int] = []
    for x, y in pairs:
        if x != y and 1 not in {x, y}:
            raise ShapeError(f"expected shapes that broadcast, got {a} and {b}")
        shape.append(y if x == 1 else x)
    return tuple(shape)


# ── work and scratch ─────────────────────────────────────────────────────────


def nothing(_i: Types, _o: Types, _: Attributes) -> int:
    """Return no work at all."""
    return 0


def per_element(macs: int) -> WorkRule:
    """Return the rule: ``macs`` for each element of the largest tensor."""

    def rule(inputs: Types, outputs: Types, _: Attributes) -> int:
        return macs * max(t.size for t in (*inputs, *outputs))

    return rule


MOVE = per_element(1)
TRANSCENDENTAL = per_element(TRANSCENDENTAL_MACS)


def row(  # noqa: PLR0913 - a table row has this many columns
    code: int,
    name: str,
    arity: int,
    infer: ShapeRule,
    macs: WorkRule = MOVE,
    attributes: AttributeNames = (),
    scratch: WorkRule = nothing,
    traffic: WorkRule = nothing,
    *,
    rounded: int = 0,
) -> Operator:
    """Return a row of the table with the usual costs filled in."""
    rules = (infer, macs, scratch, traffic)
    return Operator(code, name, arity, attributes, *rules, rounded)
