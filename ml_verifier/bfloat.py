"""bfloat16 in numpy, which has no such type: an array of its 16 bits, and float32."""

import numpy as np

from ml_verifier.commitment import Array

NAN = 0x7FC0  # the one that rounding makes


def narrowed(x: Array) -> Array:
    """Return the bits of floats rounded to nearest even, by way of float32."""
    single = np.asarray(x, np.float32)
    bits = single.view(np.uint32)
    with np.errstate(over="ignore"):  # of a NaN, which is replaced
        rounded = bits + 0x7FFF + (bits >> 16 & 1) >> 16
    return np.where(np.isnan(single), NAN, rounded).astype(np.uint16)


def widened(bits: Array) -> Array:
    """Return the float32 values that bits stand for, exactly."""
    return np.asarray(np.left_shift(bits, 16, dtype=np.uint32)).view(np.float32)
