"""Block sync on the wire: vectors, round trips, refusals, parts."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from chain import rlp
from chain.errors import Malformed
from consensus.parts import PART_BYTES, Part, cut
from node.p2p.errors import PeerFaultError
from node.sync.assembly import Assembler, EncodedBlock, messages
from node.sync.messages import (
    MAX_MESSAGE_BYTES,
    BlockPart,
    End,
    LargeBlock,
    Message,
    Request,
    SmallBlock,
    Status,
    decode,
    encode,
)
from tests.support.vectors import Vectors

SAMPLES: dict[str, Message] = {
    "status": Status(1, 300),
    "status of a node without blocks": Status(1, 0),
    "request": Request(17, 16),
    "block": SmallBlock(5, b"block", b"certificate"),
    "large block": LargeBlock(6, 100_000, b"\1" * 32, b"certificate"),
    "part": BlockPart(6, Part(1, 2, b"piece", (b"\2" * 32,))),
    "end": End(17, 0),
}


def test_vectors(vectors: Vectors) -> None:
    rows = {name: "0x" + encode(each).hex() for name, each in SAMPLES.items()}
    vectors.check("sync_messages", rows)


@pytest.mark.parametrize("message", SAMPLES.values(), ids=list(SAMPLES))
def test_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message


BIG = PART_BYTES + 1


@pytest.mark.parametrize(
    ("kind", "items", "reason"),
    [
        (0, [], "unknown kind 00"),
        (7, [], "unknown kind 07"),
        (1, [b"\1"], "list of 2"),
        (1, [b"", b"\1"], "from 0 to 1"),
        (1, [b"\5", b"\3"], "from 5 to 3"),
        (2, [b"\1", b""], "request of 0"),
        (2, [b"\1", b"\x41"], "request of 65"),
        (2, [b"", b"\1"], "from 0"),
        (3, [b"\1", b"", b"x"], "block: expected"),
        (3, [b"\1", bytes(BIG), b"x"], "block: expected"),
        (3, [b"\1", b"x", bytes(110_000)], "certificate: expected"),
        (4, [b"\1", b"\1\0\0", bytes(32), b"x"], "large block: expected 65537"),
        (4, [b"\1", b"\x80\0\1", bytes(32), b"x"], "large block: expected 65537"),
        (4, [b"\1", b"\1\0\1", bytes(31), b"x"], "32 bytes"),
        (5, [b"\1", b"", b"\1", b"x", [bytes(32)] * 9], "a proof of 9"),
        (5, [b"\1", b"", b"\x81", b"x", []], "129 parts"),
        (5, [b"\1", b"", b"\1", b"", []], "piece: expected"),
        (6, [b"\1", b"\0"], "leading zero"),
    ],
)
def test_refusals(kind: int, items: list[rlp.Item], reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decode(bytes((kind,)) + rlp.encode(items))


def test_nothing_and_too_much_are_refused() -> None:
    with pytest.raises(Malformed, match="unknown kind of nothing"):
        decode(b"")
    with pytest.raises(Malformed, match="are possible"):
        decode(b"\3" + bytes(MAX_MESSAGE_BYTES))


@given(st.binary(max_size=200), st.integers(0, 7))
def test_whatever_decodes_has_one_encoding(data: bytes, kind: int) -> None:
    data = bytes((kind,)) + data
    try:
        message = decode(data)
    except Malformed:
        return
    assert encode(message) == data


SIZES = [1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 5]


@pytest.mark.parametrize("size", SIZES)
def test_blocks_come_together_again(size: int) -> None:
    sent = EncodedBlock(9, bytes(range(256)) * (size // 256) + bytes(size % 256), b"c")
    assembler = Assembler()
    *before, last = (decode(encode(each)) for each in messages(sent))
    for message in before:
        assert isinstance(message, LargeBlock | BlockPart)
        assert assembler.take(message) is None
        assert assembler.busy
    assert not isinstance(last, Status | Request | End)
    assert assembler.take(last) == sent
    assert not assembler.busy
    assert sent.size == size + 1


OTHER_PIECE = b"x" * PART_BYTES
LARGE = EncodedBlock(9, bytes(3 * PART_BYTES), b"c")


def _parts() -> list[BlockPart]:
    return [each for each in messages(LARGE) if isinstance(each, BlockPart)]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda part: replace(part, height=8), "out of place"),
        (lambda _: _parts()[1], "expected part 0 of 3, got part 1 of 3"),
        (lambda part: replace(part, part=replace(part.part, count=4)), "of 4"),
        (
            lambda part: replace(
                part, part=replace(part.part, piece=b"x" * PART_BYTES)
            ),
            "does not lead to",
        ),
    ],
    ids=["height", "order", "count", "content"],
)
def test_wrong_parts_are_a_fault(
    spoil: Callable[[BlockPart], BlockPart], reason: str
) -> None:
    head, *_ = messages(LARGE)
    assert isinstance(head, LargeBlock)
    assembler = Assembler()
    assembler.take(head)
    with pytest.raises(PeerFaultError, match=reason):
        assembler.take(spoil(_parts()[0]))


def test_answers_do_not_overlap() -> None:
    head, part, *_ = messages(LARGE)
    assert isinstance(head, LargeBlock)
    assert isinstance(part, BlockPart)
    with pytest.raises(PeerFaultError, match="out of place"):
        Assembler().take(part)
    assembler = Assembler()
    assembler.take(head)
    for other in (head, SmallBlock(10, b"b", b"c")):
        with pytest.raises(PeerFaultError, match="begins before block 9 ended"):
            assembler.take(other)


def test_a_lie_about_the_size_is_found_at_the_end() -> None:
    block = bytes(2 * PART_BYTES + 7)
    root, parts = cut(block)
    assembler = Assembler()
    assembler.take(LargeBlock(1, len(block) + 1, root, b"c"))
    for part in parts[:2]:
        assert assembler.take(BlockPart(1, part)) is None
    with pytest.raises(PeerFaultError, match="expected 131080 bytes, got 131079"):
        assembler.take(BlockPart(1, parts[2]))
