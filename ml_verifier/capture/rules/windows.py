# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Convolutions and pools. One spatial dimension is two, the first of extent 1."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rules
from ml_verifier.capture.operands import Held, Operand, Tensor
from ml_verifier.capture.rules.arithmetic import floats
from ml_verifier.capture.rules.movement import padded
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.operators import AttributeValue

aten = torch.ops.aten

Attributes = Mapping[str, AttributeValue]


def _pair(numbers: Sequence[int] | int, missing: int) -> tuple[int, int]:
    """Return two numbers for two spatial dimensions."""
    found = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    if len(found) == 1:
        return missing, found[0]
    return found[0], found[1]


def _planes(low: Lowering, x: Operand) -> Tensor:
    """Return x[N, C, L] as [N, C, 1, L]."""
    *outer, length = low.shape(x)
    return low.reshape(x, (*outer, 1, length)) if low.rank(x) == 3 else floats(low, x)


# ── convolution ──────────────────────────────────────────────────────────────


def _geometry(low: Lowering, call: Call, x: Operand) -> dict[str, Any]:
    if low.rank(x) == 5:
        raise Unsupported("of three dimensions: only one and two")
    if low.rank(x) == 3 or len(call["stride"]) == 1:
        stride, dilation = (
            _pair(call["stride"][-1:], 1),
            _pair(call["dilation"][-1:], 1),
        )
        padding = _pair(call["padding"][-1:], 0)
    else:
        stride, dilation = _pair(call["stride"], 1), _pair(call["dilation"], 1)
        padding = _pair(call["padding"], 0)
    return {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": call["groups"],
    }


def _convolution(low: Lowering, call: Call) -> Operand:
    x, w = floats(low, call["input"]), floats(low, call["weight"])
    attributes = _geometry(low, call, x)
    x, w = _planes(low, x), _planes(low, w)
    if call["transposed"]:
        *outer, width = call.shape
        shape = (*outer, 1, width) if len(call.shape) == 3 else call.shape
        y = low.add("conv2d_backward_input", x, w, input_shape=shape, **attributes)
    else:
        y = low.add("conv2d", x, w, **attributes)
    if call["bias"] is not None:
        bias = floats(low, call["bias"])
        y = low.add("add", y, low.reshape(bias, (low.shape(bias)[0], 1, 1)))
    return low.reshape(y, call.shape)


def _convolution_backward(low: Lowering, call: Call) -> Operand:
    g, x, w = (floats(low, call[n]) for n in ("grad_output", "input", "weight"))
    attributes = _geometry(low, call, x)
    shapes = low.shape(x), low.shape(w)
    g, x, w = _planes(low, g), _planes(low, x), _planes(low, w)
    needs_input, needs_weight, needs_bias = call["output_mask"]
    dx = dw = db = None
    if needs_input and call["transposed"]:
        dx = low.add("conv2d", g, w, **attributes)
    elif needs_input:
        dx = low.add(
            "conv2d_backward_input", g, w, input_shape=low.shape(x), **attributes
        )
    if needs_weight:
        pair = (x, g) if call["transposed"] else (g, x)
        dw = low.add(
            "conv2d_backward_weight", *pair, weight_shape=low.shape(w), **attributes
        )
    if needs_bias:
        db = low.add("sum", g, axes=(0, 2, 3), keepdim=0)
    return (
        None if dx is None else low.reshape(dx, shapes[0]),
        None if dw is None else low.reshape(dw, shapes[1]),
        db,
    )


# ── pools ────────────────────────────────────────────────────────────────────


