"""Blocks in parts: what was cut fits together, what was changed does not."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from chain.block import MAX_BLOCK_BYTES
from consensus.errors import InvalidPart
from consensus.parts import MAX_PARTS, PART_BYTES, Part, cut, verify_part
from tests.support.vectors import Vectors

SIZES = (1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES + 7)


def encoding(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


def test_vectors(vectors: Vectors) -> None:
    computed = [
        {
            "size": size,
            "root": "0x" + root.hex(),
            "proofs": [["0x" + step.hex() for step in part.proof] for part in parts],
        }
        for size in SIZES
        for root, parts in [cut(encoding(size))]
    ]
    vectors.check("block_parts", computed)


@pytest.mark.parametrize("size", SIZES)
def test_every_part_leads_to_the_root(size: int) -> None:
    root, parts = cut(encoding(size))
    for part in parts:
        verify_part(root, part)
    assert b"".join(part.piece for part in parts) == encoding(size)


@given(st.integers(1, 12), st.data())
def test_a_part_in_another_place_is_refused(count: int, data: st.DataObject) -> None:
    root, parts = cut(encoding((count - 1) * PART_BYTES + 1))
    part = data.draw(st.sampled_from(parts))
    with pytest.raises(InvalidPart):
        verify_part(root, replace(part, index=data.draw(st.integers(count, 300))))
    with pytest.raises(InvalidPart):
        verify_part(root, replace(part, count=count + data.draw(st.integers(1, 300))))
    with pytest.raises(InvalidPart):
        verify_part(root, replace(part, piece=part.piece[:-1] + b"!"))
    with pytest.raises(InvalidPart):
        verify_part(root, replace(part, proof=(*part.proof, bytes(32))))
    if count > 1:
        with pytest.raises(InvalidPart):
            verify_part(root, replace(part, proof=part.proof[1:]))
        with pytest.raises(InvalidPart):
            verify_part(root, replace(part, index=(part.index + 1) % count))


@pytest.mark.parametrize(
    "part",
    [
        Part(0, 0, b"a", ()),
        Part(0, MAX_PARTS + 1, b"a", ()),
        Part(-1, 1, b"a", ()),
        Part(0, 1, b"", ()),
        Part(0, 1, bytes(PART_BYTES + 1), ()),
        Part(0, 2, b"short", (bytes(32),)),
        Part(0, 2, bytes(PART_BYTES), (bytes(31),)),
    ],
)
def test_malformed_parts_are_refused(part: Part) -> None:
    with pytest.raises(InvalidPart):
        verify_part(bytes(32), part)


def test_only_what_a_block_may_be_is_cut() -> None:
    for size in (0, MAX_BLOCK_BYTES + 1):
        with pytest.raises(InvalidPart, match="bytes"):
            cut(bytes(size))
