"""Optimisers: a program's steps against torch's, from the same weights and batches."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import _muon as torch_muon
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from ml_verifier.capture import Captured, Lion, capture
from ml_verifier.capture.builder import Builder
from ml_verifier.capture.optimisers import OptimiserState
from ml_verifier.capture.schedules import Clock, Cosine, Flat, Linear, StepDecay, Warmup
from ml_verifier.engine import Engine
from ml_verifier.errors import UnsupportedModel
from ml_verifier.program import Constant, Field, Slot
from ml_verifier.types import bf16, f32
from tests.ml_verifier.jobs import SEED

BATCH = 8
STEPS = 12
Parameters = Iterable[nn.Parameter]
Make = Callable[[nn.Module], "torch.optim.Optimizer | list[torch.optim.Optimizer]"]


def mlp() -> nn.Sequential:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))


def batches(steps: int = STEPS) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH, 6, generator=generator),
            torch.randint(0, 3, (BATCH,), generator=generator),
        )
        for _ in range(steps)
    ]


def train(
    job: Captured, start: dict[str, torch.Tensor], data: Sequence[Any]
) -> dict[str, np.ndarray]:
    """Run the program from torch's initial weights; returns every slot by name."""
    engine = Engine(job.program)
    engine.load(
        [
            start[slot.name].numpy()
            if slot.name in start
            else np.zeros(slot.type.shape, slot.type.dtype.numpy)
            for slot in job.program.slots
        ]
    )
    for position, batch in enumerate(data):
        columns = [column.numpy() for column in batch]
        assert engine.step(columns, range(BATCH), SEED, position)
    names = (slot.name for slot in job.program.slots)
    return dict(zip(names, (t.copy() for t in engine.tensors), strict=True))


def compare(
    model: nn.Module,
    make: Make,
    *,
    before: Callable[[nn.Module], object] = lambda _: None,
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler] | None = None,
    rtol: float = 2e-5,
    steps: int = STEPS,
    **options: Any,  # noqa: ANN401 - of capture
) -> dict[str, np.ndarray]:
    """Train both; ``before`` stands between torch's backward and its step."""
    given = make(model)
    optimisers = given if isinstance(given, list) else [given]
    schedulers = [scheduler(o) for o in optimisers] if scheduler else []
    data, loss = batches(steps), nn.CrossEntropyLoss()
    if schedulers:
        options["schedule"] = schedulers
    job = capture(model, loss, given, data[0], **options)
    start = {n: t.detach().clone() for n, t in model.state_dict().items()}
    trained = train(job, start, data)
    for x, y in data:
        for optimiser in optimisers:
            optimiser.zero_grad()
        torch.autograd.backward(loss(model(x), y))
        before(model)
        for optimiser in optimisers:
            optimiser.step()
        for one in schedulers:
            one.step()
    for name, tensor in model.state_dict().items():
        expected, moved = tensor.numpy(), (tensor - start[name]).abs().max()
        np.testing.assert_allclose(
            trained[name], expected, rtol=rtol, atol=rtol * float(moved), err_msg=name
        )
    return trained


OPTIMISERS: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "sgd decay": lambda p: torch.optim.SGD(p, lr=0.3, weight_decay=0.05),
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd nesterov": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.02
    ),
    "sgd maximize": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.8, maximize=True, weight_decay=0.02
    ),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02),
    "adam decay": lambda p: torch.optim.Adam(
        p, lr=0.02, betas=(0.8, 0.95), weight_decay=0.1
    ),
    "adam decoupled": lambda p: torch.optim.Adam(
        p, lr=0.02, weight_decay=0.1, decoupled_weight_decay=True
    ),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, eps=1e-6),
    "adamw maximize": lambda p: torch.optim.AdamW(
        p, lr=0.02, weight_decay=0.3, maximize=True
    ),
    "lion": lambda p: Lion(p, lr=0.01, weight_decay=0.1),
    "lion betas": lambda p: Lion(p, lr=0.01, betas=(0.7, 0.9)),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.05),
    "adafactor decay": lambda p: torch.optim.Adafactor(
        p, lr=0.5, weight_decay=0.1, eps=(1e-6, 1e-2), d=1.5, beta2_decay=-0.5
    ),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_agree_with_torch(name: str) -> None:
    compare(mlp(), lambda model: OPTIMISERS[name](model.parameters()), rtol=1e-4)


