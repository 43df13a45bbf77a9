# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Capture of a training step from ordinary PyTorch; the client's side only.

The one place that imports torch. What the chain commits to is the canonical program
that comes out, never Python source and never a torch version.
"""

from ml_verifier.capture.lion import Lion
from ml_verifier.capture.step import Captured, capture

__all__ = ["Captured", "Lion", "capture"]
