"""Convolutions through an explicit im2col, and pools window by window."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml_verifier.operators import AttributeValue, integer, integers
from ml_verifier.oracle.arithmetic import Array, Floats, product

Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over planes of [height, width]."""

    plane: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def outputs(self) -> tuple[int, int]:
        """[OH, OW]."""
        height, width = (
            (
                self.plane[i]
                + 2 * self.padding[i]
                - self.dilation[i] * (self.kernel[i] - 1)
                - 1
            )
            // self.stride[i]
            + 1
            for i in range(2)
        )
        return height, width

    def positions(self) -> Iterator[tuple[int, int]]:
        """All outputs (oh, ow), row-major."""
        height, width = self.outputs
        for oh in range(height):
            for ow in range(width):
                yield oh, ow

    def taps(self) -> Iterator[tuple[int, int]]:
        """All taps (i, j), row-major."""
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                yield i, j

    def source(self, output: tuple[int, int], tap: tuple[int, int]) -> tuple[int, int]:
        """The plane position that an output's tap reads; may lie outside."""
        h, w = (
            output[i] * self.stride[i] - self.padding[i] + tap[i] * self.dilation[i]
            for i in range(2)
        )
        return h, w

    def holds(self, position: tuple[int, int]) -> bool:
        """Whether a position lies in the plane."""
        return all(0 <= p < n for p, n in zip(position, self.plane, strict=True))


def window(
    attributes: Attributes, plane: Sequence[int], kernel: Sequence[int] | None = None
) -> Window:
    """The window that an operator's attributes describe."""
    return Window(
        plane=tuple(plane),
        kernel=integers(attributes, "kernel") if kernel is None else tuple(kernel),
        stride=integers(attributes, "stride"),
        padding=integers(attributes, "padding"),
        dilation=(
            integers(attributes, "dilation") if "dilation" in attributes else (1, 1)
        ),
    )


def _columns(x: Floats, over: Window) -> Floats:
    """The im2col matrix [K, L] of one sample's channels [C, H, W]."""
    rows: list[list[np.float32]] = []
    outputs = list(over.positions())
    for channel in x:
        for tap in over.taps():
            sources = [over.source(output, tap) for output in outputs]
            rows.append(
                [channel[s] if over.holds(s) else np.float32(0) for s in sources]
            )
    return np.array(rows, np.float32)


def _group(array: Array, group: int, groups: int) -> Array:
    size = array.shape[0] // groups
    return array[group * size : (group + 1) * size]


def conv2d(attributes: Attributes, x: Floats, w: Floats) -> Floats:
    """W[O, K] times the columns [K, L], per sample and group."""
    over, groups = (
        window(attributes, x.shape[2:], w.shape[2:]),
        integer(attributes, "groups"),
    )
    y = np.empty((x.shape[0], w.shape[0], *over.outputs), np.float32)
    for sample, out in zip(x, y, strict=True):
        for g in range(groups):
            weights = _group(w, g, groups)
            part = product(
                weights.reshape(len(weights), -1),
                _columns(_group(sample, g, groups), over),
            )
            _group(out, g, groups)[:] = part.reshape(-1, *over.outputs)
    return y


def conv2d_backward_input(attributes: Attributes, g: Floats, w: Floats) -> Floats:
    """Columns W^T g, scattered in the order (c, i, j) outer, l inner."""
    shape, groups = integers(attributes, "input_shape"), integer(attributes, "groups")
    over = window(attributes, shape[2:], w.shape[2:])
    dx = np.zeros(shape, np.float32)
    for gradient, target in zip(g, dx, strict=True):
        for group in range(groups):
            weights = _group(w, group, groups)
            flat = _group(gradient, group, groups)
            columns = product(
                weights.reshape(len(weights), -1).T, flat.reshape(len(flat), -1)
            )
            row = iter(columns)
            for channel in _group(target, group, groups):
                for tap in over.taps():
                    _scatter(channel, next(row), over, tap)
    return dx


