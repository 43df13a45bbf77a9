"""Addition, multiplication and pairing on BN254 (EIP-196, 197, 1108; 6 to 8).

py_ecc computes in Python: a pairing takes a fifth of a second, which its price in
steps says. BLS12-381 is three hundred times faster here; new contracts should use it.
"""

from importlib import import_module
from typing import Any, Final, TypeAlias

from runtime.errors import PrecompileFailure
from runtime.precompiles.interface import Precompile

# The package fills its own namespace at run time, which no type checker can follow.
curve: Any = import_module("py_ecc.optimized_bn128")
_Point: TypeAlias = Any

_PAIR_BYTES: Final = 192


def _g1(data: bytes) -> _Point:
    x, y = int.from_bytes(data[:32], "big"), int.from_bytes(data[32:64], "big")
    if x >= curve.field_modulus or y >= curve.field_modulus:
        raise PrecompileFailure("BN254: a coordinate exceeds the field")
    if x == y == 0:
        return curve.Z1
    point = (curve.FQ(x), curve.FQ(y), curve.FQ(1))
    if not curve.is_on_curve(point, curve.b):
        raise PrecompileFailure("BN254: the point is not on the curve")
    return point


def _g2(data: bytes) -> _Point:
    x_i, x_r, y_i, y_r = (
        int.from_bytes(data[at : at + 32], "big") for at in range(0, 128, 32)
    )
    if max(x_i, x_r, y_i, y_r) >= curve.field_modulus:
        raise PrecompileFailure("BN254: a coordinate exceeds the field")
    if x_i == x_r == y_i == y_r == 0:
        return curve.Z2
    point = (curve.FQ2([x_r, x_i]), curve.FQ2([y_r, y_i]), curve.FQ2.one())
    if not curve.is_on_curve(point, curve.b2):
        raise PrecompileFailure("BN254: the point is not on the twist")
    if not curve.is_inf(curve.multiply(point, curve.curve_order)):
        raise PrecompileFailure("BN254: the point is not in the subgroup")
    return point


def _encode(point: _Point) -> bytes:
    if curve.is_inf(point):
        return bytes(64)
    x, y = curve.normalize(point)
    return int(x).to_bytes(32, "big") + int(y).to_bytes(32, "big")


def _add(data: bytes) -> bytes:
    padded = data[:128].ljust(128, b"\0")
    return _encode(curve.add(_g1(padded[:64]), _g1(padded[64:])))


def _multiply(data: bytes) -> bytes:
    padded = data[:96].ljust(96, b"\0")
    scalar = int.from_bytes(padded[64:], "big") % curve.curve_order
    return _encode(curve.multiply(_g1(padded[:64]), scalar))


def _pairing(data: bytes) -> bytes:
    if len(data) % _PAIR_BYTES:
        raise PrecompileFailure(f"BN254: {len(data)} bytes are not whole pairs")
    product = curve.FQ12.one()
    for at in range(0, len(data), _PAIR_BYTES):
        left, right = _g1(data[at : at + 64]), _g2(data[at + 64 : at + _PAIR_BYTES])
        product *= curve.pairing(right, left, final_exponentiate=False)
    holds = curve.final_exponentiate(product) == curve.FQ12.one()
    return int(holds).to_bytes(32, "big")


ADD = Precompile(gas=lambda _: 150, steps=lambda _: 120, run=_add)
MULTIPLY = Precompile(gas=lambda _: 6_000, steps=lambda _: 6_500, run=_multiply)
PAIRING = Precompile(
    gas=lambda data: 45_000 + 34_000 * (len(data) // _PAIR_BYTES),
    steps=lambda data: 130_000 + 90_000 * (len(data) // _PAIR_BYTES),
    run=_pairing,
)
