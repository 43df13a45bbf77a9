"""Messages: what was written is read back, everything else is refused by name."""

from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from consensus.errors import InvalidMessage
from consensus.evidence import Evidence
from consensus.machine import QuorumSeen
from consensus.messages import (
    MAX_MESSAGE_BYTES,
    Accusation,
    Ballot,
    BlockPart,
    Message,
    PartBits,
    Proposal,
    Quorum,
    Standing,
    VoteBits,
    Want,
    bitmap,
    decode,
    encode,
)
from consensus.parts import PART_BYTES, Part, cut
from consensus.votes import Subject, VoteKind
from tests.consensus.committee import BLOCK, OTHER_BLOCK, Committee
from tests.support.vectors import Vectors

COMMITTEE = Committee(1, 1, 1, 1)
PREVOTE = VoteKind.PREVOTE
ROOT, PARTS = cut(bytes(PART_BYTES + 9))
BALLOTS = tuple(COMMITTEE.vote(index, detail=index) for index in range(3))
MESSAGES: list[Message] = [
    Standing(7, 2, 3),
    VoteBits(7, 2, PREVOTE, frozenset({0, 9, 1_023})),
    VoteBits(7, 2, PREVOTE, frozenset()),
    Proposal(Subject(VoteKind.PROPOSAL, 7, 2, BLOCK, 2, OTHER_BLOCK), 128, b"\5" * 65),
    BlockPart(7, ROOT, PARTS[1]),
    PartBits(7, ROOT, frozenset({1})),
    Ballot(COMMITTEE.vote(3, PREVOTE, OTHER_BLOCK, round_=4)),
    Quorum(1, QuorumSeen(VoteKind.PRECOMMIT, 0, BLOCK, BALLOTS)),
    Want(7, BLOCK),
    Accusation(
        Evidence.of(
            COMMITTEE.vote(0), COMMITTEE.vote(0, block_hash=OTHER_BLOCK), COMMITTEE.set
        )
    ),
]


def test_vectors(vectors: Vectors) -> None:
    computed = [
        {"message": type(each).__name__, "encoded": "0x" + encode(each).hex()}
        for each in MESSAGES
    ]
    vectors.check("consensus_messages", computed)


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message


def test_the_largest_messages_fit() -> None:
    part = Part(0, 128, bytes(PART_BYTES), (bytes(32),) * 7)
    votes = tuple(COMMITTEE.vote(0, detail=2**64 - 1) for _ in range(1_024))
    quorum = QuorumSeen(VoteKind.PRECOMMIT, 0, BLOCK, votes)
    for message in (BlockPart(2**64 - 1, ROOT, part), Quorum(1, quorum)):
        assert decode(encode(message)) == message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "bytes"),
        (bytes(MAX_MESSAGE_BYTES + 1), "bytes"),
        (b"\x00\xc0", "unknown kind 0"),
        (b"\x0a\xc0", "unknown kind 10"),
        (b"\x01\xc2\x01\x01", "list of 3"),
        (b"\x01\xc3\x01\x01\x05", "step 5"),
        (b"\x02\xc4\x01\x80\x01\x80", "no vote"),
        (b"\x02\xc5\x01\x80\x02\x81\x00", "kind 2"),
        (b"\x02\xc6\x01\x80\x02\x82\x01\x00", "bitmap"),
        (encode(MESSAGES[3])[:-1], "kind 3"),
        (encode(MESSAGES[4]) + b"\0", "kind 4"),
    ],
)
def test_refusals(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        decode(data)


def test_bounds_inside_messages() -> None:
    subject = Subject(VoteKind.PROPOSAL, 7, 2, BLOCK, 0, OTHER_BLOCK)
    votes = tuple(COMMITTEE.vote(0) for _ in range(1_025))
    for message in (
        VoteBits(1, 0, PREVOTE, frozenset({1_024})),
        PartBits(1, ROOT, frozenset({128})),
        Proposal(subject, 0, bytes(65)),
        Proposal(subject, 129, bytes(65)),
        BlockPart(1, ROOT, Part(0, 1, bytes(PART_BYTES + 1), ())),
        BlockPart(1, ROOT, Part(0, 1, b"a", (bytes(32),) * 9)),
        Quorum(1, QuorumSeen(PREVOTE, 0, BLOCK, votes)),
    ):
        with pytest.raises(InvalidMessage):
            decode(encode(message))


@given(st.sets(st.integers(0, 1_023)))
def test_bitmaps_round_trip(indices: set[int]) -> None:
    bits = VoteBits(1, 0, PREVOTE, frozenset(indices))
    assert decode(encode(bits)) == bits
    assert bitmap(indices)[-1:] != b"\0"


@given(st.integers(0, 10), st.binary(max_size=200))
def test_garbage_is_refused_or_is_the_canonical_form(kind: int, rest: bytes) -> None:
    data = bytes((kind,)) + rest
    try:
        message = decode(data)
    except InvalidMessage:
        return
    assert encode(message) == data


@given(st.sampled_from(MESSAGES), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_says_something_else(
    message: Message, place: int, change: int
) -> None:
    data = bytearray(encode(message))
    data[place % len(data)] ^= change
    with suppress(InvalidMessage):
        assert decode(bytes(data)) != message
