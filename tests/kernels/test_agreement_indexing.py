"""Kernels and oracle agree to the bit where indices say what is read and written."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ml_verifier import kernels
from tests.kernels.cases import Array, Case, check, floats, lengths, values

FEW = settings(max_examples=25)

NONE_SKIPPED = 2**32 - 1
OUTSIDE = (-1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63), -(2**31), -(2**32))
DTYPES = ("f4", "i8", "u2", "u1")

extents = st.integers(1, 5)


def of_dtype(array: Array, dtype: str) -> Array:
    """Other elements, made from floats: their bits, or some of them."""
    if dtype == "f4":
        return array
    if dtype == "u1":
        return (array > 0).astype(np.uint8)
    word = array.view(np.uint32)
    if dtype == "u2":
        return (word >> np.uint32(16)).astype(np.uint16)
    return word.astype(np.int64) * np.int64(0x1_0000_0001)


@st.composite
def indices(draw: st.DrawFn, shape: Sequence[int], extent: int) -> Array:
    """Indices below ``extent``; sometimes one of them is not."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = random.integers(0, extent, shape, dtype=np.int64)
    if draw(st.integers(0, 5)) == 0:
        outside = (*OUTSIDE, extent, -extent)
        found.reshape(-1)[random.integers(found.size)] = draw(st.sampled_from(outside))
    return found


