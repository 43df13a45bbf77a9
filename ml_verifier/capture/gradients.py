"""What happens to gradients between the backward pass and the optimiser."""

from collections.abc import Mapping, Sequence

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.expression import Expression, as_f32

_CLIP_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_ has it in the denominator


def clipped_by_norm(
    builder: Builder, gradients: Mapping[str, int], maximum: float
) -> dict[str, int]:
    """Scale all gradients so that their common 2-norm is at most ``maximum``.

    The squares of each tensor are summed by lanes, the tensors' sums added left to
    right in slot order, then factor = min(1, maximum / (sqrt(total) + 1e-6)).
    """
    values = {name: as_f32(builder, g) for name, g in gradients.items()}
    squares = [value.squares() for value in values.values()]
    if not squares:
        return {}
    total = squares[0]
    for square in squares[1:]:
        total += square
    factor = (maximum / (total.sqrt() + _CLIP_EPS)).minimum(1.0)
    return {name: (value * factor).number for name, value in values.items()}


def clipped_by_value(
    builder: Builder, gradients: Mapping[str, int], maximum: float
) -> dict[str, int]:
    """Clamp every element to [-maximum, maximum]."""
    return {
        name: as_f32(builder, g).maximum(-maximum).minimum(maximum).number
        for name, g in gradients.items()
    }


def mean(builder: Builder, parts: Sequence[int]) -> int:
    """Add values of one shape left to right, then divide by their number."""
    total = Expression(builder, parts[0])
    for part in parts[1:]:
        total += Expression(builder, part)
    return (total / len(parts)).number if len(parts) > 1 else total.number
