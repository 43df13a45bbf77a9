"""Recipes for initial values, such as `initialise={"*.weight": Normal(0, 0.02)}`."""

from ml_verifier.program import Constant, Initialiser, Normal, Uniform, ZeroRow

__all__ = ["Constant", "Initialiser", "Normal", "Uniform", "ZeroRow"]
