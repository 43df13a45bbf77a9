"""Fused optimiser steps.

``factor`` is a scalar that the learning rate is multiplied with: the schedule's value
at this step, 1 when there is none.
"""

from ml_verifier.operators.base import (
    MOVE,
    Attributes,
    Operator,
    Types,
    expect,
    integer,
    is_f32,
    per_element,
    row,
)
from ml_verifier.types import TensorType, f32


def _sgd(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    ok = is_f32(*t) and t[0] == t[1] == t[2] and t[3] == f32()
    expect(ok, "p, g, m of one shape and the scalar factor", t)
    expect(integer(a, "nesterov") in {0, 1}, "nesterov of 0 or 1", t)
    return (t[0], t[0])


def _adamw(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    ok = t[0] == t[1] == t[2] == t[3] and t[4] == t[5] == t[6] == f32()
    expect(is_f32(*t) and ok, "p, g, m, v of one shape and three scalars", t)
    return (t[0], t[0], t[0])


def _lion(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    ok = is_f32(*t) and t[0] == t[1] == t[2] and t[3] == f32()
    expect(ok, "p, g, m of one shape and the scalar factor", t)
    return (t[0], t[0])


def _correction(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    expect(t[0] == f32(), "an f32 scalar", t)
    return (f32(),)


ROWS: tuple[Operator, ...] = (
    row(
        29,
        "sgd",
        4,
        _sgd,
        per_element(4),
        (
            ("lr", "float"),
            ("momentum", "float"),
            ("weight_decay", "float"),
            ("nesterov", "int"),
        ),
    ),
    row(
        30,
        "adamw",
        7,
        _adamw,
        per_element(16),
        (
            ("lr", "float"),
            ("beta1", "float"),
            ("beta2", "float"),
            ("eps", "float"),
            ("weight_decay", "float"),
        ),
    ),
    row(31, "correction", 1, _correction, MOVE, (("beta", "float"),)),
    row(
        97,
        "lion",
        4,
        _lion,
        per_element(8),
        (
            ("lr", "float"),
            ("beta1", "float"),
            ("beta2", "float"),
            ("weight_decay", "float"),
        ),
    ),
)
