# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Reading and writing at places that tensors name."""

import math
from collections.abc import Sequence

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Held, Operand, Tensor, Value
from ml_verifier.capture.rules.arithmetic import floats
from ml_verifier.capture.rules.comparisons import chosen
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.types import DType

aten = torch.ops.aten

NONE = 2**32 - 1  # -1 as an attribute holds it: a place that no index names


def wrapped(low: Lowering, index: Operand, size: int) -> Tensor:
    """Count negative indices from the end."""
    index = low.cast(index, DType.I64)
    if isinstance(index, Held):
        return Held(torch.where(index.tensor < 0, index.tensor + size, index.tensor))
    if isinstance(index, Value) and low.builder.is_counted(index.number):
        return index
    negative = low.add("lt", index, 0)
    return low.add("where", negative, low.add("int_add", index, size), index)


def rows(low: Lowering, g: Operand, index: Operand, axis: int, size: int) -> Tensor:
    """Add slices of g into zeros of ``size`` slices along an axis."""
    return low.add("scatter_rows", g, index, axis=axis, size=size, skip=NONE)


# ── embeddings ───────────────────────────────────────────────────────────────


def _embedding(low: Lowering, call: Call) -> Operand:
    return low.add("take", call["weight"], call["indices"], axis=0)


def _embedding_backward(low: Lowering, call: Call) -> Operand:
    if call["scale_grad_by_freq"]:
        raise Unsupported("scale_grad_by_freq=True: leave it unset")
    return low.add(
        "scatter_rows",
        call["grad_output"],
        call["indices"],
        axis=0,
        size=call["num_weights"],
        skip=call["padding_idx"] % 2**32,
    )


# ── tensors as indices: x[i, :, j] ───────────────────────────────────────────


class Places:
    """The axes that index tensors name, merged into one axis and one index.

    Attributes:
        order: Permutation that brings the named axes together.
        axis: Where they are then.
        size: Elements along the merged axis.
        index: Place of each element, of the indices' common shape.
        inner: Shape of x after its axes are permuted, named axes left out.
    """

    def __init__(
        self, low: Lowering, shape: Sequence[int], indices: Sequence[Operand]
    ) -> None:
        named = [i for i, index in enumerate(indices) if index is not None]
        if any(low.dtype(indices[i]) is DType.BOOL for i in named):
            raise Unsupported(
                "a boolean index: its shape depends on data; use torch.where"
            )
        together = named == list(range(named[0], named[-1] + 1))
        rest = [i for i in range(len(shape)) if i not in named]
        self.axis = named[0] if together else 0
        self.order = [*rest[: self.axis], *named, *rest[self.axis :]]
        self.size = math.prod(shape[i] for i in named)
        self.inner = [shape[i] for i in rest]
        index: Operand = 0
        for i in named:
            place = wrapped(low, indices[i], shape[i])
            if i == named[0]:
                index = place
            else:
                index = low.add("int_add", low.add("int_mul", index, shape[i]), place)
        self.index: Tensor = low.cast(index, DType.I64)

    def merged(self, low: Lowering, x: Operand) -> Tensor:
        """Return x with the named axes merged into one."""
        shape = [*self.inner[: self.axis], self.size, *self.inner[self.axis :]]
        return low.reshape(low.permute(x, self.order), shape)

    def restored(self, low: Lowering, x: Operand, shape: Sequence[int]) -> Tensor:
        """Undo ``merged`` for an x of ``shape``."""
        apart = low.reshape(x, [shape[axis] for axis in self.order])
        back = [self.order.index(i) for i in range(len(self.order))]
        return low.permute(apart, back)

    def values_shape(self, low: Lowering) -> tuple[int, ...]:
        """Return the shape of x[indices]."""
        inner = self.inner
        return (*inner[: self.axis], *low.shape(self.index), *inner[self.axis :])


def _index(low: Lowering, call: Call) -> Operand:
    x = call["self"]
    places = Places(low, low.shape(x), call["indices"])
    return low.add("take", places.merged(low, x), places.index, axis=places.axis)


def _index_put(low: Lowering, call: Call) -> Operand:
    x, indices, values = call["self"], call["indices"], call["values"]
    shape, dtype = low.shape(x), low.dtype(x)
    masks = [i for i in indices if i is not None]
    if len(masks) == 1 and indices[0] is masks[0] and low.dtype(masks[0]) is DType.BOOL:
        return _masked_put(low, x, masks[0], values)
    places = Places(low, shape, indices)
    values = low.broadcast(low.cast(values, dtype), places.values_shape(low))
    if call["accumulate"]:
        added = rows(low, floats(low, values), places.index, places.axis, places.size)
        whole = places.restored(low, added, shape)
        return whole if low.uniform(x) == 0 else low.add("add", x, whole)
    merged = places.merged(low, x)
    count = math.prod(low.shape(places.index))
    shape_ = list(low.shape(merged))
    shape_[places.axis] = count
    line = [count if i == places.axis else 1 for i in range(len(shape_))]
    index = low.broadcast(low.reshape(places.index, line), shape_)
    written = low.add(
        "scatter", merged, index, low.reshape(values, shape_), axis=places.axis
    )
    return places.restored(low, written, shape)


