"""Movement and conversion compute what numpy and torch do under the same names."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ml_verifier import kernels
from ml_verifier.kernels import AttributeValue, bind
from ml_verifier.types import DType
from tests.kernels.cases import SPECIAL, Array, Attributes, Case

RANDOM = np.random.default_rng(23)
DTYPES = list(DType)
TORCH = {
    DType.F32: torch.float32,
    DType.I64: torch.int64,
    DType.BF16: torch.bfloat16,
    DType.BOOL: torch.bool,
}


def some(dtype: DType, *shape: int) -> Array:
    """Finite elements of a type; floats and integers below 2^62 in magnitude."""
    if dtype is DType.BOOL:
        return np.asarray(RANDOM.integers(0, 2, shape), np.uint8)
    sizes = np.exp2(RANDOM.uniform(-3, 60, shape))
    signed = sizes * RANDOM.choice([-1, 0, 1], shape)
    numbers = np.asarray(signed, np.float32)
    if dtype is DType.I64:
        near = RANDOM.integers(-3, 4, shape)
        return np.asarray(numbers.astype(np.int64) + near)
    if dtype is DType.BF16:
        return of_torch(torch.from_numpy(numbers).bfloat16())
    return numbers


def to_torch(x: Array, dtype: DType) -> torch.Tensor:
    held = torch.from_numpy(x)
    return held.view(torch.bfloat16) if dtype is DType.BF16 else held.to(TORCH[dtype])


def of_torch(x: torch.Tensor) -> Array:
    if x.dtype is torch.bfloat16:
        return np.asarray(x.view(torch.uint16).numpy())
    return np.asarray((x.to(torch.uint8) if x.dtype is torch.bool else x).numpy())


def run(name: str, *inputs: Array, **attributes: AttributeValue) -> Array:
    status, outputs = Case(name, inputs, attributes).run(kernels)
    assert status == 0
    return outputs[0]


def same(found: Array, expected: Array) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def cast(x: Array, target: DType) -> Array:
    """The kernel's result as it is, without the canonical NaN of a case."""
    y = np.empty(x.shape, target.numpy)
    assert bind("cast", {"dtype": int(target)}, [x], [y])() == 0
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("starts", "ends", "steps"),
    [
        ((0, 0, 0), (7, 9, 11), (1, 1, 1)),
        ((2, 0, 3), (5, 9, 4), (1, 1, 1)),
        ((1, 2, 0), (7, 9, 11), (2, 3, 5)),
        ((6, 8, 10), (7, 9, 11), (1, 40, 2)),
    ],
)
def test_slice(
    dtype: DType,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    steps: tuple[int, ...],
) -> None:
    x = some(dtype, 7, 9, 11)
    window = tuple(map(slice, starts, ends, steps))
    found = run("slice", x, starts=starts, ends=ends, steps=steps)
    same(found, x[window].copy())


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("before", "after"),
    [((0, 0, 0), (0, 0, 0)), ((1, 0, 2), (0, 0, 3)), ((0, 5, 0), (4, 0, 1))],
)
def test_pad(value: float, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    x = some(DType.F32, 3, 4, 5)
    ends = zip(reversed(before), reversed(after), strict=True)
    expected = functional.pad(
        torch.from_numpy(x), [n for pair in ends for n in pair], value=value
    )
    frame: Attributes = {"before": before, "after": after, "value": value}
    same(run("pad", x, **frame), expected.numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_of_any_type_are_padded_with_zeros(dtype: DType) -> None:
    x = some(dtype, 3, 4, 5)
    frame: Attributes = {"before": (1, 0, 2), "after": (0, 3, 1), "value": 0.0}
    same(run("pad", x, **frame), np.pad(x, ((1, 0), (0, 3), (2, 1))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_concat(dtype: DType, axis: int, count: int) -> None:
    extents = RANDOM.integers(1, 6, count)
    parts = [
        some(dtype, *(int(extent) if i == axis else n for i, n in enumerate((3, 4, 5))))
        for extent in extents
    ]
    same(run("concat", *parts, axis=axis), np.concatenate(parts, axis))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_flip(dtype: DType, axes: tuple[int, ...]) -> None:
    x = some(dtype, 3, 4, 5)
    same(run("flip", x, axes=axes), np.flip(x, axes).copy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4, 5)])
def test_literal(dtype: DType, shape: tuple[int, ...]) -> None:
    x = some(dtype, *shape)
    written: Attributes = {"dtype": int(dtype), "shape": shape, "data": x.tobytes()}
    same(run("literal", **written), x)


@pytest.mark.parametrize("n", [1, 2, 33, 100_003])
def test_iota(n: int) -> None:
    same(run("iota", size=n), np.arange(n))


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_cast_is_that_of_torch(source: DType, target: DType) -> None:
    x = some(source, 41, 50)
    same(cast(x, target), of_torch(to_torch(x, source).to(TORCH[target])))


@pytest.mark.parametrize("source", [DType.F32, DType.BF16])
def test_floats_saturate_as_integers(source: DType) -> None:
    most, least = 2**63 - 1, -(2**63)
    given = [np.inf, -np.inf, 2.0**63, -(2.0**63), 3e38, -3e38, 2.0**62, -(2.0**62)]
    wanted = [most, least, most, least, most, least, 2**62, -(2**62)]
    small = [1.5, -1.5, 0.99, -0.99, 1e-40, -0.0, np.nan, -np.nan]
    truncated = [1, -1, 0, 0, 0, 0, 0, 0]
    x = np.array([*given, *small], np.float32)
    x = x if source is DType.F32 else cast(x, source)
    assert cast(x, DType.I64).tolist() == [*wanted, *truncated]


def test_bfloats_are_those_of_torch() -> None:
    """Ties on both sides, denormals, what rounds to infinity, random patterns."""
    near = np.arange(0x3F7F0000, 0x3F830001, 0x800, dtype=np.uint32)
    last = np.arange(0x7F7E0000, 0x7F800001, 0x800, dtype=np.uint32)
    tiny = np.arange(0, 0x00040001, 0x800, dtype=np.uint32)
    words = RANDOM.integers(0, 2**32, 20_000, dtype=np.uint64).astype(np.uint32)
    words[words & 0x7F800000 == 0x7F800000] = 0x7F7F8000
    edges = np.concatenate([near, last, tiny])
    x = np.concatenate([edges, edges | 0x80000000, edges + 1, words]).view(np.float32)
    x = x[np.isfinite(x) | np.isinf(x)]
    narrow = cast(x, DType.BF16)
    same(narrow, of_torch(torch.from_numpy(x).bfloat16()))
    same(cast(narrow, DType.F32), of_torch(to_torch(narrow, DType.BF16).float()))


def test_every_nan_becomes_the_one_bfloat() -> None:
    words = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF, 0x7F80FFFF])
    x = words.astype(np.uint32).view(np.float32)
    assert set(cast(x, DType.BF16).tolist()) == {0x7FC0}


@pytest.mark.parametrize("source", [DType.F32, DType.BF16])
def test_true_is_what_is_not_zero(source: DType) -> None:
    x = SPECIAL if source is DType.F32 else cast(SPECIAL, source)
    wide = SPECIAL if source is DType.F32 else cast(x, DType.F32)
    same(cast(x, DType.BOOL), (wide != 0).astype(np.uint8))
    assert cast(np.array([np.nan, -0.0], np.float32), DType.BOOL).tolist() == [1, 0]


def test_integers_become_the_nearest_float() -> None:
    """Ties to even, and one rounding: through a binary64 there would be two."""
    cases = {
        2**24 + 1: 2.0**24,
        2**24 + 3: 2.0**24 + 4,
        2**60 + 2**36 + 1: 2.0**60 + 2.0**37,
        2**63 - 1: 2.0**63,
        -(2**63): -(2.0**63),
        -(2**60) - 2**36 - 1: -(2.0**60) - 2.0**37,
    }
    x = np.array(list(cases), np.int64)
    assert cast(x, DType.F32).tolist() == list(cases.values())
