# pyright: basic
# torch.optim carries no complete types; mypy --strict still applies.
"""From gradients to the next state: clipping, optimisers, averages of the weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ml_verifier.capture import averages, gradients
from ml_verifier.capture.optimisers import Optimisers, OptimiserState
from ml_verifier.capture.schedulers import Scheduling
from ml_verifier.capture.schedules import Clock
from ml_verifier.program import Slot


@dataclass(frozen=True, slots=True)
class Options:
    """What a step does beside the optimisers' own arithmetic; see ``capture``."""

    schedule: Scheduling = None
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    ema: float | None = None

    def problems(self, batch: int) -> list[str]:
        """Return what is out of range or contradicts itself."""
        found: list[str] = []
        if self.accumulate < 1 or batch % self.accumulate:
            found.append(
                f"accumulate={self.accumulate}: expected a divisor of the batch, "
                f"{batch}"
            )
        if self.clip_norm is not None and self.clip_value is not None:
            found.append("clip_norm and clip_value: give one of them")
        found += [
            f"{name}={value}: expected a number above 0"
            for name, value in (
                ("clip_norm", self.clip_norm),
                ("clip_value", self.clip_value),
            )
            if value is not None and not 0 < value < math.inf
        ]
        if self.ema is not None and not 0 <= self.ema < 1:
            found.append(f"ema={self.ema}: expected a decay in [0, 1)")
        return found


class Update:
    """The slots and nodes of everything after the backward pass."""

    def __init__(
        self, optimisers: Optimisers, names: Mapping[int, str], options: Options
    ) -> None:
        """Lay out the slots; ``names`` as in ``OptimiserState``."""
        self._state = OptimiserState(optimisers, names, options.schedule)
        self._options = options

    def slots(self) -> list[Slot]:
        """Return the optimisers' slots, then the averages."""
        averaged = self._state.shapes if self._options.ema is not None else {}
        return [*self._state.slots(), *averages.slots(averaged)]

    def lower(
        self, clock: Clock, slots: Mapping[str, int], found: Mapping[str, int]
    ) -> dict[str, int]:
        """Append the nodes; return the next value of every slot that they change.

        Args:
            clock: Knows the step, and the program under construction.
            slots: Value of each slot before the step.
            found: Gradient of each parameter that the loss depends on, in slot order.
        """
        options, builder = self._options, clock.builder
        if options.clip_norm is not None:
            found = gradients.clipped_by_norm(builder, found, options.clip_norm)
        if options.clip_value is not None:
            found = gradients.clipped_by_value(builder, found, options.clip_value)
        updated = self._state.lower(clock, slots, found)
        if options.ema is not None:
            names = tuple(self._state.shapes)
            updated |= averages.lower(clock, slots, updated, names, options.ema)
        return updated
