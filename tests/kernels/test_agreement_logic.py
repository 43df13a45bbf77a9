"""Kernels and oracle agree to the bit: comparisons, booleans, choice and integers."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ml_verifier.types import DType
from tests.kernels.cases import Array, Case, check, elements, lengths, shapes

FEW = settings(max_examples=25)
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGICAL = ("and", "or", "xor")
INTEGER = ("int_add", "int_sub", "int_mul", "int_floordiv", "int_remainder")
OPERANDS = {
    **dict.fromkeys(COMPARISONS, (DType.F32, DType.I64)),
    **dict.fromkeys(LOGICAL, (DType.BOOL,)),
    **dict.fromkeys(INTEGER, (DType.I64,)),
}


@st.composite
def thinned(draw: st.DrawFn, shape: tuple[int, ...], dtype: DType) -> Array:
    """Elements of a shape that broadcasts to ``shape``."""
    kept = [draw(st.sampled_from((n, n, 1))) for n in shape]
    found: Array = draw(elements(kept[draw(st.integers(0, len(shape))) :], dtype))
    return found


@pytest.mark.parametrize("name", OPERANDS)
@FEW
@given(data=st.data(), shape=shapes)
def test_broadcasting(name: str, data: st.DataObject, shape: tuple[int, ...]) -> None:
    dtype = data.draw(st.sampled_from(OPERANDS[name]))
    check(Case(name, [data.draw(thinned(shape, dtype)) for _ in range(2)]))


@pytest.mark.parametrize("name", OPERANDS)
@FEW
@given(data=st.data(), n=lengths)
def test_flat(name: str, data: st.DataObject, n: int) -> None:
    dtype = data.draw(st.sampled_from(OPERANDS[name]))
    check(Case(name, [data.draw(elements((n,), dtype)) for _ in range(2)]))


@given(st.data(), shapes, st.sampled_from(list(DType)))
def test_where(data: st.DataObject, shape: tuple[int, ...], dtype: DType) -> None:
    condition = data.draw(thinned(shape, DType.BOOL))
    choices = [data.draw(thinned(shape, dtype)) for _ in range(2)]
    check(Case("where", (condition, *choices)))


@FEW
@given(st.data(), lengths)
def test_not(data: st.DataObject, n: int) -> None:
    check(Case("not", (data.draw(elements((n,), DType.BOOL)),)))


def test_quotients_at_the_edges() -> None:
    least, most = -(2**63), 2**63 - 1
    edges = np.array([least, least + 1, -7, -2, -1, 0, 1, 2, 7, most], np.int64)
    for name in INTEGER:
        check(Case(name, (edges[:, None].copy(), edges)))


@pytest.mark.parametrize("name", OPERANDS)
def test_shared_among_threads(name: str) -> None:
    random = np.random.default_rng(3)
    for dtype in OPERANDS[name]:
        span = (0, 2) if dtype is DType.BOOL else (-3, 4)
        a = random.integers(*span, (3, 50, 403)).astype(dtype.numpy)
        b = random.integers(*span, (3, 1, 403)).astype(dtype.numpy)
        check(Case(name, (a, b)))
        check(Case(name, (b, a)))
        check(Case(name, (a, a[:, :, :1].copy())))


def test_masks_shared_among_threads() -> None:
    random = np.random.default_rng(3)
    mask = random.integers(0, 2, (97, 97)).astype(np.uint8)
    scores = random.standard_normal((2, 4, 97, 97)).astype(np.float32)
    low = np.asarray(np.float32(-np.inf))
    check(Case("where", (mask, scores, low)))
    check(Case("where", (mask[:, None, :1, None].copy(), scores[0, 0], scores[0])))
