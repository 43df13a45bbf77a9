"""Kernels and oracle agree to the bit: what is drawn, and the step along a sign."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ml_verifier import kernels
from tests.kernels.cases import (
    Array,
    Attributes,
    Case,
    check,
    floats,
    lengths,
)

word = st.integers(0, 2**32 - 1)
whole = st.integers(-(2**63), 2**63 - 1)
narrow = st.floats(-2, 2, width=32)


def fact(value: int) -> Array:
    return np.asarray(np.int64(value))


@given(lengths, whole, whole, word, st.tuples(narrow, narrow))
def test_uniform(
    n: int, seed: int, step: int, stream: int, bounds: tuple[float, float]
) -> None:
    low, high = bounds
    attributes: Attributes = {"shape": (n,), "low": low, "high": high, "stream": stream}
    check(Case("uniform", (fact(seed), fact(step)), attributes))


@given(lengths, whole, whole, word, st.floats(0, 1, width=32, exclude_max=True))
def test_dropout_mask(n: int, seed: int, step: int, stream: int, p: float) -> None:
    attributes: Attributes = {"shape": (1, n), "p": p, "stream": stream}
    check(Case("dropout_mask", (fact(seed), fact(step)), attributes))


@pytest.mark.parametrize("n", [1, 127, 128, 129, 100_003])
def test_draws_shared_among_threads(n: int) -> None:
    facts = fact(-5), fact(2**32 - 1)
    drawn: Attributes = {"shape": (n,), "low": -1.0, "high": 1.0, "stream": 1}
    check(Case("uniform", facts, drawn))
    check(Case("dropout_mask", facts, {"shape": (n,), "p": 0.5, "stream": 1}))


def test_a_step_never_draws_initial_values() -> None:
    first, wrapped = (
        Case(
            "uniform",
            (fact(3), fact(step)),
            {"shape": (64,), "low": 0.0, "high": 1.0, "stream": 1},
        ).run(kernels)[1][0]
        for step in (0, 2**32 - 1)
    )
    assert first.tobytes() == wrapped.tobytes()
    initial = np.empty(64, np.float32)
    kernels.philox_uniform(initial, 3, 1, 2**32 - 1, 0.0, 1.0)
    assert not (initial == first).any()


@given(st.data(), lengths, st.tuples(narrow, narrow, narrow, narrow))
def test_lion(
    data: st.DataObject, n: int, scalars: tuple[float, float, float, float]
) -> None:
    inputs = [data.draw(floats((n,))) for _ in range(3)] + [data.draw(floats(()))]
    names = ("lr", "beta1", "beta2", "weight_decay")
    check(Case("lion", inputs, dict(zip(names, scalars, strict=True))))
