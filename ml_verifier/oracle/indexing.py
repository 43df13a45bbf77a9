"""Reads and writes through indices along an axis, and order along the last one."""

from collections.abc import Callable, Mapping

import numpy as np

from ml_verifier.operators import AttributeValue, integer
from ml_verifier.oracle.arithmetic import Array, Floats

Attributes = Mapping[str, AttributeValue]

NO_INDEX = 2**32 - 1  # "skip" that skips none


def _out_of_range(index: Array, extent: int) -> bool:
    return bool(np.any((index < 0) | (index >= extent)))


def take(attributes: Attributes, x: Array, index: Array) -> Array | None:
    """The elements of x at the indices; None when one is out of range."""
    axis = integer(attributes, "axis")
    if _out_of_range(index, x.shape[axis]):
        return None
    return np.take(x, index, axis)


def scatter_rows(attributes: Attributes, g: Floats, index: Array) -> Floats | None:
    """The gradient of ``take``: g added at the indices in ascending order.

    None when an index is out of range and not the skipped one.
    """
    axis, extent = integer(attributes, "axis"), integer(attributes, "size")
    skip = integer(attributes, "skip")
    kept = np.ones(index.size, bool)
    if skip != NO_INDEX:
        kept = index.reshape(-1) != np.int64(np.uint32(skip).view(np.int32))
    where = index.reshape(-1)[kept]
    if _out_of_range(where, extent):
        return None
    before, after = g.shape[:axis], g.shape[axis + index.ndim :]
    rows = np.moveaxis(g.reshape(*before, -1, *after), axis, 0)[kept]
    dx = np.zeros((*before, extent, *after), np.float32)
    targets = np.moveaxis(dx, axis, 0)
    for row, at in zip(rows, where, strict=True):
        targets[at] = targets[at] + row
    return dx


def gather(attributes: Attributes, x: Array, index: Array) -> Array | None:
    """For each index the element of its own line; None when one is out of range."""
    axis = integer(attributes, "axis")
    if _out_of_range(index, x.shape[axis]):
        return None
    return np.take_along_axis(x, index, axis)


def _scattered(
    attributes: Attributes, base: Array, index: Array, source: Array, *, adds: bool
) -> Array | None:
    axis = integer(attributes, "axis")
    if _out_of_range(index, base.shape[axis]):
        return None
    y = base.copy()
    for i in range(index.shape[axis]):
        at = np.take(index, [i], axis)  # no two of these name one element
        value = np.take(source, [i], axis)
        if adds:
            value = np.take_along_axis(y, at, axis) + value
        np.put_along_axis(y, at, value, axis)
    return y


def scatter_add(
    attributes: Attributes, base: Floats, index: Array, source: Floats
) -> Floats | None:
    """The base with the source added at the indices, in ascending order."""
    return _scattered(attributes, base, index, source, adds=True)


def scatter(
    attributes: Attributes, base: Array, index: Array, source: Array
) -> Array | None:
    """The base with the source written at the indices: the last one stays."""
    return _scattered(attributes, base, index, source, adds=False)


def sort(attributes: Attributes, x: Floats) -> tuple[Floats, Array]:
    """Values and where they were; equal elements stay in order, NaN is greatest."""
    if integer(attributes, "descending"):
        # The ascending order of the reversed row, read backwards.
        backwards = np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
        order = x.shape[-1] - 1 - backwards
    else:
        order = np.argsort(x, axis=-1, kind="stable")
    return np.take_along_axis(x, order, -1), order.astype(np.int64)


def cumsum(_: Attributes, x: Floats) -> Floats:
    """Running sums from +0."""
    y = np.empty_like(x)
    total = np.zeros(x.shape[:-1], np.float32)
    for j in range(x.shape[-1]):
        total = total + x[..., j]
        y[..., j] = total
    return y


def _kept(attributes: Attributes, y: Array) -> Array:
    return y[..., None] if integer(attributes, "keepdim") else y


def amax(attributes: Attributes, x: Floats) -> Floats:
    """The greatest element, -0 below +0; NaN where there is one."""
    most = x[..., 0]
    for j in range(1, x.shape[-1]):
        v = x[..., j]
        greater = (v > most) | ((v == most) & np.signbit(most) & ~np.signbit(v))
        most = np.where(~np.isnan(most) & (np.isnan(v) | greater), v, most)
    return _kept(attributes, most)


def argmax(attributes: Attributes, x: Floats) -> Array:
    """Where the first NaN is, else the first element that none exceeds."""
    most, where = x[..., 0], np.zeros(x.shape[:-1], np.int64)
    for j in range(1, x.shape[-1]):
        v = x[..., j]
        better = ~np.isnan(most) & (np.isnan(v) | (v > most))
        most, where = np.where(better, v, most), np.where(better, j, where)
    return _kept(attributes, where)


DEFINITIONS: Mapping[str, Callable[..., Array | tuple[Array, ...] | None]] = {
    "take": take,
    "scatter_rows": scatter_rows,
    "gather": gather,
    "scatter_add": scatter_add,
    "scatter": scatter,
    "sort": sort,
    "cumsum": cumsum,
    "amax": amax,
    "argmax": argmax,
}
