"""Initial values: the recipe draws from the distribution that torch drew from."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ml_verifier.capture.initialise import initialisers
from ml_verifier.program import (
    Constant,
    Initialiser,
    Normal,
    Slot,
    Uniform,
    ZeroRow,
)
from ml_verifier.rng import initial_tensor
from ml_verifier.types import f32


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(11)


def recipes(model: nn.Module, **chosen: Initialiser) -> dict[str, Initialiser]:
    found, problems = initialisers(model, chosen)
    assert problems == []
    return found


def problems(model: nn.Module, chosen: dict[str, Initialiser] | None = None) -> str:
    return "\n".join(initialisers(model, chosen or {})[1])


def check_statistics(name: str, recipe: Initialiser, tensor: torch.Tensor) -> None:
    """Draw the recipe once and compare mean, deviation and bounds with torch's draw."""
    drawn = initial_tensor(Slot(name, f32(*tensor.shape), recipe), 3, 5)
    count = drawn.size
    deviation = float(tensor.std())
    error = deviation / math.sqrt(count)
    assert abs(drawn.mean() - float(tensor.mean())) < 8 * error, name
    assert abs(drawn.std() / deviation - 1) < 8 / math.sqrt(count), name
    reach = float(tensor.abs().max())
    assert 0.7 < np.abs(drawn).max() / reach < 1.5, name


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(300, 200),
    "conv1d": lambda: nn.Conv1d(30, 40, 9),
    "conv2d": lambda: nn.Conv2d(32, 64, 3, groups=2),
    "conv transpose": lambda: nn.ConvTranspose2d(32, 64, 3),
    "bilinear": lambda: nn.Bilinear(30, 40, 50),
    "rnn": lambda: nn.RNN(64, 96, 2),
    "lstm": lambda: nn.LSTM(64, 96),
    "gru cell": lambda: nn.GRUCell(64, 96),
    "embedding": lambda: nn.Embedding(400, 50),
    "attention": lambda: nn.MultiheadAttention(128, 4, add_bias_kv=True),
    "attention of three": lambda: nn.MultiheadAttention(128, 4, kdim=96, vdim=64),
    "encoder layer": lambda: nn.TransformerEncoderLayer(128, 4, batch_first=True),
    "transformer": lambda: nn.Transformer(64, 4, 1, 1, 128, batch_first=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_recipes_draw_what_torch_draws(name: str) -> None:
    layer = LAYERS[name]()
    for key, recipe in recipes(layer).items():
        tensor = layer.get_parameter(key).detach()
        if not isinstance(recipe, Constant):
            check_statistics(key, recipe, tensor)
        else:
            assert bool((tensor == recipe.value).all())


def test_bounds_are_those_of_the_layers() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.LSTM(5, 16), nn.BatchNorm1d(3))
    found = recipes(model)
    assert found["0.bias"] == Uniform(-1 / math.sqrt(6), 1 / math.sqrt(6))
    assert found["1.weight_ih_l0"] == Uniform(-0.25, 0.25)
    assert found["2.weight"] == Constant(1.0)
    assert found["2.running_mean"] == Constant(0.0)


def test_functions_of_torch_init_are_told_apart() -> None:
    cases: dict[Any, Initialiser] = {
        nn.init.xavier_uniform_: Uniform(-math.sqrt(6 / 500), math.sqrt(6 / 500)),
        nn.init.xavier_normal_: Normal(0.0, math.sqrt(2 / 500)),
        nn.init.kaiming_uniform_: Uniform(-math.sqrt(6 / 300), math.sqrt(6 / 300)),
        nn.init.kaiming_normal_: Normal(0.0, math.sqrt(2 / 300)),
        nn.init.normal_: Normal(0.0, 1.0),
    }
    for function, expected in cases.items():
        layer = nn.Linear(300, 200)
        with torch.no_grad():
            function(layer.weight)
        found = recipes(layer)["weight"]
        assert type(found) is type(expected)
        for attribute in ("low", "high", "deviation"):
            assert getattr(found, attribute, None) == pytest.approx(
                getattr(expected, attribute, None)
            )


