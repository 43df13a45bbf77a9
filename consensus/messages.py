"""What validators say to each other about one height, and its bytes.

    message = kind, one byte || rlp(fields)

| kind | message | fields |
|---|---|---|
| 1 | `Standing` | height, round, step: where the sender is |
| 2 | `VoteBits` | height, round, vote kind, bitmap of validators whose vote it has |
| 3 | `Proposal` | subject, count of parts, signature |
| 4 | `BlockPart` | height, parts root, index, count, piece, proof |
| 5 | `PartBits` | height, parts root, bitmap of parts it has |
| 6 | `Ballot` | one vote |
| 7 | `Quorum` | height, vote kind, round, block hash, [validator, detail, signature]s |
| 8 | `Want` | height, block hash: the sender lacks a block that a quorum wants |
| 9 | `Accusation` | evidence |

A subject is [height, round, block hash, detail, parts root], a vote [vote kind, height,
round, block hash, detail, validator index, signature]. Bit i of a bitmap is bit i mod 8
of byte i div 8; a bitmap has no zero byte at its end. Everything is bounded before it
is read, and nothing here checks a signature.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from chain import rlp
from chain.errors import MalformedRLP
from consensus.errors import InvalidEvidence, InvalidMessage, InvalidVote
from consensus.evidence import Evidence
from consensus.machine import QuorumSeen
from consensus.parts import MAX_PARTS, PART_BYTES, Part
from consensus.validators import MAX_VALIDATORS
from consensus.votes import Subject, Vote, VoteKind

SIGNATURE_BYTES: Final = 65
MAX_MESSAGE_BYTES: Final = 160 * 1024
_MAX_PROOF: Final = 8
_MAX_ITEMS: Final = 8 * MAX_VALIDATORS


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the sender is: `step` as in `consensus.machine.Step`."""

    height: int
    round: int
    step: int


@dataclass(frozen=True, slots=True)
class VoteBits:
    """Whose votes of one kind in one round the sender has."""

    height: int
    round: int
    kind: VoteKind
    validators: frozenset[int]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposer's signature over a block; the block itself comes in parts."""

    subject: Subject
    count: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class BlockPart:
    """One part of the block with this root of parts."""

    height: int
    parts_root: bytes
    part: Part


@dataclass(frozen=True, slots=True)
class PartBits:
    """Which parts the sender has."""

    height: int
    parts_root: bytes
    parts: frozenset[int]


