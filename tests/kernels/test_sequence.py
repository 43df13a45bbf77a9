"""Calls in sequence: up to the first trap; optimisers check what they write."""

from collections.abc import Sequence

import numpy as np
import pytest

from ml_verifier import kernels, oracle
from ml_verifier.engine import Backend
from tests.kernels.cases import Array, Attributes, assert_same, settings
from tests.kernels.test_binding import OPTIMISERS, f32

HALF = np.asarray(np.float32(0.5))
LION, LION_ATTRIBUTES = OPTIMISERS[-1][:2]


def step(
    backend: Backend, name: str, attributes: Attributes, inputs: Sequence[Array]
) -> tuple[int, list[Array]]:
    """The status of an optimiser and the checks of its outputs, and the outputs."""
    moments = len([x for x in inputs if x.shape]) - 2
    outputs = [np.empty_like(inputs[0]) for _ in range(1 + moments)]
    calls = [backend.bind(name, attributes, inputs, outputs)]
    calls += [backend.finite(x) for x in outputs]
    return backend.sequence(calls)(), outputs


@pytest.mark.parametrize("n", [1, 5, 100_003])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, 1.0])
@pytest.mark.parametrize(("name", "attributes", "moments", "scalars"), OPTIMISERS)
def test_an_optimiser_and_checks_trap_as_the_oracle_does(
    name: str, attributes: Attributes, moments: int, scalars: int, bad: float, n: int
) -> None:
    random = np.random.default_rng(7)
    state = [np.abs(random.standard_normal(n)).astype("f4") for _ in range(2 + moments)]
    for place, at in [(place, at) for place in range(len(state)) for at in (0, n - 1)]:
        inputs = [x.copy() for x in state]
        inputs[place][at] = bad
        expected = step(oracle, name, attributes, [*inputs, *[HALF] * scalars])
        for isa in kernels.isas():
            with settings(isa=isa):
                found = step(kernels, name, attributes, [*inputs, *[HALF] * scalars])
            assert_same(found, expected)


def lion(gradient: float) -> tuple[list[Array], list[Array]]:
    """Inputs and outputs; an infinite gradient makes only the moment infinite."""
    g = np.array([gradient], np.float32)
    return [f32(1), g, f32(1), HALF], [f32(1), f32(1)]


@pytest.mark.parametrize(("checked", "status"), [((), 0), ((0,), 0), ((0, 1), 1)])
def test_only_outputs_with_a_check_are_checked(
    checked: tuple[int, ...], status: int
) -> None:
    inputs, outputs = lion(np.inf)
    calls = [kernels.bind(LION, LION_ATTRIBUTES, inputs, outputs)]
    calls += [kernels.finite(outputs[i]) for i in checked]
    assert kernels.sequence(calls)() == status
    assert np.isinf(outputs[1]).all()
    assert calls[0]() == 0


def test_a_check_of_something_else_is_made() -> None:
    inputs, outputs = lion(1.0)
    other = np.array([np.nan], np.float32)
    calls = [kernels.bind(LION, LION_ATTRIBUTES, inputs, outputs)]
    calls += [kernels.finite(outputs[0]), kernels.finite(other)]
    assert kernels.sequence(calls)() == 1


@pytest.mark.parametrize(("gradient", "after"), [(1.0, 1.0), (np.inf, 0.0)])
def test_what_follows_a_trap_is_not_made(gradient: float, after: float) -> None:
    inputs, outputs = lion(gradient)
    one, last = np.ones(1, np.float32), f32(1)
    calls = [kernels.bind(LION, LION_ATTRIBUTES, inputs, outputs)]
    calls += [kernels.finite(x) for x in outputs]
    calls.append(kernels.bind("relu", {}, [one], [last]))
    assert kernels.sequence(calls)() == int(np.isinf(gradient))
    assert last[0] == after
