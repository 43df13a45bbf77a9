"""How a slot of the state starts: recipes, their limits and their bytes.

What a recipe draws is ``ml_verifier/rng.py``; both are written down in
``docs/spec/program.md`` and ``docs/spec/numerics.md``.
"""

import struct
from ctypes import c_float
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ml_verifier.errors import MalformedProgram
from ml_verifier.types import DType, TensorType

MAX_FLOAT32 = (2 - 2**-23) * 2.0**127
MAX_BFLOAT16 = (2 - 2**-7) * 2.0**127
NORMAL_REACH = 6.0  # no standard normal drawn is larger: sqrt(-2 log 2^-24) < 5.77


@dataclass(frozen=True, slots=True)
class Constant:
    """Initialise every element to ``value``."""

    value: float


@dataclass(frozen=True, slots=True)
class Uniform:
    """Initialise from Philox: ``fma(u, high - low, low)`` with u in [0, 1)."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Normal:
    """Initialise from Philox by Box and Muller: z * deviation + mean."""

    mean: float
    deviation: float


Drawn: TypeAlias = Constant | Uniform | Normal


@dataclass(frozen=True, slots=True)
class ZeroRow:
    """Initialise as ``of`` does, then set row ``row`` of the first axis to zero."""

    row: int
    of: Drawn


Initialiser: TypeAlias = Drawn | ZeroRow


class Source(Protocol):
    """A cursor over a program's bytes."""

    def take(self, layout: str) -> tuple[int, ...]:
        """Unpack big-endian unsigned integers."""
        ...

    def float(self) -> float:
        """Take a float32 that is not a NaN."""
        ...


def check(name: str, type_: TensorType, initialiser: Initialiser) -> None:
    """Refuse initial values that are not finite: their bits would not be canonical.

    Raises:
        MalformedProgram: They are not, or there is no such row.
    """
    limit = MAX_FLOAT32 if type_.dtype is DType.F32 else MAX_BFLOAT16
    finite = False
    match initialiser:
        case Constant(value):
            finite = abs(value) <= limit
        case Uniform(low, high):
            finite = abs(high - low) <= limit and max(abs(low), abs(high)) <= limit
        case Normal(mean, deviation):
            finite = deviation >= 0 and abs(mean) + NORMAL_REACH * deviation <= limit
        case ZeroRow(row, of):
            if not type_.shape or not 0 <= row < type_.shape[0]:
                raise MalformedProgram(f"slot {name}: no row {row} in {type_}")
            check(name, type_, of)
            finite = True
    if not finite:
        raise MalformedProgram(
            f"slot {name}: expected finite initial values, got {initialiser}"
        )


def rounded(initialiser: Initialiser) -> Initialiser:
    """Round a recipe's numbers to the float32 that its bytes hold."""
    if isinstance(initialiser, ZeroRow):
        return ZeroRow(initialiser.row, _rounded(initialiser.of))
    return _rounded(initialiser)


def _rounded(drawn: Drawn) -> Drawn:
    match drawn:
        case Constant(value):
            return Constant(c_float(value).value)
        case Uniform(low, high):
            return Uniform(c_float(low).value, c_float(high).value)
        case Normal(mean, deviation):
            return Normal(c_float(mean).value, c_float(deviation).value)


def encode(initialiser: Initialiser) -> bytes:
    """Return the canonical bytes."""
    match initialiser:
        case Constant(value):
            return struct.pack(">Bf", 0, value)
        case Uniform(low, high):
            return struct.pack(">Bff", 1, low, high)
        case Normal(mean, deviation):
            return struct.pack(">Bff", 2, mean, deviation)
        case ZeroRow(row, of):
            return struct.pack(">BI", 3, row) + encode(of)


def decode(name: str, source: Source) -> Initialiser:
    """Take one recipe.

    Raises:
        MalformedProgram: It is of no known kind.
    """
    (kind,) = source.take("B")
    if kind == 3:
        (row,) = source.take("I")
        return ZeroRow(row, _decode_drawn(name, source, *source.take("B")))
    return _decode_drawn(name, source, kind)


def _decode_drawn(name: str, source: Source, kind: int) -> Drawn:
    if kind == 0:
        return Constant(source.float())
    if kind == 1:
        return Uniform(source.float(), source.float())
    if kind == 2:
        return Normal(source.float(), source.float())
    raise MalformedProgram(f"slot {name}: unknown initialiser {kind}")