def _scatter(
    channel: Floats, column: Floats, over: Window, tap: tuple[int, int]
) -> None:
    for value, output in zip(column, over.positions(), strict=True):
        source = over.source(output, tap)
        if over.holds(source):
            channel[source] = channel[source] + value


def conv2d_backward_weight(attributes: Attributes, g: Floats, x: Floats) -> Floats:
    """G[O, L] times the transposed columns [L, K], added over samples."""
    shape, groups = integers(attributes, "weight_shape"), integer(attributes, "groups")
    over = window(attributes, x.shape[2:], shape[2:])
    dw = np.zeros(shape, np.float32)
    for gradient, sample in zip(g, x, strict=True):
        for group in range(groups):
            flat = _group(gradient, group, groups)
            columns = _columns(_group(sample, group, groups), over)
            part = product(flat.reshape(len(flat), -1), columns.T)
            target = _group(dw, group, groups)
            target[:] = target + part.reshape(target.shape)
    return dw


def max_pool2d(attributes: Attributes, x: Floats) -> tuple[Floats, Array]:
    """Largest value of each window, and where it is: h * W + w."""
    over = window(attributes, x.shape[2:])
    y = np.full((*x.shape[:2], *over.outputs), -np.inf, np.float32)
    index = np.full(y.shape, -1, np.int64)
    for output in over.positions():
        best, where = y[:, :, *output], index[:, :, *output]
        for tap in over.taps():
            source = over.source(output, tap)
            if not over.holds(source):
                continue
            value = x[:, :, *source]
            where[where < 0] = source[0] * over.plane[1] + source[1]
            better = (value > best) | np.isnan(value)
            where[better] = source[0] * over.plane[1] + source[1]
            best[better] = value[better]
    return y, index


def max_pool2d_backward(
    attributes: Attributes, g: Floats, index: Array
) -> Floats | None:
    """Scatter-add in ascending output index; None when an index is out of range."""
    shape = integers(attributes, "input_shape")
    dx = np.zeros((shape[0] * shape[1], shape[2] * shape[3]), np.float32)
    if np.any((index < 0) | (index >= dx.shape[1])):
        return None
    planes = range(len(dx))
    values = g.reshape(len(dx), -1)
    where = index.reshape(len(dx), -1)
    for output in range(values.shape[1]):
        at = where[:, output]
        dx[planes, at] = dx[planes, at] + values[:, output]
    return dx.reshape(shape)


def _inside(over: Window, output: tuple[int, int]) -> list[tuple[int, int]]:
    sources = (over.source(output, tap) for tap in over.taps())
    return [source for source in sources if over.holds(source)]


def _count(attributes: Attributes, over: Window, inside: int) -> np.float32:
    padded = integer(attributes, "count_include_pad") == 1
    return np.float32(over.kernel[0] * over.kernel[1] if padded else inside)


def avg_pool2d(attributes: Attributes, x: Floats) -> Floats:
    """Sequential sum of each window over its count."""
    over = window(attributes, x.shape[2:])
    y = np.zeros((*x.shape[:2], *over.outputs), np.float32)
    for output in over.positions():
        inside = _inside(over, output)
        total = np.zeros(x.shape[:2], np.float32)
        for source in inside:
            total = total + x[:, :, *source]
        y[:, :, *output] = total / _count(attributes, over, len(inside))
    return y


def avg_pool2d_backward(attributes: Attributes, g: Floats) -> Floats:
    """Scatter-add of g / count, ascending output index, window row-major."""
    shape = integers(attributes, "input_shape")
    over = window(attributes, shape[2:])
    dx = np.zeros(shape, np.float32)
    for output in over.positions():
        inside = _inside(over, output)
        share = g[:, :, *output] / _count(attributes, over, len(inside))
        for source in inside:
            dx[:, :, *source] = dx[:, :, *source] + share
    return dx