def orthogonalised(
    gradient: torch.Tensor, coefficients: Sequence[float], steps: int, eps: float
) -> torch.Tensor:
    """Newton and Schulz as torch has it, without its bfloat16."""
    a, b, c = coefficients
    tall = gradient.shape[0] > gradient.shape[1]
    x = gradient.T if tall else gradient
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    result: torch.Tensor = x.T if tall else x
    return result


def muon_and_adamw(**options: Any) -> Make:  # noqa: ANN401 - of Muon
    def make(model: nn.Module) -> list[torch.optim.Optimizer]:
        parameters = list(model.parameters())
        matrices = [p for p in parameters if p.ndim == 2]
        rest = [p for p in parameters if p.ndim != 2]
        muon = torch.optim.Muon(matrices, lr=0.02, **options)
        return [muon, torch.optim.AdamW(rest, lr=0.01)]

    return make


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nesterov": False, "momentum": 0.8},
        {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.0},
        {"ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5), "weight_decay": 0.5},
    ],
    ids=str,
)
def test_muon_for_matrices_and_adamw_for_the_rest(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_muon, "_zeropower_via_newtonschulz", orthogonalised)
    compare(mlp(), muon_and_adamw(**options), rtol=3e-4)


def test_muon_is_near_the_bfloat16_one_of_torch() -> None:
    compare(mlp(), muon_and_adamw(), rtol=0.1)


def groups(model: nn.Module) -> torch.optim.Optimizer:
    first, second = model.get_parameter("0.weight"), model.get_parameter("2.weight")
    biases = [model.get_parameter("0.bias"), model.get_parameter("2.bias")]
    return torch.optim.AdamW(
        [
            {"params": [first], "lr": 0.05, "betas": (0.7, 0.9)},
            {"params": [second], "weight_decay": 0.4},
            {"params": biases, "weight_decay": 0.0, "maximize": True},
        ],
        lr=0.01,
    )


def test_every_parameter_group_keeps_its_options() -> None:
    compare(mlp(), groups)


def test_frozen_unused_and_unheld_parameters_stay_as_they_are() -> None:
    model = mlp()
    model.register_parameter("spare", nn.Parameter(torch.ones(2)))
    model.get_parameter("0.weight").requires_grad_(False)  # noqa: FBT003

    def make(model: nn.Module) -> torch.optim.Optimizer:
        held = [p for n, p in model.named_parameters() if n != "2.bias"]
        return torch.optim.AdamW(held, lr=0.1, weight_decay=0.5)

    trained = compare(model, make)
    assert (trained["spare"] == 1).all()
    kept = {name.removeprefix("optimiser.mean.") for name in trained}
    assert {"0.bias", "2.weight"} <= kept
    assert not any(f"optimiser.mean.{n}" in trained for n in ("spare", "0.weight"))


def test_sgd_without_momentum_keeps_no_state() -> None:
    trained = compare(mlp(), lambda m: torch.optim.SGD(m.parameters(), lr=0.1))
    assert not any(name.startswith("optimiser.") for name in trained)


def test_one_operator_is_a_parameters_whole_step_of_lion() -> None:
    model = mlp()
    job = capture(model, nn.CrossEntropyLoss(), Lion(model.parameters()), batches()[0])
    names = [node.operator.name for node in job.program.nodes]
    assert names.count("lion") == len(list(model.parameters()))
    assert "sign" not in names


def test_what_has_no_operator_is_named_with_what_to_do() -> None:
    model, other = mlp(), nn.Linear(2, 2)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for optimiser, text in (
        (torch.optim.Adagrad(model.parameters()), "use one of SGD, Adam, AdamW, Lion"),
        (torch.optim.AdamW(model.parameters(), amsgrad=True), "amsgrad=True.*leave it"),
        (
            torch.optim.SGD(model.parameters(), momentum=0.9, dampening=0.1),
            "dampening=0.1",
        ),
        (
            torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.1)),
            r"AdamW\(lr=...\): expected a number, got a tensor",
        ),
        ([sgd, torch.optim.Adam(model[0].parameters())], "0.weight is held by SGD and"),
        (torch.optim.SGD(other.parameters()), "not the model's"),
        ([], "expected at least one"),
    ):
        with pytest.raises(UnsupportedModel, match=text):
            capture(model, nn.CrossEntropyLoss(), optimiser, batches()[0])


