"""Batched products, softmax and layer normalisation."""

from collections.abc import Mapping

import numpy as np

from ml_verifier.operators import AttributeValue, integer
from ml_verifier.oracle.arithmetic import (
    Floats,
    fma,
    lane_dot,
    lane_sum,
    product,
    scalar,
)
from ml_verifier.oracle.elementary import exp
from ml_verifier.oracle.layers import ONE

Attributes = Mapping[str, AttributeValue]


def bmm(attributes: Attributes, a: Floats, b: Floats) -> Floats:
    """The matrix product of each entry of two batches."""
    left = a.swapaxes(-1, -2) if integer(attributes, "ta") else a
    right = b.swapaxes(-1, -2) if integer(attributes, "tb") else b
    y = np.empty((*left.shape[:-1], right.shape[-1]), np.float32)
    for entry in np.ndindex(left.shape[:-2]):
        y[entry] = product(left[entry], right[entry])
    return y


def softmax(attributes: Attributes, x: Floats) -> Floats:
    """exp(x - max) over its sum, along the last axis."""
    rows = x.reshape(-1, x.shape[-1])
    largest = np.maximum.reduce(rows, axis=1, initial=np.float32(-np.inf))
    e = exp(rows - largest[:, None])
    y: Floats = e / lane_sum(e.T)[:, None]
    if integer(attributes, "safe"):
        y[largest == -np.inf] = 0
    return y.reshape(x.shape)


def softmax_backward(_: Attributes, g: Floats, y: Floats) -> Floats:
    """Y * (g - the row's sum of g * y)."""
    gradient, rows = (z.reshape(-1, z.shape[-1]) for z in (g, y))
    total = lane_dot(gradient.T, rows.T)
    dx: Floats = rows * (gradient - total[:, None])
    return dx.reshape(g.shape)


def layer_norm(
    attributes: Attributes, x: Floats, w: Floats, b: Floats
) -> tuple[Floats, Floats, Floats]:
    """Normalised x, and mean and 1 / deviation of each row."""
    columns = x.reshape(-1, x.shape[-1]).T
    count = np.float32(len(columns))
    mean = lane_sum(columns) / count
    d = columns - mean
    rstd = ONE / np.sqrt(lane_dot(d, d) / count + scalar(attributes, "eps"))
    y = fma((d * rstd).T, w, b)
    return y.reshape(x.shape), mean, rstd


def layer_norm_backward(
    _: Attributes, g: Floats, x: Floats, w: Floats, mean: Floats, rstd: Floats
) -> tuple[Floats, Floats, Floats]:
    """Gradients of x, w and b."""
    gradient, rows = (z.reshape(-1, z.shape[-1]) for z in (g, x))
    count = np.float32(rows.shape[1])
    normal = (rows - mean[:, None]) * rstd[:, None]
    scaled = gradient * w
    c1 = lane_sum(scaled.T) / count
    c2 = lane_dot(scaled.T, normal.T) / count
    dx = rstd[:, None] * ((scaled - c1[:, None]) - normal * c2[:, None])
    return dx.reshape(x.shape), lane_dot(gradient, normal), lane_sum(gradient)
