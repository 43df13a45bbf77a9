"""Losses, normalisation and optimisers."""

from collections.abc import Mapping

import numpy as np

from ml_verifier.operators import AttributeValue, integer
from ml_verifier.oracle.arithmetic import Array, Floats, fma, lane_dot, lane_sum, scalar
from ml_verifier.oracle.elementary import exp, log

Attributes = Mapping[str, AttributeValue]

ONE = np.float32(1)


def log_softmax(_: Attributes, x: Floats) -> Floats:
    """X - max - log(sum of exp) over the last axis."""
    rows = x.reshape(-1, x.shape[-1])
    largest = np.full(len(rows), -np.inf, np.float32)
    for column in rows.T:
        largest = np.where(np.isnan(column) | (column > largest), column, largest)
        # A NaN once seen stays: nothing compares greater than it.
    d = rows - largest[:, None]
    y = d - log(lane_sum(exp(d).T))[:, None]
    return y.reshape(x.shape)


def log_softmax_backward(_: Attributes, g: Floats, y: Floats) -> Floats:
    """G - exp(y) * sum(g), fused."""
    rows = g.reshape(-1, g.shape[-1])
    total = lane_sum(rows.T)
    dx = fma(-exp(y.reshape(rows.shape)), total[:, None], rows)
    return dx.reshape(g.shape)


def _out_of_range(target: Array, classes: int) -> bool:
    return bool(np.any((target < 0) | (target >= classes)))


def _ignored(attributes: Attributes) -> np.int64:
    """The ignored target: 32 bits in two's complement."""
    return np.int64(np.uint32(integer(attributes, "ignore")).view(np.int32))


def nll_loss(
    attributes: Attributes, logp: Floats, target: Array
) -> tuple[Floats, Floats] | None:
    """Mean of -logp at the targets, and how many there are.

    None when a target is out of range.
    """
    kept = target != _ignored(attributes)
    if _out_of_range(target[kept], logp.shape[1]):
        return None
    safe = np.where(kept, target, 0)
    picked = np.where(kept, -logp[np.arange(len(target)), safe], np.float32(0))
    count = np.float32(kept.sum())
    return np.asarray(lane_sum(picked) / count, np.float32), np.asarray(count)


def nll_loss_backward(
    attributes: Attributes, g: Floats, target: Array, count: Floats
) -> Floats | None:
    """-(g / count) at the targets, 0 elsewhere; None when one is out of range."""
    classes = integer(attributes, "classes")
    rows = np.flatnonzero(target != _ignored(attributes))
    if _out_of_range(target[rows], classes):
        return None
    dx = np.zeros((len(target), classes), np.float32)
    dx[rows, target[rows]] = -(g / count)
    return dx


def _by_channel(x: Floats) -> Floats:
    """X[N, C, ...] as [N * L, C], rows in the order of reduction."""
    flat = x.reshape(x.shape[0], x.shape[1], -1)
    return flat.transpose(0, 2, 1).reshape(-1, x.shape[1])


def _by_sample(rows: Floats, like: Floats) -> Floats:
    """The inverse of ``_by_channel``."""
    split = rows.reshape(like.shape[0], -1, like.shape[1])
    return split.transpose(0, 2, 1).reshape(like.shape)


def batch_norm(
    attributes: Attributes, x: Floats, w: Floats, b: Floats, rm: Floats, rv: Floats
) -> tuple[Floats, ...]:
    """Normalised x, mean, 1 / deviation, and the running statistics."""
    momentum, eps = scalar(attributes, "momentum"), scalar(attributes, "eps")
    rows = _by_channel(x)
    count = np.float32(len(rows))
    mean = lane_sum(rows) / count
    d = rows - mean
    square = lane_dot(d, d)
    rstd = ONE / np.sqrt(square / count + eps)
    y = fma(d * rstd, w, b)
    rest = ONE - momentum
    next_mean = fma(momentum, mean, rest * rm)
    next_variance = fma(momentum, square / (count - ONE), rest * rv)
    return _by_sample(y, x), mean, rstd, next_mean, next_variance


def batch_norm_backward(
    _: Attributes, g: Floats, x: Floats, w: Floats, mean: Floats, rstd: Floats
) -> tuple[Floats, Floats, Floats]:
    """Gradients of x, w and b."""
    gradient, rows = _by_channel(g), _by_channel(x)
    count = np.float32(len(rows))
    normal = (rows - mean) * rstd
    db, dw = lane_sum(gradient), lane_dot(gradient, normal)
    c1, c2 = db / count, dw / count
    dx = (w * rstd) * ((gradient - c1) - normal * c2)
    return _by_sample(dx, x), dw, db


def sgd(
    attributes: Attributes, p: Floats, g: Floats, m: Floats, factor: Floats
) -> tuple[Floats, Floats]:
    """Momentum step; returns parameters and momentum."""
    lr, momentum = scalar(attributes, "lr") * factor, scalar(attributes, "momentum")
    gradient = fma(scalar(attributes, "weight_decay"), p, g)
    moment = fma(momentum, m, gradient)
    nesterov = integer(attributes, "nesterov") == 1
    direction = fma(momentum, moment, gradient) if nesterov else moment
    return fma(-lr, direction, p), moment


def adamw(
    attributes: Attributes,
    p: Floats,
    g: Floats,
    m: Floats,
    v: Floats,
    c1: Floats,
    c2: Floats,
    factor: Floats,
) -> tuple[Floats, Floats, Floats]:
    """AdamW step with corrections c = 1 - beta^t; returns parameters and moments."""
    lr, eps = scalar(attributes, "lr") * factor, scalar(attributes, "eps")
    beta1, beta2 = scalar(attributes, "beta1"), scalar(attributes, "beta2")
    mean = fma(beta1, m, (ONE - beta1) * g)
    square = fma(beta2, v, ((ONE - beta2) * g) * g)
    decay = fma(-lr, scalar(attributes, "weight_decay"), ONE)
    step = lr / c1
    denominator = fma(np.sqrt(square), ONE / np.sqrt(c2), eps)
    return fma(-step, mean / denominator, p * decay), mean, square


def lion(
    attributes: Attributes, p: Floats, g: Floats, m: Floats, factor: Floats
) -> tuple[Floats, Floats]:
    """Step of one size along the sign of a mean; returns parameters and moment."""
    lr = scalar(attributes, "lr") * factor
    beta1, beta2 = scalar(attributes, "beta1"), scalar(attributes, "beta2")
    mean = fma(beta1, m, (ONE - beta1) * g)
    direction = np.where(mean > 0, ONE, np.where(mean < 0, -ONE, np.float32(0)))
    direction = np.where(np.isnan(mean), mean, direction)
    decay = fma(-lr, scalar(attributes, "weight_decay"), ONE)
    moment = fma(beta2, m, (ONE - beta2) * g)
    return fma(-lr, direction, p * decay), moment


def correction(attributes: Attributes, c: Floats) -> Floats:
    """1 - beta^(t + 1) from 1 - beta^t."""
    beta = scalar(attributes, "beta")
    return fma(beta, c, ONE - beta)