def test_names_of_slots_are_not_for_modules() -> None:
    model = nn.Sequential()
    model.add_module("ema", nn.Linear(6, 3))
    with pytest.raises(UnsupportedModel, match=r"ema.weight: the name is taken"):
        capture(
            model,
            nn.CrossEntropyLoss(),
            torch.optim.SGD(model.parameters()),
            batches()[0],
        )


# ── clipping and averages ────────────────────────────────────────────────────


@pytest.mark.parametrize("maximum", [0.05, 100.0])
def test_clipping_by_norm(maximum: float) -> None:
    compare(
        mlp(),
        lambda m: torch.optim.SGD(m.parameters(), lr=0.5),
        before=lambda m: nn.utils.clip_grad_norm_(m.parameters(), maximum),
        clip_norm=maximum,
    )


def test_clipping_by_value() -> None:
    compare(
        mlp(),
        lambda m: torch.optim.SGD(m.parameters(), lr=0.5),
        before=lambda m: nn.utils.clip_grad_value_(m.parameters(), 0.01),
        clip_value=0.01,
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_accumulation_averages_micro_batches(count: int) -> None:
    torch.manual_seed(SEED)
    model = nn.Sequential(
        nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 3)
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss, data = nn.CrossEntropyLoss(), batches()
    job = capture(model, loss, optimiser, data[0], accumulate=count, clip_norm=0.5)
    start = {n: t.detach().clone() for n, t in model.state_dict().items()}
    trained, losses = train(job, start, data), 0.0
    for x, y in data:
        optimiser.zero_grad()
        losses = 0.0
        for inputs, targets in zip(x.chunk(count), y.chunk(count), strict=True):
            part = loss(model(inputs), targets) / count
            torch.autograd.backward(part)
            losses += float(part.detach())
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
    assert trained["loss"] == pytest.approx(losses, rel=1e-4)
    for name in job.parameters:
        np.testing.assert_allclose(
            trained[name], model.state_dict()[name], rtol=1e-3, atol=1e-5, err_msg=name
        )


def test_options_out_of_range() -> None:
    model = mlp()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"clip_norm": 1.0, "clip_value": 1.0}, "give one of them"),
        ({"clip_norm": 0.0}, "clip_norm=0.0: expected a number above 0"),
        ({"clip_value": float("inf")}, "clip_value=inf"),
        ({"accumulate": 3}, "accumulate=3: expected a divisor of the batch, 8"),
        ({"accumulate": 0}, "accumulate=0: expected a divisor"),
        ({"ema": 1.0}, "ema=1.0: expected a decay"),
    )
    for options, text in cases:
        with pytest.raises(UnsupportedModel, match=text):
            capture(model, nn.CrossEntropyLoss(), sgd, batches()[0], **options)


def test_average_of_the_weights() -> None:
    model = mlp()
    sgd = torch.optim.SGD(model.parameters(), lr=0.3)
    average: Any = torch.optim.swa_utils.get_ema_multi_avg_fn
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average(0.8))
    loss, data = nn.CrossEntropyLoss(), batches()
    job = capture(model, loss, sgd, data[0], ema=0.8)
    start = {n: t.detach().clone() for n, t in model.state_dict().items()}
    trained = train(job, start, data)
    for x, y in data:
        sgd.zero_grad()
        torch.autograd.backward(loss(model(x), y))
        sgd.step()
        averaged.update_parameters(model)
    for name, tensor in averaged.module.state_dict().items():
        np.testing.assert_allclose(trained[f"ema.{name}"], tensor, rtol=1e-4, atol=1e-6)
        assert not np.allclose(trained[f"ema.{name}"], trained[name], rtol=1e-3)


# ── schedules ────────────────────────────────────────────────────────────────


class Slope(nn.Module):
    """A parameter whose gradient is -1 under the loss below."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1))

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[1, 1] -> y[1, 1]."""
        return x * self.p


