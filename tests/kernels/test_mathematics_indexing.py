"""The indexing operators compute what torch does under the same names."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ml_verifier import kernels
from ml_verifier.kernels import AttributeValue
from tests.kernels.cases import Array, Case

RANDOM = np.random.default_rng(17)
NONE_SKIPPED = 2**32 - 1


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def run(name: str, *inputs: Array, **attributes: AttributeValue) -> list[Array]:
    status, outputs = Case(name, inputs, attributes).run(kernels)
    assert status == 0
    return outputs


def close(found: Array, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found, expected.detach().numpy(), 1e-5, 1e-5)


def equal(found: Array, expected: torch.Tensor) -> None:
    np.testing.assert_array_equal(found, expected.detach().numpy())


@pytest.mark.parametrize("padding", [None, 3])
def test_embedding_and_its_gradient(padding: int | None) -> None:
    weight, index = normal(11, 6), RANDOM.integers(0, 11, (4, 9))
    t = torch.from_numpy(weight.copy()).requires_grad_()
    y = functional.embedding(torch.from_numpy(index), t, padding)
    equal(run("take", weight, index, axis=0)[0], y)
    g = normal(4, 9, 6)
    y.backward(torch.from_numpy(g))  # type: ignore[no-untyped-call]  # torch's
    skip = NONE_SKIPPED if padding is None else padding
    assert t.grad is not None
    close(run("scatter_rows", g, index, axis=0, size=11, skip=skip)[0], t.grad)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_index_select_and_its_gradient(axis: int) -> None:
    x, index = normal(4, 5, 6), RANDOM.integers(0, 4, 7)
    t = torch.from_numpy(x.copy()).requires_grad_()
    y = t.index_select(axis, torch.from_numpy(index))
    equal(run("take", x, index, axis=axis)[0], y)
    g = normal(*y.shape)
    y.backward(torch.from_numpy(g))  # type: ignore[no-untyped-call]  # torch's
    given = {"axis": axis, "size": x.shape[axis], "skip": NONE_SKIPPED}
    assert t.grad is not None
    close(run("scatter_rows", g, index, **given)[0], t.grad)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_and_scatters(axis: int) -> None:
    x = normal(4, 5, 6)
    shape = tuple(9 if i == axis else n for i, n in enumerate(x.shape))
    index, source = RANDOM.integers(0, 4, shape), normal(*shape)
    t, at, s = (torch.from_numpy(a) for a in (x, index, source))
    equal(run("gather", x, index, axis=axis)[0], t.gather(axis, at))
    added = t.scatter_add(axis, at, s)
    close(run("scatter_add", x, index, source, axis=axis)[0], added)


def test_scatter_without_repeated_indices() -> None:
    x, source = normal(7, 5), normal(7, 3)
    index = np.stack([RANDOM.permutation(5)[:3] for _ in range(7)])
    expected = torch.from_numpy(x).scatter(
        1, torch.from_numpy(index), torch.from_numpy(source)
    )
    equal(run("scatter", x, index, source, axis=1)[0], expected)


@pytest.mark.parametrize("length", [9, 300])
@pytest.mark.parametrize("descending", [0, 1])
def test_sort(length: int, descending: int) -> None:
    x = np.round(normal(20, length) * 4)
    x[::3, ::7] = np.nan
    expected, order = torch.from_numpy(x).sort(stable=True, descending=bool(descending))
    values, indices = run("sort", x, descending=descending)
    equal(values, expected)
    equal(indices, order)


def test_cumsum() -> None:
    x = normal(11, 90)
    close(run("cumsum", x)[0], torch.from_numpy(x).cumsum(-1))


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("nan", [False, True])
def test_amax_and_argmax(keep: int, nan: bool) -> None:  # noqa: FBT001  a parameter
    x = np.round(normal(20, 90) * 2)
    if nan:
        x[::2, ::8] = np.nan
    t = torch.from_numpy(x)
    equal(run("amax", x, keepdim=keep)[0], t.amax(-1, keepdim=bool(keep)))
    expected = t.argmax(-1, keepdim=bool(keep))
    equal(run("argmax", x, keepdim=keep)[0], expected)
