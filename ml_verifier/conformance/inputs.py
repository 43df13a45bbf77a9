"""Inputs of golden cases: made from Philox by integer operations, so exact anywhere.

Each case runs on several kinds of inputs. Floats come as they are described, and as
*hostile* ones of the same shape: many special values and all exponents, a few special
values, or so small that products are denormal. Indices come as they are described, and
with one of them just outside on either side. Bfloats are the upper halves of such
floats. Integers are small, or hostile: extreme ones, and ones of all 64 bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ml_verifier.conformance.case import Arithmetic, Array, Case
from ml_verifier.operators import AttributeValue

Kind: TypeAlias = Literal["plain", "special", "rare", "tiny", "above", "below"]

# Bit patterns: both zeros, infinities, NaN, ones, 1/2, the smallest denormal and normal
# numbers, 2^-24, the largest numbers, and where exp overflows and vanishes.
SPECIAL = np.array(
    [
        *(0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x3F800000),
        *(0xBF800000, 0x3F000000, 0x00000001, 0x80000001, 0x00800000, 0x33800000),
        *(0x7F7FFFFF, 0xFF7FFFFF, 0x42B17217, 0xC2CFF1B5),
    ],
    np.uint32,
)
INTEGERS = np.array(
    [
        *(0, 1, -1, 2, -2, 3, -7, 2**24 + 1, -(2**24) - 1, 2**31, -(2**31) - 1),
        *(2**53 + 1, 2**62 + 1, -(2**62) - 3, 2**63 - 1, -(2**63), 1 - 2**63),
    ],
    np.int64,
)
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # an odd number of 64 bits: 2^64 / golden ratio
FLOAT_KINDS: tuple[Kind, ...] = ("special", "rare", "tiny")
INTEGER_KINDS: tuple[Kind, ...] = ("special",)
BOOL_KINDS: tuple[Kind, ...] = ()
INDEX_KINDS: tuple[Kind, ...] = ("above", "below")


@dataclass(frozen=True)
class Floats:
    """Uniform float32 values."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0

    kinds = FLOAT_KINDS

    def make(
        self, key: int, position: int, backend: Arithmetic, kind: Kind = "plain"
    ) -> Array:
        """Return the input at ``position`` of case ``key``."""
        out = np.empty(self.shape, np.float32)
        flat = out.reshape(-1)
        backend.philox_uniform(flat, key, position, 0, self.low, self.high)
        if kind in FLOAT_KINDS:
            words = _words(out.size, key, position, backend)
            flat[:] = _HOSTILE[kind](words, flat.view(np.uint32)).view(np.float32)
        return out


@dataclass(frozen=True)
class Indices:
    """Uniform int64 values below a bound."""

    shape: tuple[int, ...]
    below: int

    kinds = INDEX_KINDS

    def make(
        self, key: int, position: int, backend: Arithmetic, kind: Kind = "plain"
    ) -> Array:
        """Return the input at ``position`` of case ``key``."""
        unit = Floats(self.shape, 0.0, 1.0).make(key, position, backend)
        made = np.asarray(np.floor(unit * np.float32(self.below))).astype(np.int64)
        if kind == "above":
            made.reshape(-1)[-1] = self.below
        if kind == "below":
            made.reshape(-1)[0] = -1
        return made


