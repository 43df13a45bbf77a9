# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Batch, group and layer normalisation."""

import math
from collections.abc import Sequence

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rules
from ml_verifier.capture.operands import Operand, Tensor
from ml_verifier.capture.rules.arithmetic import floats
from ml_verifier.capture.rules.reductions import summed
from ml_verifier.types import DType

aten = torch.ops.aten


def _or_filled(
    low: Lowering, operand: Operand, value: float, shape: Sequence[int]
) -> Tensor:
    """Return an operand, or a tensor of ``value`` where the model has none."""
    if operand is None:
        return low.filled(value, DType.F32, shape)
    return low.reshape(floats(low, operand), shape)


def _over_channels(low: Lowering, operand: Operand, x: Operand) -> Tensor:
    """Return one value per channel so that it broadcasts over x[N, C, ...]."""
    size = low.shape(operand)[0]
    return low.reshape(operand, (size, *(1,) * (low.rank(x) - 2)))


# ── batch norm ───────────────────────────────────────────────────────────────


def _batch_norm_training(
    low: Lowering, call: Call, mean: Operand, variance: Operand
) -> tuple[Tensor, ...]:
    x = floats(low, call["input"])
    channels = low.shape(x)[1:2]
    return low.outputs(
        5,
        "batch_norm",
        x,
        _or_filled(low, call["weight"], 1.0, channels),
        _or_filled(low, call["bias"], 0.0, channels),
        _or_filled(low, mean, 0.0, channels),
        _or_filled(low, variance, 1.0, channels),
        momentum=float(call["momentum"]),
        eps=float(call["eps"]),
    )


def _batch_norm(low: Lowering, call: Call) -> Operand:
    mean, variance = call["running_mean"], call["running_var"]
    if call["training"]:
        return _batch_norm_training(low, call, mean, variance)
    return (*_frozen(low, call), mean, variance)


def _batch_norm_stateless(low: Lowering, call: Call) -> Operand:
    return _batch_norm_training(low, call, None, None)[:3]