def _downhill(output: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return -output.sum()


def factors(schedule: Any, steps: int, lr: float = 1.0) -> list[float]:  # noqa: ANN401
    """Learning rate of each step, read off a parameter whose gradient is -1."""
    model = Slope()
    given = torch.optim.SGD(model.parameters(), lr=lr)
    if callable(schedule):
        schedule = schedule(given)
    sample = torch.ones(1, 1), torch.zeros(1, 1)
    job = capture(model, _downhill, given, sample, schedule=schedule)
    engine = Engine(job.program)
    rates: list[float] = []
    for position in range(steps):
        engine.load([np.zeros(s.type.shape, np.float32) for s in job.program.slots])
        assert engine.step([t.numpy() for t in sample], [0], SEED, position)
        rates.append(float(engine.tensors[1][0]))
    return rates


def rates(make: Callable[[Any], LRScheduler], steps: int, lr: float) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimiser)
    found: list[float] = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


lr_scheduler = torch.optim.lr_scheduler
SCHEDULERS: dict[str, Callable[[Any], LRScheduler]] = {
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 100),
    "linear down": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, 1000),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 700, 0.003),
    "cosine to zero": lambda o: lr_scheduler.CosineAnnealingLR(o, 1000),
    "step": lambda o: lr_scheduler.StepLR(o, 30, 0.7),
    "milestones": lambda o: lr_scheduler.MultiStepLR(o, [10, 500, 500, 720], 0.1),
    "constant": lambda o: lr_scheduler.ConstantLR(o, 0.25, 40),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.99),
    "growing": lambda o: lr_scheduler.ExponentialLR(o, 1.003),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 800, 1.0),
    "warm-up, cosine, step": lambda o: lr_scheduler.SequentialLR(
        o,
        [
            lr_scheduler.LinearLR(o, 0.01, 1.0, 50),
            lr_scheduler.CosineAnnealingLR(o, 700, 1e-4),
            lr_scheduler.StepLR(o, 20, 0.5),
        ],
        [50, 750],
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_are_those_of_torch(name: str) -> None:
    expected = rates(SCHEDULERS[name], 1001, 0.05)
    found = factors(SCHEDULERS[name], 1001, 0.05)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_own_schedules() -> None:
    assert factors(Flat(0.5), 3) == [0.5] * 3
    assert factors(Warmup(4), 6) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors(Linear(4, 1.0, 0.5), 6) == [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    np.testing.assert_allclose(factors(StepDecay(2, 0.1), 5), [1, 1, 0.1, 0.1, 0.01])
    wave = factors(Warmup(2).then(Cosine(4, 0.1)), 9)
    half = 0.1 + 0.9 * (1 + np.cos(np.pi * np.arange(5) / 4)) / 2
    np.testing.assert_allclose(wave, [0, 0.5, *half, 0.1, 0.1], rtol=1e-6)


def test_powers_end_at_zero() -> None:
    """The two exponentials of a power must not meet as 0 * inf."""
    assert factors(StepDecay(1, 0.3), 400)[-1] == 0.0


def test_a_scheduler_drives_every_optimiser_it_is_given_for() -> None:
    compare(
        mlp(),
        muon_and_adamw(ns_steps=1, ns_coefficients=(1.0, 0.0, 0.0)),
        scheduler=lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 10),
        rtol=0.05,
    )
    compare(mlp(), groups, scheduler=lambda o: lr_scheduler.StepLR(o, 3, 0.5))


def test_schedulers_without_a_closed_form_are_refused() -> None:
    model = mlp()

    def refused(make: Callable[[Any], Any], text: str) -> None:
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(UnsupportedModel, match=text):
            capture(
                model,
                nn.CrossEntropyLoss(),
                sgd,
                batches()[0],
                schedule=make(sgd),
            )

    refused(lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0), "LambdaLR has no closed")
    refused(lambda o: lr_scheduler.PolynomialLR(o, 5, 2.0), r"power=2.0\): only 1")
    refused(lambda _: lambda _: 0.1, "is not a schedule: pass one of")
    refused(lambda _: [Flat(), Flat()], "one per optimiser, 1, got 2")

    def stepped(optimiser: torch.optim.Optimizer) -> LRScheduler:
        scheduler = lr_scheduler.StepLR(optimiser, 2)
        optimiser.step()
        scheduler.step()
        return scheduler

    refused(stepped, "stepped 1 times already")
    refused(lambda o: (lr_scheduler.StepLR(o, 2), None)[1], "pass it as schedule=")
    elsewhere = torch.optim.SGD(mlp().parameters(), lr=0.1)
    refused(lambda _: lr_scheduler.StepLR(elsewhere, 2), "drives another optimiser")


