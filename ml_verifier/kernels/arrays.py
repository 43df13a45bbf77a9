"""Fast passes over whole arrays: canonical NaN, finiteness, random initial values."""

import numpy as np

from ml_verifier.kernels.errors import BindingError
from ml_verifier.kernels.library import LIBRARY
from ml_verifier.kernels.request import BFLOAT, FLOAT, INDEX, Array

MAX_SEED = 2**64 - 1
MAX_WORD = 2**32 - 1
BFLOAT_EXPONENT = np.uint16(0x7F80)


def _check(array: Array, *, written: bool) -> None:
    flags = array.flags
    if array.dtype != FLOAT or not (flags.c_contiguous and flags.aligned):
        raise BindingError(
            "expected a C-contiguous, aligned float32 array, got"
            f" {array.dtype}{list(array.shape)} with strides {array.strides}"
        )
    if written and not flags.writeable:
        raise BindingError("expected a writeable array, got a read-only one")


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def canonicalise(array: Array) -> None:
    """Replaces every NaN of a float32 array by the canonical one, 0x7fc00000."""
    _check(array, written=True)
    LIBRARY.lockstep_canonicalise(_address(array), array.size)


def all_finite(array: Array) -> bool:
    """Whether no element is infinite or NaN; an int64 array always is finite.

    A uint16 array holds the bits of bfloat16.
    """
    if array.dtype == INDEX:
        return True
    if array.dtype == BFLOAT:
        return not bool(np.any(array & BFLOAT_EXPONENT == BFLOAT_EXPONENT))
    _check(array, written=False)
    return bool(LIBRARY.lockstep_all_finite(_address(array), array.size))


def philox_uniform(
    out: Array, key: int, counter2: int, counter3: int, lo: float, hi: float
) -> None:
    """Fills a float32 array with uniform values of the counter-based generator.

    Element e takes word e mod 4 of the Philox4x32-10 block with counter words
    (low 32 bits of e // 4, its high 32 bits, counter2, counter3) and 64-bit ``key``;
    its value is fma(u, hi - lo, lo) with u = (word >> 8) * 2^-24.

    Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
    SC11.
    """
    _check(out, written=True)
    if not (0 <= key <= MAX_SEED and min(counter2, counter3) >= 0):
        raise BindingError(f"expected a 64-bit key and 32-bit counters, got key {key}")
    if max(counter2, counter3) > MAX_WORD:
        raise BindingError(f"expected 32-bit counters, got {counter2} and {counter3}")
    low, high = np.float32(lo), np.float32(hi)
    LIBRARY.lockstep_philox_uniform(
        _address(out), out.size, key, counter2, counter3, float(high - low), float(low)
    )
