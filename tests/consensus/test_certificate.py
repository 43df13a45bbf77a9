"""Commit certificates: made from votes, refused for every defect."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.sidecar import CommitCertificate, CommitSignature
from consensus.certificate import certify, verify_certificate
from consensus.errors import InvalidCertificate
from consensus.machine import Decide
from consensus.votes import VoteKind
from tests.consensus.committee import (
    BLOCK,
    GENESIS,
    OTHER_BLOCK,
    OTHER_GENESIS,
    Committee,
)
from tests.support.vectors import Vectors

COMMITTEE = Committee(3, 2, 1, 1)


def certificate(*indices: int, round_: int = 0) -> CommitCertificate:
    votes = tuple(COMMITTEE.vote(index, round_=round_) for index in indices)
    return certify(Decide(1, round_, BLOCK, votes), COMMITTEE.set)


def check(
    wanted: CommitCertificate,
    *,
    genesis_hash: bytes = GENESIS,
    height: int = 1,
    block_hash: bytes = BLOCK,
) -> None:
    verify_certificate(
        genesis_hash, wanted, COMMITTEE.set, height=height, block_hash=block_hash
    )


def computed() -> list[dict[str, str]]:
    """Encoded certificates of the same four validators."""
    return [
        {
            "genesis_hash": "0x" + GENESIS.hex(),
            "validators_hash": "0x" + COMMITTEE.set.hash.hex(),
            "encoded": "0x" + certificate(*indices, round_=round_).encode().hex(),
        }
        for indices, round_ in (((0, 1), 0), ((0, 1, 2, 3), 2))
    ]


def test_vectors(vectors: Vectors) -> None:
    vectors.check("certificates", computed())


@pytest.mark.parametrize("indices", [(0, 1), (0, 2, 3), (0, 1, 2, 3)])
def test_more_than_two_thirds_make_a_certificate(indices: tuple[int, ...]) -> None:
    check(certificate(*indices))
    check(certificate(*indices, round_=5))


@pytest.mark.parametrize("indices", [(), (0,), (1, 2, 3), (0, 3)])
def test_two_thirds_or_less_do_not(indices: tuple[int, ...]) -> None:
    with pytest.raises(InvalidCertificate, match="expected more than 2/3 of 7 wei"):
        check(certificate(*indices))


def test_certificate_of_another_block_height_or_chain_is_refused() -> None:
    good = certificate(0, 1, 2)
    with pytest.raises(InvalidCertificate, match="expected block 2"):
        check(good, height=2)
    with pytest.raises(InvalidCertificate, match="expected block 1"):
        check(good, block_hash=OTHER_BLOCK)
    with pytest.raises(InvalidCertificate, match="expected signer"):
        check(good, genesis_hash=OTHER_GENESIS)


Spoil = Callable[[tuple[CommitSignature, ...]], tuple[CommitSignature, ...]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: (s[0], *s), "twice or out of order"),
        (lambda s: s[::-1], "twice or out of order"),
        (lambda s: (*s[:2], replace(s[2], signature=s[1].signature)), "signer"),
        (lambda s: (*s[:2], replace(s[2], signature=bytes(65))), "signature"),
        (lambda s: (*s[:2], replace(s[2], validator=bytes(20))), "no validator"),
    ],
    ids=["twice", "unordered", "of another", "malformed", "outsider"],
)
def test_one_bad_entry_spoils_it(spoil: Spoil, message: str) -> None:
    good = certificate(0, 1, 2)
    with pytest.raises(InvalidCertificate, match=message):
        check(replace(good, signatures=spoil(good.signatures)))


def test_round_beyond_the_sign_bytes_is_refused() -> None:
    with pytest.raises(InvalidCertificate, match="round"):
        check(replace(certificate(0, 1), round=2**32))


def test_prevotes_are_no_precommits() -> None:
    votes = tuple(COMMITTEE.vote(index, VoteKind.PREVOTE) for index in range(4))
    forged = certify(Decide(1, 0, BLOCK, votes), COMMITTEE.set)
    with pytest.raises(InvalidCertificate, match="expected signer"):
        check(forged)
