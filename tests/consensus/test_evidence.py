"""Evidence: a contradiction convicts its author and nobody else."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from consensus.errors import InvalidEvidence
from consensus.evidence import Evidence, verify_evidence
from consensus.votes import NIL, Subject, VoteKind, sign_vote
from tests.consensus.committee import (
    BLOCK,
    GENESIS,
    OTHER_BLOCK,
    OTHER_GENESIS,
    Committee,
)
from tests.support.vectors import Vectors

COMMITTEE = Committee(3, 2, 1)
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT


def evidence(
    kind: VoteKind = PRECOMMIT, one: bytes = BLOCK, other: bytes = OTHER_BLOCK
) -> Evidence:
    return Evidence.of(
        COMMITTEE.vote(1, kind, one, round_=2, height=5),
        COMMITTEE.vote(1, kind, other, round_=2, height=5),
        COMMITTEE.set,
    )


def proposals(
    detail: int = 1, block_hash: bytes = BLOCK, parts_root: bytes = OTHER_BLOCK
) -> Evidence:
    first, second = (
        sign_vote(GENESIS, subject, 1, COMMITTEE.secret(1))
        for subject in (
            Subject(VoteKind.PROPOSAL, 5, 2, BLOCK, 0, OTHER_BLOCK),
            Subject(VoteKind.PROPOSAL, 5, 2, block_hash, detail, parts_root),
        )
    )
    return Evidence.of(first, second, COMMITTEE.set)


GOOD = [evidence(), evidence(PREVOTE, NIL), proposals(), proposals(0, OTHER_BLOCK)]


def test_vectors(vectors: Vectors) -> None:
    computed = [
        {
            "genesis_hash": "0x" + GENESIS.hex(),
            "encoded": "0x" + each.encode().hex(),
            "hash": "0x" + each.hash.hex(),
        }
        for each in GOOD
    ]
    vectors.check("evidence", computed)


@pytest.mark.parametrize("proof", GOOD)
def test_contradictions_convict_and_round_trip(proof: Evidence) -> None:
    verify_evidence(GENESIS, proof, COMMITTEE.set)
    assert Evidence.decode(proof.encode()) == proof
    assert proof.offence.offender == COMMITTEE.set.at(1).address
    assert proof.offence.height == 5


def test_the_order_of_the_votes_does_not_matter() -> None:
    assert evidence(one=BLOCK, other=OTHER_BLOCK) == evidence(
        one=OTHER_BLOCK, other=BLOCK
    )


def refused(proof: Evidence, message: str, genesis_hash: bytes = GENESIS) -> None:
    with pytest.raises(InvalidEvidence, match=message):
        verify_evidence(genesis_hash, proof, COMMITTEE.set)


def test_what_proves_nothing_is_refused() -> None:
    good = evidence()
    refused(replace(good, second=good.first), "do not contradict")
    twice = Evidence.of(
        COMMITTEE.vote(1, detail=1), COMMITTEE.vote(1, detail=2), COMMITTEE.set
    )
    refused(twice, "do not contradict")
    swapped = Evidence(
        good.validator,
        good.second,
        good.second_signature,
        good.first,
        good.first_signature,
    )
    refused(swapped, "not in order")


def test_nobody_can_be_framed() -> None:
    good = evidence()
    for index in (0, 2):
        framed = replace(good, validator=COMMITTEE.set.at(index).address)
        refused(framed, "expected signer")
    refused(replace(good, validator=bytes(20)), "was no validator")
    refused(good, "expected signer", OTHER_GENESIS)
    elsewhere = replace(good.first, height=6), replace(good.second, height=6)
    refused(replace(good, first=elsewhere[0], second=elsewhere[1]), "expected signer")


def test_a_vote_signed_for_another_round_or_kind_frames_nobody() -> None:
    good = evidence()
    for kind in (PREVOTE, VoteKind.PROPOSAL):
        moved = replace(good.first, kind=kind), replace(good.second, kind=kind)
        refused(replace(good, first=moved[0], second=moved[1]), "expected signer")


@given(st.binary(max_size=600))
def test_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(InvalidEvidence):
        Evidence.decode(data)


@given(st.integers(0, 3), st.integers(0, 10_000), st.integers(1, 255))
def test_every_changed_byte_is_refused(which: int, place: int, change: int) -> None:
    encoded = bytearray(GOOD[which].encode())
    encoded[place % len(encoded)] ^= change
    with pytest.raises(InvalidEvidence):
        verify_evidence(GENESIS, Evidence.decode(bytes(encoded)), COMMITTEE.set)
