"""What a program may not ask of the operators that index and order, and their price."""

import pytest

from ml_verifier.operators import BY_NAME, AttributeValue, ShapeError, infer
from ml_verifier.types import TensorType, bf16, boolean, f32, i64

ROWS: dict[str, AttributeValue] = {"axis": 0, "size": 5, "skip": 2**32 - 1}
AXIS: dict[str, AttributeValue] = {"axis": 0}

REFUSED: list[tuple[str, dict[str, AttributeValue], list[TensorType], str]] = [
    ("take", {"axis": 1}, [f32(3), i64(2)], "has axis 1"),
    ("take", AXIS, [f32(3), f32(2)], "i64 indices"),
    ("take", AXIS, [f32(*[1] * 8), i64(1, 1)], "rank at most 8"),
    ("scatter_rows", ROWS, [f32(4), i64(3)], "at axis 0"),
    ("scatter_rows", ROWS, [bf16(4), i64(4)], "f32 g"),
    ("scatter_rows", {**ROWS, "axis": 2}, [f32(4), i64()], "at axis 2"),
    ("scatter_rows", {**ROWS, "size": 0}, [f32(4), i64(4)], "size above 0"),
    ("scatter_rows", {**ROWS, "skip": 2**32}, [f32(4), i64(4)], "32 bits"),
    ("scatter_rows", ROWS, [f32(*[1] * 8), i64()], "rank at most 8"),
    ("gather", AXIS, [f32(3, 2), i64(4, 1)], "but for axis 0"),
    ("gather", AXIS, [f32(3, 2), i64(4)], "but for axis 0"),
    ("gather", AXIS, [f32(3), boolean(4)], "but for axis 0"),
    ("scatter", AXIS, [f32(3), i64(4), i64(4)], "a source"),
    ("scatter_add", AXIS, [i64(3), i64(4), i64(4)], "an f32 base"),
    ("scatter_add", AXIS, [f32(3), i64(4), f32(3)], "a source"),
    ("sort", {"descending": 2}, [f32(3)], "descending of 0 or 1"),
    ("sort", {"descending": 0}, [f32(2, 4_097)], "rows of at most 4096"),
    ("sort", {"descending": 0}, [f32()], r"x\[..., C\]"),
    ("cumsum", {}, [i64(3)], r"f32 x\[..., C\]"),
    ("amax", {"keepdim": 2}, [f32(3)], "keepdim of 0 or 1"),
    ("argmax", {"keepdim": 0}, [f32()], r"x\[..., C\]"),
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


def test_every_dtype_is_moved() -> None:
    for of in (f32, i64, bf16, boolean):
        assert infer(BY_NAME["take"], [of(2, 3), i64(4)], AXIS) == (of(4, 3),)
        assert infer(BY_NAME["gather"], [of(2, 3), i64(4, 3)], AXIS) == (of(4, 3),)
        moved = infer(BY_NAME["scatter"], [of(2, 3), i64(4, 3), of(4, 3)], AXIS)
        assert moved == (of(2, 3),)


def test_a_longer_row_costs_more_to_sort_than_two_of_half() -> None:
    operator = BY_NAME["sort"]
    one, two = ([f32(*shape)] for shape in ((1, 4096), (2, 2048)))
    assert operator.macs(one, one, {}) > operator.macs(two, two, {})
    assert operator.traffic(one, one, {}) == operator.traffic(two, two, {}) > 0
