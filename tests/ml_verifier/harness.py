"""A function of tensors, captured and compared with torch: its value and gradients.

The program runs one step of SGD with momentum from zero, so that the slots of the
momentum hold the gradients, bit by bit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from ml_verifier import kernels
from ml_verifier.capture import Captured, capture
from ml_verifier.engine import Backend, Engine
from ml_verifier.program import OPTIMISER, Constant, Initialiser

Function = Callable[..., torch.Tensor]
SEED = 11
LEARNING_RATE = 0.125


@dataclass(frozen=True)
class Step:
    """What one step yields.

    Attributes:
        loss: The loss.
        gradients: Of each trained parameter, by name.
        parameters: After the update, and buffers.
    """

    loss: float
    gradients: Mapping[str, np.ndarray]
    parameters: Mapping[str, np.ndarray]


class Weighed(nn.Module):
    """A function of parameters, summed with fixed, uneven weights."""

    def __init__(self, function: Function, tensors: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        for number, tensor in enumerate(tensors):
            self.register_parameter(f"p{number}", nn.Parameter(tensor.clone()))

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[1, ...] -> the output, the same whatever x is."""
        y = self.function(*self.parameters())
        return y.float() + 0.0 * x.sum()


def weigh(y: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """A scalar to which each element of y contributes differently."""
    places = torch.arange(y.numel(), dtype=torch.float32).reshape(y.shape)
    return (y * (torch.remainder(places, 7.0) - 2.75)).sum()


def arbitrary(model: nn.Module) -> dict[str, Initialiser]:
    """A recipe for each tensor; the tests load their own values."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: Constant(0.0) for name, _ in tensors}


def captured(
    model: nn.Module,
    loss: Callable[..., torch.Tensor] | None,
    sample: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
) -> Captured:
    """Capture a model under SGD with momentum."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=0.5)
    return capture(model, loss, optimiser, sample, arbitrary(model))


def engine_of(job: Captured, model: nn.Module, backend: Backend = kernels) -> Engine:
    """An engine that holds the model's own weights."""
    engine = Engine(job.program, backend)
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    engine.load(
        [
            own[slot.name].detach().numpy()
            if slot.name in own
            else np.full(slot.type.shape, slot.initialiser.value, np.float32)  # type: ignore[union-attr]  # constants all
            for slot in job.program.slots
        ]
    )
    return engine


def columns_of(
    sample: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
) -> list[np.ndarray]:
    """The batch as the engine takes it."""
    tensors = sample.values() if isinstance(sample, Mapping) else sample
    return [tensor.numpy() for tensor in tensors]


def stepped(
    job: Captured,
    model: nn.Module,
    sample: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
    backend: Backend = kernels,
) -> Step:
    """Take one step of the program from the model's own weights."""
    engine = engine_of(job, model, backend)
    columns = columns_of(sample)
    assert engine.step(columns, range(len(columns[0])), SEED, 0), "the step trapped"
    named = {
        slot.name: tensor.copy()
        for slot, tensor in zip(job.program.slots, engine.tensors, strict=True)
    }
    prefix = f"{OPTIMISER}momentum."
    return Step(
        loss=float(named["loss"]),
        gradients={
            name.removeprefix(prefix): tensor
            for name, tensor in named.items()
            if name.startswith(prefix)
        },
        parameters={n: t for n, t in named.items() if n in job.parameters},
    )


def expected(
    model: nn.Module,
    loss: Callable[..., torch.Tensor] | None,
    sample: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
) -> Step:
    """The same step by torch; the model's weights change."""
    if isinstance(sample, Mapping):
        *names, last = sample
        inputs = {name: sample[name] for name in names}
        arguments: Sequence[torch.Tensor] = ()
        target = sample[last]
    else:
        *arguments, target = sample
        inputs, last = {}, "labels"
    if loss is None:
        value = model(*arguments, **inputs, **{last: target}).loss
    else:
        value = loss(model(*arguments, **inputs), target)
    torch.autograd.backward(value)
    gradients = {
        name: p.grad.numpy().copy()
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p.sub_(p.grad, alpha=LEARNING_RATE)
    tensors = (*model.named_parameters(), *model.named_buffers())
    return Step(
        float(value.detach()),
        gradients,
        {name: tensor.detach().numpy() for name, tensor in tensors},
    )


def check_model(
    model: nn.Module,
    loss: Callable[..., torch.Tensor] | None,
    sample: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
    *,
    tolerance: float = 1e-4,
) -> Captured:
    """Compare one captured step of a model with torch's: loss, gradients, weights."""
    job = captured(model, loss, sample)
    found = stepped(job, model, sample)
    wanted = expected(model, loss, sample)
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=tolerance, atol=tolerance)
    assert found.gradients.keys() == wanted.gradients.keys()
    for name, gradient in wanted.gradients.items():
        close(found.gradients[name], gradient, tolerance, name)
    for name, tensor in found.parameters.items():
        close(tensor, wanted.parameters[name], tolerance, name)
    return job


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float, name: str) -> None:
    """Compare within a tolerance relative to the largest element."""
    scale = float(np.abs(wanted).max(initial=0.0))
    np.testing.assert_allclose(
        found, wanted, rtol=tolerance, atol=tolerance * max(scale, 1e-3), err_msg=name
    )


def check(
    function: Function, *tensors: torch.Tensor, tolerance: float = 1e-4
) -> Captured:
    """Compare value and gradients of a function of float tensors with torch's."""
    model = Weighed(function, tensors)
    sample = (torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
    return check_model(model, weigh, sample, tolerance=tolerance)
