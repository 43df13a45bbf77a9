"""What a vote signs, and how a vote is checked.

The sign-bytes are 101 bytes, 133 for a proposal, numbers big-endian:

    "lockstep/vote/v1"   16 bytes: the domain
    kind                  1 byte: 1 proposal, 2 prevote, 3 precommit
    genesis hash         32 bytes
    height                8 bytes
    round                 4 bytes
    block hash           32 bytes: zeros are the nil vote
    detail                8 bytes: of a proposal, the round of its polka plus one, or 0
                         for a new block; of a precommit, the validator's wall clock
                         in milliseconds since 1970; of a prevote, 0
    parts root           32 bytes, in a proposal only (`consensus.parts`)

and the signature is recoverable low-s secp256k1 ECDSA over their SHA-256. The genesis
hash keeps a signature from meaning anything on another chain; kind, height and round
keep it from meaning anything elsewhere on this one. Two different block hashes signed
for one (kind, height, round) are equivocation, and so are two proposals for one round
that differ in their detail. Two times in otherwise equal precommits are not.
"""

from dataclasses import dataclass
from enum import IntEnum

from chain.crypto import recover_address, sha256, sign
from chain.errors import BadSignature
from consensus.errors import InvalidVote
from consensus.validators import ValidatorSet

VOTE_DOMAIN = b"lockstep/vote/v1"
NIL = bytes(32)
MAX_HEIGHT = 2**64 - 1
MAX_ROUND = 2**32 - 1
MAX_DETAIL = 2**64 - 1


class VoteKind(IntEnum):
    """What is being said; the numbers are part of the sign-bytes."""

    PROPOSAL = 1
    PREVOTE = 2
    PRECOMMIT = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """What a signature is about, on one chain."""

    kind: VoteKind
    height: int
    round: int
    block_hash: bytes
    detail: int = 0
    parts_root: bytes = NIL

    def __post_init__(self) -> None:
        """Refuse what has no sign-bytes.

        Raises:
            InvalidVote: height, round, block hash, detail or parts root out of range.
        """
        if not 0 <= self.height <= MAX_HEIGHT:
            raise InvalidVote(f"height: expected 0..2^64-1, got {self.height}")
        if not 0 <= self.round <= MAX_ROUND:
            raise InvalidVote(f"round: expected 0..2^32-1, got {self.round}")
        if len(self.block_hash) != 32:
            raise InvalidVote(
                f"block hash: expected 32 bytes, got {len(self.block_hash)}"
            )
        most = {VoteKind.PROPOSAL: self.round, VoteKind.PREVOTE: 0}
        limit = most.get(self.kind, MAX_DETAIL)
        if not 0 <= self.detail <= limit:
            raise InvalidVote(
                f"detail of a {self.kind.name.lower()}: expected 0..{limit}, "
                f"got {self.detail}"
            )
        if len(self.parts_root) != 32:
            raise InvalidVote(
                f"parts root: expected 32 bytes, got {len(self.parts_root)}"
            )
        if self.kind is not VoteKind.PROPOSAL and self.parts_root != NIL:
            raise InvalidVote(f"a {self.kind.name.lower()} has no parts root")

    @property
    def polka_round(self) -> int | None:
        """Of a proposal: the round of the polka it rests on; None for a new block."""
        return self.detail - 1 if self.detail else None

    def contradicts(self, other: "Subject") -> bool:
        """Whether signing both is equivocation."""
        if (self.kind, self.height, self.round) != (
            other.kind,
            other.height,
            other.round,
        ):
            return False
        if self.kind is VoteKind.PROPOSAL and self.detail != other.detail:
            return True
        return self.block_hash != other.block_hash


@dataclass(frozen=True, slots=True)
class Vote:
    """A signed subject. `validator` is the index in the validator set."""

    subject: Subject
    validator: int
    signature: bytes


def sign_bytes(genesis_hash: bytes, subject: Subject) -> bytes:
    """The bytes that are hashed and signed.

    Raises:
        InvalidVote: the genesis hash is not 32 bytes.
    """
    if len(genesis_hash) != 32:
        raise InvalidVote(f"genesis hash: expected 32 bytes, got {len(genesis_hash)}")
    return b"".join(
        (
            VOTE_DOMAIN,
            bytes((subject.kind,)),
            genesis_hash,
            subject.height.to_bytes(8),
            subject.round.to_bytes(4),
            subject.block_hash,
            subject.detail.to_bytes(8),
            subject.parts_root if subject.kind is VoteKind.PROPOSAL else b"",
        )
    )


def sign_digest(genesis_hash: bytes, subject: Subject) -> bytes:
    """The 32 bytes that the signature is over."""
    return sha256(sign_bytes(genesis_hash, subject))


def sign_vote(
    genesis_hash: bytes, subject: Subject, validator: int, secret: bytes
) -> Vote:
    """Sign a subject. Whether that is safe is for the signer's file to decide."""
    return Vote(subject, validator, sign(sign_digest(genesis_hash, subject), secret))


def verify_vote(genesis_hash: bytes, vote: Vote, validators: ValidatorSet) -> None:
    """Check that the validator which the vote names signed it.

    Raises:
        InvalidVote: the signature is malformed or by another key.
        InvalidValidatorSet: the set has no such member.
    """
    verify_signature(
        genesis_hash,
        vote.subject,
        vote.signature,
        validators.at(vote.validator).address,
    )


def verify_signature(
    genesis_hash: bytes, subject: Subject, signature: bytes, signer: bytes
) -> None:
    """Check one signature over a subject against an address.

    Raises:
        InvalidVote: the signature is malformed or by another key.
    """
    try:
        found = recover_address(sign_digest(genesis_hash, subject), signature)
    except BadSignature as error:
        raise InvalidVote(f"signature of {subject.kind.name}: {error}") from error
    if found != signer:
        raise InvalidVote(
            f"signature of {subject.kind.name} at height {subject.height}: expected "
            f"signer 0x{signer.hex()}, got 0x{found.hex()}"
        )
