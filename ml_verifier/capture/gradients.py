"""What happens to gradients between the backward pass and the optimiser."""

from collections.abc import Mapping, Sequence

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.expression import as_f32

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


def micro_batches(builder: Builder, count: int) -> list[list[int]]:
    """Cut the records of a batch into ``count`` equal parts, in order.

    Returns:
        For each part the value of each field; with one part the fields themselves.
    """
    first = len(builder.slots)
    fields = list(range(first, first + len(builder.fields)))
    if count == 1:
        return [fields]
    size = builder.batch // count
    parts: list[list[int]] = []
    for start in range(0, builder.batch, size):
        parts.append([])
        for field in fields:
            rest = builder.types[field].shape[1:]
            piece = builder.add(
                "slice",
                field,
                starts=(start, *(0 for _ in rest)),
                ends=(start + size, *rest),
                steps=(1, *(1 for _ in rest)),
            )
            parts[-1].append(piece)
    return parts


def mean(builder: Builder, parts: Sequence[int]) -> int:
    """Add values of one shape left to right, then divide by their number."""
    if len(parts) == 1:
        return parts[0]
    total = as_f32(builder, parts[0])
    for part in parts[1:]:
        total += as_f32(builder, part)
    return (total / len(parts)).number


def means(builder: Builder, parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Average each named value over the micro-batches."""
    return {name: mean(builder, [part[name] for part in parts]) for name in parts[0]}
