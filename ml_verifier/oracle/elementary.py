"""Correctly rounded exp, log and tanh of float32 arrays.

numpy's float64 functions are good to a few units in the last place. Where an interval
of 64 such units about their result rounds to one float32, that is the answer; elsewhere
(about one element in a million) 50-digit decimal arithmetic decides.
"""

import math
from collections.abc import Callable
from decimal import Context, Decimal

import numpy as np

from ml_verifier.oracle.arithmetic import Array, Floats

MARGIN = 2.0**-46
DIGITS = Context(prec=60)


def _nearest(value: Decimal, near: float) -> np.float32:
    """The float32 nearest to a decimal that lies between no two equally near ones."""
    guess = np.float32(near)
    below = np.nextafter(guess, np.float32(-np.inf))
    above = np.nextafter(guess, np.float32(np.inf))
    return min(
        (guess, below, above),
        key=lambda candidate: DIGITS.abs(
            DIGITS.subtract(Decimal(float(candidate)), value)
        ),
    )


def _tanh(x: Decimal) -> Decimal:
    e = DIGITS.exp(DIGITS.multiply(x, Decimal(2)))
    return DIGITS.divide(DIGITS.subtract(e, Decimal(1)), DIGITS.add(e, Decimal(1)))


def _rounded(
    x: Floats, double: Callable[[Array], Array], exact: Callable[[Decimal], Decimal]
) -> Floats:
    approximation = double(x.astype(np.float64))
    low = (approximation * (1 - MARGIN)).astype(np.float32)
    high = (approximation * (1 + MARGIN)).astype(np.float32)
    result = approximation.astype(np.float32)
    unsafe = (low != high) & ~np.isnan(approximation)
    for index in map(tuple, np.argwhere(unsafe)):
        if not math.isfinite(low[index]) or not math.isfinite(high[index]):
            result[index] = _overflowing(exact(Decimal(float(x[index]))))
        else:
            result[index] = _nearest(exact(Decimal(float(x[index]))), float(low[index]))
    return result


def _overflowing(value: Decimal) -> np.float32:
    """Rounds at the edge of the range: half a unit past the largest overflows."""
    largest = float(np.finfo(np.float32).max)
    edge = Decimal(largest) + Decimal(2.0**103)
    return np.float32(np.inf) if value >= edge else np.float32(largest)


def exp(x: Floats) -> Floats:
    """The correctly rounded exponential."""
    return _rounded(x, np.exp, DIGITS.exp)


def log(x: Floats) -> Floats:
    """The correctly rounded natural logarithm; of -0 and 0: -inf, below: NaN."""
    return _rounded(x, np.log, DIGITS.ln)


def tanh(x: Floats) -> Floats:
    """The correctly rounded hyperbolic tangent."""
    return _rounded(x, np.tanh, _tanh)
