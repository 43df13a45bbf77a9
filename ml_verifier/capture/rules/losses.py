# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Softmax, and losses that compare outputs with targets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Operand, Tensor
from ml_verifier.capture.rules.arithmetic import floats
from ml_verifier.capture.rules.reductions import summed
from ml_verifier.types import DType

aten = torch.ops.aten

NONE, MEAN, SUM = 0, 1, 2  # torch's codes of a reduction


# ── softmax ──────────────────────────────────────────────────────────────────


def _last_axis(name: str, **attributes: int) -> Rule:
    """Return the rule of a function of the last axis, applied along any."""

    def rule(low: Lowering, call: Call) -> Operand:
        x, axis = floats(low, call["self"]), call["dim"]
        if not low.rank(x):
            return low.reshape(low.add(name, low.reshape(x, (1,)), **attributes), ())
        return low.back(low.add(name, low.last(x, axis), **attributes), axis)

    return rule


def _last_axis_backward(name: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        g, y = floats(low, call["grad_output"]), floats(low, call["output"])
        axis = call["dim"]
        g = low.broadcast(g, low.shape(y))
        if not low.rank(y):
            return low.filled(0.0, DType.F32, ())
        return low.back(low.add(name, low.last(g, axis), low.last(y, axis)), axis)

    return rule


# ── negative log-likelihood ──────────────────────────────────────────────────


def _ignored(target: int) -> int:
    """A target as the attribute holds it: 32 bits in two's complement."""
    return int(target) % 2**32


def _columns(low: Lowering, x: Operand) -> Tensor:
    """Return x[N, C, ...] as [rows, C]."""
    shape = low.shape(x)
    if len(shape) == 1:
        return low.reshape(x, (1, -1))
    return low.reshape(low.last(x, 1), (-1, shape[1]))


def _uncolumns(low: Lowering, x: Operand, shape: Sequence[int]) -> Tensor:
    """Undo ``_columns``."""
    if len(shape) == 1:
        return low.reshape(x, shape)
    moved = low.reshape(x, (shape[0], *shape[2:], shape[1]))
    return low.back(moved, 1)


@dataclass(frozen=True, slots=True)
class Picked:
    """Where each row's target is, and how much the row counts.

    Attributes:
        valid: Whether a row counts at all.
        target: Its class, 0 if it does not count; [rows, 1].
        weight: The weight of its class, 0 if it does not count; [rows].
    """

    valid: Tensor
    target: Tensor
    weight: Tensor

    @staticmethod
    def of(low: Lowering, call: Call) -> "Picked":
        """Read the targets of a call."""
        target = low.reshape(call["target"], (-1,))
        valid = low.add("ne", target, int(call["ignore_index"]))
        safe = low.add("where", valid, target, 0)
        weight = low.cast(valid, DType.F32)
        if call["weight"] is not None:
            chosen = low.add("take", floats(low, call["weight"]), safe, axis=0)
            weight = low.add("where", valid, chosen, 0.0)
        return Picked(valid, low.reshape(safe, (-1, 1)), weight)


def _nll_loss(low: Lowering, call: Call) -> Operand:
    logp = _columns(low, floats(low, call["self"]))
    reduction = call["reduction"]
    if call["weight"] is None and reduction == MEAN:
        target = low.reshape(call["target"], (-1,))
        return low.outputs(
            2, "nll_loss", logp, target, ignore=_ignored(call["ignore_index"])
        )
    picked = Picked.of(low, call)
    found = low.add("gather", logp, picked.target, axis=1)
    found = low.add("neg", low.reshape(found, (-1,)))
    weighted = low.add("mul", found, picked.weight)
    losses = low.add("where", picked.valid, weighted, 0.0)
    total = summed(low, picked.weight, (0,))
    if reduction == NONE:
        return low.reshape(losses, low.shape(call["target"])), total
    loss = summed(low, losses, (0,))
    return (low.add("div", loss, total) if reduction == MEAN else loss), total


def _nll_loss_backward(low: Lowering, call: Call) -> Operand:
    shape, g = low.shape(call["self"]), floats(low, call["grad_output"])
    classes = shape[0] if len(shape) == 1 else shape[1]
    reduction = call["reduction"]
    if call["weight"] is None and reduction == MEAN:
        target = low.reshape(call["target"], (-1,))
        dx = low.add(
            "nll_loss_backward",
            *(low.reshape(g, ()), target, low.reshape(call["total_weight"], ())),
            classes=classes,
            ignore=_ignored(call["ignore_index"]),
        )
        return _uncolumns(low, dx, shape)
    picked = Picked.of(low, call)
    if reduction == MEAN:
        g = low.add("div", g, call["total_weight"])
    count = math.prod(low.shape(picked.target))
    g = low.reshape(g, (count,)) if reduction == NONE else low.broadcast(g, (count,))
    each = low.add("neg", low.add("mul", g, picked.weight))
    blank = low.filled(0.0, DType.F32, (count, classes))
    dx = low.add("scatter", blank, picked.target, low.reshape(each, (-1, 1)), axis=1)
    return _uncolumns(low, dx, shape)


# ── distances ────────────────────────────────────────────────────────────────


def _reduced(low: Lowering, losses: Tensor, reduction: int) -> Tensor:
    shape = low.shape(losses)
    if reduction == NONE:
        return losses
    total = summed(low, losses, tuple(range(len(shape))))
    return (
        low.add("div", total, float(math.prod(shape))) if reduction == MEAN else total
    )


def _mse(low: Lowering, call: Call) -> Operand:
    difference = low.add("sub", floats(low, call["self"]), floats(low, call["target"]))
    return _reduced(low, low.add("mul", difference, difference), call["reduction"])


def _mse_backward(low: Lowering, call: Call) -> Operand:
    difference = low.add("sub", floats(low, call["self"]), floats(low, call["target"]))
    size = math.prod(low.shape(difference)) if call["reduction"] == MEAN else 1
    scale = low.add("mul", floats(low, call["grad_output"]), 2.0 / size)
    return low.add("mul", difference, scale)


RULES: Rules = {
    aten._softmax.default: _last_axis("softmax", safe=0),
    aten._safe_softmax.default: _last_axis("softmax", safe=1),
    aten._softmax_backward_data.default: _last_axis_backward("softmax_backward"),
    aten._log_softmax.default: _last_axis("log_softmax"),
    aten._log_softmax_backward_data.default: _last_axis_backward(
        "log_softmax_backward"
    ),
    aten.nll_loss_forward.default: _nll_loss,
    aten.nll_loss_backward.default: _nll_loss_backward,
    aten.nll_loss2d_forward.default: _nll_loss,
    aten.nll_loss2d_backward.default: _nll_loss_backward,
    aten.mse_loss.default: _mse,
    aten.mse_loss_backward.default: _mse_backward,
}
