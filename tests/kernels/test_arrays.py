"""NaN canonical, finiteness, and the generator."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ml_verifier import kernels, oracle
from ml_verifier.kernels import BindingError
from ml_verifier.oracle.philox import blocks
from tests.kernels.cases import floats, lengths


@given(st.data(), lengths)
def test_canonicalise(data: st.DataObject, n: int) -> None:
    x = data.draw(floats((n,)))
    x.view(np.uint32)[::7] = np.uint32(0xFF812345)  # a signalling NaN with a payload
    y = x.copy()
    kernels.canonicalise(x)
    oracle.canonicalise(y)
    assert x.tobytes() == y.tobytes()
    assert set(x.view(np.uint32)[np.isnan(x)].tolist()) == {0x7FC00000}


@given(st.data(), lengths)
def test_all_finite(data: st.DataObject, n: int) -> None:
    x = data.draw(floats((n,)))
    assert kernels.all_finite(x) == oracle.all_finite(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 77_777, 199_999])
def test_one_element_that_is_not_finite_is_found(bad: float, at: int) -> None:
    x = np.full(200_000, np.finfo(np.float32).max, np.float32)
    assert kernels.all_finite(x)
    x[at] = bad
    assert not kernels.all_finite(x)


def test_integers_are_finite() -> None:
    assert kernels.all_finite(np.array([2**62], np.int64))


# Random123, file kat_vectors: philox4x32 with 10 rounds.
KNOWN = [
    ([0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (
        [0xFFFFFFFF] * 4,
        0xFFFFFFFF_FFFFFFFF,
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        0x299F31D0_A4093822,
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_known_answers(counter: list[int], key: int, words: list[int]) -> None:
    assert blocks(np.array([counter], np.uint64), key).tolist() == [words]


def test_the_kernel_generates_the_known_words() -> None:
    out = np.empty(4, np.float32)
    kernels.philox_uniform(out, 0, 0, 0, 0.0, 1.0)
    assert (out * 2**24).astype(np.int64).tolist() == [w >> 8 for w in KNOWN[0][2]]


word = st.integers(0, 2**32 - 1)


@given(lengths, st.integers(0, 2**64 - 1), word, word, st.floats(-4, 4, width=32))
def test_philox_uniform(n: int, key: int, c2: int, c3: int, low: float) -> None:
    a, b = np.empty(n, np.float32), np.empty(n, np.float32)
    kernels.philox_uniform(a, key, c2, c3, low, 1.0)
    oracle.philox_uniform(b, key, c2, c3, low, 1.0)
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    "arguments", [(-1, 0, 0), (2**64, 0, 0), (0, 2**32, 0), (0, 0, -1)]
)
def test_philox_refuses_words_out_of_range(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(BindingError, match=r"-bit"):
        kernels.philox_uniform(np.empty(4, np.float32), *arguments, 0.0, 1.0)


@pytest.mark.parametrize(
    "array",
    [np.zeros(4), np.zeros((4, 4), np.float32)[:, ::2], np.zeros(4, np.int32)],
)
def test_passes_refuse_other_arrays(array: object) -> None:
    assert isinstance(array, np.ndarray)
    for function in (kernels.canonicalise, kernels.all_finite):
        with pytest.raises(BindingError, match="float32"):
            function(array)


def test_passes_that_write_refuse_read_only_arrays() -> None:
    array = np.zeros(4, np.float32)
    array.flags.writeable = False
    with pytest.raises(BindingError, match="read-only"):
        kernels.canonicalise(array)
