# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Sums, means, extremes, orders and running sums."""

import math
from collections.abc import Sequence

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Operand, Tensor
from ml_verifier.capture.rules.arithmetic import floats
from ml_verifier.capture.rules.movement import joined
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.types import DType

aten = torch.ops.aten


def axes_of(low: Lowering, x: Operand, dim: object) -> tuple[int, ...]:
    """Return sorted axes; none given means all."""
    rank = low.rank(x)
    if dim is None or dim == []:
        return tuple(range(rank))
    axes = [dim] if isinstance(dim, int) else list(dim)  # type: ignore[call-overload]  # ints
    return tuple(sorted(axis % rank for axis in axes)) if rank else ()


def summed(
    low: Lowering, x: Operand, axes: Sequence[int], *, keepdim: bool = False
) -> Tensor:
    """Return a sum over axes; integers are added exactly, modulo 2^64."""
    if not axes:
        return low.cast(x, low.computing(x))
    if low.dtype(x) in {DType.I64, DType.BOOL}:
        return _summed_integers(low, low.cast(x, DType.I64), axes, keepdim=keepdim)
    return low.add("sum", x, axes=tuple(axes), keepdim=int(keepdim))


def _summed_integers(
    low: Lowering, x: Operand, axes: Sequence[int], *, keepdim: bool
) -> Tensor:
    """Halve each axis until one element is left."""
    shape = low.shape(x)
    for axis in axes:
        while (size := low.shape(x)[axis]) > 1:
            half = size // 2
            both = low.add(
                "int_add",
                low.cut(x, axis, 0, half),
                low.cut(x, axis, half, 2 * half),
            )
            x = (
                low.add("concat", both, low.cut(x, axis, size - 1, size), axis=axis)
                if size % 2
                else both
            )
    kept = [n for i, n in enumerate(shape) if i not in axes]
    if keepdim:
        kept = [1 if i in axes else n for i, n in enumerate(shape)]
    return low.reshape(x, kept)


def count_of(low: Lowering, x: Operand, axes: Sequence[int]) -> int:
    """Return how many elements a reduction over axes joins."""
    return math.prod(low.shape(x)[axis] for axis in axes)


def _sum(low: Lowering, call: Call) -> Operand:
    x = call["self"]
    if call.dtype is DType.F32:
        x = floats(low, x)
    axes = axes_of(low, x, call.arguments.get("dim"))
    return summed(low, x, axes, keepdim=bool(call.arguments.get("keepdim")))


def _mean(low: Lowering, call: Call) -> Operand:
    x = floats(low, call["self"])
    axes = axes_of(low, x, call.arguments.get("dim"))
    total = summed(low, x, axes, keepdim=bool(call.arguments.get("keepdim")))
    return low.add("div", total, float(count_of(low, x, axes)))


# ── spread and length ────────────────────────────────────────────────────────


def _variance(low: Lowering, call: Call) -> tuple[Tensor, Tensor]:
    """Return variance and mean, both with their axes kept or dropped as asked."""
    x = floats(low, call["self"])
    axes = axes_of(low, x, call.arguments.get("dim"))
    count = count_of(low, x, axes)
    correction = call.arguments.get("correction")
    if correction is None:
        correction = 1 if call.arguments.get("unbiased", True) else 0
    keep = bool(call.arguments.get("keepdim"))
    mean = low.add("div", summed(low, x, axes, keepdim=True), float(count))
    centred = low.add("sub", x, mean)
    squares = summed(low, low.add("mul", centred, centred), axes, keepdim=keep)
    variance = low.add("div", squares, float(count - correction))
    return variance, low.reshape(mean, low.shape(variance))


def _var(low: Lowering, call: Call) -> Operand:
    return _variance(low, call)[0]


def _std(low: Lowering, call: Call) -> Operand:
    return low.add("sqrt", _variance(low, call)[0])


def _var_mean(low: Lowering, call: Call) -> Operand:
    return _variance(low, call)


def _vector_norm(low: Lowering, call: Call) -> Operand:
    x = floats(low, call["self"])
    order, axes = call["ord"], axes_of(low, x, call["dim"])
    keep = bool(call["keepdim"])
    if order == 2:
        squares = summed(low, low.add("mul", x, x), axes, keepdim=keep)
        return low.add("sqrt", squares)
    if order == 1:
        return summed(low, low.add("abs", x), axes, keepdim=keep)
    if order == math.inf:
        return _over(low, "amax", low.add("abs", x), axes, keep=keep)
    if order == 0:
        found = low.cast(low.add("ne", x, 0.0), DType.F32)
        return summed(low, found, axes, keepdim=keep)
    raise Unsupported(f"norm of order {order}: only 0, 1, 2 and inf")


