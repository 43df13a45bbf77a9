"""Kernels and oracle agree to the bit where windows are pooled."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ml_verifier import kernels, oracle
from tests.kernels.cases import Array, Attributes, Case, check, floats, values


@st.composite
def pools(draw: st.DrawFn, dilated: bool) -> tuple[Array, Attributes]:  # noqa: FBT001  a strategy's argument
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride = tuple(draw(st.integers(1, 3)) for _ in range(2))
    dilation = tuple(draw(st.integers(1, 3 if dilated else 1)) for _ in range(2))
    plane = [
        max(draw(st.integers(1, 12)), d * (k - 1) + 1 - 2 * p, 1)
        for k, p, d in zip(kernel, padding, dilation, strict=True)
    ]
    x = draw(floats((draw(st.integers(1, 2)), draw(st.integers(1, 3)), *plane)))
    attributes: Attributes = {"kernel": kernel, "stride": stride, "padding": padding}
    if dilated:
        attributes["dilation"] = dilation
    return x, attributes


@given(pools(dilated=True), st.data())
def test_max_pool(drawn: tuple[Array, Attributes], data: st.DataObject) -> None:
    x, attributes = drawn
    case = Case("max_pool2d", (x,), attributes)
    check(case)
    index = case.run(kernels)[1][1]
    g = data.draw(floats(index.shape))
    check(Case("max_pool2d_backward", (g, index), {"input_shape": x.shape}))


def gradient_at(index: Array) -> Case:
    """The gradient of a pooling of planes of 9 elements, from indices it saved."""
    g = values(1, index.shape, "plain")
    shape = (*index.shape[:2], 3, 3)
    return Case("max_pool2d_backward", (g, index), {"input_shape": shape})


@pytest.mark.parametrize(
    "out", [-1, 9, -9, 2**31, 2**32, 2**40, 2**63 - 1, -(2**63), -(2**32)]
)
@pytest.mark.parametrize("plane", [0, 1, 2])
@pytest.mark.parametrize("position", [0, 3])
def test_a_saved_pooling_index_out_of_range_traps(
    out: int, plane: int, position: int
) -> None:
    """Also one that would be an element of the next plane, or of the one before."""
    index = np.tile(np.array([0, 8, 4, 1], np.int64), 3).reshape(1, 3, 2, 2)
    assert gradient_at(index).run(kernels)[0] == 0
    index[0, plane].reshape(-1)[position] = out
    case = gradient_at(index)
    check(case)
    assert case.run(kernels)[0] == 1


@pytest.mark.parametrize("out", [-1, 9, -9, 10])
def test_a_saved_pooling_index_out_of_range_writes_nothing_beside_the_output(
    out: int,
) -> None:
    case = gradient_at(np.array([8, out, 4, 1], np.int64).reshape(1, 1, 2, 2))
    arena = np.full((3, 1, 1, 3, 3), 7, np.float32)
    call = kernels.bind(case.name, case.attributes, case.inputs, [arena[1]])
    assert call() == 1
    assert (arena[::2] == 7).all()


def test_one_plane_of_many_that_threads_share_traps() -> None:
    index = np.random.default_rng(5).integers(0, 9, (40, 50, 6, 7))
    case = gradient_at(index)
    check(case)
    assert case.run(kernels)[0] == 0
    index[-1, -1, -1, -1] = 9
    check(case)
    assert case.run(kernels)[0] == 1


def test_a_window_with_no_position_inside_saves_an_index_that_traps() -> None:
    """Both taps of each column lie in the padding."""
    x = values(1, (2, 3, 2, 5), "plain")
    window: Attributes = {"kernel": (2, 1), "stride": (1, 2)}
    window |= {"padding": (1, 0), "dilation": (3, 1)}
    forward = Case("max_pool2d", (x,), window)
    check(forward)
    status, (y, index) = forward.run(kernels)
    assert (status, y.shape) == (0, (2, 3, 1, 3))
    assert (y == -np.inf).all()
    assert (index == -1).all()
    backward = Case("max_pool2d_backward", (y, index), {"input_shape": x.shape})
    check(backward)
    assert backward.run(oracle)[0] == backward.run(kernels)[0] == 1


def test_max_pool_keeps_the_last_nan_and_the_first_of_equals() -> None:
    x = np.array([[[[1, 1, -np.inf, -np.inf], [np.nan, 5, np.nan, 7]]]], np.float32)
    window = {"kernel": (1, 2), "stride": (1, 2), "padding": (0, 0), "dilation": (1, 1)}
    _, (y, index) = Case("max_pool2d", (x,), window).run(kernels)
    assert index.reshape(-1).tolist() == [0, 2, 4, 6]
    np.testing.assert_array_equal(y.reshape(-1), [1, -np.inf, np.nan, np.nan])


@given(pools(dilated=False), st.integers(0, 1), st.data())
def test_avg_pool(
    drawn: tuple[Array, Attributes], include: int, data: st.DataObject
) -> None:
    x, attributes = drawn
    attributes = {**attributes, "count_include_pad": include}
    case = Case("avg_pool2d", (x,), attributes)
    check(case)
    g = data.draw(floats(case.outputs()[0].shape))
    check(Case("avg_pool2d_backward", (g,), {**attributes, "input_shape": x.shape}))
