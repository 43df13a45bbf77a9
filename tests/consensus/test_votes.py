"""Sign-bytes and signatures of votes."""

from dataclasses import replace

import pytest

from chain.crypto import SECP256K1_ORDER
from consensus.errors import InvalidVote
from consensus.votes import (
    NIL,
    Subject,
    VoteKind,
    sign_bytes,
    sign_digest,
    sign_vote,
    verify_vote,
)
from tests.consensus.committee import (
    BLOCK,
    GENESIS,
    OTHER_BLOCK,
    OTHER_GENESIS,
    Committee,
)
from tests.support.vectors import Vectors

SUBJECTS = [
    Subject(VoteKind.PROPOSAL, 1, 0, BLOCK),
    Subject(VoteKind.PREVOTE, 1, 0, BLOCK),
    Subject(VoteKind.PRECOMMIT, 1, 0, BLOCK),
    Subject(VoteKind.PREVOTE, 1, 0, NIL),
    Subject(VoteKind.PRECOMMIT, 2**64 - 1, 2**32 - 1, OTHER_BLOCK),
    Subject(VoteKind.PRECOMMIT, 7, 2, BLOCK, 1_767_225_600_123),
    Subject(VoteKind.PROPOSAL, 7, 3, BLOCK, 2, OTHER_BLOCK),
]


def computed() -> list[dict[str, object]]:
    """Subjects with their sign-bytes, digest and a deterministic signature."""
    committee = Committee(1)
    return [
        {
            "genesis_hash": "0x" + GENESIS.hex(),
            "kind": int(subject.kind),
            "height": str(subject.height),
            "round": subject.round,
            "block_hash": "0x" + subject.block_hash.hex(),
            "detail": str(subject.detail),
            "parts_root": "0x" + subject.parts_root.hex(),
            "sign_bytes": "0x" + sign_bytes(GENESIS, subject).hex(),
            "digest": "0x" + sign_digest(GENESIS, subject).hex(),
            "secret": "0x" + committee.secret(0).hex(),
            "signature": "0x"
            + sign_vote(GENESIS, subject, 0, committee.secret(0)).signature.hex(),
        }
        for subject in SUBJECTS
    ]


def test_vectors(vectors: Vectors) -> None:
    vectors.check("votes", computed())


def test_sign_bytes_of_proposals_are_32_bytes_longer() -> None:
    assert {len(sign_bytes(GENESIS, subject)) for subject in SUBJECTS} == {101, 133}


def test_own_vote_verifies() -> None:
    committee = Committee(3, 2, 1)
    for index in range(3):
        verify_vote(GENESIS, committee.vote(index), committee.set)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": VoteKind.PREVOTE},
        {"height": 2},
        {"round": 1},
        {"block_hash": OTHER_BLOCK},
        {"detail": 1},
    ],
)
def test_signature_means_nothing_elsewhere(change: dict[str, object]) -> None:
    committee = Committee(1)
    vote = committee.vote(0)
    moved = replace(vote, subject=replace(vote.subject, **change))  # type: ignore[arg-type]  # one of the fields
    with pytest.raises(InvalidVote, match="expected signer"):
        verify_vote(GENESIS, moved, committee.set)


def test_signature_means_nothing_on_another_chain() -> None:
    committee = Committee(1)
    with pytest.raises(InvalidVote, match="expected signer"):
        verify_vote(OTHER_GENESIS, committee.vote(0), committee.set)


def test_vote_in_the_name_of_another_is_refused() -> None:
    committee = Committee(2, 1)
    with pytest.raises(InvalidVote, match="expected signer"):
        verify_vote(GENESIS, replace(committee.vote(0), validator=1), committee.set)


def test_malformed_signature_is_refused() -> None:
    committee = Committee(1)
    vote = committee.vote(0)
    with pytest.raises(InvalidVote, match="expected 65 bytes, got 64"):
        verify_vote(
            GENESIS, replace(vote, signature=vote.signature[:-1]), committee.set
        )


def test_malleated_signature_is_refused() -> None:
    committee = Committee(1)
    vote = committee.vote(0)
    r, s, parity = vote.signature[:32], vote.signature[32:64], vote.signature[64]
    high = (SECP256K1_ORDER - int.from_bytes(s)).to_bytes(32)
    twin = replace(vote, signature=r + high + bytes((1 - parity,)))
    with pytest.raises(InvalidVote, match="upper half"):
        verify_vote(GENESIS, twin, committee.set)


@pytest.mark.parametrize(
    ("height", "round_", "block_hash", "field"),
    [
        (-1, 0, BLOCK, "height"),
        (2**64, 0, BLOCK, "height"),
        (1, -1, BLOCK, "round"),
        (1, 2**32, BLOCK, "round"),
        (1, 0, BLOCK[:-1], "block hash"),
    ],
)
def test_subject_out_of_range_is_refused(
    height: int, round_: int, block_hash: bytes, field: str
) -> None:
    with pytest.raises(InvalidVote, match=field):
        Subject(VoteKind.PREVOTE, height, round_, block_hash)


@pytest.mark.parametrize(
    ("kind", "round_", "detail"),
    [
        (VoteKind.PREVOTE, 3, 1),
        (VoteKind.PROPOSAL, 3, 4),
        (VoteKind.PRECOMMIT, 3, 2**64),
        (VoteKind.PRECOMMIT, 3, -1),
    ],
)
def test_detail_out_of_range_is_refused(
    kind: VoteKind, round_: int, detail: int
) -> None:
    with pytest.raises(InvalidVote, match="detail"):
        Subject(kind, 1, round_, BLOCK, detail)


def test_only_proposals_have_a_parts_root() -> None:
    with pytest.raises(InvalidVote, match="a prevote has no parts root"):
        Subject(VoteKind.PREVOTE, 1, 0, BLOCK, 0, OTHER_BLOCK)
    with pytest.raises(InvalidVote, match="parts root: expected 32 bytes, got 31"):
        Subject(VoteKind.PROPOSAL, 1, 0, BLOCK, 0, OTHER_BLOCK[:-1])


def test_contradictions() -> None:
    def subject(
        kind: VoteKind = VoteKind.PRECOMMIT,
        round_: int = 1,
        block_hash: bytes = BLOCK,
        detail: int = 0,
    ) -> Subject:
        return Subject(kind, 1, round_, block_hash, detail)

    first = subject()
    assert first.contradicts(subject(block_hash=OTHER_BLOCK))
    assert first.contradicts(subject(block_hash=NIL))
    assert not first.contradicts(subject(detail=9))
    assert not first.contradicts(subject(round_=2, block_hash=OTHER_BLOCK))
    assert not first.contradicts(subject(VoteKind.PREVOTE, block_hash=OTHER_BLOCK))
    proposal = subject(VoteKind.PROPOSAL)
    assert proposal.contradicts(subject(VoteKind.PROPOSAL, detail=1))


def test_short_genesis_hash_is_refused() -> None:
    with pytest.raises(InvalidVote, match="genesis hash"):
        sign_bytes(GENESIS[:-1], SUBJECTS[0])
