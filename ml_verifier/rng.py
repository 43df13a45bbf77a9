"""Deterministic randomness: initial weights (Philox) and the order of data (Feistel).

Philox4x32-10 is Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011);
its kernel is in ``ml_verifier.kernels``. The permutation is a balanced Feistel network
of 8 SHA-256 rounds with cycle walking (Black and Rogaway, "Ciphers with Arbitrary
Finite Domains", 2002), so that one index can be proved alone.
"""

import hashlib
import struct

import numpy as np

from ml_verifier.commitment import Array, Indices
from ml_verifier.kernels import philox_uniform
from ml_verifier.program import Constant, Program, Slot

FEISTEL_ROUNDS = 8
INITIALISATION = 0xFFFFFFFF  # the counter's step word outside of any step


def initial_tensor(slot: Slot, number: int, seed: int) -> Array:
    """Return the content of slot ``number`` before the first step."""
    out = np.empty(slot.type.shape, np.float32)
    match slot.initialiser:
        case Constant(value):
            out.fill(value)
        case uniform:
            low, high = uniform.low, uniform.high
            philox_uniform(out.reshape(-1), seed, number, INITIALISATION, low, high)
    return out


def initial_tensors(program: Program, seed: int) -> list[Array]:
    """Return the whole state before the first step, in slot order."""
    return [initial_tensor(slot, i, seed) for i, slot in enumerate(program.slots)]


class EpochOrder:
    """The permutation of ``records`` indices in one epoch of a job."""

    def __init__(self, seed: int, epoch: int, records: int) -> None:
        self._records = records
        self._half = max(1, ((records - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._prefix = b"lockstep/feistel" + struct.pack(">QQ", seed, epoch)
        self._cache: dict[tuple[int, int], int] = {}

    def _round(self, number: int, half: int) -> int:
        key = number, half
        value = self._cache.get(key)
        if value is None:
            data = self._prefix + struct.pack(">BQ", number, half)
            digest = hashlib.sha256(data).digest()
            value = self._cache[key] = int.from_bytes(digest[:8], "big") & self._mask
        return value

    def __getitem__(self, position: int) -> int:
        """Return the record that stands at ``position`` of the epoch."""
        if not 0 <= position < self._records:
            raise IndexError(f"expected below {self._records}, got {position}")
        index = position
        while True:
            left, right = index >> self._half, index & self._mask
            for number in range(FEISTEL_ROUNDS):
                left, right = right, left ^ self._round(number, right)
            index = left << self._half | right
            if index < self._records:
                return index

    def all(self) -> Indices:
        """Return the whole permutation: int64[records]."""
        tables = [
            np.array([self._round(r, h) for h in range(self._mask + 1)], np.int64)
            for r in range(FEISTEL_ROUNDS)
        ]
        result = np.arange(self._records, dtype=np.int64)
        pending = np.arange(self._records)
        while pending.size:
            values = result[pending]
            left, right = values >> self._half, values & self._mask
            for table in tables:
                left, right = right, left ^ table[right]
            result[pending] = left << self._half | right
            pending = pending[result[pending] >= self._records]
        return result


def batch_indices(seed: int, records: int, batch: int, step: int) -> list[int]:
    """Return the record of each place j in the batch of step ``step``.

    Position p = step * batch + j lies in epoch p // records at p % records.
    """
    orders: dict[int, EpochOrder] = {}
    indices: list[int] = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, position = divmod(place, records)
        if epoch not in orders:
            orders[epoch] = EpochOrder(seed, epoch, records)
        indices.append(orders[epoch][position])
    return indices
