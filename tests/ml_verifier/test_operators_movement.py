"""What a program may not ask of operators that move, convert, compare and draw."""

import math

import pytest

from ml_verifier.operators import BY_NAME, AttributeValue, ShapeError, infer
from ml_verifier.types import DType, TensorType, bf16, boolean, f32, i64

SLICE: dict[str, AttributeValue] = {"starts": (0,), "ends": (4,), "steps": (1,)}
PAD: dict[str, AttributeValue] = {"before": (1,), "after": (0,), "value": 0.0}
JOIN: dict[str, AttributeValue] = {"axis": 0}
LITERAL: dict[str, AttributeValue] = {"dtype": 1, "shape": (1,), "data": bytes(4)}
UNIFORM: dict[str, AttributeValue] = {
    "shape": (4,),
    "low": 0.0,
    "high": 1.0,
    "stream": 1,
}
MASK: dict[str, AttributeValue] = {"shape": (4,), "p": 0.5, "stream": 1}
LION: dict[str, AttributeValue] = {
    "lr": 0.5,
    "beta1": 0.5,
    "beta2": 0.5,
    "weight_decay": 0.0,
}
FACTS = [i64(), i64()]
FLOATS, HALVES = {**LITERAL, "dtype": 1}, {**LITERAL, "dtype": 3}
BOOLEANS = {**LITERAL, "dtype": 4}

Row = tuple[str, dict[str, AttributeValue], list[TensorType], str]
REFUSED: list[Row] = [
    ("slice", {**SLICE, "steps": (0,)}, [f32(4)], "an extent"),
    ("slice", {**SLICE, "ends": (0,)}, [f32(4)], "an extent"),
    ("slice", {**SLICE, "ends": (5,)}, [f32(4)], "an extent"),
    ("slice", {**SLICE, "starts": (-1,)}, [f32(4)], "an extent"),
    ("slice", {**SLICE, "ends": (4, 4)}, [f32(4)], "ends: expected 1 numbers"),
    ("slice", {**SLICE, "steps": 1}, [f32(4)], "steps: expected a list"),
    ("slice", {**SLICE, "steps": (2**31,)}, [f32(4)], "steps: expected at most"),
    ("slice", SLICE, [f32(4, 4)], "starts: expected 2 numbers"),
    ("slice", SLICE, [f32(4), f32(4)], "expected 1 inputs"),
    ("pad", {**PAD, "before": (-1,)}, [f32(4)], "no less than 0"),
    ("pad", {**PAD, "after": (0, 0)}, [f32(4)], "after: expected 1 numbers"),
    ("pad", {**PAD, "value": math.nan}, [f32(4)], "a number to pad with, got nan"),
    ("pad", {**PAD, "value": (1,)}, [f32(4)], "a number to pad with"),
    ("pad", {**PAD, "value": 1.0}, [i64(4)], "f32 to pad with 1"),
    ("pad", {**PAD, "value": -0.0}, [bf16(4)], "f32 to pad with -0"),
    ("pad", {**PAD, "value": math.inf}, [boolean(4)], "f32 to pad with inf"),
    ("concat", {"axis": 1}, [f32(4)], "an axis 1"),
    ("concat", {"axis": -1}, [f32(4)], "an axis -1"),
    ("concat", JOIN, [f32()], "an axis 0"),
    ("concat", JOIN, [], "expected 1..8 inputs, got 0"),
    ("concat", JOIN, [f32(1)] * 9, "expected 1..8 inputs, got 9"),
    ("concat", JOIN, [f32(2, 3), f32(2, 4)], "along axis 0 alone"),
    ("concat", JOIN, [f32(2, 3), f32(2)], "along axis 0 alone"),
    ("concat", JOIN, [f32(2), i64(2)], "along axis 0 alone"),
    ("flip", {"axes": (1, 0)}, [f32(2, 2)], "sorted axes"),
    ("flip", {"axes": (0, 0)}, [f32(2, 2)], "sorted axes"),
    ("flip", {"axes": (2,)}, [f32(2, 2)], "sorted axes"),
    ("flip", {"axes": (-1,)}, [f32(2, 2)], "sorted axes"),
    ("literal", {**LITERAL, "dtype": 5}, [], "the code of an element type, got 5"),
    ("literal", {**LITERAL, "shape": (2,)}, [], "8 bytes of data"),
    ("literal", {**LITERAL, "data": 0}, [], "4 bytes of data"),
    ("literal", {**FLOATS, "data": b"\1\0\xc0\x7f"}, [], "one spelling of f32"),
    ("literal", {**FLOATS, "data": b"\0\0\xc0\xff"}, [], "one spelling of f32"),
    ("literal", {**FLOATS, "data": b"\1\0\x80\x7f"}, [], "one spelling of f32"),
    ("literal", {**HALVES, "data": b"\xc1\x7f"}, [], "one spelling of bf16"),
    ("literal", {**HALVES, "data": b"\xc0\xff"}, [], "one spelling of bf16"),
    ("literal", {**BOOLEANS, "data": b"\2"}, [], "one spelling of bool"),
    ("iota", {"size": 0}, [], r"expected 1\.\.4294967296 elements"),
    ("iota", {"size": 2**32 + 1}, [], r"expected 1\.\.4294967296 elements"),
    ("iota", {"size": 4.0}, [], "size: expected an integer"),
    ("cast", {"dtype": 0}, [f32(4)], "the code of an element type, got 0"),
    ("cast", {"dtype": 5}, [f32(4)], "the code of an element type, got 5"),
    *(
        (name, {}, [*types], "both f32 or both i64")
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
        for types in ((f32(4), i64(4)), (bf16(4), bf16(4)), (boolean(4), boolean(4)))
    ),
    *(
        (name, {}, [boolean(4), other], "bool tensors")
        for name in ("and", "or", "xor")
        for other in (f32(4), i64(4), bf16(4))
    ),
    ("not", {}, [i64(4)], "bool tensors"),
    ("where", {}, [f32(4), f32(4), f32(4)], "a bool condition"),
    ("where", {}, [boolean(4), f32(4), i64(4)], "one element type"),
    ("where", {}, [boolean(3), f32(4), f32(4)], "shapes that broadcast"),
    ("where", {}, [boolean(4), f32(4)], "expected 3 inputs"),
    *(
        (name, {}, [i64(4), other], reason)
        for name in ("int_add", "int_sub", "int_mul", "int_floordiv", "int_remainder")
        for other, reason in (
            (f32(4), "two i64 tensors"),
            (boolean(4), "two i64 tensors"),
            (i64(3), "shapes that broadcast"),
        )
    ),
    *(
        row
        for name, how in (("uniform", UNIFORM), ("dropout_mask", MASK))
        for row in (
            (name, how, [i64(), i64(1)], "seed and step"),
            (name, how, [i64(), f32()], "seed and step"),
            (name, {**how, "stream": 2**32}, FACTS, "a stream of 32 bits"),
            (name, {**how, "stream": -1}, FACTS, "a stream of 32 bits"),
            (name, {**how, "shape": 4}, FACTS, "shape: expected a list"),
            (name, {**how, "shape": (0,)}, FACTS, "elements"),
        )
    ),
    *(
        ("dropout_mask", {**MASK, "p": p}, FACTS, r"p in \[0, 1\)")
        for p in (1.0, -0.5, 2.0, math.nan, math.inf, (0,))
    ),
    ("lion", LION, [f32(4), f32(4), f32(3), f32()], "p, g, m of one shape"),
    ("lion", LION, [f32(4), f32(4), f32(4), f32(1)], "the scalar factor"),
    ("lion", LION, [f32(4), bf16(4), f32(4), f32()], "p, g, m of one shape"),
    ("lion", LION, [bf16(4), bf16(4), bf16(4), f32()], "p, g, m of one shape"),
]