@dataclass(frozen=True)
class Bfloats:
    """The upper halves of ``Floats``: their values, cut off to bfloat16."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    dtype: str = "bf16"

    kinds = FLOAT_KINDS

    def make(
        self, key: int, position: int, backend: Arithmetic, kind: Kind = "plain"
    ) -> Array:
        """Return the input at ``position`` of case ``key``."""
        floats = Floats(self.shape, self.low, self.high)
        made = floats.make(key, position, backend, kind)
        return np.asarray(made.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


@dataclass(frozen=True)
class Integers:
    """Int64 values from ``low`` up to, not including, ``high``."""

    shape: tuple[int, ...]
    low: int = -9
    high: int = 9
    dtype: str = "i64"

    kinds = INTEGER_KINDS

    def make(
        self, key: int, position: int, backend: Arithmetic, kind: Kind = "plain"
    ) -> Array:
        """Return the input at ``position`` of case ``key``."""
        made = Indices(self.shape, self.high - self.low).make(key, position, backend)
        made += self.low
        if kind == "special":
            words = _words(made.size, key, position, backend).astype(np.uint64)
            spread = (words * SPREAD).view(np.int64)
            extreme = INTEGERS[(words >> np.uint64(1)) % np.uint64(len(INTEGERS))]
            made.reshape(-1)[:] = np.where(words % np.uint64(2) == 0, extreme, spread)
        return made


@dataclass(frozen=True)
class Bools:
    """Booleans, half of them true."""

    shape: tuple[int, ...]
    dtype: str = "bool"

    kinds = BOOL_KINDS

    def make(
        self, key: int, position: int, backend: Arithmetic, kind: Kind = "plain"
    ) -> Array:
        """Return the input at ``position`` of case ``key``."""
        del kind
        return Indices(self.shape, 2).make(key, position, backend).astype(np.uint8)


Input: TypeAlias = Floats | Indices | Bfloats | Integers | Bools


@dataclass(frozen=True)
class Golden:
    """An operator on generated inputs."""

    name: str
    inputs: Sequence[Input]
    attributes: Mapping[str, AttributeValue]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of inputs that this case runs on, in order."""
        found: dict[Kind, None] = {"plain": None}
        for spec in self.inputs:
            found |= dict.fromkeys(spec.kinds)
        return tuple(found)

    def case(self, number: int, backend: Arithmetic, kind: Kind = "plain") -> Case:
        """Return the case on inputs of one kind; ``number`` keys the generator."""
        made = [s.make(number, i, backend, kind) for i, s in enumerate(self.inputs)]
        return Case(self.name, made, self.attributes)

    def describe(self) -> dict[str, Any]:
        """Return what another implementation needs to make the case."""
        return {
            "operator": self.name,
            "attributes": {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in self.attributes.items()
            },
            "inputs": [vars(spec) for spec in self.inputs],
        }


def _words(size: int, key: int, position: int, backend: Arithmetic) -> Array:
    """Return uint32[size] below 2^24: Philox words of counter 3 = 1, shifted by 8."""
    unit = np.empty(size, np.float32)
    backend.philox_uniform(unit, key, position, 1, 0.0, 1.0)
    return (unit * np.float32(2**24)).astype(np.uint32)


def _pattern(words: Array, exponents: int) -> Array:
    """Return bit patterns: sign, one of the first ``exponents`` exponents, mantissa."""
    sign, fraction = words >> np.uint32(23), words & np.uint32(0x7FFF)
    exponent = (words >> np.uint32(15)) % np.uint32(exponents)
    fraction = fraction << np.uint32(8) | fraction & np.uint32(0xFF)
    bits: Array = sign << np.uint32(31) | exponent << np.uint32(23) | fraction
    return bits


def _special(words: Array, plain: Array) -> Array:
    """Return an eighth special values, three eighths of any exponent, half plain."""
    choice, rest = words % np.uint32(8), words >> np.uint32(3)
    chosen = np.where(choice < 4, _pattern(words, 255), plain)
    return np.where(choice == 0, SPECIAL[rest % len(SPECIAL)], chosen)


def _rare(words: Array, plain: Array) -> Array:
    """Return plain values, one in 256 replaced by a special one."""
    chosen = SPECIAL[(words >> np.uint32(8)) % len(SPECIAL)]
    return np.where(words % np.uint32(256) == 0, chosen, plain)


def _tiny(words: Array, plain: Array) -> Array:
    """Return values below 2^-63: their products are denormal, or vanish."""
    del plain
    return _pattern(words, 64)


_HOSTILE = {"special": _special, "rare": _rare, "tiny": _tiny}
