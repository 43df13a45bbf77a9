"""Openings in pieces of 1 KiB: what they show, and that nothing else passes."""

import math
import struct
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ml_verifier import commitment, pieces
from ml_verifier.commitment import Array, Indices, tensor_root, type_of
from ml_verifier.errors import MalformedOpening
from ml_verifier.kernels.hashing import Flag, hash_messages
from ml_verifier.pieces import (
    Piece,
    chunk_count,
    open_piece,
    open_pieces,
    opening_size,
    piece_of,
    ranges_of,
    verify_pieces,
)
from ml_verifier.types import DType, TensorType
from tests.support.vectors import Vectors

Wanted = set[tuple[int, int]]


def noise(type_: TensorType, seed: int = 0) -> Array:
    data = np.random.default_rng(seed).bytes(type_.nbytes)
    return np.frombuffer(data, type_.dtype.numpy).reshape(type_.shape)


def all_pieces(type_: TensorType) -> Wanted:
    tiles = range(commitment.tile_count(type_.shape))
    return {(tile, k) for tile in tiles for k in range(chunk_count(type_, tile))}


def flat(ranges: Iterable[range]) -> Indices:
    return np.concatenate([np.arange(r.start, r.stop) for r in ranges])


def shown(array: Array, wanted: Wanted) -> dict[tuple[int, int], bytes]:
    """The bytes of pieces, by the definition of a piece."""
    return {
        (tile, k): commitment.tile_bytes(array, tile)[1024 * k : 1024 * (k + 1)]
        for tile, k in wanted
    }


sizes = st.one_of(st.integers(1, 9), st.sampled_from([63, 64, 65, 100, 128, 200]))
shapes = st.lists(sizes, max_size=3).filter(lambda s: math.prod(s) < 60_000)
types = st.builds(TensorType, st.sampled_from(DType), shapes.map(tuple))


@st.composite
def openings(draw: st.DrawFn) -> tuple[Array, Wanted]:
    type_ = draw(types)
    possible = sorted(all_pieces(type_))
    wanted = draw(st.sets(st.sampled_from(possible), min_size=1, max_size=40))
    return noise(type_, draw(st.integers(0, 9))), wanted


# ── a second writer, piece by piece ──────────────────────────────────────────


def one(data: bytes, counter: int, first: int, last: int) -> bytes:
    row = np.array([[0, len(data), counter, first, last]])
    return hash_messages(data, row, commitment.TILE_KEY).tobytes()


