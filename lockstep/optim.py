"""Optimisers that PyTorch does not bring along; they work there as here."""

from ml_verifier.capture.lion import Lion

__all__ = ["Lion"]
