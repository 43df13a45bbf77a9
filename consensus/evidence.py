"""Evidence: two signatures by which a validator contradicts itself.

    evidence = rlp([validator, kind, height, round, first, second])
    first, second = [block hash, detail, parts root, signature]

`validator` is an address. The two subjects differ in nothing but what is listed, they
contradict each other (`Subject.contradicts`), and `first` sorts before `second` by
(block hash, detail), so that one pair of signatures has one encoding. Its hash is
sha256("lockstep/evidence" || evidence).

Nobody but the holder of the key can make it: both signatures are over the genesis
hash, the kind, the height and the round. What it costs the validator is the staking
contract's, which punishes each validator at most once.
"""

from dataclasses import dataclass

from chain import rlp
from chain.crypto import sha256
from chain.errors import MalformedRLP
from consensus.errors import InvalidEvidence, InvalidVote
from consensus.validators import ValidatorSet
from consensus.votes import NIL, Subject, Vote, VoteKind, verify_signature

EVIDENCE_DOMAIN = b"lockstep/evidence"
MAX_EVIDENCE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Offence:
    """What the staking contract is told.

    Attributes:
        offender: Address of the validator, 20 bytes.
        evidence_hash: 32 bytes.
        height: Where it happened.
    """

    offender: bytes
    evidence_hash: bytes
    height: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two contradicting subjects, both signed by `validator` (an address)."""

    validator: bytes
    first: Subject
    first_signature: bytes
    second: Subject
    second_signature: bytes

    @classmethod
    def of(cls, one: Vote, other: Vote, validators: ValidatorSet) -> "Evidence":
        """Evidence from two votes or proposals of one validator, in canonical order."""
        one, other = sorted((one, other), key=lambda vote: _order(vote.subject))
        address = validators.at(one.validator).address
        return cls(address, one.subject, one.signature, other.subject, other.signature)

    @property
    def height(self) -> int:
        """Where it happened."""
        return self.first.height

    @property
    def hash(self) -> bytes:
        """Names this evidence."""
        return sha256(EVIDENCE_DOMAIN + self.encode())

    @property
    def offence(self) -> Offence:
        """What the staking contract is told."""
        return Offence(self.validator, self.hash, self.height)

    def encode(self) -> bytes:
        """Canonical bytes."""
        subject = self.first
        return rlp.encode(
            [
                self.validator,
                rlp.encode_uint(subject.kind),
                rlp.encode_uint(subject.height),
                rlp.encode_uint(subject.round),
                _side(self.first, self.first_signature),
                _side(self.second, self.second_signature),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> "Evidence":
        """Read `encode`'s output; the signatures are not checked.

        Raises:
            InvalidEvidence: Anything else.
        """
        if len(data) > MAX_EVIDENCE_BYTES:
            raise InvalidEvidence(
                f"{len(data)} bytes, at most {MAX_EVIDENCE_BYTES} are possible"
            )
        try:
            validator, kind, height, round_, first, second = rlp.decode_list(
                data, length=6, max_items=16
            )
            place = (
                VoteKind(rlp.as_uint(kind, 8)),
                rlp.as_uint(height, 64),
                rlp.as_uint(round_, 32),
            )
            return cls(
                rlp.as_bytes(validator, 20),
                *_read_side(place, first),
                *_read_side(place, second),
            )
        except (MalformedRLP, InvalidVote, ValueError) as error:
            raise InvalidEvidence(str(error)) from error


def verify_evidence(
    genesis_hash: bytes, evidence: Evidence, validators: ValidatorSet
) -> None:
    """Check that a member of the set contradicted itself.

    Args:
        genesis_hash: Of the chain.
        evidence: From a peer or a block.
        validators: The set that voted at `evidence.height`.

    Raises:
        InvalidEvidence: no contradiction, not in order, an outsider, or a signature
            that is not the validator's.
    """
    first, second = evidence.first, evidence.second
    if not first.contradicts(second):
        raise InvalidEvidence("the two subjects do not contradict each other")
    if _order(first) >= _order(second):
        raise InvalidEvidence("the two subjects are not in order")
    if validators.index_of(evidence.validator) is None:
        raise InvalidEvidence(
            f"0x{evidence.validator.hex()} was no validator at height {first.height}"
        )
    try:
        verify_signature(
            genesis_hash, first, evidence.first_signature, evidence.validator
        )
        verify_signature(
            genesis_hash, second, evidence.second_signature, evidence.validator
        )
    except InvalidVote as error:
        raise InvalidEvidence(str(error)) from error


def _order(subject: Subject) -> tuple[bytes, int]:
    return subject.block_hash, subject.detail


def _side(subject: Subject, signature: bytes) -> list[rlp.Item]:
    proposal = subject.kind is VoteKind.PROPOSAL
    return [
        subject.block_hash,
        rlp.encode_uint(subject.detail),
        subject.parts_root if proposal else b"",
        signature,
    ]


def _read_side(
    place: tuple[VoteKind, int, int], item: rlp.Decoded
) -> tuple[Subject, bytes]:
    block_hash, detail, parts_root, signature = rlp.as_list(item, 4)
    proposal = place[0] is VoteKind.PROPOSAL
    root = rlp.as_bytes(parts_root, 32 if proposal else 0)
    subject = Subject(
        *place, rlp.as_bytes(block_hash, 32), rlp.as_uint(detail, 64), root or NIL
    )
    return subject, rlp.as_bytes(signature, 65)
