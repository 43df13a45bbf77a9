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
    """Three calls without operators, one of them in a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 6] -> logits[B, 3]."""
        x = torch.atan(self.layer(x))
        x = torch.asin(x)
        return median(x)


def median(x: torch.Tensor) -> torch.Tensor:
    return x - torch.median(x)


def test_all_unsupported_calls_are_listed_with_their_lines() -> None:
    text = problems_of(Unusual())
    assert "3 unsupported call(s)" in text
    for call, line in (
        ("aten.atan", "x = torch.atan(self.layer(x))"),
        ("aten.asin", "x = torch.asin(x)"),
        ("aten.median", "return x - torch.median(x)"),
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


class Peeking(nn.Module):
    """Looks at the value of a tensor."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.how = how

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 6] -> logits[B, 3]."""
        x = self.layer(x)
        match self.how:
            case "item":
                return x * x.max().item()
            case "if":
                return x if x.sum() > 0 else -x
            case "mask":
                return x[x > 0]
            case _:
                return x * self.layer.weight.nonzero().shape[0]


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("item", "return x * x.max().item()"),
        ("if", "return x if x.sum() > 0 else -x"),
        ("mask", "return x[x > 0]"),
        ("shape", "return x * self.layer.weight.nonzero().shape[0]"),
    ],
)
def test_steps_that_look_at_values_are_refused_with_their_line(
    how: str, line: str
) -> None:
    text = problems_of(Peeking(how))
    assert line in text
    assert "torch.where" in text


def test_a_backward_call_is_named_by_its_forward_line() -> None:
    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """x[B, 6] -> logits[B, 3]."""
            found = torch.zeros(len(x), dtype=torch.int64)
            weight = self.layer.weight.T
            return nn.functional.embedding(found, weight, scale_grad_by_freq=True)

    text = problems_of(Steep())
    assert "aten.embedding_dense_backward.default: scale_grad_by_freq=True" in text
    assert "in the backward pass of" in text
    assert "return nn.functional.embedding(found, weight" in text


def test_momentum_none_and_float64_are_refused() -> None:
    text = problems_of(nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, momentum=None)))
    assert "1: momentum=None counts steps; give it a number" in text
    assert "use float32" in problems_of(nn.Sequential(nn.Linear(6, 3)).double())


class Table(nn.Module):
    """A buffer that no step changes."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("table", table)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 6] -> logits[B, 3]."""
        found: torch.Tensor = self.layer(x) + self.get_buffer("table").float().mean()
        return found


def operators_of(table: torch.Tensor) -> list[str]:
    program = captured(Table(table)).program
    assert "table" not in {slot.name for slot in program.slots}
    return [node.operator.name for node in program.nodes]


def test_buffers_that_no_step_changes_are_written_into_the_program() -> None:
    torch.manual_seed(1)
    assert "literal" in operators_of(torch.rand(5))
    assert "iota" in operators_of(torch.arange(3, 40, 2))
    assert "le" in operators_of(torch.tril(torch.ones(1, 1, 400, 400)))
    assert "gt" in operators_of(torch.ones(300, 400).bool().triu(2))
    assert "literal" not in operators_of(torch.ones(70_000))
    assert "literal" in operators_of(torch.rand(1, 5).expand(70_000, 5))
    with pytest.raises(UnsupportedModel, match=r"compute it in forward\(\)"):
        captured(Table(torch.rand(20_000)))
