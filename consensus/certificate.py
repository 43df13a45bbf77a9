"""Commit certificates: proof that a block is final.

A certificate holds precommits for one (height, round, block hash) by validators with
more than two thirds of the stake, in the order of the validator set, nobody twice.
It is valid only as a whole: one bad signature spoils it, so that a certificate has no
two encodings that differ in rubbish. Block n + 1 carries the certificate of block n in
its sidecar; the genesis block has none.
"""

from chain.sidecar import CommitCertificate, CommitSignature
from consensus.errors import (
    InvalidCertificate,
    InvalidValidatorSet,
    InvalidVote,
)
from consensus.machine import Decide, QuorumSeen
from consensus.validators import ValidatorSet
from consensus.votes import (
    MAX_ROUND,
    NIL,
    Subject,
    VoteKind,
    verify_signature,
    verify_vote,
)


def certify(decision: Decide, validators: ValidatorSet) -> CommitCertificate:
    """Turn the machine's decision into the certificate that travels."""
    return CommitCertificate(
        height=decision.height,
        round=decision.round,
        block_hash=decision.block_hash,
        signatures=tuple(
            CommitSignature(
                validators.at(vote.validator).address,
                vote.subject.detail,
                vote.signature,
            )
            for vote in decision.precommits
        ),
    )


def verify_certificate(
    genesis_hash: bytes,
    certificate: CommitCertificate,
    validators: ValidatorSet,
    *,
    height: int,
    block_hash: bytes,
) -> None:
    """Check that the certificate makes this very block final.

    Args:
        genesis_hash: Of the chain.
        certificate: From a peer, a sidecar or a file.
        validators: The set that votes at `height`.
        height: Of the block.
        block_hash: Of the block.

    Raises:
        InvalidCertificate: another block, an outsider, a duplicate, a wrong order, a
            bad signature, or too little stake.
    """
    if (certificate.height, certificate.block_hash) != (height, block_hash):
        raise InvalidCertificate(
            f"expected block {height} 0x{block_hash.hex()}, "
            f"got block {certificate.height} 0x{certificate.block_hash.hex()}"
        )
    if certificate.round > MAX_ROUND:
        raise InvalidCertificate(f"round: at most {MAX_ROUND}, got {certificate.round}")
    stake, previous = 0, -1
    for entry in certificate.signatures:
        index = validators.index_of(entry.validator)
        if index is None:
            raise InvalidCertificate(f"0x{entry.validator.hex()} is no validator")
        if index <= previous:
            raise InvalidCertificate(
                f"0x{entry.validator.hex()} occurs twice or out of order"
            )
        subject = Subject(
            VoteKind.PRECOMMIT, height, certificate.round, block_hash, entry.time
        )
        try:
            verify_signature(genesis_hash, subject, entry.signature, entry.validator)
        except InvalidVote as error:
            raise InvalidCertificate(str(error)) from error
        stake, previous = stake + validators.at(index).stake, index
    if not validators.is_quorum(stake):
        raise InvalidCertificate(
            f"expected more than 2/3 of {validators.total_stake} wei, got {stake}"
        )


def verify_quorum(
    genesis_hash: bytes, quorum: QuorumSeen, validators: ValidatorSet, height: int
) -> None:
    """Check votes that came together: a polka, or precommits before they are sealed.

    Raises:
        InvalidCertificate: nil, votes that differ in more than their times, out of
            order, with a bad signature, or too little stake.
    """
    if quorum.block_hash == NIL or quorum.kind is VoteKind.PROPOSAL:
        raise InvalidCertificate("a quorum is of prevotes or precommits for a block")
    place = (quorum.kind, height, quorum.round, quorum.block_hash)
    stake, previous = 0, -1
    for vote in quorum.votes:
        subject = vote.subject
        if place != (subject.kind, subject.height, subject.round, subject.block_hash):
            raise InvalidCertificate(f"a vote for something else: {subject}")
        if vote.validator <= previous:
            raise InvalidCertificate(
                f"validator {vote.validator} occurs twice or out of order"
            )
        try:
            verify_vote(genesis_hash, vote, validators)
        except (InvalidVote, InvalidValidatorSet) as error:
            raise InvalidCertificate(str(error)) from error
        stake += validators.at(vote.validator).stake
        previous = vote.validator
    if not validators.is_quorum(stake):
        raise InvalidCertificate(
            f"expected more than 2/3 of {validators.total_stake} wei, got {stake}"
        )
