"""Correctly rounded exp, log, tanh, erf, sin and cos of float32 arrays.

The float64 functions of numpy and Python are good to a few units in the last place.
Where an interval of 64 such units about their result rounds to one float32, that is the
answer; elsewhere (about one element in a million) decimal arithmetic decides.
"""

import math
from collections.abc import Callable
from decimal import Context, Decimal

import numpy as np

from ml_verifier.oracle.arithmetic import Array, Floats

MARGIN = 2.0**-46
DIGITS = Context(prec=60)
# A float32 has up to 39 digits before the point, and its fraction up to 149 after it.
TRIGONOMETRY = Context(prec=120)


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


def _reciprocal_arctangent(n: int, context: Context) -> Decimal:
    """Arctan(1 / n), by its series."""
    total, power, k = Decimal(0), context.divide(Decimal(1), Decimal(n)), 1
    while power.adjusted() > -context.prec - 5:
        term = context.divide(power, Decimal(k))
        total = context.add(total, term if k % 4 == 1 else term.copy_negate())
        power, k = context.divide(power, Decimal(n * n)), k + 2
    return total


def _pi(context: Context) -> Decimal:
    """Pi by Machin's formula."""
    fifth = context.multiply(Decimal(16), _reciprocal_arctangent(5, context))
    other = context.multiply(Decimal(4), _reciprocal_arctangent(239, context))
    return context.subtract(fifth, other)


def _series(
    first: Decimal, ratio: Callable[[int], Decimal], context: Context
) -> Decimal:
    """Sum of terms, each the one before times ratio(k), k = 1, 2, ..."""
    total, term, k = first, first, 1
    while term and term.adjusted() > total.adjusted() - context.prec:
        term = context.multiply(term, ratio(k))
        total = context.add(total, term)
        k += 1
    return total


def _sin(x: Decimal) -> Decimal:
    """The Taylor series of the argument reduced to at most pi / 2."""
    c = TRIGONOMETRY
    n = c.to_integral_value(c.divide(x, PI))
    r = c.subtract(x, c.multiply(n, PI))
    square = c.multiply(r, r).copy_negate()
    y = _series(r, lambda k: c.divide(square, Decimal(2 * k * (2 * k + 1))), c)
    return y.copy_negate() if c.remainder(n, Decimal(2)) else y


def _cos(x: Decimal) -> Decimal:
    """The sine a quarter turn on."""
    return _sin(TRIGONOMETRY.add(x, TRIGONOMETRY.divide(PI, Decimal(2))))


def _erf(x: Decimal) -> Decimal:
    """2 / sqrt(pi) exp(-x^2) times a series of positive terms."""
    c = DIGITS
    square = c.multiply(x, x)
    double = c.add(square, square)
    total = _series(x, lambda k: c.divide(double, Decimal(2 * k + 1)), c)
    scale = c.divide(Decimal(2), c.sqrt(PI))
    return c.multiply(c.multiply(scale, c.exp(square.copy_negate())), total)


PI = _pi(TRIGONOMETRY)
_double_erf = np.vectorize(math.erf, otypes=[np.float64])


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


def erf(x: Floats) -> Floats:
    """The correctly rounded error function."""
    return _rounded(x, _double_erf, _erf)


def sin(x: Floats) -> Floats:
    """The correctly rounded sine; of an infinity: NaN."""
    return _rounded(x, np.sin, _sin)


def cos(x: Floats) -> Floats:
    """The correctly rounded cosine; of an infinity: NaN."""
    return _rounded(x, np.cos, _cos)