def _masked_put(low: Lowering, x: Operand, mask: Operand, values: Operand) -> Tensor:
    if math.prod(low.shape(values)) != 1:
        raise Unsupported(
            "x[mask] = values: how many depends on data; use torch.where(mask, ..., x)"
        )
    extra = low.rank(x) - low.rank(mask)
    mask = low.reshape(mask, (*low.shape(mask), *(1,) * extra))
    return chosen(low, mask, low.reshape(values, ()), x, low.dtype(x))


# ── along one axis ───────────────────────────────────────────────────────────


def _index_select(low: Lowering, call: Call) -> Operand:
    x, axis = call["self"], call["dim"] % low.rank(call["self"])
    index = low.reshape(wrapped(low, call["index"], low.shape(x)[axis]), (-1,))
    return low.add("take", x, index, axis=axis)


def _index_add(low: Lowering, call: Call) -> Operand:
    x, axis = call["self"], call["dim"] % low.rank(call["self"])
    size = low.shape(x)[axis]
    source: Operand = floats(low, call["source"])
    if call["alpha"] != 1:
        source = low.add("mul", source, float(call["alpha"]))
    added = rows(low, source, wrapped(low, call["index"], size), axis, size)
    return added if low.uniform(x) == 0 else low.add("add", floats(low, x), added)


def _line(low: Lowering, call: Call, shape: Sequence[int]) -> tuple[Tensor, int]:
    """Return an index over one axis, repeated to ``shape``, and the axis."""
    x = call["self"]
    axis = call["dim"] % low.rank(x)
    index = wrapped(low, call["index"], low.shape(x)[axis])
    line = [-1 if i == axis else 1 for i in range(len(shape))]
    return low.broadcast(low.reshape(index, line), shape), axis


def _index_copy(low: Lowering, call: Call) -> Operand:
    source = low.cast(call["source"], low.dtype(call["self"]))
    index, axis = _line(low, call, low.shape(source))
    return low.add("scatter", call["self"], index, source, axis=axis)


def _index_fill(low: Lowering, call: Call) -> Operand:
    x, index = call["self"], call["index"]
    shape = list(low.shape(x))
    axis = call["dim"] % len(shape)
    shape[axis] = math.prod(low.shape(index))
    index, axis = _line(low, call, shape)
    source = low.broadcast(low.cast(call["value"], low.dtype(x)), shape)
    return low.add("scatter", x, index, source, axis=axis)


def _gather(low: Lowering, call: Call) -> Operand:
    x, axis = call["self"], call["dim"] % low.rank(call["self"])
    index, shape = call["index"], low.shape(call["self"])
    for other, size in enumerate(low.shape(index)):
        if other != axis:
            x = low.cut(x, other, 0, size)
    return low.add("gather", x, wrapped(low, index, shape[axis]), axis=axis)


def _scattered(name: str) -> Rule:
    """Return the rule of writes (``scatter``) or additions (``scatter_add``)."""

    def rule(low: Lowering, call: Call) -> Operand:
        base = call["self"]
        dtype = low.dtype(base)
        axis = call["dim"] % low.rank(base)
        index = wrapped(low, call["index"], low.shape(base)[axis])
        shape = low.shape(index)
        source = call.arguments.get("src", call.arguments.get("value"))
        if low.shape(source) != shape and low.rank(source):
            for other, size in enumerate(shape):
                source = low.cut(source, other, 0, size)
        source = low.broadcast(low.cast(source, dtype), shape)
        if name == "scatter_add" and dtype is not DType.F32:
            raise Unsupported(f"of {dtype.label}: cast to float32 first")
        whole = low.shape(base)
        if all(
            n == m
            for i, (n, m) in enumerate(zip(shape, whole, strict=True))
            if i != axis
        ):
            return low.add(name, base, index, source, axis=axis)
        corner = base
        for other, size in enumerate(shape):
            if other != axis:
                corner = low.cut(corner, other, 0, size)
        corner = low.add(name, corner, index, source, axis=axis)
        return _corner(low, base, corner, axis)

    return rule


def _corner(low: Lowering, base: Operand, corner: Tensor, axis: int) -> Tensor:
    """Return ``base`` with its first rows and columns replaced by ``corner``."""
    for other, size in reversed(list(enumerate(low.shape(base)))):
        inner = low.shape(corner)[other]
        if other == axis or inner == size:
            continue
        rest = low.cut(base, other, inner, size)
        for before in range(other):
            rest = low.cut(rest, before, 0, low.shape(corner)[before])
        corner = low.add("concat", corner, rest, axis=other)
    return corner


def _scatter_reduce(_: Lowering, __: Call) -> Operand:
    raise Unsupported("only scatter and scatter_add: write other reductions with them")


RULES: Rules = {
    aten.embedding.default: _embedding,
    aten.embedding_dense_backward.default: _embedding_backward,
    aten.index.Tensor: _index,
    aten._unsafe_index.Tensor: _index,
    aten.index_put.default: _index_put,
    aten._unsafe_index_put.default: _index_put,
    aten.index_select.default: _index_select,
    aten.index_add.default: _index_add,
    aten.index_copy.default: _index_copy,
    aten.index_fill.int_Scalar: _index_fill,
    aten.index_fill.int_Tensor: _index_fill,
    aten.gather.default: _gather,
    aten.scatter.src: _scattered("scatter"),
    aten.scatter.value: _scattered("scatter"),
    aten.scatter_add.default: _scattered("scatter_add"),
    aten.scatter_reduce.two: _scatter_reduce,
}
