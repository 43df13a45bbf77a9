"""Kernels and oracle agree to the bit: movement of any elements, and conversions."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ml_verifier import oracle
from ml_verifier.types import DType
from tests.kernels.cases import Attributes, Case, check, elements, lengths, shapes

FEW = settings(max_examples=25)
CODES = list(DType)

dtypes = st.sampled_from(CODES)


@given(st.data(), shapes, dtypes)
def test_strides(data: st.DataObject, shape: tuple[int, ...], dtype: DType) -> None:
    x = data.draw(elements(shape, dtype))
    order = data.draw(st.permutations(range(len(shape))))
    check(Case("transpose", (x,), {"permutation": tuple(order)}))
    check(Case("reshape", (x,), {"shape": (x.size,)}))
    thinned = np.asarray(x[tuple(slice(0, 1) for _ in shape[:2])].copy())
    check(Case("broadcast", (thinned,), {"shape": (2, *shape)}))


@given(st.data(), shapes, dtypes)
def test_slice(data: st.DataObject, shape: tuple[int, ...], dtype: DType) -> None:
    starts = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    bounds = zip(starts, shape, strict=True)
    ends = tuple(data.draw(st.integers(start + 1, n)) for start, n in bounds)
    steps = tuple(data.draw(st.integers(1, n + 1)) for n in shape)
    window = {"starts": starts, "ends": ends, "steps": steps}
    check(Case("slice", (data.draw(elements(shape, dtype)),), window))


@given(st.data(), shapes, dtypes)
def test_pad(data: st.DataObject, shape: tuple[int, ...], dtype: DType) -> None:
    width = st.sampled_from((0, 0, 1, 4))
    before, after = (tuple(data.draw(width) for _ in shape) for _ in range(2))
    padding = st.sampled_from((0.0, -0.0, 1.5, float("inf"), -float("inf")))
    value = data.draw(padding) if dtype is DType.F32 else 0.0
    frame: Attributes = {"before": before, "after": after, "value": value}
    check(Case("pad", (data.draw(elements(shape, dtype)),), frame))


@given(st.data(), shapes.filter(len), dtypes)
def test_concat(data: st.DataObject, shape: tuple[int, ...], dtype: DType) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    extents = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    parts = [
        data.draw(elements((*shape[:axis], extent, *shape[axis + 1 :]), dtype))
        for extent in extents
    ]
    check(Case("concat", parts, {"axis": axis}))


@given(st.data(), shapes, dtypes)
def test_flip(data: st.DataObject, shape: tuple[int, ...], dtype: DType) -> None:
    axes: set[int] = set()
    if shape:
        axes = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    x = data.draw(elements(shape, dtype))
    check(Case("flip", (x,), {"axes": tuple(sorted(axes))}))


@given(st.data(), shapes, dtypes)
def test_made_from_nothing(
    data: st.DataObject, shape: tuple[int, ...], dtype: DType
) -> None:
    x = data.draw(elements(shape, dtype))
    if dtype is DType.F32:
        oracle.canonicalise(x)
    if dtype is DType.BF16:
        x[x & 0x7FFF > 0x7F80] = 0x7FC0
    written: Attributes = {"dtype": int(dtype), "shape": shape, "data": x.tobytes()}
    check(Case("literal", (), written))
    check(Case("iota", (), {"size": max(1, x.size)}))


@pytest.mark.parametrize("source", CODES)
@pytest.mark.parametrize("target", CODES)
@FEW
@given(data=st.data(), n=lengths)
def test_cast(data: st.DataObject, source: DType, target: DType, n: int) -> None:
    x = data.draw(elements((n,), source))
    check(Case("cast", (x,), {"dtype": int(target)}))


def test_casts_of_every_bfloat() -> None:
    x = np.arange(2**16, dtype=np.uint16)
    for target in CODES:
        check(Case("cast", (x,), {"dtype": int(target)}))


def test_casts_round_ties_to_even_and_saturate() -> None:
    numbers = [2.0**63, -(2.0**63), 2.0**62, 0.5, -0.5, 1.5, np.inf, -np.inf, np.nan]
    edges = np.array(numbers, np.float32)
    near = np.array([2**63 * (1 - 2**-24), -(2**63) * (1 + 2**-23)], np.float32)
    check(Case("cast", (np.concatenate([edges, near]),), {"dtype": 2}))
    halves = np.arange(0x3F7F0000, 0x3F830001, 0x800, dtype=np.uint32)
    top = np.arange(0x7F7F0000, 0x7F800001, 0x800, dtype=np.uint32)
    for words in (halves, top, halves | 0x80000000, top | 0x80000000):
        check(Case("cast", (words.view(np.float32),), {"dtype": 3}))
    odd = [2**24 + 1, 2**25 + 2, 2**25 + 6, 2**53 + 1, 2**63 - 1, -(2**63)]
    wide = np.array(odd, np.int64)
    for target in (1, 3):
        check(Case("cast", (np.concatenate([wide, -wide]),), {"dtype": target}))


@pytest.mark.parametrize("dtype", CODES)
def test_movement_shared_among_threads(dtype: DType) -> None:
    numbers = np.arange(300 * 401).reshape(300, 401)
    x = (numbers % 2 if dtype is DType.BOOL else numbers).astype(dtype.numpy)
    check(Case("transpose", (x,), {"permutation": (1, 0)}))
    check(Case("flip", (x,), {"axes": (0, 1)}))
    window = {"starts": (1, 3), "ends": (300, 400), "steps": (2, 3)}
    check(Case("slice", (x,), window))
    frame: Attributes = {"before": (2, 1), "after": (0, 3), "value": 0.0}
    check(Case("pad", (x,), frame))
    check(Case("concat", (x, x[:, :1].copy(), x), {"axis": 1}))
    for target in CODES:
        check(Case("cast", (x,), {"dtype": int(target)}))