@st.composite
def views(draw: st.DrawFn) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Sizes before an axis, its own, and those after it."""
    before = tuple(draw(st.lists(extents, max_size=2)))
    after = tuple(draw(st.lists(extents, max_size=2)))
    if draw(st.booleans()):
        after = (*after, draw(st.sampled_from((1, 63, 64, 65, 130, 300))))
    return before, draw(st.integers(1, 9)), after


@given(st.data(), views(), st.sampled_from(DTYPES))
def test_take(data: st.DataObject, view: Any, dtype: str) -> None:  # noqa: ANN401  drawn
    before, extent, after = view
    x = of_dtype(data.draw(floats((*before, extent, *after))), dtype)
    shape = tuple(data.draw(st.lists(extents, max_size=2)))
    index = data.draw(indices(shape, extent))
    check(Case("take", (x, index), {"axis": len(before)}))


@given(st.data(), views())
def test_scatter_rows(data: st.DataObject, view: Any) -> None:  # noqa: ANN401  drawn
    before, extent, after = view
    shape = tuple(data.draw(st.lists(extents, max_size=2)))
    g = data.draw(floats((*before, *shape, *after)))
    index = data.draw(indices(shape, extent))
    skip = data.draw(st.sampled_from((0, extent, 2**31, NONE_SKIPPED, 2**32 - 100)))
    if data.draw(st.booleans()):
        index.reshape(-1)[0] = np.uint32(skip).view(np.int32)
    attributes = {"axis": len(before), "size": extent, "skip": skip}
    check(Case("scatter_rows", (g, index), attributes))


@st.composite
def along(draw: st.DrawFn, dtype: str) -> tuple[Array, Array, Array, int]:
    """A base, indices along its axis, a source for them, and the axis."""
    before, extent, after = draw(views())
    count = draw(st.one_of(extents, st.integers(1, 40)))
    base = draw(floats((*before, extent, *after)))
    source = draw(floats((*before, count, *after)))
    index = draw(indices(source.shape, extent))
    return of_dtype(base, dtype), index, of_dtype(source, dtype), len(before)


@given(st.data(), st.sampled_from(DTYPES))
def test_gather_and_scatter(data: st.DataObject, dtype: str) -> None:
    base, index, source, axis = data.draw(along(dtype))
    check(Case("gather", (base, index), {"axis": axis}))
    check(Case("scatter", (base, index, source), {"axis": axis}))


@given(along("f4"))
def test_scatter_add(drawn: tuple[Array, Array, Array, int]) -> None:
    base, index, source, axis = drawn
    check(Case("scatter_add", (base, index, source), {"axis": axis}))


LARGE = [
    ("take", (70, 300), (3000,), 0),
    ("take", (30, 50, 40), (50,), 1),
    ("take", (9, 4000), (4001,), 1),
    ("gather", (90, 700), (90, 350), 1),
    ("gather", (70, 650), (70, 650), 0),
    ("gather", (30_000,), (50_001,), 0),
]


@pytest.mark.parametrize(("name", "shape", "index", "axis"), LARGE)
def test_reads_shared_among_threads(
    name: str, shape: tuple[int, ...], index: tuple[int, ...], axis: int
) -> None:
    at = np.random.default_rng(3).integers(0, shape[axis], index)
    case = Case(name, (values(1, shape, "special"), at), {"axis": axis})
    check(case)
    assert case.run(kernels)[0] == 0
    at.reshape(-1)[-1] = shape[axis]
    check(case)
    assert case.run(kernels)[0] == 1


@pytest.mark.parametrize(
    ("before", "extent", "count", "after"),
    [(1, 40, 700, 300), (1, 9, 60, 3000), (60, 7, 90, 10), (40, 33, 400, 1)],
)
@pytest.mark.parametrize("kind", ["plain", "special"])
def test_writes_shared_among_threads(
    before: int, extent: int, count: int, after: int, kind: str
) -> None:
    random = np.random.default_rng(4)
    base = values(1, (before, extent, after), kind)
    source = values(2, (before, count, after), kind)
    rows = random.integers(0, extent, count)
    attributes = {"axis": 1, "size": extent, "skip": 2}
    check(Case("scatter_rows", (source, rows), attributes))
    index = random.integers(0, extent, source.shape)
    check(Case("scatter_add", (base, index, source), {"axis": 1}))
    check(Case("scatter", (base, index, source), {"axis": 1}))


@pytest.mark.parametrize("outside", [*OUTSIDE, 3])
@pytest.mark.parametrize(
    "name", ["take", "scatter_rows", "gather", "scatter_add", "scatter"]
)
@pytest.mark.parametrize("inner", [1, 5])
def test_an_index_out_of_range_traps(name: str, outside: int, inner: int) -> None:
    x, source = values(1, (3, inner), "plain"), values(2, (4, inner), "plain")
    index = np.array([2, 0, 1, outside], np.int64)
    full = np.repeat(index[:, None], inner, 1)
    cases = {
        "take": Case(name, (x, index), {"axis": 0}),
        "scatter_rows": Case(
            name, (source, index), {"axis": 0, "size": 3, "skip": NONE_SKIPPED}
        ),
        "gather": Case(name, (x, full), {"axis": 0}),
        "scatter_add": Case(name, (x, full, source), {"axis": 0}),
        "scatter": Case(name, (x, full, source), {"axis": 0}),
    }
    check(cases[name])
    assert cases[name].run(kernels)[0] == 1


@pytest.mark.parametrize("outside", [-1, 3, 4, -2])
@pytest.mark.parametrize("name", ["scatter_rows", "scatter_add", "scatter"])
@pytest.mark.parametrize("inner", [1, 5])
def test_a_trap_writes_nothing_beside_the_output(
    name: str, outside: int, inner: int
) -> None:
    x, source = values(1, (3, inner), "plain"), values(2, (4, inner), "plain")
    index = np.array([2, outside, 1, 0], np.int64)
    full = np.repeat(index[:, None], inner, 1)
    inputs, attributes = [x, full, source], {"axis": 0}
    if name == "scatter_rows":
        inputs = [source, index]
        attributes |= {"size": 3, "skip": NONE_SKIPPED}
    arena = np.full((9, inner), 7, np.float32)
    assert kernels.bind(name, attributes, inputs, [arena[3:6]])() == 1
    assert (arena[:3] == 7).all()
    assert (arena[6:] == 7).all()


@pytest.mark.parametrize("kind", ["plain", "special"])
@pytest.mark.parametrize("shape", [(9000, 37), (300, 2100)])
def test_rows_shared_among_threads(shape: tuple[int, int], kind: str) -> None:
    x = values(1, shape, kind)
    check(Case("amax", (x,), {"keepdim": 0}))
    check(Case("argmax", (x,), {"keepdim": 0}))
    check(Case("cumsum", (x,)))
    check(Case("sort", (x,), {"descending": 1}))


def test_a_skipped_index_adds_nothing_wherever_it_points() -> None:
    g = np.array([1, 2, 4, 8], np.float32)
    for skipped in (1, -100, 2**31 - 1, -(2**31)):
        index = np.array([skipped, 2, skipped, 0], np.int64)
        attributes = {"axis": 0, "size": 3, "skip": skipped % 2**32}
        case = Case("scatter_rows", (g, index), attributes)
        check(case)
        status, (dx,) = case.run(kernels)
        assert (status, dx.tolist()) == (0, [8, 0, 2])


def test_writes_take_effect_in_ascending_order() -> None:
    big = np.float32(2**24)
    source = np.array([1, big, -big], np.float32)
    index = np.zeros(3, np.int64)
    added = Case("scatter_add", (np.zeros(1, "f4"), index, source), {"axis": 0})
    assert added.run(kernels)[1][0].tolist() == [(np.float32(1) + big) - big]
    written = Case("scatter", (np.zeros(1, "f4"), index, source), {"axis": 0})
    assert written.run(kernels)[1][0].tolist() == [-big]


def test_sums_of_negative_zeros_keep_the_sign_of_where_they_start() -> None:
    zero = np.full(1, -0.0, np.float32)
    index = np.zeros(1, np.int64)
    rows = {"axis": 0, "size": 1, "skip": NONE_SKIPPED}
    (dx,) = Case("scatter_rows", (zero, index), rows).run(kernels)[1]
    (y,) = Case("scatter_add", (zero, index, zero), {"axis": 0}).run(kernels)[1]
    (c,) = Case("cumsum", (zero,)).run(kernels)[1]
    assert [bool(np.signbit(z[0])) for z in (dx, y, c)] == [False, True, False]


row_shapes = st.tuples(st.integers(1, 20), lengths)


@pytest.mark.parametrize("descending", [0, 1])
@FEW
@given(data=st.data(), shape=row_shapes)
def test_sort(descending: int, data: st.DataObject, shape: tuple[int, int]) -> None:
    check(Case("sort", (data.draw(floats(shape)),), {"descending": descending}))


@pytest.mark.parametrize("descending", [0, 1])
@pytest.mark.parametrize("kind", ["plain", "wide", "integers", "special"])
@pytest.mark.parametrize("length", [47, 48, 49, 1000, 4_096])
def test_sort_of_every_length(length: int, kind: str, descending: int) -> None:
    check(Case("sort", (values(1, (3, length), kind),), {"descending": descending}))


def test_equal_elements_and_nan_keep_their_order() -> None:
    odd = np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)
    x = np.array([odd[0], 0.0, -0.0, 1.0, odd[1], -np.inf, 0.0], np.float32)
    for pad in (0, 100):  # by insertion and by radix
        padded = np.concatenate([x, np.full(pad, -np.inf, np.float32)])
        _, (up, at) = Case("sort", (padded,), {"descending": 0}).run(kernels)
        assert at[1 + pad :].tolist() == [1, 2, 6, 3, 0, 4]
        assert np.signbit(up[1 + pad : 4 + pad]).tolist() == [False, True, False]
        _, (_, at) = Case("sort", (padded,), {"descending": 1}).run(kernels)
        assert at[:7].tolist() == [0, 4, 3, 1, 2, 6, 5]


@FEW
@given(st.data(), row_shapes)
def test_cumsum(data: st.DataObject, shape: tuple[int, int]) -> None:
    check(Case("cumsum", (data.draw(floats(shape)),)))


ZEROS = np.array([0.0, -0.0, -1.0, -(2**-149)], np.float32)


@given(st.data(), row_shapes, st.integers(0, 1))
def test_amax_and_argmax(
    data: st.DataObject, shape: tuple[int, int], keep: int
) -> None:
    x = data.draw(floats(shape))
    if data.draw(st.booleans()):
        chosen = data.draw(st.lists(st.sampled_from(range(4)), min_size=3, max_size=3))
        x = ZEROS[np.resize(chosen, math.prod(shape))].reshape(shape)
    check(Case("amax", (x,), {"keepdim": keep}))
    check(Case("argmax", (x,), {"keepdim": keep}))


def test_the_greatest_of_zeros_infinities_and_nan() -> None:
    rows: list[tuple[list[float], float, int]] = [
        ([-0.0, 0.0, -1.0], 0.0, 0),
        ([-1.0, -0.0, -0.0], -0.0, 1),
        ([-np.inf, -np.inf, -np.inf], -np.inf, 0),
        ([1.0, np.nan, np.nan], np.nan, 1),
        ([np.inf, -np.inf, np.inf], np.inf, 0),
    ]
    x = np.array([row for row, _, _ in rows], np.float32)
    for pad in (0, 200):
        wide = np.pad(x, ((0, 0), (0, pad)), constant_values=-np.inf)
        (most,) = Case("amax", (wide,), {"keepdim": 0}).run(kernels)[1]
        (where,) = Case("argmax", (wide,), {"keepdim": 0}).run(kernels)[1]
        expected = np.array([value for _, value, _ in rows], np.float32)
        np.testing.assert_array_equal(most, expected)
        assert np.signbit(most[:2]).tolist() == [False, True]
        assert where.tolist() == [index for _, _, index in rows]
