"""Elementwise functions: correctly rounded ones, signs, rounding, activations."""

from ml_verifier.operators.arithmetic import binary, same, unary
from ml_verifier.operators.base import (
    TRANSCENDENTAL,
    TRANSCENDENTAL_MACS,
    Operator,
    per_element,
    row,
)

# An erf on the exact path takes the time of three exps there.
ERF_ROUNDED = 3

ROWS: tuple[Operator, ...] = (
    row(36, "erf", 1, unary, TRANSCENDENTAL, rounded=ERF_ROUNDED),
    row(37, "sin", 1, unary, TRANSCENDENTAL, rounded=1),
    row(38, "cos", 1, unary, TRANSCENDENTAL, rounded=1),
    row(39, "neg", 1, unary),
    row(40, "abs", 1, unary),
    row(41, "sign", 1, unary),
    row(42, "floor", 1, unary),
    row(43, "ceil", 1, unary),
    row(44, "trunc", 1, unary),
    row(45, "round", 1, unary),
    row(46, "rsqrt", 1, unary, per_element(8)),
    row(47, "gelu", 1, unary, TRANSCENDENTAL, rounded=ERF_ROUNDED),
    row(
        48,
        "gelu_backward",
        2,
        same,
        per_element(2 * TRANSCENDENTAL_MACS),
        rounded=ERF_ROUNDED + 1,
    ),
    row(49, "gelu_tanh", 1, unary, TRANSCENDENTAL, rounded=1),
    row(50, "gelu_tanh_backward", 2, same, TRANSCENDENTAL, rounded=1),
    row(51, "silu", 1, unary, TRANSCENDENTAL, rounded=1),
    row(52, "silu_backward", 2, same, TRANSCENDENTAL, rounded=1),
    row(54, "maximum", 2, binary),
    row(55, "minimum", 2, binary),
)
