"""Loop nests for the kernels: axes dropped and merged until few are left."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml_verifier.kernels.errors import BindingError

NEST_RANK = 8
SUM_RANK = 4


def padded(values: Sequence[int], length: int) -> list[int]:
    """``values`` and as many zeros as make it ``length`` long."""
    return [*values, *([0] * (length - len(values)))]


def row_major(shape: Sequence[int]) -> list[int]:
    """Strides, in elements, of a C-contiguous array."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


def broadcast_strides(shape: Sequence[int], target: Sequence[int]) -> list[int]:
    """Strides of a C-contiguous array of ``shape`` seen as ``target``."""
    missing = len(target) - len(shape)
    if missing < 0:
        raise BindingError(
            f"shape {tuple(shape)} does not broadcast to {tuple(target)}"
        )
    strides = [0] * missing
    for size, wanted, stride in zip(
        shape, target[missing:], row_major(shape), strict=True
    ):
        if size not in (1, wanted):
            raise BindingError(
                f"shape {tuple(shape)} does not broadcast to {tuple(target)}"
            )
        strides.append(0 if size == 1 else stride)
    return strides


def merged(
    shape: Sequence[int], operands: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """The same loop nest with axes of size 1 dropped and adjacent ones merged.

    Two axes merge when each operand steps through both as through one. At least one
    axis remains.

    Raises:
        BindingError: more than eight axes remain.
    """
    extents: list[int] = []
    strides: list[list[int]] = [[] for _ in operands]
    for axis, extent in enumerate(shape):
        if extent == 1:
            continue
        if extents and all(
            done[-1] == operand[axis] * extent
            for done, operand in zip(strides, operands, strict=True)
        ):
            extents[-1] *= extent
            for done, operand in zip(strides, operands, strict=True):
                done[-1] = operand[axis]
            continue
        extents.append(extent)
        for done, operand in zip(strides, operands, strict=True):
            done.append(operand[axis])
    if not extents:
        extents, strides = [1], [[0] for _ in operands]
    if len(extents) > NEST_RANK:
        raise BindingError(
            f"a loop nest of {len(extents)} axes over {tuple(shape)}: the kernels take"
            f" at most {NEST_RANK}; reshape first"
        )
    return extents, strides


@dataclass(frozen=True, slots=True)
class SumNest:
    """A sum's axes: outer kept ones, outer reduced ones, and the innermost run."""

    kept: list[tuple[int, int]]
    reduced: list[tuple[int, int]]
    inner_kept: bool
    inner: int


def sum_nest(shape: Sequence[int], axes: Sequence[int]) -> SumNest:
    """Groups the axes of a C-contiguous array for a sum over ``axes``.

    Raises:
        BindingError: more than four separate groups of either kind.
    """
    groups: list[tuple[bool, int]] = []
    for axis, extent in enumerate(shape):
        if extent == 1:
            continue
        keep = axis not in axes
        if groups and groups[-1][0] == keep:
            groups[-1] = (keep, groups[-1][1] * extent)
        else:
            groups.append((keep, extent))
    inner_kept, inner = groups.pop() if groups else (False, 1)
    strides = row_major([extent for _, extent in groups] + [inner])
    outer = list(zip(groups, strides, strict=False))
    kept = [(extent, stride) for (keep, extent), stride in outer if keep]
    reduced = [(extent, stride) for (keep, extent), stride in outer if not keep]
    if max(len(kept), len(reduced)) > SUM_RANK:
        raise BindingError(
            f"a sum of {tuple(shape)} over {tuple(axes)} alternates between kept and"
            f" reduced axes too often: at most {SUM_RANK} groups of each"
        )
    return SumNest(kept=kept, reduced=reduced, inner_kept=inner_kept, inner=inner)
