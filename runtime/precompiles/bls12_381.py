"""Arithmetic and pairings on BLS12-381 (EIP-2537, addresses 0x0b to 0x11).

Field elements come as 64 bytes whose first 16 are zero. Additions take any point of
the curve; multi-scalar multiplications and pairings insist on the subgroup.
"""

from collections.abc import Callable, Iterator
from typing import Final

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from runtime.errors import PrecompileFailure
from runtime.precompiles.interface import Precompile

_FP: Final = 64
_PADDING: Final = bytes(16)
_G1: Final = 2 * _FP
_G2: Final = 4 * _FP
_SCALAR: Final = 32
_PAIR: Final = _G1 + _G2

# EIP-2537's discounts, in thousandths, for 1 to 128 pairs; the last holds beyond.
_G1_DISCOUNTS: Final = (
    1000, 949, 848, 797, 764, 750, 738, 728, 719, 712, 705, 698, 692, 687, 682, 677,
    673, 669, 665, 661, 658, 654, 651, 648, 645, 642, 640, 637, 635, 632, 630, 627,
    625, 623, 621, 619, 617, 615, 613, 611, 609, 608, 606, 604, 603, 601, 599, 598,
    596, 595, 593, 592, 591, 589, 588, 586, 585, 584, 582, 581, 580, 579, 577, 576,
    575, 574, 573, 572, 570, 569, 568, 567, 566, 565, 564, 563, 562, 561, 560, 559,
    558, 557, 556, 555, 554, 553, 552, 551, 550, 549, 548, 547, 547, 546, 545, 544,
    543, 542, 541, 540, 540, 539, 538, 537, 536, 536, 535, 534, 533, 532, 532, 531,
    530, 529, 528, 528, 527, 526, 525, 525, 524, 523, 522, 522, 521, 520, 520, 519,
)  # fmt: skip
_G2_DISCOUNTS: Final = (
    1000, 1000, 923, 884, 855, 832, 812, 796, 782, 770, 759, 749, 740, 732, 724, 717,
    711, 704, 699, 693, 688, 683, 679, 674, 670, 666, 663, 659, 655, 652, 649, 646,
    643, 640, 637, 634, 632, 629, 627, 624, 622, 620, 618, 615, 613, 611, 609, 607,
    606, 604, 602, 600, 598, 597, 595, 593, 592, 590, 589, 587, 586, 584, 583, 582,
    580, 579, 578, 576, 575, 574, 573, 571, 570, 569, 568, 567, 566, 565, 563, 562,
    561, 560, 559, 558, 557, 556, 555, 554, 553, 552, 552, 551, 550, 549, 548, 547,
    546, 545, 545, 544, 543, 542, 541, 541, 540, 539, 538, 537, 537, 536, 535, 535,
    534, 533, 532, 532, 531, 530, 530, 529, 528, 528, 527, 526, 526, 525, 524, 524,
)  # fmt: skip


def _unpad(data: bytes) -> bytes:
    """Coordinates without the 16 zero bytes before each."""
    parts: list[bytes] = []
    for at in range(0, len(data), _FP):
        if data[at : at + 16] != _PADDING:
            raise PrecompileFailure("BLS12-381: a coordinate exceeds the field")
        parts.append(data[at + 16 : at + _FP])
    return b"".join(parts)


def _pad(data: bytes) -> bytes:
    return b"".join(_PADDING + data[at : at + 48] for at in range(0, len(data), 48))


def _g1(data: bytes, *, subgroup: bool) -> G1Point:
    read = G1Point.from_xy_bytes_be if subgroup else G1Point.from_xy_bytes_unchecked_be
    try:
        return read(_unpad(data))
    except ValueError as error:  # the library's word for any refusal
        raise PrecompileFailure(f"BLS12-381: {error}") from error


def _g2(data: bytes, *, subgroup: bool) -> G2Point:
    read = G2Point.from_xy_bytes_be if subgroup else G2Point.from_xy_bytes_unchecked_be
    try:
        return read(_unpad(data))
    except ValueError as error:
        raise PrecompileFailure(f"BLS12-381: {error}") from error


