"""Capture: what it accepts, and that all problems are named at once."""

import pytest
import torch
from torch import nn
from typing_extensions import override

from ml_verifier.capture import Captured, capture
from ml_verifier.errors import UnsupportedModel
from ml_verifier.program import Constant, Uniform, decode_program
from tests.ml_verifier.jobs import sample


def captured(model: nn.Module, **options: object) -> Captured:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    return capture(
        model,
        nn.CrossEntropyLoss(),
        optimiser,
        sample((6,)),
        options.get("initialise"),  # type: ignore[arg-type]  # passed through
    )


def problems_of(model: nn.Module) -> str:
    with pytest.raises(UnsupportedModel) as caught:
        captured(model)
    return str(caught.value)


class Unusual(nn.Module):
    """Three calls without kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 6] -> logits[B, 3]."""
        x = nn.functional.gelu(self.layer(x))
        x = torch.cumsum(x, 1)
        return torch.flip(x, (1,))


def test_all_unsupported_calls_are_listed_with_their_lines() -> None:
    text = problems_of(Unusual())
    assert "3 unsupported call(s)" in text
    for call, line in (
        ("aten.gelu", "x = nn.functional.gelu(self.layer(x))"),
        ("aten.cumsum", "x = torch.cumsum(x, 1)"),
        ("aten.flip", "return torch.flip(x, (1,))"),
    ):
        assert call in text
        assert line in text
    assert "test_capture.py:" in text


def test_same_model_same_program() -> None:
    def build() -> bytes:
        return captured(
            nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
        ).program.root

    assert build() == build()


def test_the_program_decodes_and_names_the_parameters() -> None:
    result = captured(nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3)))
    assert result.parameters == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert decode_program(result.program.encoded).root == result.program.root


def test_layers_start_from_the_distribution_that_torch_gives_them() -> None:
    program = captured(nn.Sequential(nn.Linear(6, 3))).program
    weight = next(s for s in program.slots if s.name == "0.weight")
    assert isinstance(weight.initialiser, Uniform)
    assert weight.initialiser.high == pytest.approx(6**-0.5)


def test_weights_without_a_recipe_must_be_given_one() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    with torch.no_grad():
        nn.init.normal_(model.get_parameter("0.weight"))
    assert "initial value of 0.weight: no recipe" in problems_of(model)
    chosen = captured(model, initialise={"0.weight": Constant(0.25)})
    slot = next(s for s in chosen.program.slots if s.name == "0.weight")
    assert slot.initialiser == Constant(0.25)


def test_losses_and_inputs_that_cannot_be_captured() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    weighted = nn.CrossEntropyLoss(weight=torch.ones(3))
    with pytest.raises(UnsupportedModel, match=r"class weights|not supported yet"):
        capture(model, weighted, optimiser, sample((6,)))
    with pytest.raises(UnsupportedModel, match="mean"):
        capture(model, nn.CrossEntropyLoss(reduction="sum"), optimiser, sample((6,)))
    x, y = sample((6,))
    with pytest.raises(UnsupportedModel, match="float32 or int64"):
        capture(model, nn.CrossEntropyLoss(), optimiser, (x.double(), y))
    with pytest.raises(UnsupportedModel, match="inputs and a target"):
        capture(model, nn.CrossEntropyLoss(), optimiser, (x,))
    with pytest.raises(UnsupportedModel, match="evaluation mode"):
        capture(model.eval(), nn.CrossEntropyLoss(), optimiser, (x, y))


def test_unused_parameters_are_named() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    model.register_parameter("spare", nn.Parameter(torch.zeros(2)))
    result = captured(model)
    assert "spare" in result.parameters  # without a gradient, so it stays as it is


def test_regression_loss_and_frozen_parameters() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2))
    model[0].weight.requires_grad_(False)  # noqa: FBT003 - torch's own signature
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    batch = (torch.zeros(4, 6), torch.zeros(4, 2))
    result = capture(model, nn.MSELoss(), optimiser, batch)
    program = result.program
    frozen = next(i for i, s in enumerate(program.slots) if s.name == "0.weight")
    assert program.next_state[frozen] == frozen
    assert not any("optimiser.mean.0.weight" in s.name for s in program.slots)


def test_batch_norm_buffers_are_state_and_its_counter_is_not() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    result = captured(model)
    names = {s.name for s in result.program.slots}
    assert {"1.running_mean", "1.running_var"} <= names
    assert result.counters == ("1.num_batches_tracked",)
    assert "1.num_batches_tracked" not in names
