"""Comparisons, booleans, choice, and integers: all with broadcasting."""

from functools import reduce

from ml_verifier.operators.base import (
    Attributes,
    Operator,
    Types,
    broadcast_shape,
    expect,
    per_element,
    row,
)
from ml_verifier.types import DType, TensorType, boolean, i64


def _shape(t: Types) -> tuple[int, ...]:
    return reduce(broadcast_shape, (x.shape for x in t))


def _comparison(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    ok = t[0].dtype is t[1].dtype and t[0].dtype in {DType.F32, DType.I64}
    expect(ok, "two tensors, both f32 or both i64", t)
    return (boolean(*_shape(t)),)


def _logical(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    expect(all(x.dtype is DType.BOOL for x in t), "bool tensors", t)
    return (boolean(*_shape(t)),)


def _where(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    ok = t[0].dtype is DType.BOOL and t[1].dtype is t[2].dtype
    expect(ok, "a bool condition and two tensors of one element type", t)
    return (TensorType(t[1].dtype, _shape(t)),)


def _integer(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    expect(all(x.dtype is DType.I64 for x in t), "two i64 tensors", t)
    return (i64(*_shape(t)),)


# A broadcast may leave rows of two elements, walked one by one; a quotient of integers
# is one slow instruction. Both in MACs of time.
WALK, QUOTIENT = per_element(16), per_element(64)

ROWS: tuple[Operator, ...] = (
    row(68, "eq", 2, _comparison, WALK),
    row(69, "ne", 2, _comparison, WALK),
    row(70, "lt", 2, _comparison, WALK),
    row(71, "le", 2, _comparison, WALK),
    row(72, "gt", 2, _comparison, WALK),
    row(73, "ge", 2, _comparison, WALK),
    row(74, "and", 2, _logical, WALK),
    row(75, "or", 2, _logical, WALK),
    row(76, "xor", 2, _logical, WALK),
    row(77, "not", 1, _logical),
    row(78, "where", 3, _where, WALK),
    row(79, "int_add", 2, _integer, WALK),
    row(80, "int_sub", 2, _integer, WALK),
    row(81, "int_mul", 2, _integer, WALK),
    row(82, "int_floordiv", 2, _integer, QUOTIENT),
    row(83, "int_remainder", 2, _integer, QUOTIENT),
)