@pytest.mark.parametrize(
    ("name", "attributes", "inputs", "reason"),
    REFUSED,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)],
)
def test_refused(
    name: str,
    attributes: dict[str, AttributeValue],
    inputs: list[TensorType],
    reason: str,
) -> None:
    with pytest.raises(ShapeError, match=reason):
        infer(BY_NAME[name], inputs, attributes)


@pytest.mark.parametrize("value", [-0.0, 1.5, math.inf, -math.inf])
def test_floats_are_padded_with_any_number(value: float) -> None:
    assert infer(BY_NAME["pad"], [f32(4)], {**PAD, "value": value}) == (f32(5),)


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        (DType.F32, b"\0\0\xc0\x7f"),
        (DType.F32, b"\0\0\x80\xff"),
        (DType.BF16, b"\xc0\x7f"),
        (DType.BF16, b"\x80\xff"),
        (DType.BOOL, b"\1"),
        (DType.I64, b"\xff" * 8),
    ],
)
def test_the_one_nan_infinities_and_integers_are_written(
    dtype: DType, data: bytes
) -> None:
    written: dict[str, AttributeValue] = {"dtype": int(dtype), "shape": (1,)}
    made = infer(BY_NAME["literal"], [], {**written, "data": data})
    assert made == (TensorType(dtype, (1,)),)


def test_every_dtype_is_moved() -> None:
    window: dict[str, AttributeValue] = {
        "starts": (0, 1),
        "ends": (2, 5),
        "steps": (1, 3),
    }
    frame: dict[str, AttributeValue] = {
        "before": (0, 1),
        "after": (2, 0),
        "value": 0.0,
    }
    for of in (f32, i64, bf16, boolean):
        x = of(2, 5)
        assert infer(BY_NAME["slice"], [x], window) == (of(2, 2),)
        assert infer(BY_NAME["pad"], [x], frame) == (of(4, 6),)
        assert infer(BY_NAME["concat"], [x, of(3, 5)], {"axis": 0}) == (of(5, 5),)
        assert infer(BY_NAME["flip"], [x], {"axes": (0, 1)}) == (x,)
        assert infer(BY_NAME["where"], [boolean(5), x, of()], {}) == (x,)
        for dtype in DType:
            made = infer(BY_NAME["cast"], [x], {"dtype": int(dtype)})
            assert made == (TensorType(dtype, (2, 5)),)
