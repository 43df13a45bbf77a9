"""Which precompile is at which address, by fork."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NoReturn

from chain.addresses import BLS_POSSESSION, ML_VERIFIER, P256VERIFY
from runtime.errors import PrecompileFailure
from runtime.ml_precompile import ml_precompile
from runtime.precompiles import bls12_381, bls_possession, bn254, classic
from runtime.precompiles.blake2 import BLAKE2F
from runtime.precompiles.interface import Precompile
from runtime.precompiles.p256 import VERIFY
from runtime.rules import LAUNCH, Rules


def _no_blobs(data: bytes) -> NoReturn:
    raise PrecompileFailure(
        f"point evaluation of {len(data)} bytes: this chain carries no blobs"
    )


# EIP-4844's address keeps its price; what it would evaluate cannot exist here.
_POINT_EVALUATION: Final = Precompile(
    gas=lambda _: 50_000, steps=lambda _: 1, run=_no_blobs
)

_LAUNCH: Final = {
    number.to_bytes(20, "big"): precompile
    for number, precompile in (
        (0x01, classic.ECRECOVER),
        (0x02, classic.SHA256),
        (0x03, classic.RIPEMD),
        (0x04, classic.IDENTITY),
        (0x05, classic.MODEXP),
        (0x06, bn254.ADD),
        (0x07, bn254.MULTIPLY),
        (0x08, bn254.PAIRING),
        (0x09, BLAKE2F),
        (0x0A, _POINT_EVALUATION),
        (0x0B, bls12_381.G1_ADD),
        (0x0C, bls12_381.G1_MSM),
        (0x0D, bls12_381.G2_ADD),
        (0x0E, bls12_381.G2_MSM),
        (0x0F, bls12_381.PAIRING),
        (0x10, bls12_381.MAP_G1),
        (0x11, bls12_381.MAP_G2),
    )
}

_BY_FORK: Final[dict[str, Mapping[bytes, Precompile]]] = {
    LAUNCH: MappingProxyType(
        {
            **_LAUNCH,
            P256VERIFY: VERIFY,
            ML_VERIFIER: ml_precompile(),
            BLS_POSSESSION: bls_possession.VERIFY,
        }
    ),
}


def precompiles(rules: Rules) -> Mapping[bytes, Precompile]:
    """The precompiles in force under `rules`, by address."""
    return _BY_FORK[rules.fork]
