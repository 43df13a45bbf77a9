"""Sums, and what is computed along the last axis: softmax, norms, sorts, scans."""

import math
from collections.abc import Callable

import numpy as np

from ml_verifier.adjudication.primitives import (
    LANE_CHUNK,
    Result,
    lanes,
    matrix,
    scan,
    staged,
    zeros,
)
from ml_verifier.adjudication.refinement import (
    Indices,
    Read,
    Recipe,
    Refinement,
    Refiner,
    Values,
    coordinates,
    flat,
)
from ml_verifier.operators import integer, integers
from ml_verifier.oracle.arithmetic import fma, scalar
from ml_verifier.oracle.elementary import exp, log
from ml_verifier.oracle.table import DEFINITIONS
from ml_verifier.types import DType

ONE = np.float32(1)


def _columns(shape: tuple[int, ...]) -> int:
    return shape[-1] if shape else 1


def _sum(refiner: Refiner) -> Refinement:
    axes, shape = integers(refiner.attributes, "axes"), refiner.inputs[0].shape
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    reduced = tuple(shape[axis] for axis in axes)

    def term(out: Indices, e: Indices, read: Read) -> Values:
        outer = coordinates(out, [shape[axis] for axis in kept])
        inner = coordinates(e, reduced)
        coords = [np.zeros_like(out)] * len(shape)
        for axis, coordinate in (
            *zip(kept, outer, strict=True),
            *zip(axes, inner, strict=True),
        ):
            coords[axis] = coordinate
        return read(0, flat(coords, shape, out))

    size = refiner.outputs[0].size
    total = lanes(refiner, "lanes", size, math.prod(reduced), term)
    return refiner.finish(refiner.output(total))


# ── softmax ──────────────────────────────────────────────────────────────────


def _greater(value: Values, other: Values) -> Values:
    """The larger by value; a NaN once seen stays."""
    return np.where(np.isnan(other) | (other > value), other, value)


def _greatest(value: Values, other: Values) -> Values:
    """The larger in the total order where -0 < +0; a NaN once seen stays."""
    zero = (other == 0) & (value == 0) & np.signbit(value) & ~np.signbit(other)
    return np.where(zero, other, _greater(value, other))


def _row_maximum(
    refiner: Refiner,
    rows: int,
    columns: int,
    larger: Callable[[Values, Values], Values],
) -> Result:
    """Refine the maximum of each row of input 0."""

    def step(best: Values, row: Indices, e: Indices, read: Read) -> Values:
        return larger(best, read(0, row * columns + e))

    def start(row: Indices, _: Read) -> Values:
        return np.full(row.shape, -np.inf, np.float32)

    _, best = scan(
        refiner, "maximum", (1, rows), columns, start, step, chunk=LANE_CHUNK
    )
    return best


def _softmax(refiner: Refiner) -> Refinement:
    shape = refiner.inputs[0].shape
    rows, columns = matrix(*shape)
    largest = _row_maximum(refiner, rows, columns, _greater)
    safe = integer(refiner.attributes, "safe") == 1

    def exponential(at: Indices, read: Read) -> Values:
        row = at // columns
        most = largest(row, read)
        result = exp(read(0, at) - most)
        return np.where(np.isneginf(most) & safe, np.float32(0), result)

    power = staged(refiner, "exponentials", (rows, columns), exponential)
    total = lanes(
        refiner, "lanes", rows, columns, lambda row, e, r: power(row * columns + e, r)
    )

    def rule(at: Indices, read: Read) -> Values:
        row = at // columns
        result = power(at, read) / total(row, read)
        hidden = np.isneginf(largest(row, read)) & safe
        return np.where(hidden, np.float32(0), result)

    return refiner.finish(refiner.output(rule))


