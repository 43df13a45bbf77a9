"""Correctly rounded functions are that, and their vectors over all inputs."""

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped]  # ships no types
import numpy as np
import pytest
from numpy.typing import NDArray

from ml_verifier import kernels, oracle
from ml_verifier.kernels.library import LIBRARY, LIBRARY_PATH, load
from tests.kernels.build import hatch_build
from tests.kernels.cases import SPECIAL, Case, assert_same, settings
from tests.support.vectors import Vectors

# In the order in which lockstep_unary_range counts them.
FUNCTIONS = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
}
SPREAD = {
    "exp": (-104, 89),
    "log": (0, 10),
    "tanh": (-10, 10),
    "erf": (-4, 4),
    "sin": (-1000, 1000),
    "cos": (-1000, 1000),
}
# Inputs that come near a rounding boundary: found by the exhaustive check.
NEAR = np.array(
    [
        2**-24,
        -(2**-25),
        2**-12,
        88.722839,
        -103.972077,
        9.01091,
        1 + 2**-23,
        1 - 2**-24,
        # Close to multiples of pi / 2, and where sin and cos change paths.
        *(1.5707964, 3.1415927, 355.0, 2**17, 16367173.0 * 2**72),
        3.9192059,  # erf rounds to 1 about here
    ],
    np.float32,
)


def inputs(name: str) -> NDArray[np.float32]:
    """Special values, their neighbours, all exponents, and the useful range."""
    random = np.random.default_rng(7)
    patterns = random.integers(0, 2**32, 2000, dtype=np.uint64).astype(np.uint32)
    useful = random.uniform(*SPREAD[name], 3000).astype(np.float32)
    edges = np.concatenate([SPECIAL, NEAR])
    with np.errstate(over="ignore"):
        around = [np.nextafter(edges, np.float32(to)) for to in (-np.inf, np.inf)]
    return np.concatenate([edges, *around, patterns.view(np.float32), useful])


def rounded(function: Callable[[Any], Any], x: float) -> np.float32:
    """The correctly rounded value, by 60 digits and exact comparison."""
    with mpmath.workdps(60):
        value = function(mpmath.mpf(x))
        if abs(value) >= mpmath.mpf(2) ** 128 - mpmath.mpf(2) ** 103:
            return np.float32(np.copysign(np.inf, float(mpmath.sign(value))))
        guess = np.float32(float(value))
        candidates = [guess, *(np.nextafter(guess, np.float32(t)) for t in (-9e9, 9e9))]
        finite = [c for c in candidates if np.isfinite(c)]
        best = min(finite, key=lambda c: abs(mpmath.mpf(float(c)) - value))
    return np.float32(np.copysign(best, float(value)) if best == 0 else best)


def expected(name: str, x: np.float32) -> np.float32:
    if np.isnan(x) or (name == "log" and x < 0):
        return np.float32(np.nan)
    limits = {
        ("exp", np.inf): np.inf,
        ("exp", -np.inf): 0.0,
        ("log", 0.0): -np.inf,
        ("tanh", 0.0): float(x),
        ("log", np.inf): np.inf,
        ("tanh", np.inf): 1.0,
        ("tanh", -np.inf): -1.0,
        ("erf", 0.0): float(x),
        ("erf", np.inf): 1.0,
        ("erf", -np.inf): -1.0,
        ("sin", 0.0): float(x),
        **{
            (function, infinity): np.nan
            for function in ("sin", "cos")
            for infinity in (np.inf, -np.inf)
        },
    }
    if (name, float(x)) in limits:
        return np.float32(limits[name, float(x)])
    return rounded(FUNCTIONS[name], float(x))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_correctly_rounded_on_a_sample(name: str) -> None:
    x = inputs(name)
    want = np.array([expected(name, value) for value in x], np.float32)
    oracle.canonicalise(want)
    for isa in kernels.isas():
        with settings(isa=isa):
            assert_same(Case(name, (x,)).run(kernels), (0, [want]))
    assert_same(Case(name, (x,)).run(oracle), (0, [want]))


def test_sigmoid_rounds_each_operation() -> None:
    x = inputs("exp")
    y = Case("sigmoid", (x,)).run(kernels)[1][0]
    with np.errstate(over="ignore"):
        want = np.float32(1) / (np.float32(1) + Case("exp", (-x,)).run(kernels)[1][0])
    oracle.canonicalise(want)
    assert y.tobytes() == want.tobytes()


def pattern_hash(
    function: int, first: int, count: int, library: ctypes.CDLL = LIBRARY
) -> str:
    """SHA-256 of the results for consecutive bit patterns, NaN canonical."""
    digest = hashlib.sha256()
    block = np.empty(1 << 20, np.float32)
    for start in range(first, first + count, block.size):
        library.lockstep_unary_range(
            function, start, block.size, block.ctypes.data_as(ctypes.c_void_p)
        )
        kernels.canonicalise(block)
        digest.update(block.tobytes())
    return digest.hexdigest()


def some_hashes(library: ctypes.CDLL) -> dict[str, dict[str, str]]:
    """2^20 patterns around 1, as many around -1, and around 2^27, per function."""
    return {
        name: {
            hex(first): pattern_hash(i, first, 1 << 20, library)
            for first in (0x3F780000, 0xBF780000, 0x4CF80000)
        }
        for i, name in enumerate(FUNCTIONS)
    }


def test_vectors_over_some_inputs(vectors: Vectors) -> None:
    vectors.check("kernels_unary", some_hashes(LIBRARY))


@pytest.mark.slow
@pytest.mark.usefixtures("soak")
def test_the_second_path_alone_gives_the_same(tmp_path: Path) -> None:
    path = hatch_build().build(tmp_path / "kernels.so", ["-DMARGIN=0x1p-9"])
    assert some_hashes(load(path)) == some_hashes(LIBRARY)


@pytest.mark.slow
@pytest.mark.usefixtures("soak")
def test_vectors_over_all_inputs(vectors: Vectors) -> None:
    vectors.check(
        "kernels_unary_all",
        {name: pattern_hash(i, 0, 1 << 32) for i, name in enumerate(FUNCTIONS)},
    )


@pytest.mark.slow
@pytest.mark.usefixtures("soak")
@pytest.mark.parametrize("isa", kernels.isas())
@pytest.mark.parametrize("name", FUNCTIONS)
def test_correctly_rounded_everywhere(name: str, isa: str, tmp_path: Path) -> None:
    """All 2^32 inputs against a quad-precision reference (about a minute each)."""
    compiler = shutil.which("gcc")
    assert compiler, "the exhaustive check needs gcc, for its quad-precision library"
    program = tmp_path / "exhaustive"
    source = Path(__file__).with_name("exhaustive.c")
    libraries = ("-lquadmath", "-lm", "-ldl")
    flags = ("-O2", "-std=gnu11", "-ffp-contract=off")
    command = [compiler, *flags, "-o", str(program), str(source), *libraries]
    subprocess.run(command, check=True)  # noqa: S603  a compiler on our own source
    function = str(list(FUNCTIONS).index(name))
    run = [str(program), str(LIBRARY_PATH), isa, function]
    result = subprocess.run(run, check=False, capture_output=True, text=True)  # noqa: S603  just built
    assert result.returncode == 0, result.stdout
