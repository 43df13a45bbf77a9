"""Exact float32 building blocks: fma, the reduction order, blocked products."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ml_verifier.operators import AttributeValue

Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[Any]  # of float32
# An array, several, or None for a trap.
Result: TypeAlias = Array | tuple[Array, ...] | None
Definition: TypeAlias = Callable[..., Result]

LANES = 32
DEPTH_BLOCK = 256


def scalar(attributes: Mapping[str, AttributeValue], name: str) -> np.float32:
    """A float attribute as float32."""
    value = attributes[name]
    if isinstance(value, (tuple, bytes)):
        raise TypeError(f"attribute {name}: expected a number, got {value!r}")
    return np.float32(value)


def fma(a: Any, b: Any, c: Any) -> Floats:  # noqa: ANN401  any float32 operand, scalar or array
    """A * b + c with one rounding, broadcasting.

    The product of two float32 is exact in float64. The float64 sum is made round-to-odd
    with the help of its exact error (two-sum), and an odd-rounded 53-bit value rounds
    to 24 bits as the infinitely precise one does.

    Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008.
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    addend = np.asarray(c, np.float64)
    total = np.asarray(product + addend)
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    bits = total.view(np.int64)
    odd = bits & 1 == 1
    adjust = np.isfinite(total) & (error != 0) & ~odd
    outward = (error > 0) == (total > 0)
    rounded = bits + np.where(adjust, np.where(outward, 1, -1), 0)
    result: Floats = rounded.view(np.float64).astype(np.float32)
    return result


def fold(lanes: Floats) -> Floats:
    """Folds [32, ...] lanes by halves."""
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    result: Floats = lanes[0]
    return result


def lane_sum(values: Floats) -> Floats:
    """The reduction of [n, ...] over its first axis."""
    lanes = np.zeros((LANES, *values.shape[1:]), np.float32)
    for start in range(0, len(values), LANES):
        block = values[start : start + LANES]
        lanes[: len(block)] = lanes[: len(block)] + block
    return fold(lanes)


def lane_dot(a: Floats, b: Floats) -> Floats:
    """The reduction of fma(a, b, lane) over the first axis of two [n, ...]."""
    lanes = np.zeros((LANES, *a.shape[1:]), np.float32)
    for start in range(0, len(a), LANES):
        u, v = a[start : start + LANES], b[start : start + LANES]
        lanes[: len(u)] = fma(u, v, lanes[: len(u)])
    return fold(lanes)


def product(a: Floats, b: Floats) -> Floats:
    """The matrix product of [M, K] and [K, N] in the specified order."""
    depth = a.shape[1]
    y = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for start in range(0, depth, DEPTH_BLOCK):
        chain = np.zeros_like(y)
        for k in range(start, min(start + DEPTH_BLOCK, depth)):
            chain = fma(a[:, k, None], b[k], chain)
        y = chain if start == 0 else y + chain
    return y
