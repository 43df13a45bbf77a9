"""Elements moved, made from nothing, or converted from one type to another."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ml_verifier.operators import AttributeValue, integer, integers
from ml_verifier.oracle.arithmetic import Array, Definition, Floats, scalar
from ml_verifier.types import DType, dtype_of

Attributes = Mapping[str, AttributeValue]

QUIET = np.uint16(0x7FC0)  # the one NaN that a conversion to bfloat16 makes
LEAST, MOST = -(2**63), 2**63 - 1


def _reshape(attributes: Attributes, x: Array) -> Array:
    return x.reshape(integers(attributes, "shape"))


def _transpose(attributes: Attributes, x: Array) -> Array:
    return x.transpose(integers(attributes, "permutation"))


def _broadcast(attributes: Attributes, x: Array) -> Array:
    return np.broadcast_to(x, integers(attributes, "shape"))


def _constant(attributes: Attributes) -> Array:
    shape = integers(attributes, "shape")
    value = scalar(attributes, "value")
    return np.array([value] * math.prod(shape), np.float32).reshape(shape)


def _slice(attributes: Attributes, x: Array) -> Array:
    bounds = (integers(attributes, name) for name in ("starts", "ends", "steps"))
    return np.asarray(x[tuple(map(slice, *bounds))])


def _pad(attributes: Attributes, x: Array) -> Array:
    before, after = integers(attributes, "before"), integers(attributes, "after")
    value = scalar(attributes, "value")
    filling = value if x.dtype == np.float32 else x.dtype.type(0)
    shape = [sum(extents) for extents in zip(before, x.shape, after, strict=True)]
    y = np.full(shape, filling, x.dtype)
    y[tuple(slice(b, b + n) for b, n in zip(before, x.shape, strict=True))] = x
    return y


def _concat(attributes: Attributes, *inputs: Array) -> Array:
    return np.concatenate(inputs, axis=integer(attributes, "axis"))


def _flip(attributes: Attributes, x: Array) -> Array:
    return np.flip(x, integers(attributes, "axes"))


def _literal(attributes: Attributes) -> Array:
    data = attributes["data"]
    if not isinstance(data, bytes):
        raise TypeError(f"attribute data: expected bytes, got {data!r}")
    dtype = DType(integer(attributes, "dtype")).numpy
    return np.frombuffer(data, dtype).reshape(integers(attributes, "shape"))


def _iota(attributes: Attributes) -> Array:
    return np.array(range(integer(attributes, "size")), np.int64)


def widened(x: Array) -> Floats:
    """The float32 values of bfloat16 bits."""
    return (x.astype(np.uint32) << 16).view(np.float32)


def narrowed(x: Floats) -> Array:
    """The bfloat16 bits nearest to float32 values, ties to even.

    In magnitude the bits of floats ascend as their values do, so what rounds up is
    one more; past the largest, that is infinity.
    """
    bits = x.view(np.uint32)
    kept, dropped = bits >> 16, bits & 0xFFFF
    up = (dropped > 0x8000) | ((dropped == 0x8000) & (kept & 1 == 1))
    rounded = (kept + up).astype(np.uint16)
    return np.where(np.isnan(x), QUIET, rounded)


def _whole(x: Floats) -> Array:
    inside = (x >= np.float32(LEAST)) & (x < np.float32(2**63))
    whole = np.trunc(np.where(inside, x, np.float32(0))).astype(np.int64)
    beyond = np.where(x > 0, np.int64(MOST), np.int64(LEAST))
    return np.where(inside, whole, np.where(np.isnan(x), np.int64(0), beyond))


def _cast(attributes: Attributes, x: Array) -> Array:
    source, target = dtype_of(x.dtype), DType(integer(attributes, "dtype"))
    if source is target:
        return x
    value = widened(x) if source is DType.BF16 else x
    single: Floats = value.astype(np.float32)
    if target is DType.F32:
        return single
    if target is DType.BF16:
        return narrowed(single)
    if target is DType.BOOL:
        return np.asarray(value != 0).astype(np.uint8)
    return x.astype(np.int64) if source is DType.BOOL else _whole(value)


DEFINITIONS: Mapping[str, Definition] = MappingProxyType(
    {
        "reshape": _reshape,
        "transpose": _transpose,
        "broadcast": _broadcast,
        "constant": _constant,
        "slice": _slice,
        "pad": _pad,
        "concat": _concat,
        "flip": _flip,
        "literal": _literal,
        "iota": _iota,
        "cast": _cast,
    }
)
