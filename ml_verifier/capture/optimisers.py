# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Lowering of ``torch.optim`` optimisers: which slots they need, and their step.

Several optimisers may share a model, each over parameters of its own. Every parameter
group keeps its options; its scalar state (bias corrections) is kept once per group.
Arithmetic is float32 whatever a parameter is stored as: a bf16 parameter is widened
before and rounded after, its moments are float32 slots.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.optim.lr_scheduler import LRScheduler

from ml_verifier.capture import updates
from ml_verifier.capture.builder import Builder
from ml_verifier.capture.expression import Expression, as_f32
from ml_verifier.capture.lion import Lion
from ml_verifier.capture.schedulers import (
    NoSchedule,
    Scheduling,
    base_rate,
    schedule_of,
)
from ml_verifier.capture.schedules import Clock, Schedule
from ml_verifier.capture.updates import Group, Shape, Step, Update
from ml_verifier.program import OPTIMISER, Constant, Slot
from ml_verifier.types import DType, f32

Optimisers: TypeAlias = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one optimiser class is written as operators.

    Attributes:
        update: Its step for one parameter.
        moments: Name and shape of each state tensor of a parameter of some shape.
        corrections: Name of each scalar state tensor and the beta that it follows.
        refused: Options that must be falsy, and what to do instead.
    """

    update: Update
    moments: Callable[[Group, Shape], dict[str, Shape]]
    corrections: tuple[tuple[str, int], ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


def _named(*names: str) -> Callable[[Group, Shape], dict[str, Shape]]:
    """Moments of the parameter's own shape."""
    return lambda _, shape: dict.fromkeys(names, shape)


def _momentum(group: Group, shape: Shape) -> dict[str, Shape]:
    return {"momentum": shape} if group["momentum"] else {}


def _factored(_: Group, shape: Shape) -> dict[str, Shape]:
    if len(shape) < 2:
        return {"square": shape}
    return {"row": (*shape[:-1], 1), "column": (*shape[:-2], 1, shape[-1])}


_ADAM = Recipe(
    updates.adam,
    _named("mean", "square"),
    (("mean_correction", 0), ("square_correction", 1)),
    (("amsgrad", "leave it unset, or use Lion or Adafactor"),),
)
RECIPES: dict[type[torch.optim.Optimizer], Recipe] = {
    torch.optim.SGD: Recipe(
        updates.sgd, _momentum, refused=(("dampening", "scale momentum and lr"),)
    ),
    torch.optim.Adam: _ADAM,
    torch.optim.AdamW: _ADAM,
    Lion: Recipe(updates.lion, _named("momentum")),
    torch.optim.Muon: Recipe(updates.muon, _named("momentum")),
    torch.optim.Adafactor: Recipe(updates.adafactor, _factored),
}


def several(given: Optimisers) -> tuple[torch.optim.Optimizer, ...]:
    """Return one or several optimisers as a tuple."""
    return (given,) if isinstance(given, torch.optim.Optimizer) else tuple(given)


def problems(
    given: Optimisers, names: Mapping[int, str], scheduling: Scheduling = None
) -> list[str]:
    """Return what of these optimisers has no reproducible operator.

    Args:
        given: One optimiser or several.
        names: Name of each of the model's parameters by ``id``.
        scheduling: One schedule, or one per optimiser.
    """
    optimisers = several(given)
    found = [line for optimiser in optimisers for line in _options(optimiser)]
    owners: dict[int, str] = {}
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                name = names.get(id(parameter))
                if name is None:
                    found.append(
                        f"{type(optimiser).__name__} holds a parameter of shape "
                        f"{list(parameter.shape)} that is not the model's: put it into "
                        "the model"
                    )
                elif id(parameter) in owners:
                    found.append(
                        f"{name} is held by {owners[id(parameter)]} and "
                        f"{type(optimiser).__name__}: give it to one of them"
                    )
                owners[id(parameter)] = type(optimiser).__name__
    if not optimisers:
        found.append("optimiser: expected at least one, got an empty sequence")
    if not found:
        try:
            _schedules(optimisers, scheduling)
        except NoSchedule as error:
            found.append(f"schedule: {error}")
    return found


def _options(optimiser: torch.optim.Optimizer) -> list[str]:
    recipe, name = RECIPES.get(type(optimiser)), type(optimiser).__name__
    if recipe is None:
        known = ", ".join(t.__name__ for t in RECIPES)
        return [f"optimiser {name}: use one of {known}"]
    found = [
        f"{name}({option}={group[option]!r}): {advice}"
        for group in optimiser.param_groups
        for option, advice in recipe.refused
        if group.get(option)
    ]
    found += [
        f"{name}({option}=...): expected a number, got a tensor"
        for group in optimiser.param_groups
        for option in ("lr", "betas")
        if _holds_tensor(group.get(option))
    ]
    return found


