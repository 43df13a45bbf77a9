"""Elementwise functions: correctly rounded ones, signs, rounding, comparisons."""

from ml_verifier.operators.arithmetic import binary, unary
from ml_verifier.operators.base import TRANSCENDENTAL, Operator, per_element, row

ROWS: tuple[Operator, ...] = (
    row(36, "erf", 1, unary, TRANSCENDENTAL, rounded=3),
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
    row(54, "maximum", 2, binary),
    row(55, "minimum", 2, binary),
)
