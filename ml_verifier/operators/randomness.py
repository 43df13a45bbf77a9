"""What a step knows of its job beside the state and the batch, and what it draws.

The engine supplies seed and step; no backend computes them. Both key the generator.
"""

from ml_verifier.operators.base import (
    Attributes,
    Operator,
    Types,
    expect,
    integer,
    integers,
    per_element,
    row,
)
from ml_verifier.types import TensorType, f32, i64

WORD = 2**32


def _fact(_: Types, __: Attributes) -> tuple[TensorType, ...]:
    return (i64(),)


def _drawn(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(t[0] == t[1] == i64(), "seed and step, i64[] both", t)
    expect(0 <= integer(a, "stream") < WORD, "a stream of 32 bits", t)
    return (f32(*integers(a, "shape")),)


def _dropout_mask(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    p = a["p"]
    expect(isinstance(p, (int, float)) and 0 <= p < 1, "p in [0, 1)", t)
    return _drawn(t, a)


DRAW = per_element(16)  # ten rounds of two products for four elements

ROWS: tuple[Operator, ...] = (
    row(
        84,
        "uniform",
        2,
        _drawn,
        DRAW,
        (("shape", "ints"), ("low", "float"), ("high", "float"), ("stream", "int")),
    ),
    row(
        85,
        "dropout_mask",
        2,
        _dropout_mask,
        DRAW,
        (("shape", "ints"), ("p", "float"), ("stream", "int")),
    ),
    row(90, "seed", 0, _fact),
    row(91, "step", 0, _fact),
)
