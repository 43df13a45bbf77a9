"""What a step knows of its job beside the state and the batch.

The engine supplies these values; no backend computes them.
"""

from ml_verifier.operators.base import Attributes, Operator, Types, row
from ml_verifier.types import TensorType, i64


def _fact(_: Types, __: Attributes) -> tuple[TensorType, ...]:
    return (i64(),)


ROWS: tuple[Operator, ...] = (
    row(90, "seed", 0, _fact),
    row(91, "step", 0, _fact),
)