def _holds_tensor(option: object) -> bool:
    parts = option if isinstance(option, tuple) else (option,)
    return any(isinstance(part, torch.Tensor) for part in parts)


def _schedules(
    optimisers: Sequence[torch.optim.Optimizer], given: Scheduling
) -> list[list[Schedule]]:
    """Return the schedule of each group of each optimiser."""
    if isinstance(given, Sequence):
        if len(given) != len(optimisers):
            raise NoSchedule(
                f"expected one per optimiser, {len(optimisers)}, got {len(given)}"
            )
        each: list[Schedule | LRScheduler | None] = list(given)
    else:
        each = [given] * len(optimisers)
    return [
        [schedule_of(optimiser, one, i) for i in range(len(optimiser.param_groups))]
        for optimiser, one in zip(optimisers, each, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Part:
    """One parameter group with something to train in it."""

    number: int
    recipe: Recipe
    group: Group
    schedule: Schedule
    shapes: Mapping[str, Shape]

    def moments(self, name: str) -> dict[str, str]:
        """Slot of each moment of a parameter."""
        found = self.recipe.moments(self.group, self.shapes[name])
        return {moment: f"{OPTIMISER}{moment}.{name}" for moment in found}

    def corrections(self) -> dict[str, float]:
        """Slot of each correction, and its beta."""
        return {
            f"{OPTIMISER}{correction}.{self.number}": float(self.group["betas"][index])
            for correction, index in self.recipe.corrections
        }


class OptimiserState:
    """The optimisers' slots and their part of the step."""

    def __init__(
        self, given: Optimisers, names: Mapping[int, str], scheduling: Scheduling = None
    ) -> None:
        """Lay out the slots; ``names`` maps ``id(parameter)`` to its name.

        Parameters without a name are not trained: frozen, or not part of the loss.
        """
        optimisers = several(given)
        self._parts: list[_Part] = []
        number = 0
        for optimiser, schedules in zip(
            optimisers, _schedules(optimisers, scheduling), strict=True
        ):
            recipe = RECIPES[type(optimiser)]
            for group, schedule in zip(optimiser.param_groups, schedules, strict=True):
                shapes = {
                    names[id(p)]: tuple(p.shape)
                    for p in group["params"]
                    if id(p) in names
                }
                if shapes:
                    part = _Part(number, recipe, group, schedule, shapes)
                    self._parts.append(part)
                number += 1

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name and shape of each parameter that the step changes."""
        return {n: shape for part in self._parts for n, shape in part.shapes.items()}

    def slots(self) -> list[Slot]:
        """Return moments per parameter, then one set of corrections per group."""
        slots = [
            Slot(slot, f32(*shape), Constant(0.0))
            for part in self._parts
            for name in part.shapes
            for slot, shape in zip(
                part.moments(name).values(),
                part.recipe.moments(part.group, part.shapes[name]).values(),
                strict=True,
            )
        ]
        slots += [
            Slot(correction, f32(), Constant(0.0))
            for part in self._parts
            for correction in part.corrections()
        ]
        return slots

    def lower(
        self, clock: Clock, slots: Mapping[str, int], gradients: Mapping[str, int]
    ) -> dict[str, int]:
        """Append the update; return the next value of every slot it changes."""
        builder = clock.builder
        updated: dict[str, int] = {}
        for part in self._parts:
            corrections = {
                slot: builder.add("correction", slots[slot], beta=beta)
                for slot, beta in part.corrections().items()
            }
            updated |= corrections
            factor = clock.factor(part.schedule)
            for name in part.shapes:
                moments = part.moments(name)
                gradient = as_f32(builder, gradients[name])
                if part.group.get("maximize"):
                    gradient *= -1.0
                step = Step(
                    group=part.group,
                    lr=base_rate(part.group),
                    factor=factor,
                    clock=clock,
                    corrections=tuple(
                        Expression(builder, c) for c in corrections.values()
                    ),
                    parameter=as_f32(builder, slots[name]),
                    gradient=gradient,
                    moments={
                        moment: Expression(builder, slots[slot])
                        for moment, slot in moments.items()
                    },
                )
                parameter, *after = part.recipe.update(step)
                updated[name] = as_stored(builder, parameter, slots[name])
                for slot, value in zip(moments.values(), after, strict=True):
                    updated[slot] = value.number
        return updated


def as_stored(builder: Builder, value: Expression, slot: int) -> int:
    """Round a float32 value to the type of a slot."""
    dtype = builder.types[slot].dtype
    if dtype is DType.F32:
        return value.number
    return builder.add("cast", value.number, dtype=int(dtype))
