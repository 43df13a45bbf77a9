"""The specification as code: every operator in numpy and Python, slow and exact.

It shares no code with ``ml_verifier.kernels`` and needs no compiler: float32 arithmetic
is numpy's elementwise one (one IEEE-754 operation each, in a fixed order spelled out
here), fma comes from float64 with a round-to-odd sum. Tests compare both to the bit.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ml_verifier.operators import AttributeValue
from ml_verifier.oracle.arithmetic import Array
from ml_verifier.oracle.randomness import drawn, uniform
from ml_verifier.oracle.table import DEFINITIONS

__all__ = ["all_finite", "bind", "canonicalise", "finite", "philox_uniform", "sequence"]

CANONICAL_NAN = 0x7FC00000


def bind(
    name: str,
    attributes: Mapping[str, AttributeValue],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
) -> Callable[[], int]:
    """Binds an operator to these buffers, like ``ml_verifier.kernels.bind``.

    Returns:
        A function that computes the outputs and returns 0, or 1 when it traps.

    Raises:
        KeyError: there is no such operator.
    """
    definition = DEFINITIONS[name]

    def call() -> int:
        with np.errstate(all="ignore"):
            result = definition(attributes, *inputs)
        if result is None:
            return 1
        results = result if isinstance(result, tuple) else (result,)
        for output, value in zip(outputs, results, strict=True):
            np.copyto(output, value, casting="no")
        return 0

    return call


def finite(array: Array) -> Callable[[], int]:
    """Returns a call that traps when an element of this very buffer is not finite."""
    return lambda: int(not all_finite(array))


def sequence(calls: Sequence[Callable[[], int]]) -> Callable[[], int]:
    """Returns one call that makes these in order, up to the first that traps."""

    def run() -> int:
        return int(any(call() for call in calls))

    return run


def canonicalise(array: Array) -> None:
    """Replaces every NaN of a float32 array by the canonical one, in place."""
    array.view(np.uint32)[np.isnan(array)] = CANONICAL_NAN


def all_finite(array: Array) -> bool:
    """Whether no element of float32 (or, in uint16, bfloat16) is infinite or NaN."""
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return bool(np.isfinite(array).all())


def philox_uniform(
    out: Array, key: int, counter2: int, counter3: int, lo: float, hi: float
) -> None:
    """Fills a float32 array as ``ml_verifier.kernels.philox_uniform`` does."""
    words = drawn(out.size, key, counter2, counter3)
    values = uniform(words, np.float32(lo), np.float32(hi))
    np.copyto(out, values.reshape(out.shape))