def _frozen(low: Lowering, call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x - mean) / sqrt(variance + eps) * w + b with the running statistics."""
    x = floats(low, call["input"])
    scale = _deviation(low, call["running_var"], call["eps"])
    mean = floats(low, call["running_mean"])
    y = low.add("sub", x, _over_channels(low, mean, x))
    y = low.add("mul", y, _over_channels(low, scale, x))
    if call["weight"] is not None:
        y = low.add("mul", y, _over_channels(low, floats(low, call["weight"]), x))
    if call["bias"] is not None:
        y = low.add("add", y, _over_channels(low, floats(low, call["bias"]), x))
    nothing = low.filled(0.0, DType.F32, (0,))
    return y, nothing, nothing


def _deviation(low: Lowering, variance: Operand, eps: float) -> Tensor:
    return low.add("rsqrt", low.add("add", floats(low, variance), float(eps)))


def _batch_norm_inference(low: Lowering, call: Call) -> Operand:
    return _frozen(low, call)


def _batch_norm_backward(low: Lowering, call: Call) -> Operand:
    g, x = floats(low, call["grad_out"]), floats(low, call["input"])
    channels = low.shape(x)[1:2]
    w = _or_filled(low, call["weight"], 1.0, channels)
    if call["train"]:
        mean, scale = call["save_mean"], call["save_invstd"]
        found = low.outputs(3, "batch_norm_backward", g, x, w, mean, scale)
    else:
        scale = _deviation(low, call["running_var"], call["eps"])
        mean = _over_channels(low, floats(low, call["running_mean"]), x)
        others = tuple(axis for axis in range(low.rank(x)) if axis != 1)
        spread = _over_channels(low, scale, x)
        centred = low.add("mul", low.add("sub", x, mean), spread)
        dx = low.add("mul", g, _over_channels(low, low.add("mul", w, scale), x))
        dw = summed(low, low.add("mul", g, centred), others)
        found = (dx, dw, summed(low, g, others))  # type: ignore[assignment]  # tensors
    wanted = call["output_mask"]
    return tuple(
        part if want else None for part, want in zip(found, wanted, strict=True)
    )


# ── layer norm ───────────────────────────────────────────────────────────────


def _rows(low: Lowering, x: Operand, size: int) -> Tensor:
    return low.reshape(floats(low, x), (-1, size))


def _layer_norm(low: Lowering, call: Call) -> Operand:
    x = call["input"]
    size = math.prod(call["normalized_shape"])
    y, mean, scale = low.outputs(
        3,
        "layer_norm",
        _rows(low, x, size),
        _or_filled(low, call["weight"], 1.0, (size,)),
        _or_filled(low, call["bias"], 0.0, (size,)),
        eps=float(call["eps"]),
    )
    _, *shapes = (tuple(part.shape) for part in call.node.meta["val"])
    return (
        low.reshape(y, low.shape(x)),
        low.reshape(mean, shapes[0]),
        low.reshape(scale, shapes[1]),
    )


def _layer_norm_backward(low: Lowering, call: Call) -> Operand:
    x = call["input"]
    size = math.prod(call["normalized_shape"])
    dx, dw, db = low.outputs(
        3,
        "layer_norm_backward",
        _rows(low, call["grad_out"], size),
        _rows(low, x, size),
        _or_filled(low, call["weight"], 1.0, (size,)),
        low.reshape(call["mean"], (-1,)),
        low.reshape(call["rstd"], (-1,)),
    )
    shape = tuple(call["normalized_shape"])
    wanted = call["output_mask"]
    parts = (
        low.reshape(dx, low.shape(x)),
        low.reshape(dw, shape),
        low.reshape(db, shape),
    )
    return tuple(
        part if want else None for part, want in zip(parts, wanted, strict=True)
    )


# ── group norm ───────────────────────────────────────────────────────────────


def _group_norm(low: Lowering, call: Call) -> Operand:
    x = floats(low, call["input"])
    size = math.prod(low.shape(x)) // (call["N"] * call["group"])
    y, mean, scale = low.outputs(
        3,
        "layer_norm",
        _rows(low, x, size),
        low.filled(1.0, DType.F32, (size,)),
        low.filled(0.0, DType.F32, (size,)),
        eps=float(call["eps"]),
    )
    y_ = low.reshape(y, low.shape(x))
    if call["weight"] is not None:
        y_ = low.add("mul", y_, _over_channels(low, floats(low, call["weight"]), x))
    if call["bias"] is not None:
        y_ = low.add("add", y_, _over_channels(low, floats(low, call["bias"]), x))
    rows = (call["N"], call["group"])
    return y_, low.reshape(mean, rows), low.reshape(scale, rows)


def _group_norm_backward(low: Lowering, call: Call) -> Operand:
    g, x = floats(low, call["grad_out"]), floats(low, call["input"])
    size = math.prod(low.shape(x)) // (call["N"] * call["group"])
    inner = g
    if call["weight"] is not None:
        inner = low.add("mul", g, _over_channels(low, floats(low, call["weight"]), x))
    mean, scale = low.reshape(call["mean"], (-1, 1)), low.reshape(call["rstd"], (-1, 1))
    dx = low.outputs(
        3,
        "layer_norm_backward",
        _rows(low, inner, size),
        _rows(low, x, size),
        low.filled(1.0, DType.F32, (size,)),
        low.reshape(mean, (-1,)),
        low.reshape(scale, (-1,)),
    )[0]
    others = tuple(axis for axis in range(low.rank(x)) if axis != 1)
    centred = low.add("mul", low.add("sub", _rows(low, x, size), mean), scale)
    weighted = low.add("mul", g, low.reshape(centred, low.shape(x)))
    parts = (
        low.reshape(dx, low.shape(x)),
        summed(low, weighted, others),
        summed(low, g, others),
    )
    wanted = call["output_mask"]
    return tuple(
        part if want else None for part, want in zip(parts, wanted, strict=True)
    )


def _weight_norm_backward(low: Lowering, call: Call) -> Operand:
    """Return the gradients of v * (g / norm) with respect to v and g."""
    grad, v = floats(low, call["grad_w"]), floats(low, call["saved_v"])
    g, norm = floats(low, call["saved_g"]), floats(low, call["saved_norms"])
    others = tuple(i for i in range(low.rank(v)) if i != call["dim"] % low.rank(v))
    along = summed(low, low.add("mul", grad, v), others, keepdim=True)
    dg = low.add("div", along, norm)
    part = low.add("mul", v, low.add("div", dg, norm))
    dv = low.add("mul", low.add("div", g, norm), low.add("sub", grad, part))
    return dv, dg


RULES: Rules = {
    aten._native_batch_norm_legit_functional.default: _batch_norm,
    aten._native_batch_norm_legit.no_stats: _batch_norm_stateless,
    aten._native_batch_norm_legit_no_training.default: _batch_norm_inference,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten._weight_norm_interface_backward.default: _weight_norm_backward,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_layer_norm_backward.default: _layer_norm_backward,
    aten.native_group_norm.default: _group_norm,
    aten.native_group_norm_backward.default: _group_norm_backward,
}
