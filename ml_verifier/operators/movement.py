"""Operators that move elements, make them from nothing, or convert them."""

import math

import numpy as np

from ml_verifier.operators.base import (
    MOVE,
    VARIADIC,
    AttributeNames,
    Attributes,
    Operator,
    ShapeError,
    Types,
    broadcast_shape,
    expect,
    integer,
    integers,
    per_element,
    row,
)
from ml_verifier.types import DType, TensorType, f32, i64

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


def _slice(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape = t[0].shape
    starts, ends, steps = (
        integers(a, name, len(shape)) for name in ("starts", "ends", "steps")
    )
    inside = all(
        0 <= start < end <= extent
        for start, end, extent in zip(starts, ends, shape, strict=True)
    )
    ok = inside and all(step > 0 for step in steps)
    expect(ok, f"an extent of {starts} to {ends} by {steps}", t)
    taken = zip(starts, ends, steps, strict=True)
    kept = tuple(math.ceil((end - start) / step) for start, end, step in taken)
    return (TensorType(t[0].dtype, kept),)


def _pad(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape, value = t[0].shape, a["value"]
    before, after = integers(a, "before", len(shape)), integers(a, "after", len(shape))
    if not isinstance(value, (int, float)) or math.isnan(value):
        raise ShapeError(f"expected a number to pad with, got {value!r}")
    expect(min((0, *before, *after)) == 0, "padding of no less than 0", t)
    plain = value == 0 and math.copysign(1.0, value) > 0
    expect(plain or t[0].dtype is DType.F32, f"f32 to pad with {value:g}", t)
    padded = tuple(map(sum, zip(before, shape, after, strict=True)))
    return (TensorType(t[0].dtype, padded),)


def _concat(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    axis, first = integer(a, "axis"), t[0]
    expect(0 <= axis < len(first.shape), f"an axis {axis}", t)
    others = {(x.dtype, x.shape[:axis], x.shape[axis + 1 :]) for x in t}
    expect(len(others) == 1, f"tensors that differ along axis {axis} alone", t)
    total = sum(x.shape[axis] for x in t)
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    return (TensorType(first.dtype, shape),)


def _flip(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    axes = integers(a, "axes")
    ok = sorted(set(axes)) == list(axes) and set(axes) <= set(range(len(t[0].shape)))
    expect(ok, f"sorted axes {axes}", t)
    return (t[0],)


def element_type(attributes: Attributes) -> DType:
    """Return the element type that attribute ``dtype`` is the code of."""
    code = integer(attributes, "dtype")
    if code not in set(DType):
        raise ShapeError(f"expected the code of an element type, got {code}")
    return DType(code)


def _literal(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    type_, data = TensorType(element_type(a), integers(a, "shape")), a["data"]
    ok = isinstance(data, bytes) and len(data) == type_.nbytes
    expect(ok, f"{type_.nbytes} bytes of data for {type_}", t)
    if isinstance(data, bytes):
        expect(_canonical(type_.dtype, data), f"one spelling of {type_.dtype.label}", t)
    return (type_,)


def _canonical(dtype: DType, data: bytes) -> bool:
    """Return whether booleans are 0 or 1 and every NaN is the one that is hashed."""
    if dtype is DType.BOOL:
        return set(data) <= {0, 1}
    if dtype is DType.F32:
        words = np.frombuffer(data, "<u4")
        nan = words & 0x7FFFFFFF > 0x7F800000
        return bool((words[nan] == 0x7FC00000).all())
    if dtype is DType.BF16:
        halves = np.frombuffer(data, "<u2")
        nan = halves & 0x7FFF > 0x7F80
        return bool((halves[nan] == 0x7FC0).all())
    return True


def _iota(_: Types, a: Attributes) -> tuple[TensorType, ...]:
    return (i64(integer(a, "size")),)


def _cast(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    return (TensorType(element_type(a), t[0].shape),)


# Rows of a few elements are walked one by one: what they cost, in MACs of time.
WALK = per_element(16)

ROWS: tuple[Operator, ...] = (
    row(32, "reshape", 1, _reshape, MOVE, SHAPE),
    row(33, "transpose", 1, _transpose, per_element(4), (("permutation", "ints"),)),
    row(34, "broadcast", 1, _broadcast, MOVE, SHAPE),
    row(35, "constant", 0, _constant, MOVE, (*SHAPE, ("value", "float"))),
    row(
        61,
        "slice",
        1,
        _slice,
        WALK,
        (("starts", "ints"), ("ends", "ints"), ("steps", "ints")),
    ),
    row(
        62,
        "pad",
        1,
        _pad,
        WALK,
        (("before", "ints"), ("after", "ints"), ("value", "float")),
    ),
    row(63, "concat", VARIADIC, _concat, WALK, (("axis", "int"),)),
    row(64, "flip", 1, _flip, WALK, (("axes", "ints"),)),
    row(
        65,
        "literal",
        0,
        _literal,
        MOVE,
        (("dtype", "int"), *SHAPE, ("data", "bytes")),
    ),
    row(66, "iota", 0, _iota, MOVE, (("size", "int"),)),
    row(67, "cast", 1, _cast, per_element(4), (("dtype", "int"),)),
)