def test_schedules_of_no_length_are_refused() -> None:
    for make in (Warmup, Linear, Cosine, StepDecay):
        with pytest.raises(ValueError, match="at least 1 step"):
            make(0)
    with pytest.raises(ValueError, match="gamma above 0"):
        StepDecay(1, 0.0)


def test_lion_refuses_what_is_out_of_range() -> None:
    parameters = list(mlp().parameters())
    with pytest.raises(ValueError, match="lr and weight_decay"):
        Lion(parameters, lr=-1.0)
    with pytest.raises(ValueError, match="betas"):
        Lion(parameters, betas=(0.9, 1.0))


def test_lion_evaluates_a_closure() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimiser = Lion([weight], lr=0.1)

    def closure() -> float:
        optimiser.zero_grad()
        loss = weight.square().sum()
        torch.autograd.backward(loss)
        return float(loss.detach())

    losses = [optimiser.step(closure) for _ in range(3)]
    values = [value for value in losses if value is not None]
    assert all(b < a for a, b in itertools.pairwise(values))
    assert len(values) == 3


def test_a_bf16_parameter_is_updated_in_float32_and_rounded_once() -> None:
    """The moments are float32: 0.9 * m + g keeps bits that bfloat16 would lose."""
    torch.manual_seed(SEED)
    parameter = nn.Parameter(torch.randn(5, dtype=torch.bfloat16))
    sgd = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    state = OptimiserState(sgd, {id(parameter): "w"})
    zero = Constant(0.0)
    slots = (Slot("loss", f32(), zero), Slot("w", bf16(5), zero), *state.slots())
    builder = Builder(1, slots, (Field("g", f32(5)),))
    gradient = builder.add("reshape", len(slots), shape=(5,))
    numbers = {slot.name: i for i, slot in enumerate(slots)}
    updated = state.lower(Clock(builder), numbers, {"w": gradient})
    values = numbers | updated
    engine = Engine(builder.finish(tuple(values[slot.name] for slot in slots)))
    start = parameter.detach().view(torch.uint16).numpy()
    engine.load([np.zeros((), np.float32), start, np.zeros(5, np.float32)])
    weight, momentum = parameter.detach().clone(), torch.zeros(5)
    for position in range(4):
        found = torch.randn(5)
        assert engine.step([found[None].numpy()], [0], SEED, position)
        momentum = 0.9 * momentum + found
        weight = (weight.float() - 0.1 * momentum).bfloat16()
    _, trained, moment = engine.tensors
    np.testing.assert_allclose(
        moment.astype(np.float32), momentum, rtol=1e-6, atol=1e-6
    )
    got = torch.from_numpy(trained.copy()).view(torch.bfloat16)
    assert torch.equal(got, weight)


def test_a_bf16_model_trains_as_in_torch() -> None:
    """Sums differ in their order, so weights do in a few of a bfloat16's last bits."""
    model, loss = mlp().bfloat16(), nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), lr=0.3)
    data = [(x.bfloat16(), y) for x, y in batches()]
    job = capture(model, loss, sgd, data[0])
    start = {n: t.detach().clone() for n, t in model.state_dict().items()}
    engine = Engine(job.program)
    engine.load(
        [
            start[slot.name].view(torch.uint16).numpy()
            if slot.name in start
            else np.zeros(slot.type.shape, slot.type.dtype.numpy)
            for slot in job.program.slots
        ]
    )
    for position, (x, y) in enumerate(data):
        columns = [x.view(torch.uint16).numpy(), y.numpy()]
        assert engine.step(columns, range(BATCH), SEED, position)
        sgd.zero_grad()
        torch.autograd.backward(loss(model(x), y))
        sgd.step()
    for slot, tensor in zip(job.program.slots, engine.tensors, strict=True):
        if slot.name in start:
            got = torch.from_numpy(tensor.copy()).view(torch.bfloat16).float()
            expected = model.state_dict()[slot.name].float()
            moved = (expected - start[slot.name].float()).abs().max()
            assert (got - expected).abs().max() < moved / 10
