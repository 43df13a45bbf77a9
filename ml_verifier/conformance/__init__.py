"""Conformance: one hash that covers every operator and three ten-step trainings.

``python -m ml_verifier.conformance`` computes it with the kernels of this machine and
compares it with the pinned one; docs/conformance.md has the whole story. A node runs
the short extent of it when it starts.
"""

from ml_verifier.conformance.transcript import (
    PINNED_PATH,
    Extent,
    conformance_hash,
    lines,
    pinned,
)

__all__ = ["PINNED_PATH", "Extent", "conformance_hash", "lines", "pinned"]
