"""Plans of what is drawn from the counter-based generator within a step."""

import math
from collections.abc import Mapping
from types import MappingProxyType

from ml_verifier.kernels.plan import Plan, Planner
from ml_verifier.kernels.request import INDEX, Array, Request

WORD = 2**32 - 1
RESOLUTION = 2.0**24  # of a drawn value


def _facts(request: Request) -> tuple[Array, Array]:
    """Seed and step."""
    return request.input(0, (), INDEX), request.input(1, (), INDEX)


def _uniform(request: Request) -> Plan:
    request.expect(2, 1, "shape", "low", "high", "stream")
    y = request.output(0, request.integers("shape"))
    sizes = (y.size, request.integer("stream", high=WORD))
    scalars = (request.scalar("low"), request.scalar("high"))
    return Plan("uniform", _facts(request), (y,), sizes, scalars)


def _dropout_mask(request: Request) -> Plan:
    request.expect(2, 1, "shape", "p", "stream")
    y, p = request.output(0, request.integers("shape")), request.scalar("p")
    if not 0 <= p < 1:
        raise request.refusal(f"p must be in [0, 1), got {p}")
    dropped = math.ceil(p * RESOLUTION)  # exact: p has 24 bits
    sizes = (y.size, request.integer("stream", high=WORD), dropped)
    return Plan("dropout_mask", _facts(request), (y,), sizes, (p,))


PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {"uniform": _uniform, "dropout_mask": _dropout_mask}
)
