"""Kernels and oracle agree to the bit on what transformers are made of."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ml_verifier import kernels, oracle
from ml_verifier.kernels import BindingError
from tests.kernels.cases import (
    Array,
    Case,
    assert_same,
    check,
    floats,
    settings as machine,
    values,
)

FEW = settings(max_examples=25)
widths = st.one_of(st.integers(1, 12), st.integers(13, 90))
rows = st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple)


@st.composite
def products(draw: st.DrawFn) -> Case:
    batch = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    m, n = (draw(st.one_of(st.integers(1, 9), st.integers(10, 40))) for _ in range(2))
    k = draw(st.one_of(st.integers(1, 20), st.sampled_from([256, 257])))
    ta, tb = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    kinds = [draw(st.sampled_from(("plain", "special", "tiny", "wide", "integers")))]
    a = draw(floats((*batch, *((k, m) if ta else (m, k))), kinds))
    b = draw(floats((*batch, *((n, k) if tb else (k, n))), kinds))
    return Case("bmm", (a, b), {"ta": ta, "tb": tb})


@FEW
@given(products())
def test_bmm(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(("m", "n", "k"), [(70, 65, 64), (33, 520, 300), (1, 3, 513)])
def test_large_bmm(batch: int, m: int, n: int, k: int, ta: int, tb: int) -> None:
    a = values(m, (batch, *((k, m) if ta else (m, k))), "plain")
    b = values(n, (batch, *((n, k) if tb else (k, n))), "plain")
    check(Case("bmm", (a, b), {"ta": ta, "tb": tb}))


@st.composite
def views(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    """An array of zeros of this shape with permuted, possibly thinned axes."""
    order = tuple(draw(st.permutations(range(len(shape)))))
    slack = [draw(st.sampled_from([0, 0, 3])) for _ in shape]
    outer = [shape[axis] + slack[axis] for axis in order]
    inverse = tuple(int(i) for i in np.argsort(order))
    whole = np.zeros(outer, np.float32).transpose(inverse)
    return whole[tuple(slice(0, n) for n in shape)]


@settings(max_examples=60)
@given(st.data(), products())
def test_bmm_of_views(data: st.DataObject, case: Case) -> None:
    """Views give the same bits as copies, or are refused; nothing else is written."""
    status, (expected,) = case.run(oracle)
    inputs = [data.draw(views(x.shape)) for x in case.inputs]
    for view, x in zip(inputs, case.inputs, strict=True):
        view[...] = x
    output = data.draw(views(expected.shape))
    whole = output if output.base is None else output.base
    assert isinstance(whole, np.ndarray)
    for isa in kernels.isas():
        whole.fill(7)
        with machine(isa=isa, threads=2):
            try:
                call = kernels.bind("bmm", case.attributes, inputs, [output])
            except BindingError:
                assert any(not x.flags.c_contiguous for x in (*inputs, output))
                return
            assert call() == status
        found = output.copy()
        oracle.canonicalise(found.reshape(-1))
        assert_same((0, [found]), (0, [expected]))
        output.fill(7)
        assert (whole == 7).all()


def test_bmm_of_heads() -> None:
    """The heads of [B, T, H, D] need no copy: neither in, nor out."""
    batch, time, heads, depth = 2, 17, 3, 8
    q, k, v = (values(i, (batch, time, heads, depth), "plain") for i in range(3))
    swapped = [x.transpose(0, 2, 1, 3) for x in (q, k, v)]
    scores = np.empty((batch, heads, time, time), np.float32)
    kernels.bind("bmm", {"ta": 0, "tb": 1}, swapped[:2], [scores])()
    out = np.empty_like(q)
    plain = {"ta": 0, "tb": 0}
    kernels.bind("bmm", plain, [scores, swapped[2]], [out.transpose(0, 2, 1, 3)])()
    copies = [np.ascontiguousarray(x) for x in swapped]
    _, (s,) = Case("bmm", copies[:2], {"ta": 0, "tb": 1}).run(oracle)
    _, (y,) = Case("bmm", (s, copies[2]), plain).run(oracle)
    assert_same((0, [scores]), (0, [s]))
    assert_same((0, [np.ascontiguousarray(out.transpose(0, 2, 1, 3))]), (0, [y]))


@FEW
@given(st.data(), rows, widths, st.integers(0, 1))
def test_softmax(
    data: st.DataObject, outer: tuple[int, ...], width: int, safe: int
) -> None:
    x = data.draw(floats((*outer, width)))
    mask = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    x = np.where(values(width, x.shape, "plain") < 2 * mask - 1, -np.inf, x)
    check(Case("softmax", (x.astype(np.float32),), {"safe": safe}))


@pytest.mark.parametrize("safe", [0, 1])
def test_softmax_of_a_row_without_a_finite_element(safe: int) -> None:
    x = np.full((3, 40), -np.inf, np.float32)
    x[1, 3] = 0
    x[2, 4] = np.nan
    case = Case("softmax", (x,), {"safe": safe})
    check(case)
    _, (y,) = case.run(kernels)
    assert y[1, 3] == 1
    assert np.isnan(y[2]).all()
    assert y[0].tobytes() == bytes(160) if safe else np.isnan(y[0]).all()


@pytest.mark.parametrize("width", [1023, 1024, 1025, 2500])
def test_softmax_of_rows_longer_than_a_block(width: int) -> None:
    x = values(width, (3, width), "plain")
    x[1] = -np.inf
    check(Case("softmax", (x,), {"safe": 0}))
    check(Case("softmax", (x,), {"safe": 1}))
    check(Case("softmax_backward", (x[::-1].copy(), x)))


@FEW
@given(st.data(), rows, widths)
def test_softmax_backward(
    data: st.DataObject, outer: tuple[int, ...], width: int
) -> None:
    shape = (*outer, width)
    inputs = data.draw(floats(shape)), data.draw(floats(shape))
    check(Case("softmax_backward", inputs))


@FEW
@given(st.data(), rows, widths, st.sampled_from([0.0, 2.0**-17, 0.5]))
def test_layer_norm(
    data: st.DataObject, outer: tuple[int, ...], width: int, eps: float
) -> None:
    x, w, b = (data.draw(floats(s)) for s in ((*outer, width), (width,), (width,)))
    check(Case("layer_norm", (x, w, b), {"eps": eps}))


@st.composite
def layer_gradients(draw: st.DrawFn, count: int, width: int) -> Case:
    matrix, row, column = (count, width), (width,), (count,)
    shapes = (matrix, matrix, row, column, column)
    return Case("layer_norm_backward", [draw(floats(s)) for s in shapes])


@FEW
@given(st.data(), st.one_of(st.integers(1, 9), st.integers(29, 75)), widths)
def test_layer_norm_backward(data: st.DataObject, count: int, width: int) -> None:
    check(data.draw(layer_gradients(count, width)))


def test_the_gradient_of_a_layer_norm_of_rank_three() -> None:
    g, x = (values(i, (3, 13, 70), "plain") for i in range(2))
    w, mean, rstd = values(2, (70,), "plain"), *values(3, (2, 39), "plain")
    check(Case("layer_norm_backward", (g, x, w, mean, rstd)))


@pytest.mark.parametrize("name", ["layer_norm", "layer_norm_backward"])
def test_layer_norm_of_wide_rows(name: str) -> None:
    x, g = (values(i, (70, 1000), "plain") for i in range(2))
    w, b = values(2, (2, 1000), "plain")
    if name == "layer_norm":
        check(Case(name, (x, w, b), {"eps": 2.0**-17}))
    else:
        check(Case(name, (g, x, w, *values(3, (2, 70), "plain"))))
