# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""From a module, a loss and an optimiser to a program."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.gradients import mean, means, micro_batches
from ml_verifier.capture.initialise import initialisers
from ml_verifier.capture.lower import Lowering, Result
from ml_verifier.capture.optimisers import Optimisers, problems
from ml_verifier.capture.schedulers import Scheduling
from ml_verifier.capture.schedules import Clock
from ml_verifier.capture.trace import trace, untrained
from ml_verifier.capture.update import Options, Update
from ml_verifier.errors import UnsupportedModel
from ml_verifier.initial import rounded
from ml_verifier.program import (
    EMA,
    LOSS,
    OPTIMISER,
    Constant,
    Field,
    Initialiser,
    Program,
    Slot,
)
from ml_verifier.types import DType, TensorType, f32

COUNTER = "num_batches_tracked"  # batch norm's step counter; no value depends on it

_DTYPES = {torch.float32: DType.F32, torch.int64: DType.I64}

Loss: TypeAlias = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Captured:
    """A captured training step.

    Attributes:
        program: The canonical step.
        parameters: Names of the slots that are entries of the module's state dict.
        counters: State-dict entries that count steps and are not part of the state.
    """

    program: Program
    parameters: tuple[str, ...]
    counters: tuple[str, ...]


def capture(  # noqa: PLR0913 - a training step has this many parts
    model: nn.Module,
    loss: Loss,
    optimiser: Optimisers,
    sample: Sequence[torch.Tensor],
    initialise: Mapping[str, Initialiser] | None = None,
    *,
    schedule: Scheduling = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
) -> Captured:
    """Capture one training step.

    Args:
        model: Called as ``model(*sample[:-1])``, in training mode.
        loss: Called as ``loss(output, sample[-1])``; returns a scalar.
        optimiser: SGD, Adam, AdamW, Lion, Muon or Adafactor over parameters of the
            model, or several of them over different parameters.
        sample: One batch, e.g. (x[B, ...], y[B]); only shapes and dtypes matter.
        initialise: Recipes for tensors whose PyTorch initialisation is not known.
        schedule: What the learning rates are multiplied with: one of
            ``ml_verifier.capture.schedules`` or a ``torch.optim.lr_scheduler`` that has
            a closed form; a sequence gives each optimiser its own.
        clip_norm: Largest 2-norm of all gradients together.
        clip_value: Largest magnitude of a gradient's element.
        accumulate: Micro-batches that a batch is cut into, in order; their losses and
            gradients are averaged, buffers such as batch norm's pass through.
        ema: Decay of a moving average of the trained weights, kept in slots
            ``ema.<name>``; they hold zeros before the first step.

    Raises:
        UnsupportedModel: Lists everything that has no reproducible operator.
    """
    options = Options(schedule, clip_norm, clip_value, accumulate, ema)
    parameters = {id(p): n for n, p in model.named_parameters()}
    found = _input_problems(model, sample)
    found += problems(optimiser, parameters, schedule)
    recipes, missing = initialisers(model, initialise or {})
    found += missing
    if not found:
        found += options.problems(len(sample[0]))
    if found:
        raise UnsupportedModel(tuple(found))
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    part = len(sample[0]) // accumulate
    graph = trace(model, loss, names, [tensor[:part] for tensor in sample])
    trained = set(names) - untrained(graph)
    update = Update(
        optimiser, {i: n for i, n in parameters.items() if n in trained}, options
    )
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    slots = (
        Slot(LOSS, f32(), Constant(0.0)),
        *(
            Slot(name, f32(*tensor.shape), rounded(recipes[name]))
            for name, tensor in tensors.items()
            if tensor.is_floating_point()
        ),
        *update.slots(),
    )
    builder = Builder(len(sample[0]), slots, _fields(sample))
    numbers = {slot.name: i for i, slot in enumerate(slots)}
    buffers: dict[str, int] = {}
    results: list[Result] = []
    for fields in micro_batches(builder, accumulate):
        lowering = Lowering(builder, numbers | buffers)
        results.append(lowering.run(graph, fields))
        if lowering.problems:
            raise UnsupportedModel(tuple(lowering.problems))
        buffers |= results[-1].buffers
    gradients = means(builder, [result.gradients for result in results])
    gradients = {n: g for n, g in gradients.items() if n in trained}
    loss_value = mean(builder, [result.loss for result in results])
    values = {**numbers, **buffers, LOSS: loss_value}
    values |= update.lower(Clock(builder), numbers, gradients)
    program = builder.finish(tuple(values[slot.name] for slot in slots))
    return Captured(
        program,
        tuple(n for n, t in tensors.items() if t.is_floating_point()),
        tuple(n for n in tensors if n.endswith(COUNTER)),
    )


def _fields(sample: Sequence[torch.Tensor]) -> tuple[Field, ...]:
    names = [f"x{i}" if len(sample) > 2 else "x" for i in range(len(sample) - 1)]
    return tuple(
        Field(name, TensorType(_DTYPES[tensor.dtype], tuple(tensor.shape[1:])))
        for name, tensor in zip((*names, "y"), sample, strict=True)
    )


def _input_problems(model: nn.Module, sample: Sequence[torch.Tensor]) -> list[str]:
    found: list[str] = []
    if len(sample) < 2:
        found.append("sample batch: expected inputs and a target, e.g. (x, y)")
    for tensor in sample:
        if tensor.dtype not in _DTYPES:
            found.append(f"sample batch: use float32 or int64, not {tensor.dtype}")
        if not tensor.dim() or len(tensor) != len(sample[0]):
            found.append("sample batch: every tensor needs the same batch dimension")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name.startswith((OPTIMISER, EMA)) or name == LOSS:
            found.append(f"{name}: the name is taken, call the module something else")
        if tensor.dtype is not torch.float32 and not name.endswith(COUNTER):
            found.append(f"{name}: use float32, not {tensor.dtype}")
    if not model.training:
        found.append("the model is in evaluation mode: call model.train() first")
    return found
