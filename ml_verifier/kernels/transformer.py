"""Plans of batched products, softmax and layer normalisation."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ml_verifier.kernels.layout import merged
from ml_verifier.kernels.plan import Plan, Planner
from ml_verifier.kernels.request import Array, Request

BATCH_AXES = 2  # that the kernel walks


def _steps(array: Array) -> list[int]:
    """Strides in elements."""
    return [stride // array.itemsize for stride in array.strides]


def _matrix(request: Request, where: str, array: Array, swap: int) -> list[int]:
    """Row and column stride of the last two axes; one of them is 1."""
    extents, steps = list(array.shape[-2:]), _steps(array)[-2:]
    if swap:
        extents, steps = extents[::-1], steps[::-1]
    if 1 not in steps:
        # An axis of one element is never stepped along.
        free = [axis for axis, extent in enumerate(extents) if extent == 1]
        if not free:
            raise request.refusal(
                f"{where}: one of the last two strides must be one element, got"
                f" strides {array.strides} for shape {array.shape}"
            )
        steps[free[-1]] = 1
    return steps


def _bmm(request: Request) -> Plan:
    """a, b -> y; each may be a view with any strides of its batch axes."""
    request.expect(2, 1, "ta", "tb")
    a, b = request.input_view(0), request.input_view(1)
    ta, tb = request.integer("ta", high=1), request.integer("tb", high=1)
    if a.ndim < 3 or a.shape[:-2] != b.shape[:-2]:
        raise request.refusal(
            f"expected a[B..., M, K] and b[B..., K, N], got {a.shape} and {b.shape}"
        )
    m, k = a.shape[:-3:-1] if ta else a.shape[-2:]
    depth, n = b.shape[:-3:-1] if tb else b.shape[-2:]
    if k != depth:
        raise request.refusal(
            f"inner dimensions differ with ta={ta}, tb={tb}: {a.shape} and {b.shape}"
        )
    y = request.output_view(0, (*a.shape[:-2], m, n))
    extents, batch = merged(a.shape[:-2], [_steps(x)[:-2] for x in (a, b, y)])
    if len(extents) > BATCH_AXES:
        raise request.refusal(
            f"the strides of {a.shape[:-2]} make {len(extents)} separate batch axes,"
            f" the kernel takes {BATCH_AXES}"
        )
    missing = [0] * (BATCH_AXES - len(extents))
    left = _matrix(request, "input 0", a, ta)
    right = _matrix(request, "input 1", b, tb)
    out = _matrix(request, "output 0", y, 0)
    operands = [(a, missing + batch[0], left), (b, missing + batch[1], right)]
    if out[1] != 1:
        # y^T = b^T a^T: the same products, added in the same order.
        m, n, out = n, m, out[::-1]
        operands = [(x, steps, matrix[::-1]) for x, steps, matrix in operands[::-1]]
    sizes = [m, n, k, *([1] * len(missing)), *extents]
    for _, steps, matrix in operands:
        sizes += [*steps, *matrix]
    sizes += [*missing, *batch[2], *out]
    return Plan("bmm", [x for x, _, _ in operands], (y,), sizes)


def _rows(request: Request, x: Array) -> tuple[int, int]:
    """Rows and columns of x[..., C]."""
    if x.ndim < 1:
        raise request.refusal("expected rank of at least 1, got a scalar")
    return math.prod(x.shape[:-1]), x.shape[-1]


def _softmax(request: Request) -> Plan:
    request.expect(1, 1, "safe")
    x = request.input(0)
    sizes = (*_rows(request, x), request.integer("safe", high=1))
    return Plan(request.name, (x,), (request.output(0, x.shape),), sizes)


def _softmax_backward(request: Request) -> Plan:
    request.expect(2, 1)
    g = request.input(0)
    inputs = (g, request.input(1, g.shape))
    return Plan(request.name, inputs, (request.output(0, g.shape),), _rows(request, g))


def _layer_norm(request: Request) -> Plan:
    request.expect(3, 3, "eps")
    x = request.input(0)
    rows, columns = _rows(request, x)
    inputs = (x, request.input(1, (columns,)), request.input(2, (columns,)))
    outputs = (
        request.output(0, x.shape),
        request.output(1, (rows,)),
        request.output(2, (rows,)),
    )
    scalars = (request.scalar("eps"),)
    return Plan(request.name, inputs, outputs, (rows, columns), scalars)


def _layer_norm_backward(request: Request) -> Plan:
    request.expect(5, 3)
    g = request.input(0)
    rows, columns = _rows(request, g)
    inputs = (
        g,
        request.input(1, g.shape),
        request.input(2, (columns,)),
        request.input(3, (rows,)),
        request.input(4, (rows,)),
    )
    outputs: Sequence[Array] = (
        request.output(0, g.shape),
        request.output(1, (columns,)),
        request.output(2, (columns,)),
    )
    return Plan(request.name, inputs, outputs, (rows, columns))


PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {
        "bmm": _bmm,
        "softmax": _softmax,
        "softmax_backward": _softmax_backward,
        "layer_norm": _layer_norm,
        "layer_norm_backward": _layer_norm_backward,
    }
)
