"""BLAKE3 over tensors, against the blake3 package and the page that defines roots."""

import math
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, strategies as st

from ml_verifier import kernels
from ml_verifier.commitment import tile_count
from ml_verifier.kernels import BindingError, hashing
from ml_verifier.kernels.hashing import Flag
from tests.kernels.cases import Array, settings

CONTEXTS = ("a tile", "a node", "a root")
KEYS = b"".join(map(hashing.derive_key, CONTEXTS))
DTYPES = ("u1", "<u2", "<f4", "<i8")
RANDOM = np.random.default_rng(5)


def noise(shape: Sequence[int], dtype: str = "<f4") -> Array:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(RANDOM.bytes(size), dtype).reshape(shape)


def digest(data: bytes, context: str) -> bytes:
    return blake3(data, derive_key_context=context).digest()


def levels(array: Array) -> list[list[bytes]]:
    """The tile tree as docs/spec/commitments.md says."""
    columns = array.shape[-1] if array.shape else 1
    matrix = array.reshape(-1, columns)
    level = [
        digest(matrix[top : top + 64, left : left + 64].tobytes(), CONTEXTS[0])
        for top in range(0, len(matrix), 64)
        for left in range(0, columns, 64)
    ]
    while len(level) & (len(level) - 1):
        level.append(bytes(32))
    result = [level]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [digest(left + right, CONTEXTS[1]) for left, right in pairs]
        result.append(level)
    return result


def root(array: Array, code: int) -> bytes:
    kind = struct.pack(f">BB{array.ndim}I", code, array.ndim, *array.shape)
    return digest(kind + levels(array)[-1][0], CONTEXTS[2])


def roots_everywhere(arrays: Sequence[Array], codes: Sequence[int]) -> set[bytes]:
    """All that instruction sets and threads make of the roots; one, if they agree."""
    found: set[bytes] = set()
    for isa in kernels.isas():
        for threads in (1, 2, 3):
            with settings(isa=isa, threads=threads):
                found.add(b"".join(hashing.tensor_roots(arrays, codes, KEYS)))
    return found


sizes = st.one_of(st.integers(1, 9), st.sampled_from([16, 32, 63, 64, 65, 128, 200]))
shapes = st.lists(sizes, max_size=4).filter(lambda s: math.prod(s) < 50_000)


@given(st.lists(st.tuples(shapes, st.sampled_from(DTYPES)), min_size=1, max_size=6))
def test_roots(kinds: list[tuple[list[int], str]]) -> None:
    arrays = [noise(shape, dtype) for shape, dtype in kinds]
    codes = list(range(len(arrays)))
    expected = b"".join(map(root, arrays, codes))
    assert roots_everywhere(arrays, codes) == {expected}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(700, 900), (64 * 2100,), (3000, 10), (5, 64 * 30)])
def test_work_that_is_shared_among_threads(shape: tuple[int, ...], dtype: str) -> None:
    arrays = [noise((), dtype), noise(shape, dtype), noise((1,), dtype)]
    expected = b"".join(root(array, 7) for array in arrays)
    assert roots_everywhere(arrays, [7, 7, 7]) == {expected}


@given(shapes, st.sampled_from(DTYPES))
def test_levels(shape: list[int], dtype: str) -> None:
    array = noise(shape, dtype)
    expected = levels(array)
    found = hashing.tensor_levels(array, tile_count(array.shape), KEYS)
    assert [[row.tobytes() for row in level] for level in found] == expected


def test_unaligned_memory() -> None:
    data = RANDOM.bytes(1 + 4 * 300 * 130)
    array = np.frombuffer(data, "<f4", offset=1).reshape(300, 130)
    assert hashing.tensor_roots([array], [1], KEYS) == [root(array, 1)]


def test_no_tensors_have_no_roots() -> None:
    assert hashing.tensor_roots([], [], KEYS) == []


@given(st.binary(max_size=1024))
def test_one_chunk(data: bytes) -> None:
    for isa in kernels.isas():
        with settings(isa=isa):
            assert hashing.hash_chunk(data, KEYS[:32]) == digest(data, CONTEXTS[0])


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=40))
def test_many_messages_at_once(parts: list[bytes]) -> None:
    stretched = [part * 25 for part in parts]
    data, at, rows = b"".join(stretched), 0, list[list[int]]()
    for part in stretched:
        rows.append([at, len(part), 0, Flag.CHUNK_START, Flag.CHUNK_END | Flag.ROOT])
        at += len(part)
    expected = b"".join(digest(part, CONTEXTS[2]) for part in stretched)
    for isa in kernels.isas():
        with settings(isa=isa):
            found = hashing.hash_messages(data, np.array(rows), KEYS[64:])
            assert found.tobytes() == expected


def test_chunks_and_parents_make_blake3() -> None:
    data = RANDOM.bytes(2 * 1024 + 77)
    rows = [
        [1024 * k, min(1024, len(data) - 1024 * k), k, Flag.CHUNK_START, Flag.CHUNK_END]
        for k in range(3)
    ]
    a, b, c = hashing.hash_messages(data, np.array(rows), KEYS[:32])
    both = np.concatenate([a, b]).tobytes()
    parent = hashing.hash_messages(
        both, np.array([[0, 64, 0, Flag.PARENT, 0]]), KEYS[:32]
    )
    top = np.concatenate([parent[0], c]).tobytes()
    last = np.array([[0, 64, 0, Flag.PARENT, Flag.ROOT]])
    found = hashing.hash_messages(top, last, KEYS[:32])
    assert found.tobytes() == digest(data, CONTEXTS[0])


@pytest.mark.parametrize(
    "array",
    [
        noise((4, 4))[:, ::2],
        noise((4, 4)).T,
        noise((0, 4)),
        np.zeros(2, np.complex128),
        np.zeros(2, "S3"),
        noise((1,) * 9),
    ],
)
def test_other_arrays_are_refused(array: Array) -> None:
    with pytest.raises(BindingError, match=r"C-contiguous|dimensions"):
        hashing.tensor_roots([array], [1], KEYS)


def test_a_tree_of_another_size_is_refused() -> None:
    with pytest.raises(BindingError, match="other than 7 nodes"):
        hashing.tensor_levels(noise((65, 2)), 3, KEYS)


def test_keys_of_another_length_are_refused() -> None:
    with pytest.raises(BindingError, match="32 bytes"):
        hashing.tensor_roots([noise((2,))], [1], KEYS[1:])
    with pytest.raises(BindingError, match="32 bytes"):
        hashing.hash_chunk(b"", KEYS)


@pytest.mark.parametrize(
    "row", [[0, 1025, 0, 1, 2], [-1, 4, 0, 1, 2], [1998, 3, 0, 1, 2]]
)
def test_messages_outside_of_their_bytes_are_refused(row: list[int]) -> None:
    with pytest.raises(BindingError, match="inside of 2000 bytes"):
        hashing.hash_messages(bytes(2000), np.array([row]), KEYS[:32])


def test_a_table_of_another_width_is_refused() -> None:
    with pytest.raises(BindingError, match="rows of 5"):
        hashing.hash_messages(b"", np.zeros((1, 4), np.int64), KEYS[:32])
