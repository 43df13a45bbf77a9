"""Tensor and state roots, and openings of tiles."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ml_verifier import commitment
from ml_verifier.commitment import (
    open_tile,
    state_root,
    tensor_root,
    tile_count,
    trap_root,
    verify_opening,
)
from ml_verifier.errors import MalformedOpening
from tests.support.vectors import Vectors

SHAPES = [(), (1,), (64,), (65,), (3, 5), (64, 64), (65, 130), (2, 3, 70)]


def ramp(shape: tuple[int, ...]) -> commitment.Array:
    size = int(np.prod(shape, dtype=int))
    return np.arange(size, dtype=np.float32).reshape(shape)


def test_vectors(vectors: Vectors) -> None:
    tensors = [ramp(shape) for shape in SHAPES]
    vectors.check(
        "commitment",
        {
            "ramps": [
                {"shape": list(s), "root": tensor_root(t).hex()}
                for s, t in zip(SHAPES, tensors, strict=True)
            ],
            "i64": tensor_root(np.arange(5)).hex(),
            "state": {"position": 3, "root": state_root(3, tensors).hex()},
            "trap_after_zero": trap_root(bytes(32)).hex(),
            "opening": open_tile(3, tensors, 6, 4).encode().hex(),
        },
    )


def test_the_root_binds_shape_dtype_and_every_bit() -> None:
    zero = np.zeros((2, 3), np.float32)
    negative = zero.copy()
    negative[1, 2] = -0.0
    roots = {
        tensor_root(zero),
        tensor_root(zero.reshape(3, 2)),
        tensor_root(zero.reshape(6)),
        tensor_root(np.zeros(3, np.int64)),
        tensor_root(negative),
    }
    assert len(roots) == 5


def test_the_state_root_binds_the_step_index_and_slot_order() -> None:
    a, b = ramp((2,)), ramp((3,))
    assert (
        len({state_root(0, [a, b]), state_root(1, [a, b]), state_root(0, [b, a])}) == 3
    )


@given(st.sampled_from(range(len(SHAPES))), st.data())
def test_tiles_open(slot: int, data: st.DataObject) -> None:
    tensors = [ramp(shape) for shape in SHAPES]
    tile = data.draw(st.integers(0, tile_count(SHAPES[slot]) - 1))
    encoded = open_tile(9, tensors, slot, tile).encode()
    root = state_root(9, tensors)
    assert verify_opening(root, slot, tile, encoded).encode() == encoded
    broken = bytearray(encoded)
    broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1
    with pytest.raises(MalformedOpening):
        verify_opening(root, slot, tile, bytes(broken))
    with pytest.raises(MalformedOpening):
        verify_opening(root, slot, tile, encoded + b"\0")
    with pytest.raises(MalformedOpening):
        verify_opening(root, slot + 1, tile, encoded)
    with pytest.raises(MalformedOpening):
        verify_opening(root, slot, tile + 1, encoded)


@given(st.binary(max_size=200), st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1))
def test_noise_opens_nothing(noise: bytes, slot: int, tile: int) -> None:
    with pytest.raises(MalformedOpening):
        verify_opening(bytes(32), slot, tile, noise)
