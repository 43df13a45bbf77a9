"""Convolutions and pools: windows that slide over planes."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ml_verifier.operators.base import (
    MOVE,
    AttributeNames,
    Attributes,
    Operator,
    ShapeError,
    Types,
    WorkRule,
    expect,
    integer,
    integers,
    is_f32,
    row,
)
from ml_verifier.types import TensorType, f32, i64

MAX_EXTRA_PADDING = 64  # beyond an input's own extent: kernels copy padding
TAP_MACS = 20  # one element of a pooling window: walked by columns, in the worst case


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over [H, W]; raises ``ShapeError`` if it never fits."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def output(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return [OH, OW] of an input whose last two dimensions are [H, W]."""
        sizes: list[int] = []
        for i, extent in enumerate(shape[-2:]):
            if not (self.kernel[i] and self.stride[i] and self.dilation[i]):
                raise ShapeError(
                    f"kernel, stride and dilation must be positive: {self}"
                )
            if self.padding[i] > extent + MAX_EXTRA_PADDING:
                raise ShapeError(
                    f"expected padding of at most {extent + MAX_EXTRA_PADDING}: {self}"
                )
            span = self.dilation[i] * (self.kernel[i] - 1) + 1
            size = (extent + 2 * self.padding[i] - span) // self.stride[i] + 1
            if size <= 0:
                raise ShapeError(f"window {self} does not fit into {shape}")
            sizes.append(size)
        return sizes[0], sizes[1]


def _window(a: Attributes, kernel: tuple[int, ...] | None = None) -> Window:
    return Window(
        kernel=integers(a, "kernel", 2) if kernel is None else kernel,
        stride=integers(a, "stride", 2),
        padding=integers(a, "padding", 2),
        dilation=integers(a, "dilation", 2) if "dilation" in a else (1, 1),
    )


def _conv_output(
    x: tuple[int, ...], w: tuple[int, ...], a: Attributes
) -> tuple[int, ...]:
    groups = integer(a, "groups")
    fits = len(x) == len(w) == 4 and groups > 0 and all(x) and all(w)
    if not (fits and w[0] % groups == 0 and x[1] == w[1] * groups):
        raise ShapeError(
            f"expected x[N, C, H, W] and w[O, C/groups, kh, kw] with groups={groups}, "
            f"got {x} and {w}"
        )
    return (x[0], w[0], *_window(a, w[2:]).output(x))


