"""How each operator's attributes and buffers become a call of the library.

One function per operator or family: it checks the buffers, and orders buffers, sizes
and scalars as the operator's C source documents them.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from ml_verifier.kernels import (
    draws,
    indexing_plans,
    moving,
    nests,
    transformer,
    windows,
)
from ml_verifier.kernels.layout import SUM_RANK, padded, sum_nest
from ml_verifier.kernels.plan import Plan, Planner
from ml_verifier.kernels.request import INDEX, Array, Request, Shape


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
        sizes += padded([extent for extent, _ in group], SUM_RANK)
        sizes += padded([stride for _, stride in group], SUM_RANK)
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


def _lion(request: Request) -> Plan:
    names = ("lr", "beta1", "beta2", "weight_decay")
    request.expect(4, 2, *names)
    p = request.input(0)
    moments = (request.input(1, p.shape), request.input(2, p.shape))
    outputs = (request.output(0, p.shape), request.output(1, p.shape))
    scalars = [request.scalar(name) for name in names]
    inputs = (p, *moments, request.input(3, ()))
    return Plan("lion", inputs, outputs, (p.size,), scalars)


def _correction(request: Request) -> Plan:
    request.expect(1, 1, "beta")
    inputs, outputs = (request.input(0, ()),), (request.output(0, ()),)
    return Plan(request.name, inputs, outputs, (), (request.scalar("beta"),))


_UNARY = (
    *("relu", "exp", "log", "tanh", "sigmoid", "sqrt", "erf", "sin", "cos"),
    *("neg", "abs", "sign", "floor", "ceil", "trunc", "round", "rsqrt"),
    *("gelu", "gelu_tanh", "silu"),
)
_BACKWARD = (
    *("relu_backward", "tanh_backward", "sigmoid_backward"),
    *("gelu_backward", "gelu_tanh_backward", "silu_backward"),
)

PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {
        "matmul": _matmul,
        **dict.fromkeys(_UNARY, _pointwise),
        **dict.fromkeys(_BACKWARD, _backward),
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
        "lion": _lion,
        "correction": _correction,
        **nests.PLANNERS,
        **moving.PLANNERS,
        **draws.PLANNERS,
        **transformer.PLANNERS,
        **indexing_plans.PLANNERS,
    }
)

# May write the very buffer they read: each element is read before it is written.
IN_PLACE = frozenset({"sgd", "adamw", "lion"})