def _chunks(data: bytes, size: int) -> Iterator[bytes]:
    if not data or len(data) % size:
        raise PrecompileFailure(
            f"BLS12-381: {len(data)} bytes, expected a positive multiple of {size}"
        )
    return (data[at : at + size] for at in range(0, len(data), size))


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise PrecompileFailure(f"BLS12-381: {len(data)} bytes, expected {size}")
    return data


def _g1_add(data: bytes) -> bytes:
    _exactly(data, 2 * _G1)
    left = _g1(data[:_G1], subgroup=False)
    return _pad((left + _g1(data[_G1:], subgroup=False)).to_xy_bytes_be())


def _g2_add(data: bytes) -> bytes:
    _exactly(data, 2 * _G2)
    left = _g2(data[:_G2], subgroup=False)
    return _pad((left + _g2(data[_G2:], subgroup=False)).to_xy_bytes_be())


def _g1_msm(data: bytes) -> bytes:
    points: list[G1Point] = []
    scalars: list[Scalar] = []
    for chunk in _chunks(data, _G1 + _SCALAR):
        points.append(_g1(chunk[:_G1], subgroup=True))
        scalars.append(Scalar.from_be_bytes_mod_order(chunk[_G1:]))
    return _pad(G1Point.multiexp_unchecked(points, scalars).to_xy_bytes_be())


def _g2_msm(data: bytes) -> bytes:
    points: list[G2Point] = []
    scalars: list[Scalar] = []
    for chunk in _chunks(data, _G2 + _SCALAR):
        points.append(_g2(chunk[:_G2], subgroup=True))
        scalars.append(Scalar.from_be_bytes_mod_order(chunk[_G2:]))
    return _pad(G2Point.multiexp_unchecked(points, scalars).to_xy_bytes_be())


def _pairing(data: bytes) -> bytes:
    left: list[G1Point] = []
    right: list[G2Point] = []
    for chunk in _chunks(data, _PAIR):
        left.append(_g1(chunk[:_G1], subgroup=True))
        right.append(_g2(chunk[_G1:], subgroup=True))
    return int(GT.pairing_check(left, right)).to_bytes(32, "big")


def _map_g1(data: bytes) -> bytes:
    try:
        point = G1Point.map_from_fp_be(_unpad(_exactly(data, _FP)))
    except ValueError as error:
        raise PrecompileFailure(f"BLS12-381: {error}") from error
    return _pad(point.to_xy_bytes_be())


def _map_g2(data: bytes) -> bytes:
    try:
        point = G2Point.map_from_fp2_be(_unpad(_exactly(data, 2 * _FP)))
    except ValueError as error:
        raise PrecompileFailure(f"BLS12-381: {error}") from error
    return _pad(point.to_xy_bytes_be())


def _msm_gas(
    pair_bytes: int, multiplication: int, discounts: tuple[int, ...]
) -> Callable[[bytes], int]:
    def gas(data: bytes) -> int:
        pairs = len(data) // pair_bytes
        if pairs == 0:
            return 0
        discount = discounts[min(pairs, len(discounts)) - 1]
        return pairs * multiplication * discount // 1_000

    return gas


def _pairs(data: bytes) -> int:
    return len(data) // _PAIR


G1_ADD = Precompile(gas=lambda _: 375, steps=lambda _: 30, run=_g1_add)
G1_MSM = Precompile(
    gas=_msm_gas(_G1 + _SCALAR, 12_000, _G1_DISCOUNTS),
    steps=lambda data: 50 + 200 * (len(data) // (_G1 + _SCALAR)),
    run=_g1_msm,
)
G2_ADD = Precompile(gas=lambda _: 600, steps=lambda _: 40, run=_g2_add)
G2_MSM = Precompile(
    gas=_msm_gas(_G2 + _SCALAR, 22_500, _G2_DISCOUNTS),
    steps=lambda data: 100 + 500 * (len(data) // (_G2 + _SCALAR)),
    run=_g2_msm,
)
PAIRING = Precompile(
    gas=lambda data: 37_700 + 32_600 * _pairs(data),
    steps=lambda data: 700 + 400 * _pairs(data),
    run=_pairing,
)
MAP_G1 = Precompile(gas=lambda _: 5_500, steps=lambda _: 120, run=_map_g1)
MAP_G2 = Precompile(gas=lambda _: 23_800, steps=lambda _: 280, run=_map_g2)