def _softmax_backward(refiner: Refiner) -> Refinement:
    rows, columns = matrix(*refiner.inputs[0].shape)

    def term(row: Indices, e: Indices, read: Read) -> tuple[Values, Values]:
        at = row * columns + e
        return read(0, at), read(1, at)

    total = lanes(refiner, "lanes", rows, columns, term)
    return refiner.finish(
        refiner.output(
            lambda at, read: read(1, at) * (read(0, at) - total(at // columns, read))
        )
    )


def _log_softmax(refiner: Refiner) -> Refinement:
    rows, columns = matrix(*refiner.inputs[0].shape)
    largest = _row_maximum(refiner, rows, columns, _greater)

    def difference(at: Indices, read: Read) -> Values:
        return read(0, at) - largest(at // columns, read)

    def term(row: Indices, e: Indices, read: Read) -> Values:
        return exp(difference(row * columns + e, read))

    total = lanes(refiner, "lanes", rows, columns, term)
    return refiner.finish(
        refiner.output(
            lambda at, read: difference(at, read) - log(total(at // columns, read))
        )
    )


def _log_softmax_backward(refiner: Refiner) -> Refinement:
    rows, columns = matrix(*refiner.inputs[0].shape)
    total = lanes(
        refiner, "lanes", rows, columns, lambda row, e, r: r(0, row * columns + e)
    )
    return refiner.finish(
        refiner.output(
            lambda at, read: fma(
                -exp(read(1, at)), total(at // columns, read), read(0, at)
            )
        )
    )


# ── normalisation ────────────────────────────────────────────────────────────


class Groups:
    """How a norm's statistics enumerate the elements of x: (group, element) -> x."""

    def __init__(self, shape: tuple[int, ...], *, by_channel: bool) -> None:
        """Rows of the last axis, or channels of x[N, C, ...] over (n, l)."""
        self.by_channel = by_channel
        if by_channel:
            self.samples, self.groups = shape[:2]
            self.length = math.prod(shape[2:])
            self.count = self.samples * self.length
        else:
            self.groups, self.count = matrix(*shape)

    def at(self, group: Indices, e: Indices) -> Indices:
        """Return the position of a group's element."""
        if not self.by_channel:
            return group * self.count + e
        n, inner = np.divmod(e, self.length)
        return (n * self.groups + group) * self.length + inner

    def group(self, at: Indices) -> Indices:
        """Return the group of a position."""
        if self.by_channel:
            return at // self.length % self.groups
        return at // self.count

    def weight(self, at: Indices) -> Indices:
        """Return where a position's scale and shift are."""
        return self.group(at) if self.by_channel else at % self.count


def _statistics(refiner: Refiner, by: Groups) -> tuple[int, Result, Result]:
    """Refine the mean (output 1), the sum of squared distances, and rstd (output 2)."""
    count, eps = np.float32(by.count), scalar(refiner.attributes, "eps")
    total = lanes(
        refiner, "sums", by.groups, by.count, lambda g, e, r: r(0, by.at(g, e))
    )
    mean = refiner.output(lambda g, read: total(g, read) / count, 1)

    def distance(group: Indices, e: Indices, read: Read) -> tuple[Values, Values]:
        d = read(0, by.at(group, e)) - read(mean, group)
        return d, d

    square = lanes(refiner, "squares", by.groups, by.count, distance)

    def rstd(group: Indices, read: Read) -> Values:
        return ONE / np.sqrt(square(group, read) / count + eps)

    return mean, square, rstd


def _normalised(by: Groups, mean: int, rstd: int) -> Result:
    def rule(at: Indices, read: Read) -> Values:
        group, weight = by.group(at), by.weight(at)
        normal = (read(0, at) - read(mean, group)) * read(rstd, group)
        return fma(normal, read(1, weight), read(2, weight))

    return rule


def _layer_norm(refiner: Refiner) -> Refinement:
    by = Groups(refiner.inputs[0].shape, by_channel=False)
    mean, _, result = _statistics(refiner, by)
    rstd = refiner.output(result, 2)
    y = refiner.output(_normalised(by, mean, rstd))
    return refiner.finish(y, mean, rstd)


def _batch_norm(refiner: Refiner) -> Refinement:
    by = Groups(refiner.inputs[0].shape, by_channel=True)
    momentum = scalar(refiner.attributes, "momentum")
    rest, count = ONE - momentum, np.float32(by.count)
    mean, square, result = _statistics(refiner, by)
    rstd = refiner.output(result, 2)
    y = refiner.output(_normalised(by, mean, rstd))

    def running_mean(c: Indices, read: Read) -> Values:
        return fma(momentum, read(mean, c), rest * read(3, c))

    def running_variance(c: Indices, read: Read) -> Values:
        return fma(momentum, square(c, read) / (count - ONE), rest * read(4, c))

    means = refiner.output(running_mean, 3)
    variances = refiner.output(running_variance, 4)
    return refiner.finish(y, mean, rstd, means, variances)


def _normal(by: Groups) -> Result:
    """(x - mean) * rstd, of inputs g, x, w, mean, rstd."""

    def rule(at: Indices, read: Read) -> Values:
        group = by.group(at)
        return (read(1, at) - read(3, group)) * read(4, group)

    return rule


def _layer_norm_backward(refiner: Refiner) -> Refinement:
    by = Groups(refiner.inputs[0].shape, by_channel=False)
    rows, columns, count = by.groups, by.count, np.float32(by.count)
    normal = _normal(by)

    def scaled(at: Indices, read: Read) -> Values:
        return read(0, at) * read(2, by.weight(at))

    def pairs(row: Indices, e: Indices, read: Read) -> tuple[Values, Values]:
        at = by.at(row, e)
        return scaled(at, read), normal(at, read)

    first = lanes(
        refiner, "scaled", rows, columns, lambda g, e, r: scaled(by.at(g, e), r)
    )
    second = lanes(refiner, "projected", rows, columns, pairs)

    def dx(at: Indices, read: Read) -> Values:
        row = by.group(at)
        c1, c2 = first(row, read) / count, second(row, read) / count
        inner = (scaled(at, read) - c1) - normal(at, read) * c2
        return read(4, row) * inner

    def down(column: Indices, row: Indices, read: Read) -> tuple[Values, Values]:
        at = row * columns + column
        return read(0, at), normal(at, read)

    weights = lanes(refiner, "weights", columns, rows, down)
    biases = lanes(
        refiner, "biases", columns, rows, lambda c, row, r: r(0, row * columns + c)
    )
    return refiner.finish(
        refiner.output(dx), refiner.output(weights, 1), refiner.output(biases, 2)
    )


def _batch_norm_backward(refiner: Refiner) -> Refinement:
    by = Groups(refiner.inputs[0].shape, by_channel=True)
    count, normal = np.float32(by.count), _normal(by)

    def pairs(c: Indices, e: Indices, read: Read) -> tuple[Values, Values]:
        at = by.at(c, e)
        return read(0, at), normal(at, read)

    weights = lanes(refiner, "weights", by.groups, by.count, pairs)
    biases = lanes(
        refiner, "biases", by.groups, by.count, lambda g, e, r: r(0, by.at(g, e))
    )
    dw, db = refiner.output(weights, 1), refiner.output(biases, 2)

    def dx(at: Indices, read: Read) -> Values:
        c = by.group(at)
        c1, c2 = read(db, c) / count, read(dw, c) / count
        inner = (read(0, at) - c1) - normal(at, read) * c2
        return (read(2, c) * read(4, c)) * inner

    return refiner.finish(refiner.output(dx), dw, db)


# ── along a row ──────────────────────────────────────────────────────────────


def _sort(refiner: Refiner) -> Refinement:
    columns = _columns(refiner.inputs[0].shape)

    def whole_rows(index: int) -> Result:
        def rule(at: Indices, read: Read) -> Values:
            rows, inverse = np.unique(at // columns, return_inverse=True)
            cells = rows[:, None] * columns + np.arange(columns)
            values = read(0, cells.reshape(-1)).reshape(len(rows), columns)
            result = DEFINITIONS["sort"](refiner.attributes, values)
            if not isinstance(result, tuple):
                raise TypeError("expected values and indices")
            found: Values = result[index][inverse, at % columns]
            return found

        return rule

    return refiner.finish(
        refiner.output(whole_rows(0)), refiner.output(whole_rows(1), 1)
    )


def _cumsum(refiner: Refiner) -> Refinement:
    rows, columns = matrix(*refiner.inputs[0].shape)
    chunk = 64

    def step(total: Values, row: Indices, e: Indices, read: Read) -> Values:
        return total + read(0, row * columns + e)

    states, _ = scan(refiner, "sums", (1, rows), columns, zeros, step, chunk=chunk)

    def rule(at: Indices, read: Read) -> Values:
        row, column = np.divmod(at, columns)
        number = column // chunk
        total = np.zeros(at.shape, np.float32)
        later = number > 0
        if later.any():
            total[later] = read(states, (number[later] - 1) * rows + row[later])
        for offset in range(min(chunk, columns)):
            e = number * chunk + offset
            here = e <= column
            if here.any():
                total[here] = step(total[here], row[here], e[here], read)
        return total

    return refiner.finish(refiner.output(rule))


def _amax(refiner: Refiner) -> Refinement:
    rows, columns = matrix(*refiner.inputs[0].shape)
    return refiner.finish(
        refiner.output(_row_maximum(refiner, rows, columns, _greatest))
    )


def _argmax(refiner: Refiner) -> Refinement:
    rows, columns = matrix(*refiner.inputs[0].shape)

    def step(best: Values, row: Indices, e: Indices, read: Read) -> Values:
        # A state that somebody else committed may point anywhere.
        best = np.clip(best, 0, columns - 1)
        held = read(0, row * columns + best)
        value = read(0, row * columns + e)
        better = (value > held) | (np.isnan(value) & ~np.isnan(held))
        return np.where(better, e, best)

    _, best = scan(
        refiner, "best", (1, rows), columns, lambda row, _: np.zeros_like(row), step,
        dtype=DType.I64,
    )  # fmt: skip
    return refiner.finish(refiner.output(best))


RECIPES: dict[str, Recipe] = {
    "sum": _sum,
    "softmax": _softmax,
    "softmax_backward": _softmax_backward,
    "log_softmax": _log_softmax,
    "log_softmax_backward": _log_softmax_backward,
    "layer_norm": _layer_norm,
    "layer_norm_backward": _layer_norm_backward,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "sort": _sort,
    "cumsum": _cumsum,
    "amax": _amax,
    "argmax": _argmax,
}
