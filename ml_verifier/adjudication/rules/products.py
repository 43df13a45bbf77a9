"""Matrix products and convolutions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_verifier.adjudication.primitives import dot, matrix, scan, staged, zeros
from ml_verifier.adjudication.refinement import (
    Indices,
    Read,
    Recipe,
    Refinement,
    Refiner,
    Values,
    filled,
)
from ml_verifier.operators import integer, integers

# Along the depth of a convolution neighbours may lie a plane apart: fewer per chunk.
CONV_CHUNK = 64
ZERO = np.zeros((), np.float32)


def _matmul(refiner: Refiner) -> Refinement:
    """Products over the last two axes; leading ones are batches."""
    ta, tb = integer(refiner.attributes, "ta"), integer(refiner.attributes, "tb")
    a, depth = refiner.inputs[0].shape, refiner.inputs[0].shape[-2 if ta else -1]
    m, n = refiner.outputs[0].shape[-2:]
    left, right = math.prod(a[-2:]), math.prod(refiner.inputs[1].shape[-2:])

    def term(out: Indices, k: Indices, read: Read) -> tuple[Values, Values]:
        batch, rest = np.divmod(out, m * n)
        i, j = np.divmod(rest, n)
        at_a = batch * left + (k * m + i if ta else i * depth + k)
        at_b = batch * right + (j * depth + k if tb else k * n + j)
        return read(0, at_a), read(1, at_b)

    shape = matrix(*refiner.outputs[0].shape)
    return refiner.finish(refiner.output(dot(refiner, "product", shape, depth, term)))


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution: x[N, C, H, W], w[O, C/groups, kh, kw], y[N, O, OH, OW]."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def taps(self) -> int:
        """Depth of the product: (c, i, j) of one group."""
        return math.prod(self.w[1:])

    def tap(self, k: Indices) -> tuple[Indices, Indices, Indices]:
        """Split a tap into (c, i, j)."""
        channel, rest = np.divmod(k, self.w[2] * self.w[3])
        return channel, *np.divmod(rest, self.w[3])

    def split(self, out: Indices, shape: Sequence[int]) -> tuple[Indices, ...]:
        """Return four coordinates."""
        return tuple(np.asarray(c, np.int64) for c in np.unravel_index(out, shape))

    def column(
        self, n: Indices, group: Indices, k: Indices, place: Indices, read: Read
    ) -> Values:
        """Return the im2col element of tap k at output position ``place``: source 1."""
        c, i, j = self.tap(k)
        oh, ow = np.divmod(place, self.y[3])
        h = oh * self.stride[0] - self.padding[0] + i * self.dilation[0]
        w = ow * self.stride[1] - self.padding[1] + j * self.dilation[1]
        inside = (h >= 0) & (h < self.x[2]) & (w >= 0) & (w < self.x[3])
        channel = n * self.x[1] + group * self.w[1] + c
        at = (channel * self.x[2] + h) * self.x[3] + w
        return filled(inside, lambda where: read(1, where), at, ZERO)


def _geometry(
    refiner: Refiner, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...]
) -> Geometry:
    a = refiner.attributes
    stride, padding, dilation = (
        integers(a, name) for name in ("stride", "padding", "dilation")
    )
    return Geometry(x, w, y, stride, padding, dilation, integer(a, "groups"))


def _conv2d(refiner: Refiner) -> Refinement:
    x, w = (t.shape for t in refiner.inputs)
    g = _geometry(refiner, x, w, refiner.outputs[0].shape)
    per_group = w[0] // g.groups

    def term(out: Indices, k: Indices, read: Read) -> tuple[Values, Values]:
        n, o, oh, ow = g.split(out, g.y)
        # column() reads source 1; here x is source 0.
        values = g.column(n, o // per_group, k, oh * g.y[3] + ow,
                          lambda _, at: read(0, at))  # fmt: skip
        return read(1, o * g.taps + k), values

    shape = matrix(*g.y)
    product = dot(refiner, "product", shape, g.taps, term, CONV_CHUNK)
    return refiner.finish(refiner.output(product))


def _conv2d_backward_weight(refiner: Refiner) -> Refinement:
    y, x = (t.shape for t in refiner.inputs)
    g = _geometry(refiner, x, refiner.outputs[0].shape, y)
    per_group, places = g.w[0] // g.groups, y[2] * y[3]
    size = refiner.outputs[0].size

    def term(out: Indices, place: Indices, read: Read) -> tuple[Values, Values]:
        n, rest = np.divmod(out, size)
        o, k = np.divmod(rest, g.taps)
        gradient = read(0, (n * g.w[0] + o) * places + place)
        return gradient, g.column(n, o // per_group, k, place, read)

    rows, columns = matrix(*g.w)
    each = y[0] * rows, columns
    product = dot(refiner, "sample", each, places, term, CONV_CHUNK)
    if places <= CONV_CHUNK:  # a stage of its own bounds the fan-in of the sum
        product = staged(refiner, "sample", each, product)

    def step(total: Values, out: Indices, n: Indices, read: Read) -> Values:
        return total + product(n * size + out, read)

    _, total = scan(refiner, "samples", (rows, columns), y[0], zeros, step)
    return refiner.finish(refiner.output(total))


def _conv2d_backward_input(refiner: Refiner) -> Refinement:
    y, w = (t.shape for t in refiner.inputs)
    g = _geometry(refiner, refiner.outputs[0].shape, w, y)
    per_group, places = w[0] // g.groups, y[2] * y[3]

    def term(out: Indices, k: Indices, read: Read) -> tuple[Values, Values]:
        """Column (n, group, tap, place): k runs over the group's outputs."""
        rest, place = np.divmod(out, places)
        rest, tap = np.divmod(rest, g.taps)
        n, group = np.divmod(rest, g.groups)
        o = group * per_group + k
        return read(1, o * g.taps + tap), read(0, (n * w[0] + o) * places + place)

    each = y[0] * g.groups * g.taps, places
    column = dot(refiner, "columns", each, per_group, term, CONV_CHUNK)
    if per_group <= CONV_CHUNK:
        column = staged(refiner, "columns", each, column)

    def step(total: Values, out: Indices, tap: Indices, read: Read) -> Values:
        n, channel, h, width = g.split(out, g.x)
        group, c = np.divmod(channel, w[1])
        i, j = np.divmod(tap, w[3])
        oh, fits_h = _source(h + g.padding[0] - i * g.dilation[0], g.stride[0], y[2])
        ow, fits_w = _source(width + g.padding[1] - j * g.dilation[1], g.stride[1],
                             y[3])  # fmt: skip
        here = fits_h & fits_w
        if here.any():
            k = c * w[2] * w[3] + tap
            at = ((n * g.groups + group) * g.taps + k) * places + oh * y[3] + ow
            total[here] = total[here] + column(at[here], read)
        return total

    _, total = scan(refiner, "taps", matrix(*g.x), w[2] * w[3], zeros, step)
    return refiner.finish(refiner.output(total))


def _source(
    shifted: Indices, stride: int, extent: int
) -> tuple[Indices, NDArray[np.bool_]]:
    """Return the output that reads a position through one tap, and whether there is."""
    out, rest = np.divmod(shifted, stride)
    return out, (rest == 0) & (out >= 0) & (out < extent)


RECIPES: dict[str, Recipe] = {
    "matmul": _matmul,
    "bmm": _matmul,
    "conv2d": _conv2d,
    "conv2d_backward_input": _conv2d_backward_input,
    "conv2d_backward_weight": _conv2d_backward_weight,
}