def test_a_truncated_normal_of_small_deviation() -> None:
    layer = nn.Linear(300, 200)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    assert recipes(layer)["weight"] == Normal(0.0, 0.02)


def test_the_padding_row_starts_at_zero() -> None:
    layer = nn.Embedding(50, 8, padding_idx=-2)
    recipe = recipes(layer)["weight"]
    assert recipe == ZeroRow(48, Normal(0.0, 1.0))
    drawn = initial_tensor(Slot("weight", f32(50, 8), recipe), 1, 3)
    assert not drawn[48].any()
    assert drawn[47].any()
    assert drawn[49].any()


class Configured(nn.Module):
    """Weights as `transformers` initialises GPT-2's."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.config = SimpleNamespace(initializer_range=0.03, num_hidden_layers=8)
        self.wte = nn.Embedding(100, 64, padding_idx=0)
        self.c_fc = nn.Linear(64, 128)
        self.c_proj = nn.Linear(128, 64)
        with torch.no_grad():
            self.wte.weight.normal_(0, deviation)
            self.wte.weight[0] = 0
            self.c_fc.weight.normal_(0, deviation)
            self.c_proj.weight.normal_(0, deviation / 4)
            self.c_fc.bias.zero_()
            self.c_proj.bias.zero_()


def test_a_configuration_says_the_deviation() -> None:
    assert recipes(Configured(0.03)) == {
        "wte.weight": ZeroRow(0, Normal(0.0, 0.03)),
        "c_fc.weight": Normal(0.0, 0.03),
        "c_fc.bias": Constant(0.0),
        "c_proj.weight": Normal(0.0, 0.0075),
        "c_proj.bias": Constant(0.0),
    }


def test_a_configuration_that_does_not_fit_the_weights_is_not_believed() -> None:
    text = problems(Configured(0.035))
    assert "initial value of c_fc.weight: no recipe for it" in text
    assert "pass initialise={'c_fc.weight': Normal(0.0, 0.035" in text


def test_tied_weights_have_one_recipe() -> None:
    model = nn.Sequential(nn.Embedding(300, 64), nn.Linear(64, 300, bias=False))
    model[1].weight = model[0].weight
    assert recipes(model) == {"0.weight": Normal(0.0, 1.0)}


def test_patterns_choose_recipes() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2))
    chosen: dict[str, Initialiser] = {
        "*.weight": Normal(0.0, 0.02),
        "1.*": Constant(0.5),
        "1.weight": Uniform(-1.0, 1.0),
    }
    found, missing = initialisers(model, chosen)
    assert missing == []
    assert found["0.weight"] == Normal(0.0, 0.02)
    assert found["1.weight"] == Uniform(-1.0, 1.0)
    assert found["1.bias"] == Constant(0.5)
    assert isinstance(found["0.bias"], Uniform)
    assert "initialise['2.*']: the model has no such tensor" in problems(
        model, {"2.*": Constant(0.0)}
    )
    assert "expected Constant, Uniform, Normal or ZeroRow, got 0.5" in problems(
        model,
        {"*": 0.5},  # type: ignore[dict-item]  # the mistake
    )


def test_weights_that_were_not_drawn_are_told_what_to_pass() -> None:
    layer = nn.Linear(40, 300)
    with torch.no_grad():
        layer.weight.mul_(0.1).add_(2.0)
        layer.bias.mul_(0.5)
    text = problems(layer)
    assert "initial value of weight: no recipe for it; pass" in text
    assert "initialise={'weight': Normal(2, 0.00" in text
    assert "initialise={'bias': Uniform(-0.0" in text


def test_a_weight_narrower_than_its_layer_draws_is_noticed() -> None:
    layer = nn.Linear(100, 100)
    with torch.no_grad():
        layer.weight.mul_(0.8)
    assert "initial value of weight: no recipe" in problems(layer)