# ── extremes ─────────────────────────────────────────────────────────────────


def _over(
    low: Lowering, name: str, x: Operand, axes: Sequence[int], *, keep: bool
) -> Tensor:
    """Apply an operator of the last axis over ``axes`` together."""
    shape = low.shape(x)
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    outer = [shape[axis] for axis in rest]
    flat = low.reshape(low.permute(x, [*rest, *axes]), [*outer, -1])
    found = low.add(name, flat, keepdim=0)
    kept = [1 if i in axes else n for i, n in enumerate(shape)] if keep else outer
    return low.reshape(found, kept)


def _extreme(name: str, *, largest: bool) -> Rule:
    """Return the rule of a maximum or minimum over axes, or of where it stands."""

    def rule(low: Lowering, call: Call) -> Operand:
        x, keep = call["self"], bool(call.arguments.get("keepdim"))
        axes = axes_of(low, x, call.arguments.get("dim"))
        exact = low.dtype(x) in {DType.I64, DType.BOOL}
        if exact and name == "amax":
            raise Unsupported("of integers: cast them to float first")
        x = floats(low, x)
        if not low.rank(x):
            return x if name == "amax" else low.filled(0, DType.I64, ())
        if largest:
            return _over(low, name, x, axes, keep=keep)
        found = _over(low, name, low.add("neg", x), axes, keep=keep)
        return low.add("neg", found) if name == "amax" else found

    return rule


def _with_index(*, largest: bool) -> Rule:
    """Return the rule of ``max`` and ``min`` along one axis."""

    def rule(low: Lowering, call: Call) -> Operand:
        x, axis, keep = call["self"], call["dim"], bool(call["keepdim"])
        if low.dtype(x) not in {DType.F32, DType.BF16}:
            raise Unsupported("of integers: cast them to float first")
        x = floats(low, x)
        moved = low.last(x, axis)
        searched = moved if largest else low.add("neg", moved)
        index = low.add("argmax", searched, keepdim=1)
        value = low.add("gather", moved, index, axis=low.rank(moved) - 1)
        shape = [*low.shape(moved)[:-1], 1]
        found = (low.back(low.reshape(part, shape), axis) for part in (value, index))
        if keep:
            return tuple(found)
        kept = [n for i, n in enumerate(low.shape(x)) if i != axis % low.rank(x)]
        return tuple(low.reshape(part, kept) for part in found)

    return rule


def _any(low: Lowering, call: Call) -> Operand:
    return _some(low, call, low.cast(call["self"], DType.BOOL))


def _all(low: Lowering, call: Call) -> Operand:
    opposite = low.add("not", low.cast(call["self"], DType.BOOL))
    return low.add("not", _some(low, call, opposite))


def _some(low: Lowering, call: Call, x: Tensor) -> Tensor:
    axes = axes_of(low, x, call.arguments.get("dim"))
    if not axes:
        return x
    keep = bool(call.arguments.get("keepdim"))
    found = _over(low, "amax", low.cast(x, DType.F32), axes, keep=keep)
    return low.add("gt", found, 0.0)


def _logsumexp(low: Lowering, call: Call) -> Operand:
    x = floats(low, call["self"])
    axes = axes_of(low, x, call["dim"])
    largest = _over(low, "amax", x, axes, keep=True)
    finite = low.add("lt", low.add("abs", largest), math.inf)
    shift = low.add("where", finite, largest, 0.0)
    total = summed(low, low.add("exp", low.add("sub", x, shift)), axes, keepdim=True)
    return low.reshape(low.add("add", low.add("log", total), shift), call.shape)


# ── orders and running sums ──────────────────────────────────────────────────


def _sort(low: Lowering, call: Call) -> Operand:
    return _ordered(low, call, descending=bool(call["descending"]))


