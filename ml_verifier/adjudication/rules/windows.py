"""Pools: windows that are walked in row-major order."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_verifier.adjudication.primitives import matrix, scan, zeros
from ml_verifier.adjudication.refinement import (
    Indices,
    Read,
    Recipe,
    Refinement,
    Refiner,
    Values,
)
from ml_verifier.adjudication.rules.indexing import Scatter, nothing, scattered
from ml_verifier.operators import integer, integers
from ml_verifier.types import DType


@dataclass(frozen=True, slots=True)
class Pool:
    """Planes [H, W] and the windows of their outputs [OH, OW]."""

    plane: tuple[int, ...]
    out: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def taps(self) -> int:
        """Positions of a window."""
        return math.prod(self.kernel)

    def place(
        self, at: Indices, tap: Indices
    ) -> tuple[Indices, Indices, NDArray[np.bool_]]:
        """Return plane, position in it and whether it is inside, of an output's tap."""
        planes, place = np.divmod(at, math.prod(self.out))
        output, offset = np.divmod(place, self.out[1]), np.divmod(tap, self.kernel[1])
        h, w = (
            output[i] * self.stride[i] - self.padding[i] + offset[i] * self.dilation[i]
            for i in range(2)
        )
        inside = (h >= 0) & (h < self.plane[0]) & (w >= 0) & (w < self.plane[1])
        return planes, h * self.plane[1] + w, inside

    def count(self, at: Indices) -> Indices:
        """Return how many positions of a window are inside."""
        place = at % math.prod(self.out)
        counts: list[Indices] = []
        for i, output in enumerate(np.divmod(place, self.out[1])):
            first = output * self.stride[i] - self.padding[i]
            low = np.maximum(0, -(first // self.dilation[i]))
            high = (self.plane[i] - 1 - first) // self.dilation[i] + 1
            high = np.minimum(high, self.kernel[i])
            counts.append(np.maximum(0, high - low))
        return counts[0] * counts[1]


def _pool(refiner: Refiner, plane: tuple[int, ...], out: tuple[int, ...]) -> Pool:
    a = refiner.attributes
    dilation = integers(a, "dilation") if "dilation" in a else (1, 1)
    kernel, stride, padding = (
        integers(a, name) for name in ("kernel", "stride", "padding")
    )
    return Pool(plane, out, kernel, stride, padding, dilation)


def _max_pool2d(refiner: Refiner) -> Refinement:
    x, y = refiner.inputs[0].shape, refiner.outputs[0].shape
    pool, size = _pool(refiner, x[2:], y[2:]), math.prod(x[2:])

    def step(best: Values, at: Indices, tap: Indices, read: Read) -> Values:
        """Return the position of the best so far; -1 before the first."""
        # A state that somebody else committed may point anywhere.
        best = np.clip(best, -1, size - 1)
        planes, place, inside = pool.place(at, tap)
        first = inside & (best < 0)
        rival = inside & ~first
        result = np.where(first, place, best)
        if rival.any():
            base = planes[rival] * size
            held, value = read(0, base + best[rival]), read(0, base + place[rival])
            better = (value > held) | np.isnan(value)
            result[rival] = np.where(better, place[rival], best[rival])
        return result

    _, best = scan(
        refiner, "best", matrix(*y), pool.taps, lambda at, _: np.full_like(at, -1),
        step, dtype=DType.I64,
    )  # fmt: skip
    index = refiner.output(best, 1)

    def value(at: Indices, read: Read) -> Values:
        result = np.full(at.shape, -np.inf, np.float32)
        place = read(index, at)
        found = place >= 0
        if found.any():
            planes = at[found] // math.prod(y[2:])
            result[found] = read(0, planes * size + place[found])
        return result

    return refiner.finish(refiner.output(value), index)


def _avg_pool2d(refiner: Refiner) -> Refinement:
    x, y = refiner.inputs[0].shape, refiner.outputs[0].shape
    pool, size = _pool(refiner, x[2:], y[2:]), math.prod(x[2:])

    def step(total: Values, at: Indices, tap: Indices, read: Read) -> Values:
        planes, place, inside = pool.place(at, tap)
        if inside.any():
            total[inside] = total[inside] + read(0, (planes * size + place)[inside])
        return total

    _, total = scan(refiner, "sums", matrix(*y), pool.taps, zeros, step)
    return refiner.finish(
        refiner.output(lambda at, read: total(at, read) / _count(refiner, pool, at))
    )


def _count(refiner: Refiner, pool: Pool, at: Indices) -> Values:
    if integer(refiner.attributes, "count_include_pad"):
        return np.full(at.shape, pool.taps, np.float32)
    return pool.count(at).astype(np.float32)


def _avg_pool2d_backward(refiner: Refiner) -> Refinement:
    """Each position adds the shares of the outputs whose windows hold it."""
    g, x = refiner.inputs[0].shape, refiner.outputs[0].shape
    pool, places = _pool(refiner, x[2:], g[2:]), math.prod(g[2:])
    # Outputs whose windows can hold a position: at most these many in each direction.
    reach = tuple(-(-k // s) for k, s in zip(pool.kernel, pool.stride, strict=True))

    def step(total: Values, at: Indices, candidate: Indices, read: Read) -> Values:
        planes, place = np.divmod(at, math.prod(x[2:]))
        position, offset = np.divmod(place, x[3]), np.divmod(candidate, reach[1])
        here = np.ones(at.shape, np.bool_)
        output = np.zeros_like(at)
        for i in range(2):
            padded = position[i] + pool.padding[i]
            last = padded // pool.stride[i]
            out = last - (reach[i] - 1) + offset[i]
            tap = padded - out * pool.stride[i]
            here &= (out >= 0) & (out < pool.out[i])
            here &= (tap >= 0) & (tap < pool.kernel[i])
            output = output * pool.out[i] + out
        if here.any():
            source = (planes * places + output)[here]
            share = read(0, source) / _count(refiner, pool, source)
            total[here] = total[here] + share
        return total

    _, total = scan(refiner, "shares", matrix(*x), math.prod(reach), zeros, step)
    return refiner.finish(refiner.output(total))


def _max_pool2d_backward(refiner: Refiner) -> Refinement:
    g, x = refiner.inputs[0].shape, refiner.outputs[0].shape
    planes, places, size = g[0] * g[1], math.prod(g[2:]), math.prod(x[2:])
    scatter = Scatter(
        *(planes, size, 1, places),
        index=lambda o, s, _, read: read(1, o * places + s),
        start=nothing,
        source=lambda o, s, _, read: read(0, o * places + s),
        combine=np.add,
    )
    last, chain = scattered(refiner, scatter)

    def rule(at: Indices, read: Read) -> Values:
        plane, target = np.divmod(at, size)
        zero = np.zeros_like(at)
        source = last(plane, target, zero, read)
        result = np.zeros(at.shape, np.float32)
        found = source >= 0
        if found.any():
            result[found] = chain(plane[found], source[found], zero[found], read)
        return result

    return refiner.finish(refiner.output(rule))


RECIPES: dict[str, Recipe] = {
    "max_pool2d": _max_pool2d,
    "max_pool2d_backward": _max_pool2d_backward,
    "avg_pool2d": _avg_pool2d,
    "avg_pool2d_backward": _avg_pool2d_backward,
}
