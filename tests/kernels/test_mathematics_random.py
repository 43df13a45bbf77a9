"""What is drawn has the distribution it should have, and Lion is Lion."""

import numpy as np
import pytest
import torch

from ml_verifier import kernels
from ml_verifier.capture import Lion
from tests.kernels.cases import Array, Attributes, Case

N = 200_000
SIGMAS = 5
FACTS = {"seed": 3, "step": 5, "stream": 7}


def draw(name: str, n: int = N, facts: dict[str, int] = FACTS, **how: float) -> Array:
    inputs = [np.asarray(np.int64(facts[fact])) for fact in ("seed", "step")]
    attributes: Attributes = {"shape": (n,), "stream": facts["stream"], **how}
    status, outputs = Case(name, inputs, attributes).run(kernels)
    assert status == 0
    return outputs[0]


def unit(n: int = N, facts: dict[str, int] = FACTS) -> Array:
    return draw("uniform", n, facts, low=0.0, high=1.0)


def test_uniform_values_are_multiples_of_the_resolution_in_range() -> None:
    x = unit()
    assert 0 <= x.min() < 1e-3
    assert 0.999 < x.max() < 1
    assert (x * np.float32(2**24) % 1 == 0).all()


def test_uniform_moments_and_bins() -> None:
    x = unit().astype(np.float64)
    for power, variance in ((1, 1 / 12), (2, 4 / 45)):
        error = abs((x**power).mean() - 1 / (power + 1))
        assert error < SIGMAS * np.sqrt(variance / N)
    bins = np.histogram(x, 64, (0, 1))[0]
    chi = ((bins - N / 64) ** 2 / (N / 64)).sum()
    assert abs(chi - 63) < SIGMAS * np.sqrt(2 * 63)
    lag = np.corrcoef(x[:-1], x[1:])[0, 1]
    assert abs(lag) < SIGMAS / np.sqrt(N)


def test_uniform_bounds() -> None:
    x = draw("uniform", low=-3.0, high=5.0)
    np.testing.assert_allclose(x, unit().astype(np.float64) * 8 - 3, rtol=1e-6)
    assert (draw("uniform", low=2.0, high=2.0) == 2).all()


@pytest.mark.parametrize("other", FACTS)
def test_other_facts_draw_other_values(other: str) -> None:
    x, y = unit(), unit(facts={**FACTS, other: FACTS[other] + 1})
    assert (x == y).mean() < 1e-4
    assert abs(np.corrcoef(x, y)[0, 1]) < SIGMAS / np.sqrt(N)


def test_the_same_facts_draw_the_same_values() -> None:
    assert unit().tobytes() == unit().tobytes()
    assert unit(1001).tobytes() == unit()[:1001].tobytes()
    masks = [draw("dropout_mask", p=0.5).tobytes() for _ in range(2)]
    assert masks[0] == masks[1]


@pytest.mark.parametrize("p", [0.0, 2**-24, 0.125, 0.5, 0.75, 1 - 2**-24])
def test_dropout_mask(p: float) -> None:
    mask = draw("dropout_mask", p=p)
    kept = np.float32(1) / (np.float32(1) - np.float32(p))
    assert set(mask.tolist()) <= {0.0, float(kept)}
    assert not np.signbit(mask).any()
    dropped = (mask == 0).mean()
    assert abs(dropped - p) <= SIGMAS * np.sqrt(p * (1 - p) / N)
    assert ((mask == 0) == (unit() < p)).all()


@pytest.mark.parametrize("p", [0.1, 0.3, 0.9])
def test_dropout_mask_of_a_rounded_share(p: float) -> None:
    p = float(np.float32(p))
    mask = draw("dropout_mask", p=p)
    kept = np.float32(1) / (np.float32(1) - np.float32(p))
    assert set(mask.tolist()) == {0.0, float(kept)}
    deviation = np.sqrt(p / (1 - p) / N)
    assert abs(mask.mean(dtype=np.float64) - 1) < SIGMAS * deviation


@pytest.mark.parametrize("other", FACTS)
def test_other_facts_drop_others(other: str) -> None:
    x = draw("dropout_mask", p=0.5)
    y = draw("dropout_mask", facts={**FACTS, other: FACTS[other] + 1}, p=0.5)
    assert abs((x == y).mean() - 0.5) < SIGMAS / np.sqrt(4 * N)


LION: Attributes = {"lr": 2**-7, "beta1": 0.875, "beta2": 0.96875, "weight_decay": 0.25}


def test_lion_is_the_optimiser() -> None:
    random = np.random.default_rng(1)
    p, m = random.standard_normal(999).astype(np.float32), np.zeros(999, np.float32)
    weight = torch.from_numpy(p.copy()).requires_grad_()
    optimiser = Lion([weight], lr=2**-8, betas=(0.875, 0.96875), weight_decay=0.25)
    factor = np.asarray(np.float32(0.5))
    for _ in range(5):
        g = random.standard_normal(999).astype(np.float32)
        weight.grad = torch.from_numpy(g)
        optimiser.step()
        status, (p, m) = Case("lion", (p, g, m, factor), LION).run(kernels)
        assert status == 0
    np.testing.assert_allclose(p, weight.detach().numpy(), rtol=1e-6, atol=1e-7)
    momentum = optimiser.state[weight]["momentum"]
    np.testing.assert_allclose(m, momentum.numpy(), rtol=1e-6, atol=1e-7)


def test_lion_takes_whole_steps() -> None:
    """A step's length is the rate whatever the gradient's; without one, decay alone."""
    g = np.array([1e30, 1e-40, -1e-40, -7, 0, -0.0, np.nan], np.float32)
    p, m = np.ones(7, np.float32), np.zeros(7, np.float32)
    one = np.asarray(np.float32(1))
    _, (after, _) = Case("lion", (p, g, m, one), LION).run(kernels)
    rate, kept = 2**-7, 1 - 2**-9
    signs = [kept - rate, kept - rate, kept + rate, kept + rate, kept, kept]
    assert after[:6].tolist() == signs
    assert np.isnan(after[6])
