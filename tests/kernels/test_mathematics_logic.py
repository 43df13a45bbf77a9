"""Comparisons, booleans, choice and integers compute what torch and Python do."""

import operator
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ml_verifier import kernels
from ml_verifier.types import DType
from tests.kernels.cases import SPECIAL, Array, Case

RANDOM = np.random.default_rng(29)
LEAST, MOST = -(2**63), 2**63 - 1
# 2^53 and its neighbours are one number in binary64.
WHOLE = (*range(-9, 10), LEAST, LEAST + 1, MOST, MOST - 1, 2**53, 2**53 + 1, -(2**53))
INTEGERS = np.array([*WHOLE, 2**32, -(2**32), 2**31, 3037000500], np.int64)


def run(name: str, *inputs: Array) -> Array:
    status, outputs = Case(name, inputs).run(kernels)
    assert status == 0
    return outputs[0]


def same(found: Array, expected: torch.Tensor | Array) -> None:
    want = np.asarray(expected)
    want = want.astype(np.uint8) if want.dtype == np.bool_ else want
    assert (found.dtype, found.shape) == (want.dtype, want.shape)
    assert found.tobytes() == want.tobytes()


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("x", [SPECIAL, INTEGERS], ids=["floats", "integers"])
def test_every_pair_compares_as_in_torch(name: str, x: Array) -> None:
    left, right = x[:, None].copy(), x
    function = getattr(torch, name)
    expected = function(torch.from_numpy(left), torch.from_numpy(right))
    same(run(name, left, right), expected)
    assert run(name, left, right).any()


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons_broadcast(name: str) -> None:
    a = np.round(RANDOM.standard_normal((3, 1, 50))).astype(np.float32)
    b = np.round(RANDOM.standard_normal((4, 1))).astype(np.float32)
    expected = getattr(torch, name)(torch.from_numpy(a), torch.from_numpy(b))
    same(run(name, a, b), expected)


@pytest.mark.parametrize("name", ["and", "or", "xor"])
@pytest.mark.parametrize("shapes", [((2, 1), (2,)), ((5, 70), (5, 70)), ((70,), ())])
def test_booleans(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    if shapes[0] == (2, 1):
        both = np.array([0, 1], np.uint8)
        a, b = both[:, None].copy(), both
    else:
        a, b = (RANDOM.integers(0, 2, shape).astype(np.uint8) for shape in shapes)
    function = getattr(torch, f"logical_{name}")
    same(run(name, a, b), function(torch.from_numpy(a), torch.from_numpy(b)))


def test_not() -> None:
    x = RANDOM.integers(0, 2, (3, 70)).astype(np.uint8)
    same(run("not", x), torch.from_numpy(x).logical_not())


@pytest.mark.parametrize("dtype", list(DType))
@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4, 50), (3, 4, 50), (3, 4, 50)),
        ((3, 1, 50), (4, 50), ()),
        ((50,), (3, 1, 1), (4, 1)),
    ],
)
def test_where(dtype: DType, shapes: tuple[tuple[int, ...], ...]) -> None:
    condition = RANDOM.integers(0, 2, shapes[0]).astype(np.uint8)
    span = 2 if dtype is DType.BOOL else 100
    a, b = (RANDOM.integers(0, span, s).astype(dtype.numpy) for s in shapes[1:])
    same(run("where", condition, a, b), np.where(condition != 0, a, b))


def test_what_is_not_chosen_does_not_matter() -> None:
    condition, x = np.array([1, 0], np.uint8), np.array([1, 2], np.float32)
    bad = np.full(2, np.nan, np.float32)
    assert run("where", condition, x, bad)[0] == 1
    assert run("where", condition, bad, x)[1] == 2


def wrapped(value: int) -> int:
    """Modulo 2^64, as a signed number."""
    return (value + 2**63) % 2**64 - 2**63


ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "int_add": operator.add,
    "int_sub": operator.sub,
    "int_mul": operator.mul,
    "int_floordiv": lambda a, b: a // b if b else 0,
    "int_remainder": lambda a, b: a % b if b else 0,
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_integers_are_those_of_python(name: str) -> None:
    random = RANDOM.integers(LEAST, MOST, 40) >> RANDOM.integers(0, 62, 40)
    x = np.concatenate([INTEGERS, random])
    function = ARITHMETIC[name]
    expected = [[wrapped(function(a, b)) for b in x.tolist()] for a in x.tolist()]
    assert run(name, x[:, None].copy(), x).tolist() == expected


def test_quotients_that_processors_refuse() -> None:
    a = np.array([LEAST, LEAST, MOST, 0], np.int64)
    b = np.array([-1, 0, 0, 0], np.int64)
    assert run("int_floordiv", a, b).tolist() == [LEAST, 0, 0, 0]
    assert run("int_remainder", a, b).tolist() == [0, 0, 0, 0]


def test_remainders_are_those_of_torch() -> None:
    a, b = RANDOM.integers(-99, 99, 500), RANDOM.integers(1, 9, 500)
    b[::2] *= -1
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    same(run("int_remainder", a, b), left.remainder(right))
    same(run("int_floordiv", a, b), left.div(right, rounding_mode="floor"))
