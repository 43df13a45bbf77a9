# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""From a module, a loss and an optimiser to a program."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.gradients import mean, means, micro_batches
from ml_verifier.capture.initialise import initialisers
from ml_verifier.capture.lowering import Lowering, Result
from ml_verifier.capture.operands import Operand, Value, held
from ml_verifier.capture.optimisers import Optimisers, problems
from ml_verifier.capture.rules import ADVICE, RULES
from ml_verifier.capture.schedulers import Scheduling
from ml_verifier.capture.schedules import Clock
from ml_verifier.capture.trace import Objective, Traced, call, trace
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

_DTYPES = {
    torch.float32: DType.F32,
    torch.int64: DType.I64,
    torch.bfloat16: DType.BF16,
}

Loss: TypeAlias = Callable[..., torch.Tensor] | None
Sample: TypeAlias = Sequence[torch.Tensor] | Mapping[str, torch.Tensor]


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
    sample: Sample,
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
        model: Called with the sample's tensors but the last one, in training mode.
        loss: Called as ``loss(output, target)`` with the sample's last tensor; returns
            a scalar. None if the model computes its loss itself when it is given
            ``labels``, as those of ``transformers`` do: the last tensor is passed so.
        optimiser: SGD, Adam, AdamW, Lion, Muon or Adafactor over parameters of the
            model, or several of them over different parameters.
        sample: One batch, e.g. (x[B, ...], y[B]), or a dict whose keys are the names of
            the model's arguments, the target last; only shapes and dtypes matter.
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
    batch = dict(sample) if isinstance(sample, Mapping) else _named(sample)
    records = len(next(iter(batch.values()), ()))
    found = _input_problems(model, tuple(batch.values()))
    found += problems(optimiser, parameters, schedule)
    if not found:
        found += options.problems(records)
    if found:
        raise UnsupportedModel(tuple(found))
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    part = [tensor[: records // accumulate] for tensor in batch.values()]
    traced = trace(model, _objective(model, loss, sample), names, part)
    recipes, missing = initialisers(model, initialise or {}, traced.unchanged)
    tensors = {
        name: tensor
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if tensor.is_floating_point() and name not in traced.unchanged
    }
    trained = set(names) - traced.untrained
    update = Update(
        optimiser, {i: n for i, n in parameters.items() if n in trained}, options
    )
    slots = (
        Slot(LOSS, f32(), Constant(0.0)),
        *(
            Slot(name, _slot_type(tensor), rounded(recipes.get(name, Constant(0.0))))
            for name, tensor in tensors.items()
        ),
        *update.slots(),
    )
    builder = Builder(records, slots, _fields(batch))
    numbers = {slot.name: i for i, slot in enumerate(slots)}
    held_buffers = {n: b for n, b in model.named_buffers() if n in traced.unchanged}
    results, unsupported = _lowered(builder, traced, numbers, held_buffers, accumulate)
    if missing or unsupported:
        raise UnsupportedModel((*missing, *unsupported))
    gradients = means(builder, [result.gradients for result in results])
    gradients = {n: g for n, g in gradients.items() if n in trained}
    loss_value = mean(builder, [result.loss for result in results])
    values = {**numbers, **results[-1].buffers, LOSS: loss_value}
    values |= update.lower(Clock(builder), numbers, gradients)
    program = builder.finish(tuple(values[slot.name] for slot in slots))
    counters = (n for n, b in model.named_buffers() if _counts(n, b, traced.unchanged))
    return Captured(program, tuple(tensors), tuple(counters))


def _lowered(
    builder: Builder,
    traced: Traced,
    numbers: Mapping[str, int],
    unchanged: Mapping[str, torch.Tensor],
    count: int,
) -> tuple[list[Result], Sequence[str]]:
    """Lower the graph once for each micro-batch; return also what could not be."""
    operands: dict[str, Operand] = {n: held(b) for n, b in unchanged.items()}
    operands |= {n: Value(numbers[n]) for n in traced.inputs if n in numbers}
    results: list[Result] = []
    streams = 0
    for fields in micro_batches(builder, count):
        lowering = Lowering(builder, RULES, ADVICE, operands, streams)
        results.append(lowering.run(traced, fields))
        if lowering.problems:
            return [], lowering.problems
        operands |= {n: Value(b) for n, b in results[-1].buffers.items()}
        streams = lowering.streams
    return results, ()


def _counts(name: str, buffer: torch.Tensor, unchanged: frozenset[str]) -> bool:
    """Return whether a buffer counts steps: an integer that changes."""
    return not buffer.is_floating_point() and name not in unchanged


def _objective(model: nn.Module, loss: Loss, sample: Sample) -> Objective:
    names = tuple(sample) if isinstance(sample, Mapping) else ()

    def objective(
        tensors: Mapping[str, torch.Tensor], batch: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        *inputs, target = batch
        keywords = dict(zip(names, inputs, strict=False)) if names else {}
        arguments = [] if names else inputs
        if loss is not None:
            return loss(call(model, tensors, arguments, keywords), target)
        keywords[names[-1] if names else "labels"] = target
        output: Any = call(model, tensors, arguments, keywords)
        value: torch.Tensor = output.loss
        return value

    return objective


def _slot_type(tensor: torch.Tensor) -> TensorType:
    return TensorType(_DTYPES[tensor.dtype], tuple(tensor.shape))


def _named(sample: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    names = [f"x{i}" if len(sample) > 2 else "x" for i in range(len(sample) - 1)]
    return dict(zip((*names, "y"), sample, strict=False))


def _fields(batch: Mapping[str, torch.Tensor]) -> tuple[Field, ...]:
    return tuple(
        Field(name, TensorType(_DTYPES[tensor.dtype], tuple(tensor.shape[1:])))
        for name, tensor in batch.items()
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
        if tensor.is_floating_point() and tensor.dtype not in _DTYPES:
            found.append(f"{name}: use float32 or bfloat16, not {tensor.dtype}")
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (  # noqa: SLF001 - the common base of its kinds
            module.momentum is None and module.track_running_stats
        ):
            found.append(f"{name}: momentum=None counts steps; give it a number")
    if not model.training:
        found.append("the model is in evaluation mode: call model.train() first")
    return found
