"""Plans of operators that move elements, make them from nothing, or convert them."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ml_verifier.kernels.layout import (
    NEST_RANK,
    broadcast_strides,
    merged,
    padded,
    row_major,
)
from ml_verifier.kernels.plan import Plan, Planner
from ml_verifier.kernels.request import FLOAT, INDEX, Array, Request, Shape
from ml_verifier.types import DType, dtype_of

_TYPES = {code.numpy for code in DType}


def _any_dtype(request: Request, index: int = 0) -> Array:
    """An input of whichever element type it is."""
    dtype = request.inputs[index].dtype
    if dtype not in _TYPES:
        known = ", ".join(sorted(str(dtype) for dtype in _TYPES))
        raise request.refusal(f"elements of {known} are moved, got {dtype}")
    return request.input(index, dtype=dtype)


def _copy(
    request: Request, x: Array, shape: Shape, strides: Sequence[int], first: int = 0
) -> Plan:
    """The output takes the elements of x from ``first`` on by ``strides``."""
    extents, (steps,) = merged(shape, [strides])
    sizes = [len(extents), *padded(extents, NEST_RANK), *padded(steps, 3 * NEST_RANK)]
    y = request.output(0, shape, x.dtype)
    return Plan("strided_copy", (x,), (y,), (*sizes, x.dtype.itemsize, first))


def _reshape(request: Request) -> Plan:
    request.expect(1, 1, "shape")
    x, shape = _any_dtype(request), request.integers("shape")
    if math.prod(shape) != x.size:
        raise request.refusal(f"shape {shape} does not hold the elements of {x.shape}")
    return _copy(request, x, shape, row_major(shape))


def _transpose(request: Request) -> Plan:
    request.expect(1, 1, "permutation")
    x, order = _any_dtype(request), request.integers("permutation")
    if sorted(order) != list(range(x.ndim)):
        raise request.refusal(f"{order} is not a permutation of {x.ndim} axes")
    strides = row_major(x.shape)
    shape = tuple(x.shape[axis] for axis in order)
    return _copy(request, x, shape, [strides[axis] for axis in order])


def _broadcast(request: Request) -> Plan:
    request.expect(1, 1, "shape")
    x, shape = _any_dtype(request), request.integers("shape")
    return _copy(request, x, shape, broadcast_strides(x.shape, shape))


def _slice(request: Request) -> Plan:
    request.expect(1, 1, "starts", "ends", "steps")
    x = _any_dtype(request)
    starts, ends = request.integers("starts", x.ndim), request.integers("ends", x.ndim)
    steps = request.integers("steps", x.ndim, low=1)
    windows = list(zip(starts, ends, x.shape, strict=True))
    if not all(start < end <= extent for start, end, extent in windows):
        raise request.refusal(f"{starts} to {ends} is not within {x.shape}")
    shape = tuple(
        -(-(end - start) // step)
        for start, end, step in zip(starts, ends, steps, strict=True)
    )
    strides = row_major(x.shape)
    first = sum(start * stride for start, stride in zip(starts, strides, strict=True))
    moved = [stride * step for stride, step in zip(strides, steps, strict=True)]
    return _copy(request, x, shape, moved, first)


def _flip(request: Request) -> Plan:
    request.expect(1, 1, "axes")
    x, axes = _any_dtype(request), request.integers("axes")
    if sorted(set(axes)) != list(axes) or any(axis >= x.ndim for axis in axes):
        raise request.refusal(f"axes {axes} are not sorted axes of {x.shape}")
    strides = row_major(x.shape)
    first = 0
    for axis in axes:
        first += max(0, x.shape[axis] - 1) * strides[axis]
        strides[axis] = -strides[axis]
    return _copy(request, x, x.shape, strides, first)


def _literal(request: Request) -> Plan:
    request.expect(0, 1, "dtype", "shape", "data")
    dtype, shape = _dtype(request), request.integers("shape")
    data = request.attributes["data"]
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise request.refusal(f"data must be the bytes of {dtype}{list(shape)}")
    x = np.frombuffer(data, dtype).reshape(shape).copy()
    return _copy(request, x, shape, row_major(shape))


def _dtype(request: Request) -> np.dtype[Any]:
    code = request.integer("dtype")
    if code not in set(DType):
        raise request.refusal(f"no element type {code}")
    return DType(code).numpy


def _cast(request: Request) -> Plan:
    request.expect(1, 1, "dtype")
    x = _any_dtype(request)
    y = request.output(0, x.shape, _dtype(request))
    return Plan("cast", (x,), (y,), (x.size, dtype_of(x.dtype), dtype_of(y.dtype)))


def _pad(request: Request) -> Plan:
    request.expect(1, 1, "before", "after", "value")
    x, value = _any_dtype(request), request.scalar("value")
    before = request.integers("before", x.ndim)
    after = request.integers("after", x.ndim)
    shape = tuple(map(sum, zip(before, x.shape, after, strict=True)))
    y = request.output(0, shape, x.dtype)
    bits = int(np.float32(value).view(np.uint32))
    if x.dtype != FLOAT and bits:
        raise request.refusal(f"{x.dtype} is padded with 0, got {value!r}")
    extents, fronts, sources = [1], [0], [1]
    for extent, front, source in zip(shape, before, x.shape, strict=True):
        if extent == source:  # an axis without padding is part of the one before it
            extents[-1] *= extent
            fronts[-1] *= extent
            sources[-1] *= extent
        else:
            extents.append(extent)
            fronts.append(front)
            sources.append(source)
    if extents[0] == 1:
        del extents[0], fronts[0], sources[0]
    if len(extents) > NEST_RANK:
        raise request.refusal(f"at most {NEST_RANK} axes are padded, got {before}")
    if not extents:
        extents, fronts, sources = [1], [0], [1]
    rows = [padded(row, NEST_RANK) for row in (extents, fronts, sources)]
    sizes = [x.dtype.itemsize, len(extents), *rows[0], *rows[1], *rows[2], bits]
    return Plan("pad", (x,), (y,), sizes)


def _concat(request: Request) -> Plan:
    if not 1 <= len(request.inputs) <= NEST_RANK:
        raise request.refusal(f"expected 1 to {NEST_RANK} inputs")
    request.expect(len(request.inputs), 1, "axis")
    first, axis = _any_dtype(request), request.integer("axis")
    if axis >= first.ndim:
        raise request.refusal(f"axis {axis} is none of {first.shape}")
    parts: list[Array] = []
    for index, given in enumerate(request.inputs):
        shape = (*first.shape[:axis], *given.shape[axis : axis + 1])
        wanted = (*shape, *first.shape[axis + 1 :])
        parts.append(request.input(index, wanted, first.dtype))
    total = sum(part.shape[axis] for part in parts)
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    rows = math.prod(first.shape[:axis])
    width = math.prod(first.shape[axis + 1 :]) * first.dtype.itemsize
    sizes = (len(parts), rows, *(part.shape[axis] * width for part in parts))
    return Plan("concat", parts, (request.output(0, shape, first.dtype),), sizes)


def _constant(request: Request) -> Plan:
    request.expect(0, 1, "shape", "value")
    y = request.output(0, request.integers("shape"))
    return Plan("fill", (), (y,), (y.size,), (request.scalar("value"),))


def _iota(request: Request) -> Plan:
    request.expect(0, 1, "size")
    y = request.output(0, (request.integer("size"),), INDEX)
    return Plan("iota", (), (y,), (y.size,))


PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {
        "reshape": _reshape,
        "transpose": _transpose,
        "broadcast": _broadcast,
        "slice": _slice,
        "pad": _pad,
        "concat": _concat,
        "flip": _flip,
        "constant": _constant,
        "literal": _literal,
        "iota": _iota,
        "cast": _cast,
    }
)
