"""What is drawn from the counter-based generator."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ml_verifier.operators import AttributeValue, integer, integers
from ml_verifier.oracle.arithmetic import Array, Definition, Floats, fma, scalar
from ml_verifier.oracle.philox import Words, blocks

Attributes = Mapping[str, AttributeValue]

INITIALISATION = 2**32 - 1  # the step word of initial values, which no step has
ONE = np.float32(1)


def drawn(count: int, key: int, word2: int, word3: int) -> Words:
    """The upper 24 bits of the first ``count`` words of a stream."""
    number = np.arange((count + 3) // 4, dtype=np.uint64)
    counters = np.stack(
        [
            number & np.uint64(0xFFFFFFFF),
            number >> np.uint64(32),
            np.full_like(number, word2),
            np.full_like(number, word3),
        ],
        axis=1,
    )
    words: Words = blocks(counters, key).reshape(-1)[:count] >> np.uint64(8)
    return words


def uniform(words: Words, low: np.float32, high: np.float32) -> Floats:
    """Values in [low, high) from 24-bit words."""
    return fma(_unit(words), high - low, low)


def _unit(words: Words) -> Floats:
    return words.astype(np.float32) * np.float32(2**-24)


def _words(attributes: Attributes, seed: Array, step: Array) -> Words:
    key, position = (int(fact) % 2**64 for fact in (seed, step))
    count, stream = math.prod(_shape(attributes)), integer(attributes, "stream")
    return drawn(count, key, stream, position % INITIALISATION)


def _shape(attributes: Attributes) -> tuple[int, ...]:
    return integers(attributes, "shape")


def _uniform(attributes: Attributes, seed: Array, step: Array) -> Floats:
    low, high = scalar(attributes, "low"), scalar(attributes, "high")
    values = uniform(_words(attributes, seed, step), low, high)
    return values.reshape(_shape(attributes))


def _dropout_mask(attributes: Attributes, seed: Array, step: Array) -> Floats:
    p = scalar(attributes, "p")
    dropped = _words(attributes, seed, step) < math.ceil(float(p) * 2**24)
    mask: Floats = np.where(dropped, np.float32(0), ONE / (ONE - p))
    return mask.reshape(_shape(attributes))


DEFINITIONS: Mapping[str, Definition] = MappingProxyType(
    {"uniform": _uniform, "dropout_mask": _dropout_mask}
)
