"""Philox4x32-10 in numpy.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint64]

MASK = np.uint64(2**32 - 1)
HALF = np.uint64(32)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10


def blocks(counters: Words, key: int) -> Words:
    """Encrypts counters [n, 4] of 32-bit words under a 64-bit key."""
    c0, c1, c2, c3 = counters.astype(np.uint64).T
    keys = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(ROUNDS):
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        k0, k1 = (np.uint64(part) for part in keys)
        c0, c2 = (second >> HALF) ^ c1 ^ k0, (first >> HALF) ^ c3 ^ k1
        c1, c3 = second & MASK, first & MASK
        keys = [(part + w) & 0xFFFFFFFF for part, w in zip(keys, WEYL, strict=True)]
    return np.stack([c0, c1, c2, c3], axis=1)
