"""Learning-rate schedules: what the rate is multiplied with, as a function of the step.

The factor of a step is computed inside the step from the number of steps taken before
it, t = 0, 1, 2, ..., converted to float32 (exact below 2^24). Each class writes its
sequence of operations in ``lower``; every operation rounds once, and every constant is
rounded once from the Python number. ``docs/creator.md`` lists the sequences.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.expression import Expression, Factor
from ml_verifier.types import DType

__all__ = [
    "Cosine",
    "Decay",
    "Flat",
    "Linear",
    "Milestones",
    "Schedule",
    "StepDecay",
    "Then",
    "Warmup",
]

_LOG_BITS = 12  # of the leading part of log(gamma): its multiples by n < 2^12 are exact
_LOG_EXTREME = 128.0  # exp of -128 is 0 in float32, of +128 infinite


@dataclass(frozen=True, slots=True)
class Flat:
    """The same factor at every step."""

    factor: float = 1.0

    def lower(self, step: Expression) -> Factor:  # noqa: ARG002 - it depends on none
        """Append nothing."""
        return self.factor


@dataclass(frozen=True, slots=True)
class Linear:
    """From ``start`` at step 0 to ``end`` at step ``steps``, and ``end`` after it."""

    steps: int
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        """Check the length."""
        _positive("Linear", self.steps)

    def lower(self, step: Expression) -> Factor:
        """Append t = min(t, n); (start * (n - t) + end * t) / n."""
        t = step.minimum(self.steps)
        return ((self.steps - t) * self.start + t * self.end) / self.steps

    def then(self, second: "Schedule") -> "Then":
        """Go on with ``second``, which starts counting at 0, after ``steps``."""
        return Then(self, self.steps, second)


@dataclass(frozen=True, slots=True)
class Warmup:
    """From ``start`` at step 0 up to 1 at step ``steps``, and 1 after it."""

    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        """Check the length."""
        _positive("Warmup", self.steps)

    def lower(self, step: Expression) -> Factor:
        """As ``Linear(steps, start, 1)``."""
        return Linear(self.steps, self.start, 1.0).lower(step)

    def then(self, second: "Schedule") -> "Then":
        """Go on with ``second``, which starts counting at 0, after ``steps``."""
        return Then(self, self.steps, second)


@dataclass(frozen=True, slots=True)
class Cosine:
    """Half a cosine wave from 1 at step 0 down to ``floor`` at step ``steps``.

    Attributes:
        steps: Length of the half wave.
        floor: The lowest factor.
        repeat: Rise again afterwards and go on for ever, as torch's
            ``CosineAnnealingLR`` does, instead of staying at ``floor``.
    """

    steps: int
    floor: float = 0.0
    repeat: bool = False

    def __post_init__(self) -> None:
        """Check the length."""
        _positive("Cosine", self.steps)

    def lower(self, step: Expression) -> Factor:
        """Append s = sin((n - min(t, n)) / n * (pi / 2)); s*s * (1 - floor) + floor.

        s*s is (1 + cos(pi t / n)) / 2 without its cancellation near the end.
        """
        t = step if self.repeat else step.minimum(self.steps)
        wave = ((self.steps - t) / self.steps * (math.pi / 2)).apply("sin")
        square = wave * wave
        return square * (1 - self.floor) + self.floor if self.floor else square

    def then(self, second: "Schedule") -> "Then":
        """Go on with ``second``, which starts counting at 0, after ``steps``."""
        return Then(self, self.steps, second)


@dataclass(frozen=True, slots=True)
class StepDecay:
    """``gamma`` to the power of t div ``every``."""

    every: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        """Check the interval and the base."""
        _positive("StepDecay", self.every)
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"expected a gamma above 0, got {self.gamma}")

    def lower(self, step: Expression) -> Factor:
        """Append n = min(floor(t / every), limit); exp(n * hi) * exp(n * lo).

        hi + lo = log(gamma); hi has 12 bits, so that n * hi is exact for n < 4096. At
        the limit the power is 0 (or infinite): neither exponential gets that far alone.
        """
        log = math.log(self.gamma)
        if not log:
            return 1.0
        count = (step / self.every).apply("floor") if self.every > 1 else step
        count = count.minimum(math.ceil(_LOG_EXTREME / abs(log)))
        fraction, exponent = math.frexp(log)
        high = math.ldexp(round(math.ldexp(fraction, _LOG_BITS)), exponent - _LOG_BITS)
        return (count * high).apply("exp") * (count * (log - high)).apply("exp")


def Decay(gamma: float) -> StepDecay:  # noqa: N802 - it reads as the schedule it is
    """``gamma`` to the power of t: the factor shrinks at every step."""
    return StepDecay(1, gamma)


@dataclass(frozen=True, slots=True)
class Milestones:
    """``gamma`` to the power of how many of the steps ``at`` are reached."""

    at: tuple[int, ...]
    gamma: float = 0.1

    def lower(self, step: Expression) -> Factor:
        """Append for the k-th milestone, ascending: f = t >= m ? gamma^k : f."""
        factor: Factor = 1.0
        for count, milestone in enumerate(sorted(self.at), 1):
            factor = _choose(step, milestone, self.gamma**count, factor)
        return factor


@dataclass(frozen=True, slots=True)
class Then:
    """``first`` before step ``at``, then ``second``, which counts from 0 there."""

    first: "Schedule"
    at: int
    second: "Schedule"

    def lower(self, step: Expression) -> Factor:
        """Append t >= at ? second(max(t - at, 0)) : first(t)."""
        later = self.second.lower((step - self.at).maximum(0.0))
        return _choose(step, self.at, later, self.first.lower(step))


Schedule: TypeAlias = Flat | Linear | Warmup | Cosine | StepDecay | Milestones | Then


class Clock:
    """The step index inside a step; nothing is appended until it is asked for."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self._factors: dict[Schedule, Expression] = {}

    @cached_property
    def taken(self) -> Expression:
        """Steps taken before this one, f32[]."""
        step = self.builder.add("step")
        number = self.builder.add("cast", step, dtype=int(DType.F32))
        return Expression(self.builder, number)

    def factor(self, schedule: Schedule) -> Expression:
        """Return a schedule's factor of this step, f32[]."""
        if schedule not in self._factors:
            value = (
                schedule.factor
                if isinstance(schedule, Flat)
                else schedule.lower(self.taken)
            )
            if not isinstance(value, Expression):
                value = Expression(self.builder, self.builder.constant(value))
            self._factors[schedule] = value
        return self._factors[schedule]


def _choose(step: Expression, at: int, late: Factor, early: Factor) -> Factor:
    """Append t >= at ? late : early."""
    reached = step.apply("ge", float(at))
    return reached.apply("where", late, early)


def _positive(name: str, steps: int) -> None:
    if steps < 1:
        raise ValueError(f"{name}: expected at least 1 step, got {steps}")
    if np.float32(steps) != steps:
        raise ValueError(f"{name}: expected a number of steps that float32 holds")
