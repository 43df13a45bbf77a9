"""Cases for the kernels: hostile values, small shapes, and how two results compare."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from hypothesis import strategies as st

from ml_verifier import kernels, oracle
from ml_verifier.conformance.case import Array, Attributes, Case
from ml_verifier.conformance.inputs import INTEGERS
from ml_verifier.types import DType

__all__ = [
    "Array",
    "Attributes",
    "Case",
    "assert_same",
    "bits",
    "check",
    "elements",
    "floats",
    "positive",
    "settings",
    "values",
]

SPECIAL = np.array(
    [
        *(0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5),
        *(2**-149, -(2**-149), 2**-126, 2**-24, 3.4028235e38, -3.4028235e38),
        *(88.72284, -103.97208, -87.33655),
    ],
    np.float32,
)


def bits(arrays: Sequence[Array]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def assert_same(
    first: tuple[int, list[Array]], second: tuple[int, list[Array]]
) -> None:
    """Equal status and, unless it trapped, equal bits."""
    assert first[0] == second[0]
    if first[0]:
        return
    for a, b in zip(first[1], second[1], strict=True):
        if a.tobytes() != b.tobytes():
            where = np.argwhere(
                a.reshape(-1).view(f"u{a.itemsize}")
                != b.reshape(-1).view(f"u{b.itemsize}")
            ).reshape(-1)
            at = where[0]
            got, expected = a.reshape(-1)[at], b.reshape(-1)[at]
            raise AssertionError(
                f"{len(where)} of {a.size} differ, first at {at}: {got!r} {expected!r}"
            )


@contextmanager
def settings(isa: str | None = None, threads: int | None = None) -> Iterator[None]:
    """Runs the kernels with another instruction set or number of threads."""
    before = kernels.isa(), kernels.threads()
    try:
        kernels.set_isa(isa or before[0])
        kernels.set_threads(threads or before[1])
        yield
    finally:
        kernels.set_isa(before[0])
        kernels.set_threads(before[1])


def check(case: Case) -> None:
    """Asserts that kernels and oracle agree, on every instruction set and threads."""
    expected = case.run(oracle)
    for isa in kernels.isas():
        with settings(isa=isa):
            assert_same(case.run(kernels), expected)
    with settings(threads=3):
        assert_same(case.run(kernels), expected)


KINDS = ("plain", "plain", "wide", "tiny", "special", "integers")


def values(seed: int, shape: Sequence[int], kind: str) -> Array:
    """A float32 array: ordinary, of all exponents, denormal, or with special ones."""
    random = np.random.default_rng(seed)
    if kind == "plain":
        return random.standard_normal(shape).astype(np.float32)
    if kind == "integers":
        return random.integers(-3, 4, shape).astype(np.float32)
    if kind == "wide":
        pattern = random.integers(0, 2**32, shape, dtype=np.uint64).astype(np.uint32)
        return np.where(
            pattern & 0x7F800000 == 0x7F800000, np.uint32(0x3F800000), pattern
        ).view(np.float32)
    if kind == "tiny":
        sign = random.choice(np.array([-1, 1], np.float32), shape)
        scale = random.integers(-149, -60, shape)
        return np.ldexp(sign * random.random(shape, np.float32), scale).astype(
            np.float32
        )
    plain = random.standard_normal(shape).astype(np.float32)
    special = random.choice(SPECIAL, shape)
    return np.where(random.random(shape) < 0.2, special, plain).astype(np.float32)


@st.composite
def floats(
    draw: st.DrawFn, shape: Sequence[int], kinds: Sequence[str] = KINDS
) -> Array:
    """Arrays of one shape."""
    seed, kind = draw(st.integers(0, 2**32)), draw(st.sampled_from(kinds))
    return np.asarray(values(seed, tuple(shape), kind))


@st.composite
def elements(draw: st.DrawFn, shape: Sequence[int], dtype: DType) -> Array:
    """Arrays of one shape and any element type."""
    if dtype is DType.F32:
        found: Array = draw(floats(shape))
        return found
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype is DType.BOOL:
        return np.asarray(random.integers(0, 2, shape, dtype=np.uint8))
    if dtype is DType.BF16:
        return np.asarray(random.integers(0, 2**16, shape, dtype=np.uint16))
    kind = draw(st.sampled_from(("small", "wide", "extreme")))
    if kind == "small":
        return np.asarray(random.integers(-9, 10, shape))
    wide = random.integers(-(2**63), 2**63, shape)
    extreme = random.choice(INTEGERS, shape)
    return np.asarray(wide if kind == "wide" else extreme)


def positive(array: Array) -> Array:
    """The same magnitudes without signs, for second moments and the like."""
    return np.asarray(np.abs(array))


shapes = st.lists(st.integers(1, 7), min_size=0, max_size=4).map(tuple)
lengths = st.one_of(st.integers(1, 40), st.integers(41, 700))
