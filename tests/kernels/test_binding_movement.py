"""What ``bind`` refuses of operators that move, convert, compare, choose and draw."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ml_verifier.kernels import BindingError, bind
from tests.kernels.cases import Array, Attributes


def f32(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def f64(*shape: int) -> Array:
    return np.zeros(shape, np.float64)


def i64(*shape: int) -> Array:
    return np.zeros(shape, np.int64)


def bf16(*shape: int) -> Array:
    return np.zeros(shape, np.uint16)


def boolean(*shape: int) -> Array:
    return np.zeros(shape, np.uint8)


SLICE: Attributes = {"starts": (0,), "ends": (4,), "steps": (1,)}
PAD: Attributes = {"before": (1,), "after": (0,), "value": 0.0}
JOIN: Attributes = {"axis": 0}
LITERAL: Attributes = {"dtype": 1, "shape": (1,), "data": bytes(4)}
UNIFORM: Attributes = {"shape": (4,), "low": 0.0, "high": 1.0, "stream": 1}
MASK: Attributes = {"shape": (4,), "p": 0.5, "stream": 1}
LION: Attributes = {"lr": 0.5, "beta1": 0.5, "beta2": 0.5, "weight_decay": 0.0}
FACTS = i64(), i64()
STATE = f32(4), f32(4), f32(4), f32()

Shaped = Callable[..., Array]
Row = tuple[str, Attributes, list[Array], list[Array], str]
MOVEMENT: list[Row] = [
    ("slice", {**SLICE, "steps": (0,)}, [f32(4)], [f32(4)], "steps must be at least 1"),
    ("slice", {**SLICE, "ends": (0,)}, [f32(4)], [f32(0)], r"is not within \(4,\)"),
    ("slice", {**SLICE, "ends": (5,)}, [f32(4)], [f32(5)], r"is not within \(4,\)"),
    ("slice", {**SLICE, "starts": (-1,)}, [f32(4)], [f32(1)], "starts must be at"),
    ("slice", {**SLICE, "ends": (4, 4)}, [f32(4)], [f32(4)], "ends must be a tuple of"),
    ("slice", {**SLICE, "steps": (2,)}, [f32(4)], [f32(4)], "output 0 must have shape"),
    ("slice", SLICE, [f32(4)], [i64(4)], "output 0 must be float32"),
    ("slice", SLICE, [f64(4)], [f64(4)], "are moved, got float64"),
    ("pad", {**PAD, "before": (-1,)}, [f32(4)], [f32(3)], "before must be at least 0"),
    ("pad", {**PAD, "after": (0, 0)}, [f32(4)], [f32(5)], "after must be a tuple of 1"),
    ("pad", {**PAD, "value": 0.1}, [f32(4)], [f32(5)], "value must be exactly"),
    ("pad", {**PAD, "value": 1.0}, [i64(4)], [i64(5)], "int64 is padded with 0"),
    ("pad", {**PAD, "value": -0.0}, [bf16(4)], [bf16(5)], "uint16 is padded with 0"),
    ("pad", {**PAD, "value": np.inf}, [boolean(4)], [boolean(5)], "is padded with 0"),
    ("pad", {**PAD, "value": np.nan}, [bf16(4)], [bf16(5)], "uint16 is padded with 0"),
    ("pad", PAD, [f32(4)], [f32(4)], "output 0 must have shape"),
    ("pad", PAD, [f32(4)], [i64(5)], "output 0 must be float32"),
    ("pad", PAD, [f64(4)], [f64(5)], "are moved, got float64"),
    ("concat", {"axis": 1}, [f32(4)], [f32(4)], r"axis 1 is none of \(4,\)"),
    ("concat", {"axis": -1}, [f32(4)], [f32(4)], "axis must be in"),
    ("concat", JOIN, [f32()], [f32()], r"axis 0 is none of \(\)"),
    ("concat", JOIN, [], [f32(4)], "expected 1 to 8 inputs"),
    ("concat", JOIN, [f32(1)] * 9, [f32(9)], "expected 1 to 8 inputs"),
    ("concat", JOIN, [f32(2, 3), f32(2, 4)], [f32(4, 3)], "input 1 must have shape"),
    ("concat", JOIN, [f32(2, 3), f32(2)], [f32(4, 3)], "input 1 must have shape"),
    ("concat", JOIN, [f32(2), i64(2)], [f32(4)], "input 1 must be float32"),
    ("concat", JOIN, [f32(2), f32(2)], [f32(3)], "output 0 must have shape"),
    ("flip", {"axes": (1, 0)}, [f32(2, 2)], [f32(2, 2)], "are not sorted axes"),
    ("flip", {"axes": (0, 0)}, [f32(2, 2)], [f32(2, 2)], "are not sorted axes"),
    ("flip", {"axes": (2,)}, [f32(2, 2)], [f32(2, 2)], "are not sorted axes"),
    ("flip", {"axes": (-1,)}, [f32(2, 2)], [f32(2, 2)], "axes must be at least 0"),
    ("flip", {"axes": 0}, [f32(2, 2)], [f32(2, 2)], "axes must be a tuple"),
    ("flip", {"axes": (0,)}, [f32(2, 2)], [f32(4)], "output 0 must have shape"),
    ("flip", {"axes": (0,)}, [f64(2)], [f64(2)], "are moved, got float64"),
    ("literal", {**LITERAL, "dtype": 5}, [], [f32(1)], "no element type 5"),
    ("literal", {**LITERAL, "shape": (2,)}, [], [f32(2)], "must be the bytes of"),
    ("literal", {**LITERAL, "data": 0}, [], [f32(1)], "must be the bytes of"),
    ("literal", LITERAL, [], [i64(1)], "output 0 must be float32"),
    ("literal", LITERAL, [], [f32()], "output 0 must have shape"),
    ("iota", {"size": 4.0}, [], [i64(4)], "size must be an integer"),
    ("iota", {"size": -1}, [], [i64(0)], "size must be in"),
    ("iota", {"size": 4}, [], [f32(4)], "output 0 must be int64"),
    ("iota", {"size": 4}, [], [i64(5)], "output 0 must have shape"),
    ("cast", {"dtype": 0}, [f32(4)], [f32(4)], "no element type 0"),
    ("cast", {"dtype": 5}, [f32(4)], [f32(4)], "no element type 5"),
    ("cast", {"dtype": 2}, [f32(4)], [f32(4)], "output 0 must be int64"),
    ("cast", {"dtype": 2}, [f32(4)], [i64(5)], "output 0 must have shape"),
    ("cast", {"dtype": 2}, [f64(4)], [i64(4)], "are moved, got float64"),
]
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGICAL = ("and", "or", "xor")
INTEGER = ("int_add", "int_sub", "int_mul", "int_floordiv", "int_remainder")


def pairs(name: str, good: Shaped, bad: Shaped, made: Shaped) -> list[Row]:
    """What an operator of two inputs of one element type refuses."""
    return [
        (name, {}, [good(4), bad(4)], [made(4)], f"1 must be {good().dtype}"),
        (name, {}, [good(4), good(3)], [made(4)], "do not broadcast"),
        (name, {}, [good(4), good(4)], [bf16(4)], f"0 must be {made().dtype}"),
        (name, {}, [good(4), good(1)], [made(1)], "output 0 must have shape"),
        (name, {}, [good(4)], [made(4)], "expected 2 inputs"),
    ]


LOGIC: list[Row] = [
    *(row for name in COMPARISONS for row in pairs(name, f32, i64, boolean)),
    *(row for name in COMPARISONS for row in pairs(name, i64, f32, boolean)),
    *(row for name in LOGICAL for row in pairs(name, boolean, f32, boolean)),
    *(row for name in INTEGER for row in pairs(name, i64, boolean, i64)),
    *(
        (name, {}, [bf16(4), bf16(4)], [boolean(4)], "0 must be")
        for name in COMPARISONS
    ),
    ("lt", {}, [boolean(4), boolean(4)], [boolean(4)], "input 0 must be float32"),
    ("not", {}, [f32(4)], [boolean(4)], "input 0 must be uint8"),
    ("not", {}, [boolean(4)], [f32(4)], "output 0 must be uint8"),
    ("not", {}, [boolean(4)], [boolean(3)], "output 0 must have shape"),
    ("where", {}, [f32(4), f32(4), f32(4)], [f32(4)], "input 0 must be uint8"),
    ("where", {}, [boolean(4), f32(4), i64(4)], [f32(4)], "input 2 must be float32"),
    ("where", {}, [boolean(4), f32(4), f32(4)], [i64(4)], "output 0 must be float32"),
    ("where", {}, [boolean(3), f32(4), f32(4)], [f32(4)], "do not broadcast"),
    ("where", {}, [boolean(4), f32(4), f32(4)], [f32(5)], "output 0 must have shape"),
    ("where", {}, [boolean(4), f64(4), f64(4)], [f64(4)], "no elements of float64"),
    ("where", {}, [boolean(4), f32(4)], [f32(4)], "expected 3 inputs"),
]


def draws(name: str, how: Attributes) -> list[Row]:
    """What every operator that draws refuses."""
    return [
        (name, how, [i64(), i64(1)], [f32(4)], r"input 1 must have shape \(\)"),
        (name, how, [f32(), i64()], [f32(4)], "input 0 must be int64"),
        (name, how, [i64()], [f32(4)], "expected 2 inputs"),
        (name, how, [*FACTS], [f32(5)], "output 0 must have shape"),
        (name, how, [*FACTS], [bf16(4)], "output 0 must be float32"),
        (name, {**how, "stream": 2**32}, [*FACTS], [f32(4)], "stream must be in"),
        (name, {**how, "stream": -1}, [*FACTS], [f32(4)], "stream must be in"),
        (name, {**how, "shape": 4}, [*FACTS], [f32(4)], "shape must be a tuple"),
    ]


DRAWN: list[Row] = [
    *draws("uniform", UNIFORM),
    *draws("dropout_mask", MASK),
    ("uniform", {**UNIFORM, "low": 0.1}, [*FACTS], [f32(4)], "low must be exactly"),
    ("uniform", {**UNIFORM, "high": (1,)}, [*FACTS], [f32(4)], "high must be a number"),
    ("dropout_mask", {**MASK, "p": 1.0}, [*FACTS], [f32(4)], r"p must be in \[0, 1\)"),
    ("dropout_mask", {**MASK, "p": -0.5}, [*FACTS], [f32(4)], r"p must be in \[0, 1\)"),
    ("dropout_mask", {**MASK, "p": np.nan}, [*FACTS], [f32(4)], "p must be in"),
    ("dropout_mask", {**MASK, "p": 0.1}, [*FACTS], [f32(4)], "p must be exactly"),
]
STEPS: list[Row] = [
    ("lion", LION, [*STATE[:2], f32(3), f32()], [f32(4), f32(4)], "input 2 must have"),
    ("lion", LION, [*STATE[:3], f32(1)], [f32(4), f32(4)], "input 3 must have shape"),
    ("lion", LION, [f32(4), bf16(4), *STATE[2:]], [f32(4), f32(4)], "1 must be float"),
    ("lion", LION, [*STATE], [f32(4), f32(3)], "output 1 must have shape"),
    ("lion", LION, [*STATE], [f32(4)], "expected 2 outputs"),
    ("lion", LION, [*STATE[:3]], [f32(4), f32(4)], "expected 4 inputs"),
    ("lion", {**LION, "lr": 0.1}, [*STATE], [f32(4), f32(4)], "lr must be exactly"),
]
REFUSED = [*MOVEMENT, *LOGIC, *DRAWN, *STEPS]


@pytest.mark.parametrize(
    ("name", "attributes", "inputs", "outputs", "reason"),
    REFUSED,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)],
)
def test_refused(
    name: str,
    attributes: dict[str, Any],
    inputs: list[Any],
    outputs: list[Any],
    reason: str,
) -> None:
    with pytest.raises(BindingError, match=reason):
        bind(name, attributes, inputs, outputs)


def test_lion_may_overwrite_whole_buffers_alone() -> None:
    arena, moment, factor = f32(12), f32(8), f32()
    with pytest.raises(BindingError, match="output 0 shares memory with input 0"):
        bind("lion", LION, [arena[:8], f32(8), moment, factor], [arena[4:], f32(8)])
    with pytest.raises(BindingError, match="output 1 shares memory with output 0"):
        bind("lion", LION, [f32(8), f32(8), moment, factor], [arena[:8], arena[:8]])
