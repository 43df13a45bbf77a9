"""Plans of the broadcasting operators: arithmetic, comparisons, booleans, integers."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ml_verifier.kernels.layout import NEST_RANK, broadcast_strides, merged, padded
from ml_verifier.kernels.plan import Plan, Planner
from ml_verifier.kernels.request import BOOLEAN, FLOAT, INDEX, Array, Request, Shape
from ml_verifier.types import DType, dtype_of

_MOVED = {code.numpy for code in DType}


def _walk(request: Request, operands: Sequence[Array]) -> tuple[Shape, list[int]]:
    """The shape that operands broadcast to, and sizes as in source/nest.h."""
    shapes = [x.shape for x in operands]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        named = " and ".join(map(str, shapes))
        raise request.refusal(f"shapes {named} do not broadcast") from error
    extents, strides = merged(shape, [broadcast_strides(x, shape) for x in shapes])
    sizes = [len(extents)]
    for row in (extents, *strides):
        sizes += padded(row, NEST_RANK)
    return shape, padded(sizes, 1 + 4 * NEST_RANK)


def _binary(request: Request, given: np.dtype[Any], made: np.dtype[Any]) -> Plan:
    """Two inputs of one element type."""
    request.expect(2, 1)
    inputs = request.input(0, dtype=given), request.input(1, dtype=given)
    shape, sizes = _walk(request, inputs)
    y = request.output(0, shape, made)
    return Plan(request.name, inputs, (y,), (*sizes, dtype_of(given)))


def _arithmetic(request: Request) -> Plan:
    return _binary(request, FLOAT, FLOAT)


def _comparison(request: Request) -> Plan:
    request.expect(2, 1)
    dtype = INDEX if request.inputs[0].dtype == INDEX else FLOAT
    return _binary(request, dtype, BOOLEAN)


def _logical(request: Request) -> Plan:
    return _binary(request, BOOLEAN, BOOLEAN)


def _integer(request: Request) -> Plan:
    return _binary(request, INDEX, INDEX)


def _not(request: Request) -> Plan:
    request.expect(1, 1)
    x = request.input(0, dtype=BOOLEAN)
    return Plan("not", (x,), (request.output(0, x.shape, BOOLEAN),), (x.size,))


def _where(request: Request) -> Plan:
    request.expect(3, 1)
    dtype = request.inputs[1].dtype
    if dtype not in _MOVED:
        raise request.refusal(f"no elements of {dtype} are chosen from")
    condition = request.input(0, dtype=BOOLEAN)
    inputs = (condition, request.input(1, dtype=dtype), request.input(2, dtype=dtype))
    shape, sizes = _walk(request, inputs)
    y = request.output(0, shape, dtype)
    return Plan("where", inputs, (y,), (*sizes, dtype.itemsize))


_ARITHMETIC = ("add", "sub", "mul", "div", "maximum", "minimum")

PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {
        **dict.fromkeys(_ARITHMETIC, _arithmetic),
        **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _comparison),
        **dict.fromkeys(("and", "or", "xor"), _logical),
        "not": _not,
        "where": _where,
        **dict.fromkeys(("int_add", "int_sub", "int_mul"), _integer),
        **dict.fromkeys(("int_floordiv", "int_remainder"), _integer),
    }
)
