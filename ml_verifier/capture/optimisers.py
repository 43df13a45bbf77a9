# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Lowering of ``torch.optim`` optimisers to the fused optimiser operators."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ml_verifier.capture.builder import Builder
from ml_verifier.program import Constant, Slot
from ml_verifier.types import f32

Group: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one optimiser class is written as operators.

    Attributes:
        moments: Names of the per-parameter state tensors.
        corrections: Name of each scalar state tensor and the hyperparameter (group
            key, index) that it follows.
        forbidden: Group options that must be falsy, as the operators lack them.
    """

    moments: tuple[str, ...]
    corrections: tuple[tuple[str, int], ...]
    forbidden: tuple[str, ...]


RECIPES: dict[type[torch.optim.Optimizer], Recipe] = {
    torch.optim.SGD: Recipe(("momentum",), (), ("maximize", "dampening")),
    torch.optim.AdamW: Recipe(
        ("mean", "square"),
        (("mean_correction", 0), ("square_correction", 1)),
        ("maximize", "amsgrad"),
    ),
}


def problems(optimiser: torch.optim.Optimizer) -> list[str]:
    """Return what of this optimiser has no reproducible operator."""
    recipe = RECIPES.get(type(optimiser))
    if recipe is None:
        names = " or ".join(f"torch.optim.{t.__name__}" for t in RECIPES)
        return [f"optimiser {type(optimiser).__name__}: use {names}"]
    found = [
        f"{type(optimiser).__name__}({option}={group[option]!r}): leave it unset"
        for group in optimiser.param_groups
        for option in recipe.forbidden
        if group.get(option)
    ]
    found += [
        f"{type(optimiser).__name__}: lr must be a number, got a tensor"
        for group in optimiser.param_groups
        if isinstance(group["lr"], torch.Tensor)
    ]
    return found


class OptimiserState:
    """The optimiser's slots and its part of the step."""

    def __init__(
        self, optimiser: torch.optim.Optimizer, names: Mapping[int, str]
    ) -> None:
        """Lay out the slots; ``names`` maps ``id(parameter)`` to its name."""
        self._recipe = RECIPES[type(optimiser)]
        self._groups: list[tuple[Group, list[str]]] = [
            (group, [names[id(p)] for p in group["params"] if id(p) in names])
            for group in optimiser.param_groups
        ]
        self._shapes = {
            names[id(p)]: tuple(p.shape)
            for group in optimiser.param_groups
            for p in group["params"]
            if id(p) in names
        }

    def slots(self) -> list[Slot]:
        """Return moments per parameter, then one set of corrections per group."""
        slots = [
            Slot(f"optimiser.{moment}.{name}", f32(*self._shapes[name]), Constant(0.0))
            for _, names in self._groups
            for name in names
            for moment in self._recipe.moments
        ]
        slots += [
            Slot(f"optimiser.{correction}.{number}", f32(), Constant(0.0))
            for number in range(len(self._groups))
            for correction, _ in self._recipe.corrections
        ]
        return slots

    def lower(
        self, builder: Builder, slots: Mapping[str, int], gradients: Mapping[str, int]
    ) -> dict[str, int]:
        """Append the update; return the next value of every slot it changes."""
        updated: dict[str, int] = {}
        factor = builder.constant(1.0)
        for number, (group, names) in enumerate(self._groups):
            corrections: list[int] = []
            for correction, index in self._recipe.corrections:
                slot = f"optimiser.{correction}.{number}"
                value = builder.add(
                    "correction", slots[slot], beta=float(group["betas"][index])
                )
                updated[slot] = value
                corrections.append(value)
            for name in names:
                moments = [f"optimiser.{m}.{name}" for m in self._recipe.moments]
                first = _update(
                    builder,
                    group,
                    [slots[name], gradients[name], *(slots[m] for m in moments)],
                    corrections,
                    factor,
                )
                for offset, slot in enumerate((name, *moments)):
                    updated[slot] = first + offset
        return updated


def _update(
    builder: Builder,
    group: Group,
    tensors: Sequence[int],
    corrections: Sequence[int],
    factor: int,
) -> int:
    add: Callable[..., int] = builder.add
    if not corrections:
        return add(
            "sgd",
            *tensors,
            factor,
            lr=float(group["lr"]),
            momentum=float(group["momentum"]),
            weight_decay=float(group["weight_decay"]),
            nesterov=int(group["nesterov"]),
        )
    return add(
        "adamw",
        *tensors,
        *corrections,
        factor,
        lr=float(group["lr"]),
        beta1=float(group["betas"][0]),
        beta2=float(group["betas"][1]),
        eps=float(group["eps"]),
        weight_decay=float(group["weight_decay"]),
    )
