"""The operators by name: attributes and input arrays in, output arrays out."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from ml_verifier.operators import AttributeValue, integer, integers
from ml_verifier.oracle import (
    activations,
    elementary,
    indexing,
    layers,
    logic,
    movement,
    randomness,
    transformer,
    windows,
)
from ml_verifier.oracle.arithmetic import (
    Array,
    Definition,
    Floats,
    Result,
    lane_sum,
    product,
)

Attributes: TypeAlias = Mapping[str, AttributeValue]

ONE = np.float32(1)


def _plain(function: Callable[..., Any]) -> Definition:
    """An operator that has no attributes."""

    def definition(_: Attributes, *inputs: Array) -> Result:
        result: Array = np.asarray(function(*inputs))
        return result

    return definition


def _matmul(attributes: Attributes, a: Floats, b: Floats) -> Result:
    left = a.T if integer(attributes, "ta") else a
    right = b.T if integer(attributes, "tb") else b
    return product(left, right)


def _relu(x: Floats) -> Floats:
    return np.where(np.isnan(x) | (x > 0), x, np.float32(0))


def _relu_backward(g: Floats, x: Floats) -> Floats:
    return np.where(x <= 0, np.float32(0), g)


def _sigmoid(x: Floats) -> Floats:
    return ONE / (ONE + elementary.exp(-x))


def _tanh_backward(g: Floats, y: Floats) -> Floats:
    return g * (ONE - y * y)


def _sigmoid_backward(g: Floats, y: Floats) -> Floats:
    return (g * (ONE - y)) * y


def _sign(x: Floats) -> Floats:
    one, zero = np.float32(1), np.float32(0)
    return np.where(np.isnan(x), x, np.where(x > 0, one, np.where(x < 0, -one, zero)))


def _rsqrt(x: Floats) -> Floats:
    return ONE / np.sqrt(x)


def _maximum(a: Floats, b: Floats) -> Floats:
    return np.where(np.isnan(a), a, np.where(np.isnan(b) | (a < b), b, a))


def _minimum(a: Floats, b: Floats) -> Floats:
    return np.where(np.isnan(a), a, np.where(np.isnan(b) | (a > b), b, a))


def _sum(attributes: Attributes, x: Floats) -> Result:
    axes = integers(attributes, "axes")
    kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
    elements = x.transpose(*axes, *kept)
    elements = elements.reshape(-1, *(x.shape[axis] for axis in kept))
    if not integer(attributes, "keepdim"):
        return np.asarray(lane_sum(elements))
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    return lane_sum(elements).reshape(shape)


DEFINITIONS: Mapping[str, Definition] = MappingProxyType(
    {
        "matmul": _matmul,
        "add": _plain(np.add),
        "sub": _plain(np.subtract),
        "mul": _plain(np.multiply),
        "div": _plain(np.divide),
        "relu": _plain(_relu),
        "relu_backward": _plain(_relu_backward),
        "exp": _plain(elementary.exp),
        "log": _plain(elementary.log),
        "tanh": _plain(elementary.tanh),
        "sigmoid": _plain(_sigmoid),
        "sqrt": _plain(np.sqrt),
        "tanh_backward": _plain(_tanh_backward),
        "sigmoid_backward": _plain(_sigmoid_backward),
        "sum": _sum,
        "log_softmax": layers.log_softmax,
        "log_softmax_backward": layers.log_softmax_backward,
        "nll_loss": layers.nll_loss,
        "nll_loss_backward": layers.nll_loss_backward,
        "conv2d": windows.conv2d,
        "conv2d_backward_input": windows.conv2d_backward_input,
        "conv2d_backward_weight": windows.conv2d_backward_weight,
        "max_pool2d": windows.max_pool2d,
        "max_pool2d_backward": windows.max_pool2d_backward,
        "avg_pool2d": windows.avg_pool2d,
        "avg_pool2d_backward": windows.avg_pool2d_backward,
        "batch_norm": layers.batch_norm,
        "batch_norm_backward": layers.batch_norm_backward,
        "sgd": layers.sgd,
        "adamw": layers.adamw,
        "lion": layers.lion,
        "correction": layers.correction,
        "bmm": transformer.bmm,
        "softmax": transformer.softmax,
        "softmax_backward": transformer.softmax_backward,
        "layer_norm": transformer.layer_norm,
        "layer_norm_backward": transformer.layer_norm_backward,
        **indexing.DEFINITIONS,
        "erf": _plain(elementary.erf),
        "sin": _plain(elementary.sin),
        "cos": _plain(elementary.cos),
        "neg": _plain(np.negative),
        "abs": _plain(np.abs),
        "sign": _plain(_sign),
        "floor": _plain(np.floor),
        "ceil": _plain(np.ceil),
        "trunc": _plain(np.trunc),
        "round": _plain(np.rint),
        "rsqrt": _plain(_rsqrt),
        "gelu": _plain(activations.gelu),
        "gelu_backward": _plain(activations.gelu_backward),
        "gelu_tanh": _plain(activations.gelu_tanh),
        "gelu_tanh_backward": _plain(activations.gelu_tanh_backward),
        "silu": _plain(activations.silu),
        "silu_backward": _plain(activations.silu_backward),
        "maximum": _plain(_maximum),
        "minimum": _plain(_minimum),
        **movement.DEFINITIONS,
        **logic.DEFINITIONS,
        **randomness.DEFINITIONS,
    }
)
