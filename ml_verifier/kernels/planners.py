"""How each operator's attributes and buffers become a call of the library.

One function per operator or family: it checks the buffers, and orders buffers, sizes
and scalars as the operator's C source documents them.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ml_verifier.kernels import indexing_plans, transformer, windows
from ml_verifier.kernels.layout import (
    NEST_RANK,
    SUM_RANK,
    broadcast_strides,
    merged,
    row_major,
    sum_nest,
)
from ml_verifier.kernels.plan import Plan, Planner
from ml_verifier.kernels.request import INDEX, Array, Request, Shape


def _padded(values: list[int], length: int) -> list[int]:
    return values + [0] * (length - len(values))


def _matmul(request: Request) -> Plan:
    request.expect(2, 1, "ta", "tb")
    a, b = request.input(0), request.input(1)
    ta, tb = request.integer("ta", high=1), request.integer("tb", high=1)
    if a.ndim != 2 or b.ndim != 2:
        raise request.refusal(f"expected two matrices, got {a.shape} and {b.shape}")
    m, k = a.shape[::-1] if ta else a.shape
    depth, n = b.shape[::-1] if tb else b.shape
    if k != depth:
        raise request.refusal(
            f"inner dimensions differ with ta={ta}, tb={tb}: {a.shape} and {b.shape}"
        )
    return Plan("matmul", (a, b), (request.output(0, (m, n)),), (m, n, k, ta, tb))


def _binary(request: Request) -> Plan:
    request.expect(2, 1)
    a, b = request.input(0), request.input(1)
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError as error:
        reason = f"shapes {a.shape} and {b.shape} do not broadcast"
        raise request.refusal(reason) from error
    y = request.output(0, shape)
    operands = [broadcast_strides(x.shape, shape) for x in (a, b)]
    extents, strides = merged(shape, operands)
    rows = [_padded(row, NEST_RANK) for row in (extents, *strides)]
    return Plan(
        request.name, (a, b), (y,), [len(extents), *rows[0], *rows[1], *rows[2]]
    )


def _pointwise(request: Request) -> Plan:
    """One input; the C loop reads a second one, and gets the same."""
    request.expect(1, 1)
    x = request.input(0)
    return Plan(request.name, (x, x), (request.output(0, x.shape),), (x.size,))


def _backward(request: Request) -> Plan:
    """Two inputs of one shape."""
    request.expect(2, 1)
    g = request.input(0)
    other = request.input(1, g.shape)
    return Plan(request.name, (g, other), (request.output(0, g.shape),), (g.size,))


def _sum(request: Request) -> Plan:
    request.expect(1, 1, "axes", "keepdim")
    x, axes = request.input(0), request.integers("axes")
    keep = request.integer("keepdim", high=1)
    if sorted(set(axes)) != list(axes) or any(axis >= x.ndim for axis in axes):
        raise request.refusal(f"axes {axes} are not sorted axes of {x.shape}")
    shape = tuple(
        1 if axis in axes else extent
        for axis, extent in enumerate(x.shape)
        if keep or axis not in axes
    )
    nest = sum_nest(x.shape, axes)
    sizes = [len(nest.kept), len(nest.reduced), int(nest.inner_kept), nest.inner]
    for group in (nest.kept, nest.reduced):
        sizes += _padded([extent for extent, _ in group], SUM_RANK)
        sizes += _padded([stride for _, stride in group], SUM_RANK)
    return Plan("sum", (x,), (request.output(0, shape),), sizes)


def _rows(request: Request, x: Array) -> tuple[int, int]:
    """Rows and classes of x[..., C]."""
    if x.ndim < 1:
        raise request.refusal("expected rank of at least 1, got a scalar")
    return math.prod(x.shape[:-1]), x.shape[-1]


def _log_softmax(request: Request) -> Plan:
    request.expect(1, 1)
    x = request.input(0)
    return Plan(request.name, (x,), (request.output(0, x.shape),), _rows(request, x))


def _log_softmax_backward(request: Request) -> Plan:
    request.expect(2, 1)
    g = request.input(0)
    inputs = (g, request.input(1, g.shape))
    return Plan(request.name, inputs, (request.output(0, g.shape),), _rows(request, g))


def _nll_loss(request: Request) -> Plan:
    request.expect(2, 2, "ignore")
    logp = request.input(0)
    if logp.ndim != 2:
        raise request.refusal(f"expected logp[B, C], got {logp.shape}")
    target = request.input(1, logp.shape[:1], INDEX)
    outputs = (request.output(0, ()), request.output(1, ()))
    sizes = (*logp.shape, _ignored(request))
    return Plan(request.name, (logp, target), outputs, sizes)


def _ignored(request: Request) -> int:
    """The target that is ignored: 32 bits, read as a signed number."""
    word = request.integer("ignore", high=2**32 - 1)
    return word - 2**32 if word >= 2**31 else word


def _nll_loss_backward(request: Request) -> Plan:
    request.expect(3, 1, "classes", "ignore")
    g, target = request.input(0, ()), request.input(1, dtype=INDEX)
    classes = request.integer("classes", low=1)
    if target.ndim != 1:
        raise request.refusal(f"expected target[B], got {target.shape}")
    shape = (target.size, classes)
    inputs = (g, target, request.input(2, ()))
    sizes = (*shape, _ignored(request))
    return Plan(request.name, inputs, (request.output(0, shape),), sizes)


def _channels(request: Request, x: Array) -> tuple[Shape, Shape]:
    """[C] and (N, C, L) of x[N, C, ...]."""
    if x.ndim < 2:
        raise request.refusal(f"expected x[N, C, ...], got {x.shape}")
    return x.shape[1:2], (*x.shape[:2], math.prod(x.shape[2:]))


def _batch_norm(request: Request) -> Plan:
    request.expect(5, 5, "momentum", "eps")
    x = request.input(0)
    channel, sizes = _channels(request, x)
    inputs = (x, *(request.input(i, channel) for i in range(1, 5)))
    y = request.output(0, x.shape)
    outputs = (y, *(request.output(i, channel) for i in range(1, 5)))
    scalars = (request.scalar("momentum"), request.scalar("eps"))
    return Plan(request.name, inputs, outputs, sizes, scalars)


def _batch_norm_backward(request: Request) -> Plan:
    request.expect(5, 3)
    g = request.input(0)
    channel, sizes = _channels(request, g)
    x = request.input(1, g.shape)
    inputs = (g, x, *(request.input(i, channel) for i in range(2, 5)))
    dx = request.output(0, g.shape)
    outputs = (dx, request.output(1, channel), request.output(2, channel))
    return Plan(request.name, inputs, outputs, sizes)


def _sgd(request: Request) -> Plan:
    names = ("lr", "momentum", "weight_decay")
    request.expect(4, 2, *names, "nesterov")
    p = request.input(0)
    moment = request.input(2, p.shape)
    inputs = (p, request.input(1, p.shape), moment, request.input(3, ()))
    outputs = (request.output(0, p.shape), request.output(1, p.shape))
    sizes = (p.size, request.integer("nesterov", high=1))
    scalars = [request.scalar(name) for name in names]
    return Plan(request.name, inputs, outputs, sizes, scalars)


def _adamw(request: Request) -> Plan:
    names = ("lr", "beta1", "beta2", "eps", "weight_decay")
    request.expect(7, 3, *names)
    p = request.input(0)
    moments = (request.input(i, p.shape) for i in range(1, 4))
    inputs = (p, *moments, *(request.input(i, ()) for i in range(4, 7)))
    outputs = tuple(request.output(i, p.shape) for i in range(3))
    scalars = [request.scalar(name) for name in names]
    return Plan(request.name, inputs, outputs, (p.size,), scalars)


def _correction(request: Request) -> Plan:
    request.expect(1, 1, "beta")
    inputs, outputs = (request.input(0, ()),), (request.output(0, ()),)
    return Plan(request.name, inputs, outputs, (), (request.scalar("beta"),))


def _strided(request: Request, shape: Shape, strides: list[int]) -> Plan:
    x = request.inputs[0]
    if x.dtype.itemsize not in {4, 8}:
        raise request.refusal(f"elements of 4 or 8 bytes are moved, got {x.dtype}")
    x = request.input(0, dtype=x.dtype)
    extents, (steps,) = merged(shape, [strides])
    sizes = [x.dtype.itemsize, len(extents)]
    sizes += _padded(extents, NEST_RANK) + _padded(steps, NEST_RANK)
    return Plan("strided_copy", (x,), (request.output(0, shape, x.dtype),), sizes)


def _reshape(request: Request) -> Plan:
    request.expect(1, 1, "shape")
    shape = request.integers("shape")
    if math.prod(shape) != request.inputs[0].size:
        got = request.inputs[0].shape
        raise request.refusal(f"shape {shape} does not hold the elements of {got}")
    return _strided(request, shape, row_major(shape))


def _transpose(request: Request) -> Plan:
    request.expect(1, 1, "permutation")
    source = request.inputs[0].shape
    order = request.integers("permutation")
    if sorted(order) != list(range(len(source))):
        raise request.refusal(f"{order} is not a permutation of {len(source)} axes")
    strides = row_major(source)
    shape = tuple(source[axis] for axis in order)
    return _strided(request, shape, [strides[axis] for axis in order])


def _broadcast(request: Request) -> Plan:
    request.expect(1, 1, "shape")
    shape = request.integers("shape")
    return _strided(request, shape, broadcast_strides(request.inputs[0].shape, shape))


def _constant(request: Request) -> Plan:
    request.expect(0, 1, "shape", "value")
    y = request.output(0, request.integers("shape"))
    return Plan("fill", (), (y,), (y.size,), (request.scalar("value"),))


_BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
_UNARY = (
    *("relu", "exp", "log", "tanh", "sigmoid", "sqrt", "erf", "sin", "cos"),
    *("neg", "abs", "sign", "floor", "ceil", "trunc", "round", "rsqrt"),
)

PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {
        "matmul": _matmul,
        **dict.fromkeys(_BINARY, _binary),
        **dict.fromkeys(_UNARY, _pointwise),
        **dict.fromkeys(
            ("relu_backward", "tanh_backward", "sigmoid_backward"), _backward
        ),
        "sum": _sum,
        "log_softmax": _log_softmax,
        "log_softmax_backward": _log_softmax_backward,
        "nll_loss": _nll_loss,
        "nll_loss_backward": _nll_loss_backward,
        "conv2d": windows.conv2d,
        "conv2d_backward_input": windows.conv2d_backward_input,
        "conv2d_backward_weight": windows.conv2d_backward_weight,
        "max_pool2d": windows.max_pool2d,
        "max_pool2d_backward": windows.max_pool2d_backward,
        "avg_pool2d": windows.avg_pool2d,
        "avg_pool2d_backward": windows.avg_pool2d_backward,
        "batch_norm": _batch_norm,
        "batch_norm_backward": _batch_norm_backward,
        "sgd": _sgd,
        "adamw": _adamw,
        "correction": _correction,
        "reshape": _reshape,
        "transpose": _transpose,
        "broadcast": _broadcast,
        "constant": _constant,
        **transformer.PLANNERS,
        **indexing_plans.PLANNERS,
    }
)

# May write the very buffer they read: each element is read before it is written.
IN_PLACE = frozenset({"sgd", "adamw"})
