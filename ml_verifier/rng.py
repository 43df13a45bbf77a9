"""Deterministic randomness: initial weights (Philox) and the order of data (Feistel).

Philox4x32-10 is Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011);
its kernel is in ``ml_verifier.kernels``. The permutation is a balanced Feistel network
of 8 SHA-256 rounds with cycle walking (Black and Rogaway, "Ciphers with Arbitrary
Finite Domains", 2002), so that one index can be proved alone.
"""

import hashlib
import math
import struct
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ml_verifier import kernels
from ml_verifier.bfloat import narrowed
from ml_verifier.commitment import Array, Indices
from ml_verifier.engine import Backend
from ml_verifier.initial import Constant, Initialiser, Normal, Uniform, ZeroRow
from ml_verifier.program import Program, Slot
from ml_verifier.types import DType

FEISTEL_ROUNDS = 8
INITIALISATION = 0xFFFFFFFF  # the counter's step word outside of any step

TWO_PI = 2 * math.pi


class Arithmetic(Backend, Protocol):
    """What draws: ``ml_verifier.kernels``, or another that agrees to the bit."""

    def philox_uniform(
        self, out: Array, key: int, counter2: int, counter3: int, lo: float, hi: float
    ) -> None:
        """Fill a float32 array from the counter-based generator."""
        ...


def initial_tensor(
    slot: Slot, number: int, seed: int, backend: Arithmetic = kernels
) -> Array:
    """Return the content of slot ``number`` before the first step."""
    shape = slot.type.shape
    drawn = _drawn(slot.initialiser, shape, (seed, number), backend)
    if slot.type.dtype is DType.F32:
        return drawn
    return narrowed(drawn)


def _drawn(
    initialiser: Initialiser,
    shape: tuple[int, ...],
    stream: tuple[int, int],
    backend: Arithmetic,
) -> Array:
    """Draw float32 values of a stream: (seed, slot number)."""
    out = np.empty(shape, np.float32)
    match initialiser:
        case Constant(value):
            out.fill(value)
        case Uniform(low, high):
            flat = out.reshape(-1)
            backend.philox_uniform(flat, *stream, INITIALISATION, low, high)
        case Normal(mean, deviation):
            return _normal(out, (mean, deviation), stream, backend)
        case ZeroRow(row, of):
            drawn = _drawn(of, shape, stream, backend)
            drawn[row] = 0
            return drawn
    return out


def _normal(
    out: Array,
    moments: tuple[float, float],
    stream: tuple[int, int],
    backend: Arithmetic,
) -> Array:
    """Draw by Box and Muller: element e from uniforms 2 e and 2 e + 1 of the stream."""

    def apply(name: str, *operands: Array | float) -> Array:
        inputs = [np.asarray(operand, np.float32) for operand in operands]
        result = np.empty(out.shape, np.float32)
        backend.bind(name, {}, inputs, (result,))()
        return result

    uniform = np.empty(2 * out.size, np.float32)
    backend.philox_uniform(uniform, *stream, INITIALISATION, 0.0, 1.0)
    first, second = (uniform[i::2].reshape(out.shape).copy() for i in range(2))
    radius = apply("sqrt", apply("mul", apply("log", apply("sub", 1.0, first)), -2.0))
    wave = apply("mul", radius, apply("cos", apply("mul", second, TWO_PI)))
    mean, deviation = moments
    return apply("add", apply("mul", wave, deviation), mean)


def initial_tensors(
    program: Program, seed: int, backend: Arithmetic = kernels
) -> Iterator[Array]:
    """Yield the slots of the state before the first step, in order."""
    for number, slot in enumerate(program.slots):
        yield initial_tensor(slot, number, seed, backend)


class EpochOrder:
    """The permutation of ``records`` indices in one epoch of a job."""

    def __init__(self, seed: int, epoch: int, records: int) -> None:
        self._records = records
        self._half = max(1, ((records - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._prefix = b"lockstep/feistel" + struct.pack(">QQ", seed, epoch)
        self._cache: dict[tuple[int, int], int] = {}

    def _round(self, number: int, half: int) -> int:
        data = self._prefix + struct.pack(">BQ", number, half)
        digest = hashlib.sha256(data).digest()
        value = int.from_bytes(digest[:8], "big") & self._mask
        self._cache[number, half] = value
        return value

    def __getitem__(self, position: int) -> int:
        """Return the record that stands at ``position`` of the epoch."""
        if not 0 <= position < self._records:
            raise IndexError(f"expected below {self._records}, got {position}")
        index, cache = position, self._cache
        while True:
            left, right = index >> self._half, index & self._mask
            for number in range(FEISTEL_ROUNDS):
                value = cache.get((number, right))
                if value is None:
                    value = self._round(number, right)
                left, right = right, left ^ value
            index = left << self._half | right
            if index < self._records:
                return index

    def take(self, positions: Indices) -> Indices:
        """Return the records at ``positions``, all below ``records``."""
        tables = [
            np.array([self._round(r, h) for h in range(self._mask + 1)], np.int64)
            for r in range(FEISTEL_ROUNDS)
        ]
        result = positions.copy()
        pending = np.arange(len(positions))
        while pending.size:
            values = result[pending]
            left, right = values >> self._half, values & self._mask
            for table in tables:
                left, right = right, left ^ table[right]
            result[pending] = left << self._half | right
            pending = pending[result[pending] >= self._records]
        return result

    def all(self) -> Indices:
        """Return the whole permutation: int64[records]."""
        return self.take(np.arange(self._records, dtype=np.int64))

    def some(self, start: int, end: int) -> list[int]:
        """Return the records at positions [start, end), the cheaper way."""
        if self._mask < end - start:
            found = self.take(np.arange(start, end, dtype=np.int64))
            return [int(index) for index in found]
        return [self[position] for position in range(start, end)]


def batch_indices(seed: int, records: int, batch: int, step: int) -> list[int]:
    """Return the record of each place j in the batch of step ``step``.

    Position p = step * batch + j lies in epoch p // records at p % records.
    """
    indices: list[int] = []
    for epoch, start, end in epoch_runs(records, batch, step):
        indices += EpochOrder(seed, epoch, records).some(start, end)
    return indices


def epoch_runs(records: int, batch: int, step: int) -> Iterator[tuple[int, int, int]]:
    """Yield (epoch, start, end) for each run of a batch's places in one epoch."""
    place, stop = step * batch, (step + 1) * batch
    while place < stop:
        epoch, start = divmod(place, records)
        end = min(records, start + stop - place)
        yield epoch, start, end
        place += end - start
