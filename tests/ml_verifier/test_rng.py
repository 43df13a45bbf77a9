"""The order of data and the initial weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from ml_verifier import oracle
from ml_verifier.initial import (
    Constant,
    Initialiser,
    Normal,
    Uniform,
    ZeroRow,
    encode,
    rounded,
)
from ml_verifier.program import Slot
from ml_verifier.rng import EpochOrder, batch_indices, initial_tensor
from ml_verifier.session import Batches
from ml_verifier.types import TensorType, bf16, f32
from tests.support.vectors import Vectors


def test_vectors(vectors: Vectors) -> None:
    vectors.check(
        "feistel",
        [
            {
                "seed": seed,
                "epoch": epoch,
                "records": records,
                "order": [EpochOrder(seed, epoch, records)[i] for i in range(records)],
            }
            for seed, epoch, records in [
                (0, 0, 1),
                (1, 0, 5),
                (1, 1, 5),
                (2**64 - 1, 3, 17),
            ]
        ],
    )


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 300))
def test_an_epoch_is_a_permutation(seed: int, epoch: int, records: int) -> None:
    order = EpochOrder(seed, epoch, records)
    assert sorted(order.all().tolist()) == list(range(records))
    assert order.all().tolist() == [order[i] for i in range(records)]


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 17), st.integers(0, 60))
def test_batches_agree_with_single_steps(
    seed: int, records: int, batch: int, step: int
) -> None:
    assert Batches(seed, records, batch)[step] == batch_indices(
        seed, records, batch, step
    )


def test_consecutive_batches_cover_each_epoch_once() -> None:
    places = [i for step in range(5) for i in batch_indices(3, 10, 4, step)]
    assert sorted(places[:10]) == sorted(places[10:]) == list(range(10))


def test_positions_outside_the_epoch_are_refused() -> None:
    with pytest.raises(IndexError, match="below 4"):
        EpochOrder(1, 0, 4)[4]


def test_initial_weights_depend_on_seed_and_slot_only() -> None:
    slot = Slot("w", f32(40, 3), Uniform(-0.25, 0.5))
    first = initial_tensor(slot, 1, 9)
    assert (initial_tensor(slot, 1, 9) == first).all()
    assert not (initial_tensor(slot, 2, 9) == first).any()
    assert not (initial_tensor(slot, 1, 10) == first).all()
    assert first.min() >= -0.25
    assert first.max() < 0.5
    assert abs(float(first.mean()) - 0.125) < 0.1
    filled = initial_tensor(Slot("b", f32(2), Constant(1.5)), 1, 9)
    assert filled.tolist() == [1.5, 1.5]
    assert filled.dtype == np.float32


def test_normal_weights_are_the_same_from_both_backends() -> None:
    slot = Slot("w", f32(60, 50), Normal(0.5, 0.25))
    first = initial_tensor(slot, 1, 9)
    assert first.tobytes() == initial_tensor(slot, 1, 9, oracle).tobytes()
    standard = (first.astype(np.float64) - 0.5) / 0.25
    assert abs(standard.mean()) < 0.08
    assert abs(standard.std() - 1) < 0.04
    assert abs((standard**4).mean() - 3) < 0.5
    assert abs((standard > 1).mean() - 0.1587) < 0.03


def test_a_row_of_zeros_changes_no_other() -> None:
    drawn = Uniform(-1.0, 1.0)
    plain = initial_tensor(Slot("w", f32(4, 3), drawn), 1, 9)
    zeroed = initial_tensor(Slot("w", f32(4, 3), ZeroRow(2, drawn)), 1, 9)
    assert (zeroed[2] == 0).all()
    assert (np.delete(zeroed, 2, 0) == np.delete(plain, 2, 0)).all()


def test_bf16_weights_are_rounded_float32_ones() -> None:
    wide = initial_tensor(Slot("w", f32(40), Normal(0.0, 1.0)), 1, 9)
    narrow = initial_tensor(Slot("w", bf16(40), Normal(0.0, 1.0)), 1, 9)
    expected = torch.from_numpy(wide).bfloat16().view(torch.uint16)
    assert narrow.dtype == np.uint16
    assert (narrow == expected.numpy()).all()


def test_initial_value_vectors(vectors: Vectors) -> None:
    cases: list[tuple[TensorType, Initialiser]] = [
        (f32(2, 3), Constant(-1.5)),
        (f32(2, 3), Uniform(-0.25, 0.5)),
        (f32(2, 3), Normal(1.0, 0.5)),
        (f32(3, 2), ZeroRow(1, Normal(0.0, 1.0))),
        (bf16(5), Normal(0.0, 0.02)),
    ]
    vectors.check(
        "initial",
        [
            {
                "seed": 2**63 + 5,
                "slot": 7,
                "type": str(type_),
                "recipe": encode(rounded(recipe)).hex(),
                "values": initial_tensor(
                    Slot("w", type_, rounded(recipe)), 7, 2**63 + 5
                )
                .tobytes()
                .hex(),
            }
            for type_, recipe in cases
        ],
    )