def inside(array: Array, wanted: Wanted) -> bytes:
    """Absent chaining values, level by level, by tile, by index."""
    out, known = b"", set(wanted)
    width = {tile: chunk_count(type_of(array), tile) for tile, _ in wanted}
    chunks = {(tile, k) for tile, count in width.items() for k in range(count)}
    values = {
        (tile, k): one(data, k, Flag.CHUNK_START, Flag.CHUNK_END)
        for (tile, k), data in shown(array, chunks).items()
    }
    while any(count > 1 for count in width.values()):
        for tile, k in sorted(known):
            if k ^ 1 < width[tile] and (tile, k ^ 1) not in known:
                out += values[tile, k ^ 1]
        lefts = {place: value for place, value in values.items() if not place[1] & 1}
        above = {}
        for (tile, k), value in lefts.items():
            right = values.get((tile, k + 1))
            parent = one(value + right, 0, Flag.PARENT, 0) if right else value
            above[tile, k // 2] = parent
        values, known = above, {(tile, k // 2) for tile, k in known}
        width = {tile: -(-count // 2) for tile, count in width.items()}
    return out


def plain(array: Array, wanted: Wanted) -> bytes:
    """An opening written as docs/spec/commitments.md tells it."""
    held = {tile for tile, _ in wanted}
    out = struct.pack(">I", len(held))
    for tile in sorted(held):
        out += struct.pack(">II", tile, sum(1 << k for t, k in wanted if t == tile))
    out += b"".join(data for _, data in sorted(shown(array, wanted).items()))
    out += inside(array, wanted)
    for level in commitment.tensor_levels(array)[:-1]:
        out += b"".join(
            level[i ^ 1].tobytes() for i in sorted(held - {i ^ 1 for i in held})
        )
        held = {i // 2 for i in held}
    return out


@given(openings())
def test_two_writers_agree(case: tuple[Array, Wanted]) -> None:
    array, wanted = case
    assert open_pieces(array, wanted) == plain(array, wanted)


# ── success ──────────────────────────────────────────────────────────────────

VECTORS = [
    (TensorType(DType.F32, ()), {(0, 0)}),
    (TensorType(DType.BOOL, (3, 70)), {(1, 0)}),
    (TensorType(DType.BF16, (70, 5)), {(0, 0), (1, 0)}),
    (TensorType(DType.F32, (130,)), {(1, 0)}),
    (TensorType(DType.F32, (65, 130)), {(2, 0), (3, 0), (4, 0)}),
    (TensorType(DType.I64, (50, 9)), {(0, 3)}),
    (TensorType(DType.F32, (40, 8)), {(0, 0), (0, 1)}),
]


def ramp(type_: TensorType) -> Array:
    elements = np.arange(type_.size) % 251
    return elements.astype(type_.dtype.numpy).reshape(type_.shape)


def test_vectors(vectors: Vectors) -> None:
    rows = []
    for type_, wanted in VECTORS:
        array = ramp(type_)
        opening, root = open_pieces(array, wanted), tensor_root(array)
        assert verify_pieces(root, type_, opening) == shown(array, wanted)
        rows.append(
            {
                "dtype": int(type_.dtype),
                "shape": list(type_.shape),
                "pieces": [list(piece) for piece in sorted(wanted)],
                "root": root.hex(),
                "opening": opening.hex(),
                "refused": [bad.hex() for bad in mutants(type_, root, opening)],
            }
        )
    vectors.check("pieces", rows)


def mutants(type_: TensorType, root: bytes, opening: bytes) -> list[bytes]:
    """Openings that must not pass; short ones only, for the sake of the file."""
    if len(opening) > 300:
        return []
    bad = [
        b"",
        opening[:-1],
        opening + b"\0",
        struct.pack(">I", 0),
        opening[:4] + struct.pack(">I", 2**32 - 1) + opening[8:],
        opening[:8] + struct.pack(">I", 0) + opening[12:],
        opening[:8] + struct.pack(">I", 2) + opening[12:],
        opening[:12] + bytes([opening[12] ^ 1]) + opening[13:],
        opening[:-1] + bytes([opening[-1] ^ 0x80]),
    ]
    for data in bad:
        with pytest.raises(MalformedOpening):
            verify_pieces(root, type_, data)
    return bad


@given(openings())
def test_what_is_opened_is_shown(case: tuple[Array, Wanted]) -> None:
    array, wanted = case
    type_ = type_of(array)
    opening = open_pieces(array, wanted)
    assert len(opening) == opening_size(type_, wanted)
    assert verify_pieces(tensor_root(array), type_, opening) == shown(array, wanted)
    levels = commitment.tensor_levels(array)
    assert open_pieces(array, wanted, levels) == opening


@given(types)
def test_all_pieces_need_no_hashes_inside(type_: TensorType) -> None:
    array, wanted = noise(type_), all_pieces(type_)
    tiles = commitment.tile_count(type_.shape)
    paths = 0  # of padding and what is above it
    count = tiles
    while count > 1:
        paths, count = paths + count % 2, -(-count // 2)
    size = opening_size(type_, wanted)
    assert size == 4 + 8 * tiles + type_.nbytes + 32 * paths
    opened = verify_pieces(tensor_root(array), type_, open_pieces(array, wanted))
    assert opened == shown(array, wanted)


def test_a_whole_tile_costs_its_bytes_and_its_path() -> None:
    type_ = TensorType(DType.F32, (64 * 4, 64 * 4))
    whole = {(5, k) for k in range(16)}
    assert opening_size(type_, whole) == 4 + 8 + 16_384 + 32 * 4
    assert opening_size(type_, {(5, 3)}) == 4 + 8 + 1024 + 32 * (4 + 4)
    assert opening_size(type_, {(5, 2), (5, 3)}) == 4 + 8 + 2048 + 32 * (3 + 4)


def test_one_piece_is_a_set_of_one() -> None:
    array = noise(TensorType(DType.F32, (65, 130)))
    assert open_piece(array, 1, 7) == open_pieces(array, {Piece(1, 7)})


@given(types)
def test_pieces_partition_the_elements(type_: TensorType) -> None:
    array = noise(type_)
    seen = []
    for tile, chunk in sorted(all_pieces(type_)):
        elements = flat(ranges_of(type_, (tile, chunk)))
        expected = shown(array, {(tile, chunk)})[tile, chunk]
        assert array.reshape(-1)[elements].tobytes() == expected
        tiles, chunks, offsets = piece_of(type_, elements)
        assert set(tiles.tolist()) == {tile}
        assert set(chunks.tolist()) == {chunk}
        assert offsets.tolist() == list(range(0, len(expected), array.itemsize))
        assert piece_of(type_, int(elements[-1])) == (tile, chunk, offsets[-1])
        seen += elements.tolist()
    assert sorted(seen) == list(range(type_.size))


def test_places_keep_the_shape_of_the_indices() -> None:
    type_ = TensorType(DType.F32, (70, 70))
    tile, chunk, offset = piece_of(type_, np.arange(12).reshape(3, 4))
    assert tile.shape == chunk.shape == offset.shape == (3, 4)


# ── refusals ─────────────────────────────────────────────────────────────────


def refused(root: bytes, type_: TensorType, data: bytes) -> None:
    with pytest.raises(MalformedOpening):
        verify_pieces(root, type_, data)


@given(openings(), st.data())
def test_any_flipped_bit_is_refused(
    case: tuple[Array, Wanted], data: st.DataObject
) -> None:
    array, wanted = case
    root, opening = tensor_root(array), bytearray(open_pieces(array, wanted))
    head = 4 + 8 * len({tile for tile, _ in wanted})
    places = st.one_of(st.integers(0, head - 1), st.integers(0, len(opening) - 1))
    opening[data.draw(places)] ^= 1 << data.draw(st.integers(0, 7))
    refused(root, type_of(array), bytes(opening))


@pytest.mark.parametrize(("type_", "wanted"), VECTORS[:4])
def test_every_changed_byte_is_refused(type_: TensorType, wanted: Wanted) -> None:
    array = noise(type_)
    root, opening = tensor_root(array), open_pieces(array, wanted)
    for place in range(len(opening)):
        broken = bytearray(opening)
        broken[place] ^= 1 << place % 8
        refused(root, type_, bytes(broken))


@given(openings(), st.binary(min_size=1, max_size=70), st.integers(1, 100))
def test_other_lengths_are_refused(
    case: tuple[Array, Wanted], more: bytes, less: int
) -> None:
    array, wanted = case
    root, opening = tensor_root(array), open_pieces(array, wanted)
    refused(root, type_of(array), opening + more)
    refused(root, type_of(array), opening[: -min(less, len(opening))])


@given(openings())
def test_another_root_or_type_is_refused(case: tuple[Array, Wanted]) -> None:
    array, wanted = case
    root, opening = tensor_root(array), open_pieces(array, wanted)
    refused(bytes(32), type_of(array), opening)
    refused(root, TensorType(type_of(array).dtype, (1, *array.shape)), opening)


def test_same_bytes_of_another_dtype_are_refused() -> None:
    a, b = TensorType(DType.F32, (8, 8)), TensorType(DType.I64, (8, 4))
    array = noise(a)
    refused(tensor_root(array), b, open_piece(array, 0, 0))


def entry(*words: int) -> bytes:
    return struct.pack(f">{len(words)}I", *words)


@pytest.mark.parametrize(
    "head",
    [
        entry(0),  # nothing is opened
        entry(1, 0, 0),  # of a tile, nothing is opened
        entry(2, 0, 1, 0, 2),  # one tile twice
        entry(2, 1, 1, 0, 1),  # tiles descend
        entry(1, 4, 1),  # a tile that is not there
        entry(1, 0, 1 << 16),  # a chunk that is not there
        entry(1, 1, 1 << 9),
        entry(2**32 - 1, 0, 1),  # more tiles than bytes
    ],
)
def test_impossible_sets_are_refused(head: bytes) -> None:
    type_ = TensorType(DType.F32, (66, 100))  # 4 tiles of 16, 9, 1 and 1 chunks
    for size in (0, 1024, 30_000):
        refused(bytes(32), type_, head + bytes(size))


@given(types, st.binary(max_size=300))
def test_noise_opens_nothing(type_: TensorType, data: bytes) -> None:
    refused(bytes(32), type_, data)
    refused(bytes(32), type_, b"\0\0\0" + data)


@pytest.mark.parametrize("piece", [(4, 0), (-1, 0), (0, 16), (0, -1), (1, 9)])
def test_pieces_that_are_not_there_cannot_be_opened(piece: tuple[int, int]) -> None:
    type_ = TensorType(DType.F32, (66, 100))
    with pytest.raises(IndexError, match="expected a"):
        open_pieces(noise(type_), {(0, 0), piece})
    with pytest.raises(IndexError, match="expected a"):
        opening_size(type_, {piece})
    with pytest.raises(IndexError, match="expected a"):
        ranges_of(type_, piece)


def test_an_empty_set_cannot_be_opened() -> None:
    with pytest.raises(ValueError, match="at least one piece"):
        open_pieces(noise(TensorType(DType.F32, (2,))), set())


@pytest.mark.parametrize("index", [-1, 12, np.array([0, 12]), np.array([-1, 3])])
def test_elements_that_are_not_there_are_in_no_piece(index: int) -> None:
    with pytest.raises(IndexError, match="below 12"):
        piece_of(TensorType(DType.F32, (3, 4)), index)


def test_no_elements_are_in_no_pieces() -> None:
    none = np.empty(0, np.int64)
    tile, _, _ = pieces.piece_of(TensorType(DType.F32, (3, 4)), none)
    assert tile.shape == (0,)
