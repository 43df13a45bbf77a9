"""Exponential moving averages of the weights, kept beside them.

As ``torch.optim.swa_utils.AveragedModel`` with ``get_ema_multi_avg_fn``: the first step
copies the weights, each later one moves the average towards them.
"""

from collections.abc import Iterable, Mapping

from ml_verifier.capture.expression import Expression, as_f32
from ml_verifier.capture.schedules import Clock
from ml_verifier.program import EMA, Constant, Slot
from ml_verifier.types import f32


def slots(shapes: Mapping[str, tuple[int, ...]]) -> list[Slot]:
    """Return a float32 slot for the average of each tensor, by name and shape."""
    return [
        Slot(EMA + name, f32(*shape), Constant(0.0)) for name, shape in shapes.items()
    ]


def lower(
    clock: Clock,
    numbers: Mapping[str, int],
    after: Mapping[str, int],
    names: Iterable[str],
    decay: float,
) -> dict[str, int]:
    """Append a + (p - a) * w with w = 1 - decay * min(t, 1); returns slot to value.

    Args:
        clock: Knows the step, and the program under construction.
        numbers: Value of each slot before the step.
        after: Value of each weight after the step.
        names: The weights to average.
        decay: Share of the old average that stays.
    """
    builder = clock.builder
    weight = 1.0 - clock.taken.minimum(1.0) * decay
    updated: dict[str, int] = {}
    for name in names:
        average = Expression(builder, numbers[EMA + name])
        weights = as_f32(builder, after[name])
        updated[EMA + name] = (average + (weights - average) * weight).number
    return updated
