"""The operators a program may use: codes, attributes, shape rules and costs.

One table drives the decoder, the capture and the cost model. What an operator
*computes* is written in ``docs/spec/numerics.md`` and twice in code: in
``ml_verifier/kernels`` and, independently, in ``ml_verifier/oracle``.

A shape rule receives input types and attributes and returns the output types, or
raises ``ShapeError`` with what was expected and what came.
"""

from collections.abc import Mapping

from ml_verifier.operators import (
    arithmetic,
    elementwise,
    indexing,
    logic,
    movement,
    nn,
    optimisers,
    randomness,
    transformer,
    windows,
)
from ml_verifier.operators.base import (
    MAX_VARIADIC,
    VARIADIC,
    AttributeKind,
    Attributes,
    AttributeValue,
    Operator,
    ShapeError,
    Types,
    integer,
    integers,
)
from ml_verifier.types import MAX_ELEMENTS, TensorType

__all__ = [
    "BY_CODE",
    "BY_NAME",
    "MAX_VARIADIC",
    "VARIADIC",
    "AttributeKind",
    "AttributeValue",
    "Attributes",
    "Operator",
    "ShapeError",
    "infer",
    "integer",
    "integers",
]

_FAMILIES = (
    arithmetic,
    elementwise,
    nn,
    windows,
    optimisers,
    movement,
    logic,
    randomness,
    transformer,
    indexing,
)
_TABLE = sorted(
    (operator for family in _FAMILIES for operator in family.ROWS),
    key=lambda operator: operator.code,
)

BY_CODE: Mapping[int, Operator] = {row.code: row for row in _TABLE}
BY_NAME: Mapping[str, Operator] = {row.name: row for row in _TABLE}


def infer(
    operator: Operator, inputs: Types, attributes: Attributes
) -> tuple[TensorType, ...]:
    """Return the output types of one node.

    Raises:
        ShapeError: The operator does not take these inputs or attributes, or an
            output would exceed ``MAX_ELEMENTS``.
    """
    if operator.arity == VARIADIC:
        if not 0 < len(inputs) <= MAX_VARIADIC:
            raise ShapeError(f"expected 1..{MAX_VARIADIC} inputs, got {len(inputs)}")
    elif len(inputs) != operator.arity:
        raise ShapeError(f"expected {operator.arity} inputs, got {len(inputs)}")
    outputs = operator.infer(inputs, attributes)
    for output in outputs:
        if not 0 < output.size <= MAX_ELEMENTS:
            raise ShapeError(f"expected 1..{MAX_ELEMENTS} elements, got {output}")
    if operator.scratch(inputs, outputs, attributes) > 4 * MAX_ELEMENTS:
        raise ShapeError(f"needs more than {4 * MAX_ELEMENTS} bytes of scratch")
    return outputs
