"""Plans of the operators that read and write through indices, and of order."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ml_verifier.kernels.plan import Plan, Planner
from ml_verifier.kernels.request import (
    BFLOAT,
    BOOLEAN,
    FLOAT,
    INDEX,
    Array,
    Request,
    Shape,
)

MAX_SORTED = 16_384  # as in source/ordering.h
ELEMENTS = (FLOAT, INDEX, BFLOAT, BOOLEAN)
NO_INDEX = 2**32 - 1  # "skip" that skips none


def _element(request: Request) -> np.dtype[Any]:
    """The dtype of the first input, of any kind."""
    dtype = request.inputs[0].dtype
    if dtype not in ELEMENTS:
        raise request.refusal(f"input 0 must be one of {ELEMENTS}, got {dtype}")
    return dtype


def _filled(request: Request, *arrays: Array) -> None:
    if any(array.size == 0 for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise request.refusal(f"expected no empty inputs, got {shapes}")


def _axis(request: Request, x: Array) -> int:
    if x.ndim == 0:
        raise request.refusal("a scalar has no axis to index")
    return request.integer("axis", high=x.ndim - 1)


def _take(request: Request) -> Plan:
    request.expect(2, 1, "axis")
    dtype = _element(request)
    x, index = request.input(0, dtype=dtype), request.input(1, dtype=INDEX)
    _filled(request, x, index)
    axis = _axis(request, x)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    y = request.output(0, (*before, *index.shape, *after), dtype)
    row_bytes = math.prod(after) * dtype.itemsize
    sizes = (math.prod(before), x.shape[axis], index.size, row_bytes)
    return Plan("take", (x, index), (y,), sizes)


def _scatter_rows(request: Request) -> Plan:
    request.expect(2, 1, "axis", "size", "skip")
    g, index = request.input(0), request.input(1, dtype=INDEX)
    _filled(request, g, index)
    axis, extent = request.integer("axis"), request.integer("size", low=1)
    skip = request.integer("skip", high=NO_INDEX)
    before, after = g.shape[:axis], g.shape[axis + index.ndim :]
    if g.shape != (*before, *index.shape, *after) or axis > g.ndim:
        raise request.refusal(
            f"g of {g.shape} does not have the axes {index.shape} at {axis}"
        )
    dx = request.output(0, (*before, extent, *after))
    signed = skip - 2**32 if skip >= 2**31 else skip
    sizes = (math.prod(before), extent, index.size, math.prod(after), signed)
    return Plan("scatter_rows", (g, index), (dx,), sizes)


def _along(request: Request, dtype: np.dtype[Any]) -> tuple[Array, Array, Shape]:
    """The first input, the indices along its axis, and the sizes of a call."""
    x, index = request.input(0, dtype=dtype), request.input(1, dtype=INDEX)
    _filled(request, x, index)
    axis = _axis(request, x)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    fits = index.ndim == x.ndim
    if not fits or (*before, index.shape[axis], *after) != index.shape:
        raise request.refusal(
            f"indices of {index.shape} differ from {x.shape} not only in axis {axis}"
        )
    extents = (math.prod(before), x.shape[axis], index.shape[axis], math.prod(after))
    return x, index, (*extents, dtype.itemsize)


def _gather(request: Request) -> Plan:
    request.expect(2, 1, "axis")
    dtype = _element(request)
    x, index, sizes = _along(request, dtype)
    y = request.output(0, index.shape, dtype)
    return Plan("gather", (x, index), (y,), sizes)


def _scatter(request: Request) -> Plan:
    request.expect(3, 1, "axis")
    dtype = FLOAT if request.name == "scatter_add" else _element(request)
    base, index, sizes = _along(request, dtype)
    source = request.input(2, index.shape, dtype)
    y = request.output(0, base.shape, dtype)
    return Plan(request.name, (base, index, source), (y,), sizes)


def _rows(request: Request) -> tuple[Array, tuple[int, int]]:
    """x[..., C] of float32, none empty, with its rows and C."""
    x = request.input(0)
    if x.ndim == 0 or x.size == 0:
        raise request.refusal(f"expected x[..., C], not empty, got {x.shape}")
    return x, (x.size // x.shape[-1], x.shape[-1])


def _sort(request: Request) -> Plan:
    request.expect(1, 2, "descending")
    x, sizes = _rows(request)
    if sizes[1] > MAX_SORTED:
        raise request.refusal(f"rows have at most {MAX_SORTED} elements, got {x.shape}")
    outputs = request.output(0, x.shape), request.output(1, x.shape, INDEX)
    descending = request.integer("descending", high=1)
    return Plan("sort", (x,), outputs, (*sizes, descending))


def _cumsum(request: Request) -> Plan:
    request.expect(1, 1)
    x, sizes = _rows(request)
    return Plan("cumsum", (x,), (request.output(0, x.shape),), sizes)


def _greatest(request: Request) -> Plan:
    request.expect(1, 1, "keepdim")
    x, sizes = _rows(request)
    kept = (1,) * request.integer("keepdim", high=1)
    dtype = FLOAT if request.name == "amax" else INDEX
    y = request.output(0, (*x.shape[:-1], *kept), dtype)
    return Plan(request.name, (x,), (y,), sizes)


PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {
        "take": _take,
        "scatter_rows": _scatter_rows,
        "gather": _gather,
        "scatter_add": _scatter,
        "scatter": _scatter,
        "sort": _sort,
        "cumsum": _cumsum,
        "amax": _greatest,
        "argmax": _greatest,
    }
)
