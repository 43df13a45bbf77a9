"""The beacon: reveals and the mixHash that follows from them."""

import pytest

from chain.crypto import sha256
from consensus.beacon import make_reveal, next_mix, verify_reveal
from consensus.errors import InvalidReveal
from tests.consensus.committee import GENESIS, OTHER_GENESIS, Committee
from tests.support.vectors import Vectors

HEIGHTS = [1, 2, 2**64 - 1]


def computed() -> dict[str, object]:
    """A short chain of reveals and mixes from one beacon key."""
    committee = Committee(1)
    secret, mix = committee.beacon_secret(0), bytes(32)
    steps: list[dict[str, str]] = []
    for height in HEIGHTS:
        reveal = make_reveal(GENESIS, height, secret)
        mix = next_mix(mix, reveal)
        steps.append(
            {
                "height": str(height),
                "reveal": "0x" + reveal.hex(),
                "mix_hash": "0x" + mix.hex(),
            }
        )
    return {
        "genesis_hash": "0x" + GENESIS.hex(),
        "secret": str(secret),
        "beacon_key": "0x" + committee.set.at(0).beacon_key.hex(),
        "steps": steps,
    }


def test_vectors(vectors: Vectors) -> None:
    vectors.check("beacon", computed())


def test_own_reveal_verifies() -> None:
    committee = Committee(2, 1)
    reveal = make_reveal(GENESIS, 7, committee.beacon_secret(1))
    verify_reveal(GENESIS, 7, reveal, committee.set.at(1).beacon_key)


def test_reveal_of_another_height_chain_or_key_is_refused() -> None:
    committee = Committee(2, 1)
    reveal = make_reveal(GENESIS, 7, committee.beacon_secret(0))
    mine, other = (member.beacon_key for member in committee.set.members)
    for genesis, height, key in (
        (GENESIS, 8, mine),
        (OTHER_GENESIS, 7, mine),
        (GENESIS, 7, other),
    ):
        with pytest.raises(InvalidReveal, match="not the signature"):
            verify_reveal(genesis, height, reveal, key)


@pytest.mark.parametrize("reveal", [b"", bytes(95), bytes(97)])
def test_reveal_of_a_wrong_length_is_refused(reveal: bytes) -> None:
    with pytest.raises(InvalidReveal, match="expected 96 bytes"):
        verify_reveal(GENESIS, 1, reveal, Committee(1).set.at(0).beacon_key)


def test_bytes_that_are_no_point_are_refused() -> None:
    with pytest.raises(InvalidReveal, match="not the signature"):
        verify_reveal(GENESIS, 1, bytes(96), Committee(1).set.at(0).beacon_key)


def test_mix_is_the_documented_hash() -> None:
    expected = sha256(b"lockstep/beacon" + b"\1" * 32 + b"\2" * 96)
    assert next_mix(b"\1" * 32, b"\2" * 96) == expected
