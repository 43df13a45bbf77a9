# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Activation functions that have operators; torch decomposes the others."""

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Operand
from ml_verifier.capture.rules.arithmetic import floats, unary

aten = torch.ops.aten


def _backward(name: str, saved: str) -> Rule:
    """Return the rule of a derivative that reads the gradient and one more tensor."""

    def rule(low: Lowering, call: Call) -> Operand:
        g, x = floats(low, call["grad_output"]), floats(low, call[saved])
        return low.add(name, low.broadcast(g, low.shape(x)), x)

    return rule


def _threshold_backward(low: Lowering, call: Call) -> Operand:
    g, x = floats(low, call["grad_output"]), floats(low, call["self"])
    if call["threshold"] == 0:
        return low.add("relu_backward", low.broadcast(g, low.shape(x)), x)
    return low.add("where", low.add("le", x, float(call["threshold"])), 0.0, g)


def _gelu(low: Lowering, call: Call) -> Operand:
    name = "gelu_tanh" if call["approximate"] == "tanh" else "gelu"
    return low.add(name, floats(low, call["self"]))


def _gelu_backward(low: Lowering, call: Call) -> Operand:
    name = "gelu_tanh" if call["approximate"] == "tanh" else "gelu"
    return _backward(f"{name}_backward", "self")(low, call)


def _shrink_backward(low: Lowering, call: Call) -> Operand:
    g = floats(low, call.arguments.get("grad_out", call.arguments.get("grad_output")))
    near = low.add(
        "le", low.add("abs", floats(low, call["self"])), float(call["lambd"])
    )
    return low.add("where", near, 0.0, g)


def _logit_backward(low: Lowering, call: Call) -> Operand:
    g, x = floats(low, call["grad_output"]), floats(low, call["self"])
    slope = low.add("div", g, low.add("mul", x, low.add("sub", 1.0, x)))
    if call["eps"] is None:
        return slope
    eps = float(call["eps"])
    inside = low.add("and", low.add("ge", x, eps), low.add("le", x, 1 - eps))
    return low.add("where", inside, slope, 0.0)


RULES: Rules = {
    aten.relu.default: unary("relu"),
    aten.threshold_backward.default: _threshold_backward,
    aten.tanh.default: unary("tanh"),
    aten.tanh_backward.default: _backward("tanh_backward", "output"),
    aten.sigmoid.default: unary("sigmoid"),
    aten.sigmoid_backward.default: _backward("sigmoid_backward", "output"),
    aten.gelu.default: _gelu,
    aten.gelu_backward.default: _gelu_backward,
    aten.hardshrink_backward.default: _shrink_backward,
    aten.softshrink_backward.default: _shrink_backward,
    aten.logit_backward.default: _logit_backward,
    aten.silu.default: unary("silu"),
    aten.silu_backward.default: _backward("silu_backward", "self"),
}