@dataclass(frozen=True, slots=True)
class Ballot:
    """One prevote or precommit."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class Quorum:
    """Votes of a quorum, together."""

    height: int
    quorum: QuorumSeen


@dataclass(frozen=True, slots=True)
class Want:
    """The sender lacks this block."""

    height: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Accusation:
    """Evidence for a coming block."""

    evidence: Evidence


Message: TypeAlias = (
    Standing
    | VoteBits
    | Proposal
    | BlockPart
    | PartBits
    | Ballot
    | Quorum
    | Want
    | Accusation
)


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    kind, fields = _fields(message)
    return bytes((kind,)) + rlp.encode(fields)


def decode(data: bytes) -> Message:
    """Read `encode`'s output.

    Raises:
        InvalidMessage: anything else.
    """
    if not 0 < len(data) <= MAX_MESSAGE_BYTES:
        raise InvalidMessage(f"expected 1..{MAX_MESSAGE_BYTES} bytes, got {len(data)}")
    reader = _READERS.get(data[0])
    if reader is None:
        raise InvalidMessage(f"unknown kind {data[0]}")
    try:
        return reader(rlp.decode_list(data[1:], max_items=_MAX_ITEMS))
    except (MalformedRLP, InvalidVote, InvalidEvidence, ValueError) as error:
        raise InvalidMessage(f"kind {data[0]}: {error}") from error


def bitmap(indices: Iterable[int]) -> bytes:
    """The bitmap with these bits set."""
    value = 0
    for index in indices:
        value |= 1 << index
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def _bits(item: rlp.Decoded, limit: int) -> frozenset[int]:
    data = rlp.as_bytes(item)
    if len(data) > (limit + 7) // 8 or data[-1:] == b"\0":
        raise InvalidMessage(f"bitmap of {len(data)} bytes for at most {limit} bits")
    value = int.from_bytes(data, "little")
    if value >> limit:
        raise InvalidMessage(f"bitmap beyond bit {limit - 1}")
    return frozenset(i for i in range(value.bit_length()) if value >> i & 1)


# -- writing -----------------------------------------------------------------


def _fields(  # noqa: PLR0911 - one return for each kind of message
    message: Message,
) -> tuple[int, list[rlp.Item]]:
    uint = rlp.encode_uint
    match message:
        case Standing():
            return 1, [uint(message.height), uint(message.round), uint(message.step)]
        case VoteBits():
            return 2, [
                uint(message.height),
                uint(message.round),
                uint(message.kind),
                bitmap(message.validators),
            ]
        case Proposal():
            subject = _subject(message.subject)
            return 3, [subject, uint(message.count), message.signature]
        case BlockPart():
            part = message.part
            return 4, [
                uint(message.height),
                message.parts_root,
                uint(part.index),
                uint(part.count),
                part.piece,
                list(part.proof),
            ]
        case PartBits():
            return 5, [uint(message.height), message.parts_root, bitmap(message.parts)]
        case Ballot():
            return 6, _vote(message.vote)
        case Quorum():
            return 7, _quorum(message)
        case Want():
            return 8, [uint(message.height), message.block_hash]
        case Accusation():
            return 9, [message.evidence.encode()]


def _subject(subject: Subject) -> list[rlp.Item]:
    return [
        rlp.encode_uint(subject.height),
        rlp.encode_uint(subject.round),
        subject.block_hash,
        rlp.encode_uint(subject.detail),
        subject.parts_root,
    ]


def _vote(vote: Vote) -> list[rlp.Item]:
    subject = vote.subject
    return [
        rlp.encode_uint(subject.kind),
        rlp.encode_uint(subject.height),
        rlp.encode_uint(subject.round),
        subject.block_hash,
        rlp.encode_uint(subject.detail),
        rlp.encode_uint(vote.validator),
        vote.signature,
    ]


def _quorum(message: Quorum) -> list[rlp.Item]:
    quorum = message.quorum
    return [
        rlp.encode_uint(message.height),
        rlp.encode_uint(quorum.kind),
        rlp.encode_uint(quorum.round),
        quorum.block_hash,
        [
            [
                rlp.encode_uint(vote.validator),
                rlp.encode_uint(vote.subject.detail),
                vote.signature,
            ]
            for vote in quorum.votes
        ],
    ]


# -- reading -----------------------------------------------------------------


def _count(items: list[rlp.Decoded], expected: int) -> list[rlp.Decoded]:
    return rlp.as_list(items, expected)


def _read_standing(items: list[rlp.Decoded]) -> Message:
    height, round_, step = _count(items, 3)
    found = Standing(
        rlp.as_uint(height, 64), rlp.as_uint(round_, 32), rlp.as_uint(step, 8)
    )
    if found.step > 4:
        raise InvalidMessage(f"step {found.step}")
    return found


def _read_vote_bits(items: list[rlp.Decoded]) -> Message:
    height, round_, kind, bits = _count(items, 4)
    return VoteBits(
        rlp.as_uint(height, 64),
        rlp.as_uint(round_, 32),
        _ballot_kind(kind),
        _bits(bits, MAX_VALIDATORS),
    )


def _ballot_kind(item: rlp.Decoded) -> VoteKind:
    kind = VoteKind(rlp.as_uint(item, 8))
    if kind is VoteKind.PROPOSAL:
        raise InvalidMessage("a proposal is no vote")
    return kind


def _read_proposal(items: list[rlp.Decoded]) -> Message:
    subject, count, signature = _count(items, 3)
    height, round_, block_hash, detail, parts_root = rlp.as_list(subject, 5)
    found = Proposal(
        Subject(
            VoteKind.PROPOSAL,
            rlp.as_uint(height, 64),
            rlp.as_uint(round_, 32),
            rlp.as_bytes(block_hash, 32),
            rlp.as_uint(detail, 64),
            rlp.as_bytes(parts_root, 32),
        ),
        rlp.as_uint(count, 16),
        rlp.as_bytes(signature, SIGNATURE_BYTES),
    )
    if not 0 < found.count <= MAX_PARTS:
        raise InvalidMessage(f"a block of {found.count} parts, at most {MAX_PARTS}")
    return found


def _read_part(items: list[rlp.Decoded]) -> Message:
    height, parts_root, index, count, piece, proof = _count(items, 6)
    data, steps = rlp.as_bytes(piece), rlp.as_list(proof)
    if len(data) > PART_BYTES or len(steps) > _MAX_PROOF:
        raise InvalidMessage(f"part of {len(data)} bytes, proof of {len(steps)}")
    part = Part(
        rlp.as_uint(index, 16),
        rlp.as_uint(count, 16),
        data,
        tuple(rlp.as_bytes(step, 32) for step in steps),
    )
    return BlockPart(rlp.as_uint(height, 64), rlp.as_bytes(parts_root, 32), part)


def _read_part_bits(items: list[rlp.Decoded]) -> Message:
    height, parts_root, bits = _count(items, 3)
    return PartBits(
        rlp.as_uint(height, 64), rlp.as_bytes(parts_root, 32), _bits(bits, MAX_PARTS)
    )


def _read_ballot(items: list[rlp.Decoded]) -> Message:
    kind, height, round_, block_hash, detail, validator, signature = _count(items, 7)
    subject = Subject(
        _ballot_kind(kind),
        rlp.as_uint(height, 64),
        rlp.as_uint(round_, 32),
        rlp.as_bytes(block_hash, 32),
        rlp.as_uint(detail, 64),
    )
    index = rlp.as_uint(validator, 16)
    return Ballot(Vote(subject, index, rlp.as_bytes(signature, SIGNATURE_BYTES)))


def _read_quorum(items: list[rlp.Decoded]) -> Message:
    height, kind, round_, block_hash, entries = _count(items, 5)
    place = (
        _ballot_kind(kind),
        rlp.as_uint(height, 64),
        rlp.as_uint(round_, 32),
        rlp.as_bytes(block_hash, 32),
    )
    listed = rlp.as_list(entries)
    if len(listed) > MAX_VALIDATORS:
        raise InvalidMessage(f"{len(listed)} votes, at most {MAX_VALIDATORS}")
    votes: list[Vote] = []
    for entry in listed:
        validator, detail, signature = rlp.as_list(entry, 3)
        votes.append(
            Vote(
                Subject(*place, rlp.as_uint(detail, 64)),
                rlp.as_uint(validator, 16),
                rlp.as_bytes(signature, SIGNATURE_BYTES),
            )
        )
    return Quorum(place[1], QuorumSeen(place[0], place[2], place[3], tuple(votes)))


def _read_want(items: list[rlp.Decoded]) -> Message:
    height, block_hash = _count(items, 2)
    return Want(rlp.as_uint(height, 64), rlp.as_bytes(block_hash, 32))


def _read_accusation(items: list[rlp.Decoded]) -> Message:
    (evidence,) = _count(items, 1)
    return Accusation(Evidence.decode(rlp.as_bytes(evidence)))


_READERS: Final[dict[int, Callable[[list[rlp.Decoded]], Message]]] = {
    1: _read_standing,
    2: _read_vote_bits,
    3: _read_proposal,
    4: _read_part,
    5: _read_part_bits,
    6: _read_ballot,
    7: _read_quorum,
    8: _read_want,
    9: _read_accusation,
}