def _ordered(
    low: Lowering, call: Call, *, descending: bool, count: int | None = None
) -> tuple[Tensor, ...]:
    x, axis = call["self"], call["dim"]
    if low.dtype(x) not in {DType.F32, DType.BF16}:
        raise Unsupported("of integers: cast them to float first")
    if not low.rank(x):
        return floats(low, x), low.filled(0, DType.I64, ())
    moved = low.last(floats(low, x), axis)
    parts: Sequence[Tensor] = low.outputs(2, "sort", moved, descending=int(descending))
    if count is not None:
        parts = [low.cut(part, low.rank(part) - 1, 0, count) for part in parts]
    return tuple(low.back(part, axis) for part in parts)


def _topk(low: Lowering, call: Call) -> Operand:
    largest = bool(call["largest"])
    return _ordered(low, call, descending=largest, count=call["k"])


def _argsort(low: Lowering, call: Call) -> Operand:
    return _ordered(low, call, descending=bool(call["descending"]))[1]


def _cumsum(low: Lowering, call: Call) -> Operand:
    x, axis = call["self"], call["dim"]
    if not low.rank(x):
        return low.cast(x, call.dtype)
    if call.dtype is DType.I64:
        return _running(low, low.cast(x, DType.I64), axis % low.rank(x))
    return low.back(low.add("cumsum", low.last(floats(low, x), axis)), axis)


def _running(low: Lowering, x: Tensor, axis: int) -> Tensor:
    """Return the running sum of integers: shifted by 1, 2, 4, ... and added."""
    size, distance = low.shape(x)[axis], 1
    while distance < size:
        shape = list(low.shape(x))
        shape[axis] = distance
        zeros = low.filled(0, DType.I64, shape)
        shifted = low.add(
            "concat", zeros, low.cut(x, axis, 0, size - distance), axis=axis
        )
        x = low.add("int_add", x, shifted)
        distance *= 2
    return x


def _cumprod(low: Lowering, call: Call) -> Operand:
    x = floats(low, call["self"])
    axis = call["dim"] % low.rank(x)
    if low.shape(x)[axis] > 16:
        raise Unsupported(
            "of more than 16 factors: torch.exp(torch.cumsum(torch.log(x), dim))"
        )
    pieces = [low.cut(x, axis, 0, 1)]
    for i in range(1, low.shape(x)[axis]):
        pieces.append(low.add("mul", pieces[-1], low.cut(x, axis, i, i + 1)))
    return joined(low, pieces, axis)


def _prod(low: Lowering, call: Call) -> Operand:
    x = floats(low, call["self"])
    axes = axes_of(low, x, call.arguments.get("dim"))
    if count_of(low, x, axes) > 16:
        raise Unsupported(
            "of more than 16 factors: write torch.exp(torch.log(x).sum())"
        )
    ones = low.filled(1.0, DType.F32, ())
    result: Tensor = ones
    for axis in axes:
        pieces = [low.cut(x, axis, i, i + 1) for i in range(low.shape(x)[axis])]
        result = pieces[0]
        for piece in pieces[1:]:
            result = low.add("mul", result, piece)
        x = result
    return low.reshape(x, call.shape)


RULES: Rules = {
    aten.sum.default: _sum,
    aten.sum.dim_IntList: _sum,
    aten.mean.default: _mean,
    aten.mean.dim: _mean,
    aten.var.correction: _var,
    aten.var.dim: _var,
    aten.var.default: _var,
    aten.std.correction: _std,
    aten.std.dim: _std,
    aten.std.default: _std,
    aten.var_mean.correction: _var_mean,
    aten.linalg_vector_norm.default: _vector_norm,
    aten.amax.default: _extreme("amax", largest=True),
    aten.amin.default: _extreme("amax", largest=False),
    aten.max.default: _extreme("amax", largest=True),
    aten.min.default: _extreme("amax", largest=False),
    aten.max.dim: _with_index(largest=True),
    aten.min.dim: _with_index(largest=False),
    aten.argmax.default: _extreme("argmax", largest=True),
    aten.argmin.default: _extreme("argmax", largest=False),
    aten.any.default: _any,
    aten.any.dim: _any,
    aten.any.dims: _any,
    aten.all.default: _all,
    aten.all.dim: _all,
    aten.all.dims: _all,
    aten.logsumexp.default: _logsumexp,
    aten.sort.default: _sort,
    aten.sort.stable: _sort,
    aten.argsort.default: _argsort,
    aten.argsort.stable: _argsort,
    aten.topk.default: _topk,
    aten.cumsum.default: _cumsum,
    aten.cumprod.default: _cumprod,
    aten.prod.default: _prod,
    aten.prod.dim_int: _prod,
}
