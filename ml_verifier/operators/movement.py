"""Operators that move elements and compute none."""

import math

from ml_verifier.operators.base import (
    MOVE,
    AttributeNames,
    Attributes,
    Operator,
    Types,
    broadcast_shape,
    expect,
    integers,
    per_element,
    row,
)
from ml_verifier.types import TensorType, f32

SHAPE: AttributeNames = (("shape", "ints"),)


def _reshape(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape = integers(a, "shape")
    expect(math.prod(shape) == t[0].size, f"as many elements as {shape}", t)
    return (TensorType(t[0].dtype, shape),)


def _transpose(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    order = integers(a, "permutation")
    expect(sorted(order) == list(range(len(t[0].shape))), f"rank for {order}", t)
    return (TensorType(t[0].dtype, tuple(t[0].shape[i] for i in order)),)


def _broadcast(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape = integers(a, "shape")
    expect(broadcast_shape(t[0].shape, shape) == shape, f"a shape that fits {shape}", t)
    return (TensorType(t[0].dtype, shape),)


def _constant(_: Types, a: Attributes) -> tuple[TensorType, ...]:
    return (f32(*integers(a, "shape")),)


ROWS: tuple[Operator, ...] = (
    row(32, "reshape", 1, _reshape, MOVE, SHAPE),
    row(33, "transpose", 1, _transpose, per_element(4), (("permutation", "ints"),)),
    row(34, "broadcast", 1, _broadcast, MOVE, SHAPE),
    row(35, "constant", 0, _constant, MOVE, (*SHAPE, ("value", "float"))),
)
