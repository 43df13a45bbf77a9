"""Stages computed: whole, by whoever holds the inputs, and at single positions."""

from collections.abc import Sequence

import numpy as np

from ml_verifier.adjudication.refinement import (
    Indices,
    OutOfRange,
    Read,
    Refinement,
    Stage,
    Values,
    canonical,
)

BLOCK = 1 << 16  # positions evaluated together


def evaluate(stage: Stage, indices: Indices, read: Read) -> Values:
    """Return a stage's elements at flat positions, as they are committed.

    Raises:
        OutOfRange: An index points outside of its axis; the step must have trapped.
    """
    with np.errstate(all="ignore"):
        values = stage.rule(indices, read)
    return canonical(np.asarray(values, stage.type.dtype.numpy))


def first_trap(
    refinement: Refinement, inputs: Sequence[Values]
) -> tuple[int, int] | None:
    """Return a stage and position at which these inputs are out of range."""
    sources = [np.asarray(array, order="C").reshape(-1) for array in inputs]

    def read(source: int, indices: Indices) -> Values:
        if source >= len(sources):
            raise _StageRead
        return sources[source][indices]

    for number, stage in enumerate(refinement.stages):
        for start in range(0, stage.type.size, BLOCK):
            end = min(start + BLOCK, stage.type.size)
            if (position := _first(stage, start, end, read)) is not None:
                return number, position
    return None


class _StageRead(Exception):
    """A rule goes on to read stages: up to here nothing was out of range."""


def _first(stage: Stage, start: int, end: int, read: Read) -> int | None:
    """Return the first position in a range whose rule is out of range."""
    if not _is_trap(stage, start, end, read):
        return None
    while end - start > 1:
        middle = (start + end) // 2
        if _is_trap(stage, start, middle, read):
            end = middle
        else:
            start = middle
    return start


def _is_trap(stage: Stage, start: int, end: int, read: Read) -> bool:
    try:
        evaluate(stage, np.arange(start, end, dtype=np.int64), read)
    except OutOfRange:
        return True
    except _StageRead:
        return False
    return False


def stage_tensors(
    refinement: Refinement,
    inputs: Sequence[Values],
    known: dict[int, Values] | None = None,
) -> list[Values]:
    """Compute all stages of an operator from its inputs.

    Args:
        refinement: The operator's.
        inputs: Its inputs, NaN canonical.
        known: Stages that need not be computed, by their number.

    Raises:
        OutOfRange: The operator traps on these inputs.
    """
    sources = [np.asarray(array, order="C").reshape(-1) for array in inputs]

    def read(source: int, indices: Indices) -> Values:
        return sources[source][indices]

    results: list[Values] = []
    for number, stage in enumerate(refinement.stages):
        if known and number in known:
            tensor = known[number].reshape(-1)
            sources.append(tensor)
        else:
            tensor = np.zeros(stage.type.size, stage.type.dtype.numpy)
            sources.append(tensor)
            # A chained stage reads itself: one index of the first axis at a time.
            run = stage.type.size // stage.type.shape[0] if stage.chained else BLOCK
            step = min(run, BLOCK)
            for start in range(0, stage.type.size, run):
                for at in range(start, min(start + run, stage.type.size), step):
                    end = min(at + step, start + run, stage.type.size)
                    indices = np.arange(at, end, dtype=np.int64)
                    tensor[at:end] = evaluate(stage, indices, read)
        results.append(tensor.reshape(stage.type.shape))
    return results
