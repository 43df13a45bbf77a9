# pyright: basic
# torch.optim carries no complete types; mypy --strict still applies.
"""Recognition of ``torch.optim.lr_scheduler`` objects as schedules.

A scheduler's ``get_lr`` is Python that runs between steps; a program has no "between".
The schedulers below have a closed form in the step index, which is used instead.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from ml_verifier.capture.schedules import (
    Cosine,
    Flat,
    Linear,
    Milestones,
    Schedule,
    StepDecay,
    Then,
)

Scheduling: TypeAlias = Schedule | LRScheduler | Sequence[Schedule | LRScheduler] | None

_ADVICE = (
    "pass one of lockstep.schedules instead, such as "
    "schedule=Warmup(100).then(Cosine(900))"
)


class NoSchedule(Exception):
    """A scheduler has no closed form here; the message says what to write instead."""


def base_rate(group: Mapping[str, Any]) -> float:
    """Return a group's learning rate before any scheduler touched it."""
    return float(group.get("initial_lr", group["lr"]))


def schedule_of(
    optimiser: torch.optim.Optimizer, given: Schedule | LRScheduler | None, group: int
) -> Schedule:
    """Return the schedule of one parameter group.

    Raises:
        NoSchedule: The scheduler is unknown, another optimiser's, or has been stepped.
    """
    if isinstance(given, LRScheduler):
        if given.optimizer is not optimiser:
            raise NoSchedule(
                f"{type(given).__name__} drives another optimiser: pass one schedule "
                "per optimiser, in their order"
            )
        if given.last_epoch != 0:
            raise NoSchedule(
                f"{type(given).__name__} has been stepped {given.last_epoch} times "
                "already: make a new one"
            )
        return _recognised(given, base_rate(optimiser.param_groups[group]))
    if any("initial_lr" in g for g in optimiser.param_groups):
        raise NoSchedule(
            f"a scheduler drives {type(optimiser).__name__}: pass it as schedule="
        )
    if given is None:
        return Flat()
    if not isinstance(given, Schedule):
        raise NoSchedule(f"{type(given).__name__} is not a schedule: {_ADVICE}")
    return given


def _recognised(scheduler: LRScheduler, rate: float) -> Schedule:
    rule = _RULES.get(type(scheduler))
    if rule is None:
        raise NoSchedule(
            f"{type(scheduler).__name__} has no closed form in the step index here: "
            f"{_ADVICE}"
        )
    return rule(scheduler, rate)


def _cosine(scheduler: Any, rate: float) -> Schedule:  # noqa: ANN401 - likewise below
    if scheduler.eta_min and not rate:
        raise NoSchedule("CosineAnnealingLR(eta_min): expected an lr above 0")
    floor = scheduler.eta_min / rate if scheduler.eta_min else 0.0
    return Cosine(scheduler.T_max, floor, repeat=True)


def _milestones(scheduler: Any, _: float) -> Schedule:  # noqa: ANN401
    return Milestones(tuple(scheduler.milestones.elements()), scheduler.gamma)


def _polynomial(scheduler: Any, _: float) -> Schedule:  # noqa: ANN401
    if scheduler.power != 1:
        raise NoSchedule(f"PolynomialLR(power={scheduler.power}): only 1; {_ADVICE}")
    return Linear(scheduler.total_iters, 1.0, 0.0)


def _sequential(scheduler: Any, rate: float) -> Schedule:  # noqa: ANN401
    parts = [_recognised(part, rate) for part in scheduler._schedulers]  # noqa: SLF001
    starts = [0, *scheduler._milestones]  # noqa: SLF001
    result = parts[-1]
    for index in reversed(range(len(parts) - 1)):
        length = starts[index + 1] - starts[index]
        result = Then(parts[index], length, result)
    return result


_RULES: dict[type[LRScheduler], Callable[[Any, float], Schedule]] = {
    lr_scheduler.LinearLR: lambda s, _: Linear(
        s.total_iters, s.start_factor, s.end_factor
    ),
    lr_scheduler.ConstantLR: lambda s, _: Then(Flat(s.factor), s.total_iters, Flat()),
    lr_scheduler.StepLR: lambda s, _: StepDecay(s.step_size, s.gamma),
    lr_scheduler.ExponentialLR: lambda s, _: StepDecay(1, s.gamma),
    lr_scheduler.MultiStepLR: _milestones,
    lr_scheduler.CosineAnnealingLR: _cosine,
    lr_scheduler.PolynomialLR: _polynomial,
    lr_scheduler.SequentialLR: _sequential,
}
