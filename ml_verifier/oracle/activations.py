"""GELU, SiLU and their gradients; each operation rounds once."""

import numpy as np

from ml_verifier.oracle.arithmetic import Floats, fma
from ml_verifier.oracle.elementary import erf, exp, tanh

ONE, HALF = np.float32(1), np.float32(0.5)
ROOT_HALF = np.float32(np.sqrt(0.5))
DENSITY = np.float32(1 / np.sqrt(2 * np.pi))
SLOPE = np.float32(np.sqrt(2 / np.pi))
CUBE = np.float32(0.044715)
CUBE_3 = np.float32(3 * 0.044715)


def gelu(x: Floats) -> Floats:
    """The exact form, by erf."""
    return (HALF * x) * (ONE + erf(x * ROOT_HALF))


def gelu_backward(g: Floats, x: Floats) -> Floats:
    """The gradient of the exact form."""
    cumulative = HALF * (ONE + erf(x * ROOT_HALF))
    density = exp((x * x) * -HALF) * DENSITY
    return g * fma(x, density, cumulative)


def _tanh_inner(x: Floats) -> Floats:
    return tanh(SLOPE * fma(CUBE * (x * x), x, x))


def gelu_tanh(x: Floats) -> Floats:
    """The approximation by tanh."""
    return (HALF * x) * (ONE + _tanh_inner(x))


def gelu_tanh_backward(g: Floats, x: Floats) -> Floats:
    """The gradient of the approximation."""
    t = _tanh_inner(x)
    left = HALF * (ONE + t)
    inner = SLOPE * fma(CUBE_3, x * x, ONE)
    return g * fma((HALF * x) * (ONE - t * t), inner, left)


def silu(x: Floats) -> Floats:
    """The product of x and its sigmoid, as one division."""
    return x / (ONE + exp(-x))


def silu_backward(g: Floats, x: Floats) -> Floats:
    """The gradient of silu."""
    s: Floats = ONE / (ONE + exp(-x))
    slope: Floats = s * fma(x, ONE - s, ONE)
    return g * slope