def _conv2d(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(is_f32(*t), "f32 x and w", t)
    return (f32(*_conv_output(t[0].shape, t[1].shape, a)),)


def _conv2d_backward_input(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape = integers(a, "input_shape", 4)
    expected = _conv_output(shape, t[1].shape, a)
    expect(is_f32(*t) and t[0].shape == expected, f"g of shape {expected}", t)
    return (f32(*shape),)


def _conv2d_backward_weight(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape = integers(a, "weight_shape", 4)
    expected = _conv_output(t[1].shape, shape, a)
    expect(is_f32(*t) and t[0].shape == expected, f"g of shape {expected}", t)
    return (f32(*shape),)


def _pool_output(x: tuple[int, ...], a: Attributes) -> tuple[int, ...]:
    window = _window(a)
    if len(x) != 4:
        raise ShapeError(f"expected x[N, C, H, W], got {x}")
    for kernel, padding in zip(window.kernel, window.padding, strict=True):
        if 2 * padding > kernel:
            raise ShapeError(f"padding {padding} exceeds half the kernel {kernel}")
    return (*x[:2], *window.output(x))


def _max_pool2d(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(is_f32(*t), "f32 x", t)
    shape = _pool_output(t[0].shape, a)
    return (f32(*shape), i64(*shape))


def _max_pool2d_backward(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape = integers(a, "input_shape", 4)
    ok = is_f32(t[0]) and t[1] == i64(*t[0].shape) and len(t[0].shape) == 4
    expect(ok and t[0].shape[:2] == shape[:2], f"f32 g and i64 indices into {shape}", t)
    return (f32(*shape),)


def _avg_pool2d(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(is_f32(*t) and integer(a, "count_include_pad") in {0, 1}, "f32 x", t)
    return (f32(*_pool_output(t[0].shape, a)),)


def _avg_pool2d_backward(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape = integers(a, "input_shape", 4)
    ok = is_f32(*t) and integer(a, "count_include_pad") in {0, 1}
    expect(ok and t[0].shape == _pool_output(shape, a), f"g pooled from {shape}", t)
    return (f32(*shape),)


def _conv(
    pick: Callable[[Types, Types], Types],
) -> tuple[WorkRule, WorkRule, WorkRule]:
    """Return MACs, scratch and traffic of a convolution; ``pick`` finds (x, w, y)."""

    def macs(inputs: Types, outputs: Types, _: Attributes) -> int:
        _x, w, y = pick(inputs, outputs)
        return y.size * math.prod(w.shape[1:])

    def scratch(inputs: Types, outputs: Types, a: Attributes) -> int:
        """Bytes of one sample's columns, planes and gradients, and a transposed g."""
        _x, w, y = pick(inputs, outputs)
        sample = traffic(inputs, outputs, a) // y.shape[0]
        return sample + 4 * (w.size + 4 * y.size // y.shape[0] + y.size)

    def traffic(inputs: Types, outputs: Types, a: Attributes) -> int:
        """Bytes of all samples' columns [C * kh * kw, L] and padded planes of x."""
        x, w, y = pick(inputs, outputs)
        columns = integer(a, "groups") * math.prod((*w.shape[1:], *y.shape[2:]))
        height, width = (
            extent + 2 * padding
            for extent, padding in zip(
                x.shape[2:], integers(a, "padding", 2), strict=True
            )
        )
        return 4 * y.shape[0] * (columns + x.shape[1] * height * width)

    return macs, scratch, traffic


def _pool_macs(inputs: Types, outputs: Types, a: Attributes) -> int:
    pooled = min(inputs[0].size, outputs[0].size)
    taps = pooled * math.prod(integers(a, "kernel", 2))
    return TAP_MACS * taps + outputs[0].size


_CONV = _conv(lambda i, o: (i[0], i[1], o[0]))
_CONV_INPUT = _conv(lambda i, o: (o[0], i[1], i[0]))
_CONV_WEIGHT = _conv(lambda i, o: (i[1], o[0], i[0]))
_GEOMETRY: AttributeNames = (
    ("stride", "ints"),
    ("padding", "ints"),
    ("dilation", "ints"),
)
_CONV_ATTRIBUTES: AttributeNames = (
    *_GEOMETRY,
    ("groups", "int"),
)
_INPUT_SHAPE: AttributeNames = (("input_shape", "ints"),)
_AVG: AttributeNames = (
    ("kernel", "ints"),
    ("stride", "ints"),
    ("padding", "ints"),
    ("count_include_pad", "int"),
)

ROWS: tuple[Operator, ...] = (
    row(20, "conv2d", 2, _conv2d, _CONV[0], _CONV_ATTRIBUTES, *_CONV[1:]),
    row(
        21,
        "conv2d_backward_input",
        2,
        _conv2d_backward_input,
        _CONV_INPUT[0],
        _INPUT_SHAPE + _CONV_ATTRIBUTES,
        *_CONV_INPUT[1:],
    ),
    row(
        22,
        "conv2d_backward_weight",
        2,
        _conv2d_backward_weight,
        _CONV_WEIGHT[0],
        (("weight_shape", "ints"), *_CONV_ATTRIBUTES),
        *_CONV_WEIGHT[1:],
    ),
    row(23, "max_pool2d", 1, _max_pool2d, _pool_macs, (("kernel", "ints"), *_GEOMETRY)),
    row(24, "max_pool2d_backward", 2, _max_pool2d_backward, MOVE, _INPUT_SHAPE),
    row(25, "avg_pool2d", 1, _avg_pool2d, _pool_macs, _AVG),
    row(
        26,
        "avg_pool2d_backward",
        1,
        _avg_pool2d_backward,
        _pool_macs,
        _INPUT_SHAPE + _AVG,
    ),
)