class Pool:
    """A pool's window over x[N, C, H, W], and what ceil_mode puts beside it.

    Attributes:
        kernel, stride, padding, dilation: As the operators take them.
        extra: Rows and columns that ceil_mode needs after the input.
    """

    def __init__(self, call: Call, shape: Sequence[int]) -> None:
        self.kernel = _pair(call["kernel_size"] * (3 - len(call["kernel_size"])), 1)
        stride = call.arguments.get("stride") or self.kernel
        self.stride = (stride[0], stride[-1])
        padding = call.arguments.get("padding") or (0, 0)
        self.padding = (padding[0], padding[-1])
        dilation = call.arguments.get("dilation") or (1, 1)
        self.dilation = (dilation[0], dilation[-1])
        self.shape = shape
        ceil = bool(call.arguments.get("ceil_mode"))
        self.extra = tuple(self._extra(i) if ceil else 0 for i in (0, 1))

    def _extra(self, i: int) -> int:
        extent, padding = self.shape[-2 + i], self.padding[i]
        span = self.dilation[i] * (self.kernel[i] - 1) + 1
        over = extent + 2 * padding - span
        count = -(-over // self.stride[i]) + 1
        if (count - 1) * self.stride[i] >= extent + padding:
            count -= 1  # torch: a window must start inside the input or its padding
        return max(0, (count - 1) * self.stride[i] - over)

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The input's shape with what ceil_mode adds."""
        *outer, height, width = self.shape
        return (*outer, height + self.extra[0], width + self.extra[1])

    def widened(self, low: Lowering, x: Operand, value: float) -> Tensor:
        """Put ``value`` where ceil_mode's last windows reach beyond the input."""
        rank = low.rank(x)
        sides = {rank - 2 + i: (0, self.extra[i]) for i in (0, 1) if self.extra[i]}
        return padded(low, x, sides, value)

    def narrowed(self, low: Lowering, x: Operand) -> Tensor:
        """Undo ``widened``."""
        for i in (0, 1):
            x = low.cut(x, 2 + i, 0, self.shape[-2 + i])
        return floats(low, x)

    def window(self) -> dict[str, Any]:
        """Return kernel, stride and padding."""
        return {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}


def _images(low: Lowering, x: Operand) -> Tensor:
    """Return x[C, H, W] as [1, C, H, W]."""
    return low.reshape(x, (1, *low.shape(x))) if low.rank(x) == 3 else floats(low, x)


def _maxima(low: Lowering, call: Call) -> tuple[Pool, Sequence[Tensor]]:
    x = _images(low, floats(low, call["self"]))
    pool = Pool(call, low.shape(x))
    wide = pool.widened(low, x, -math.inf)
    return pool, low.outputs(
        2, "max_pool2d", wide, **pool.window(), dilation=pool.dilation
    )


def _max_pool(low: Lowering, call: Call) -> Operand:
    pool, (y, index) = _maxima(low, call)
    shape = tuple(call.node.meta["val"][0].shape)
    if any(pool.extra):
        width = pool.padded_shape[-1]
        row = low.add("int_floordiv", index, width)
        column = low.add("int_remainder", index, width)
        index = low.add("int_add", low.add("int_mul", row, pool.shape[-1]), column)
    return low.reshape(y, shape), low.reshape(index, shape)


def _max_pool_backward(low: Lowering, call: Call) -> Operand:
    pool, (y, index) = _maxima(low, call)
    g = low.reshape(floats(low, call["grad_output"]), low.shape(y))
    dx = low.add("max_pool2d_backward", g, index, input_shape=pool.padded_shape)
    return low.reshape(pool.narrowed(low, dx), call.shape)


def _corrections(call: Call, pool: Pool) -> Tensor | float | None:
    """Return what an average over whole windows must be multiplied with.

    Windows of ceil_mode that reach beyond the padded input count fewer elements.
    """
    size = math.prod(pool.kernel)
    if call["divisor_override"] is not None:
        return size / float(call["divisor_override"])
    if not any(pool.extra):
        return None
    inside = torch.ones(1, 1, *pool.shape[-2:])
    padding = [p for i in (1, 0) for p in (pool.padding[i], pool.padding[i])]
    if call["count_include_pad"]:
        inside = torch.ones(
            1,
            1,
            *(n + 2 * p for n, p in zip(inside.shape[-2:], pool.padding, strict=True)),
        )
    else:
        inside = torch.nn.functional.pad(inside, padding)
    over = [e for i in (1, 0) for e in (0, pool.extra[i])]
    inside = torch.nn.functional.pad(inside, over)
    counts = torch.nn.functional.avg_pool2d(
        inside, pool.kernel, pool.stride, divisor_override=1
    )
    return Held(size / counts)


def _average(call: Call, pool: Pool) -> tuple[dict[str, Any], Tensor | float | None]:
    factors = _corrections(call, pool)
    include = 1 if factors is not None else int(call["count_include_pad"])
    return {**pool.window(), "count_include_pad": include}, factors


def _avg_pool(low: Lowering, call: Call) -> Operand:
    x = _images(low, floats(low, call["self"]))
    pool = Pool(call, low.shape(x))
    window, factors = _average(call, pool)
    y = low.add("avg_pool2d", pool.widened(low, x, 0.0), **window)
    if factors is not None:
        y = low.add("mul", y, factors)
    return low.reshape(y, call.shape)


def _avg_pool_backward(low: Lowering, call: Call) -> Operand:
    x = _images(low, floats(low, call["self"]))
    g = _images(low, floats(low, call["grad_output"]))
    pool = Pool(call, low.shape(x))
    window, factors = _average(call, pool)
    if factors is not None:
        g = low.add("mul", g, factors)
    dx = low.add("avg_pool2d_backward", g, input_shape=pool.padded_shape, **window)
    return low.reshape(pool.narrowed(low, dx), call.shape)


def _adaptive(low: Lowering, x: Operand, outputs: Sequence[int]) -> dict[str, Any]:
    extents = low.shape(x)[-2:]
    kernel: list[int] = []
    for extent, count in zip(extents, outputs, strict=True):
        if extent % count:
            raise Unsupported(
                f"of {extent} to {count}: only to a divisor; use a pool with a kernel"
            )
        kernel.append(extent // count)
    return {"kernel": tuple(kernel), "stride": tuple(kernel), "padding": (0, 0)}


def _adaptive_avg(low: Lowering, call: Call) -> Operand:
    x = _images(low, floats(low, call["self"]))
    window = _adaptive(low, x, call.shape[-2:])
    y = low.add("avg_pool2d", x, **window, count_include_pad=1)
    return low.reshape(y, call.shape)


def _adaptive_avg_backward(low: Lowering, call: Call) -> Operand:
    x = _images(low, floats(low, call["self"]))
    g = _images(low, floats(low, call["grad_output"]))
    window = _adaptive(low, x, low.shape(g)[-2:])
    dx = low.add(
        "avg_pool2d_backward",
        g,
        input_shape=low.shape(x),
        **window,
        count_include_pad=1,
    )
    return low.reshape(dx, call.shape)


def _adaptive_max(low: Lowering, call: Call) -> Operand:
    x = _images(low, floats(low, call["self"]))
    shape = tuple(call.node.meta["val"][0].shape)
    window = _adaptive(low, x, shape[-2:])
    parts = low.outputs(2, "max_pool2d", x, **window, dilation=(1, 1))
    return tuple(low.reshape(part, shape) for part in parts)


def _adaptive_max_backward(low: Lowering, call: Call) -> Operand:
    x = _images(low, floats(low, call["self"]))
    g = _images(low, floats(low, call["grad_output"]))
    index = low.reshape(call["indices"], low.shape(g))
    dx = low.add("max_pool2d_backward", g, index, input_shape=low.shape(x))
    return low.reshape(dx, call.shape)


RULES: Rules = {
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
    aten.avg_pool2d.default: _avg_pool,
    aten.avg_pool2d_backward.default: _avg_pool_backward,
    aten._adaptive_avg_pool2d.default: _adaptive_avg,
    aten._adaptive_avg_pool2d_backward.default: _adaptive_avg_backward,
    aten.adaptive_max_pool2d.default: _adaptive_max,
    aten.adaptive_max_pool2d_backward.default: _adaptive_max_backward,
}
