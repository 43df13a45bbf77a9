# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Views, slices, joins and padding: elements move, none is computed."""

from collections.abc import Sequence

import torch

from ml_verifier.capture.literals import Filled
from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Held, Operand, Tensor
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.operators import MAX_VARIADIC
from ml_verifier.types import DType

aten = torch.ops.aten


# ── views ────────────────────────────────────────────────────────────────────


def _view(low: Lowering, call: Call) -> Operand:
    return low.reshape(call["self"], call.shape)


def _expand(low: Lowering, call: Call) -> Operand:
    return low.broadcast(call["self"], call.shape)


def _t(low: Lowering, call: Call) -> Operand:
    rank = low.rank(call["self"])
    return low.permute(call["self"], list(reversed(range(rank))))


def _transpose(low: Lowering, call: Call) -> Operand:
    rank = low.rank(call["self"])
    order = list(range(rank))
    first, second = call["dim0"] % rank, call["dim1"] % rank
    order[first], order[second] = second, first
    return low.permute(call["self"], order)


def _permute(low: Lowering, call: Call) -> Operand:
    order = call["dims"]
    return low.permute(call["self"], [axis % len(order) for axis in order])


def _diagonal_places(shape: Sequence[int], call: Call) -> list[int]:
    """Return the places of a diagonal among rows * columns."""
    rows, columns = shape
    offset = call.arguments.get("offset", 0)
    return [
        row * columns + row + offset
        for row in range(rows)
        if 0 <= row + offset < columns
    ]


def _diagonal_order(rank: int, call: Call) -> list[int]:
    first, second = call["dim1"] % rank, call["dim2"] % rank
    return [*(i for i in range(rank) if i not in {first, second}), first, second]


def _diagonal(low: Lowering, call: Call) -> Operand:
    x = call["self"]
    moved = low.permute(x, _diagonal_order(low.rank(x), call))
    *outer, rows, columns = low.shape(moved)
    places = torch.tensor(_diagonal_places((rows, columns), call))
    flat = low.reshape(moved, (*outer, rows * columns))
    return low.add("take", flat, Held(places), axis=len(outer))


def _diagonal_backward(low: Lowering, call: Call) -> Operand:
    g, shape = call["grad_output"], call["input_sizes"]
    order = _diagonal_order(len(shape), call)
    *outer, rows, columns = (shape[axis] for axis in order)
    places = torch.tensor(_diagonal_places((rows, columns), call))
    spread = low.add(
        "scatter_rows",
        g,
        Held(places),
        axis=len(outer),
        size=rows * columns,
        skip=2**32 - 1,
    )
    back = [order.index(i) for i in range(len(order))]
    return low.permute(low.reshape(spread, (*outer, rows, columns)), back)


def _diag_embed(low: Lowering, call: Call) -> Operand:
    x, rank = call["self"], len(call.shape)
    size = call.shape[call["dim1"] % rank]
    if call["offset"] or size != low.shape(x)[-1]:
        raise Unsupported("offset: pad the result instead")
    order = _diagonal_order(rank, call)
    square = low.broadcast(low.reshape(x, (*low.shape(x), 1)), (*low.shape(x), size))
    zero = low.filled(0, low.dtype(x), ())
    whole = low.add("where", Held(torch.eye(size, dtype=torch.bool)), square, zero)
    return low.permute(whole, [order.index(i) for i in range(rank)])


# ── slices ───────────────────────────────────────────────────────────────────


def bounds(call: Call, size: int) -> tuple[int, int, int]:
    """Return start, end and step of a slice inside an axis of ``size``."""
    start, end, step = slice(call["start"], call["end"], call["step"]).indices(size)
    return start, max(start, end), step


def _slice(low: Lowering, call: Call) -> Operand:
    x = call["self"]
    axis = call["dim"] % low.rank(x)
    return low.cut(x, axis, *bounds(call, low.shape(x)[axis]))


def _select(low: Lowering, call: Call) -> Operand:
    x = call["self"]
    axis = call["dim"] % low.rank(x)
    place = call["index"] % low.shape(x)[axis]
    return low.reshape(low.cut(x, axis, place, place + 1), call.shape)


def placed(
    low: Lowering, x: Operand, axis: int, size: int, start: int, step: int = 1
) -> Tensor:
    """Return zeros of ``size`` along an axis, x standing at every step-th place."""
    shape = list(low.shape(x))
    count = shape[axis]
    if step > 1:
        apart = low.reshape(x, [*shape[: axis + 1], 1, *shape[axis + 1 :]])
        spread = padded(low, apart, {axis + 1: (0, step - 1)})
        shape[axis] = count * step
        x = low.cut(low.reshape(spread, shape), axis, 0, (count - 1) * step + 1)
    extent = low.shape(x)[axis]
    return padded(low, x, {axis: (start, size - start - extent)})


def _slice_backward(low: Lowering, call: Call) -> Operand:
    shape = call["input_sizes"]
    axis = call["dim"] % len(shape)
    start, _, step = bounds(call, shape[axis])
    return placed(low, call["grad_output"], axis, shape[axis], start, step)


def _select_backward(low: Lowering, call: Call) -> Operand:
    shape = list(call["input_sizes"])
    axis = call["dim"] % len(shape)
    size, shape[axis] = shape[axis], 1
    row = low.reshape(call["grad_output"], shape)
    return placed(low, row, axis, size, call["index"] % size)


def _slice_scatter(low: Lowering, call: Call) -> Operand:
    x = call["self"]
    axis = call["dim"] % low.rank(x)
    start, _, step = bounds(call, low.shape(x)[axis])
    return _written(low, x, call["src"], axis, start, step)


def _select_scatter(low: Lowering, call: Call) -> Operand:
    x = call["self"]
    axis = call["dim"] % low.rank(x)
    shape = list(low.shape(x))
    start, shape[axis] = call["index"] % shape[axis], 1
    return _written(low, x, low.reshape(call["src"], shape), axis, start, 1)


def _written(
    low: Lowering, x: Operand, part: Operand, axis: int, start: int, step: int
) -> Operand:
    """Return x with ``part`` at every step-th place of an axis."""
    size, count = low.shape(x)[axis], low.shape(part)[axis]
    part = low.cast(part, low.dtype(x))
    if count == size:
        return part
    if low.uniform(x) == 0 and low.dtype(x) is DType.F32:
        return placed(low, part, axis, size, start, step)
    if step == 1:
        end = start + count
        pieces = [low.cut(x, axis, 0, start)] if start else []
        pieces.append(part)
        pieces += [low.cut(x, axis, end, size)] if end < size else []
        return joined(low, pieces, axis)
    written = torch.zeros(size, dtype=torch.bool)
    written[start : start + (count - 1) * step + 1 : step] = True
    shape = [size if i == axis else 1 for i in range(low.rank(x))]
    mask = Held(written.reshape(shape))
    return low.add("where", mask, placed(low, part, axis, size, start, step), x)


def _split(low: Lowering, call: Call) -> Operand:
    x, axis = call["self"], call["dim"] % low.rank(call["self"])
    size = low.shape(x)[axis]
    lengths = call.arguments.get("split_sizes")
    if lengths is None:
        each = call["split_size"]
        lengths = [min(each, size - start) for start in range(0, size, each)]
    pieces: list[Operand] = []
    start = 0
    for length in lengths:
        pieces.append(low.cut(x, axis, start, start + length))
        start += length
    return tuple(pieces)


def _unbind(low: Lowering, call: Call) -> Operand:
    x, axis = call["self"], call["dim"] % low.rank(call["self"])
    shape = low.shape(x)
    kept = shape[:axis] + shape[axis + 1 :]
    return tuple(
        low.reshape(low.cut(x, axis, i, i + 1), kept) for i in range(shape[axis])
    )


def _unfold(low: Lowering, call: Call) -> Operand:
    x, axis = call["self"], call["dimension"] % low.rank(call["self"])
    size, step = call["size"], call["step"]
    starts = torch.arange(0, low.shape(x)[axis] - size + 1, step)
    places = starts[:, None] + torch.arange(size)
    taken = low.add("take", x, Held(places), axis=axis)
    return low.last(taken, axis + 1)


# ── joins ────────────────────────────────────────────────────────────────────


def joined(low: Lowering, pieces: Sequence[Operand], axis: int) -> Tensor:
    """Concatenate any number of operands."""
    if len(pieces) == 1:
        return low.cast(pieces[0], low.dtype(pieces[0]))
    while len(pieces) > MAX_VARIADIC:
        pieces = [
            low.add("concat", *pieces[i : i + MAX_VARIADIC], axis=axis)
            if i + 1 < len(pieces)
            else pieces[i]
            for i in range(0, len(pieces), MAX_VARIADIC)
        ]
    return low.add("concat", *pieces, axis=axis)


def _cat(low: Lowering, call: Call) -> Operand:
    axis = call["dim"] % len(call.shape)
    pieces = [low.cast(x, call.dtype) for x in call["tensors"] if 0 not in low.shape(x)]
    return joined(low, pieces, axis)


def _stack(low: Lowering, call: Call) -> Operand:
    axis = call["dim"] % len(call.shape)
    shape = [1 if i == axis else n for i, n in enumerate(call.shape)]
    pieces = [low.reshape(low.cast(x, call.dtype), shape) for x in call["tensors"]]
    return joined(low, pieces, axis)


def _flip(low: Lowering, call: Call) -> Operand:
    rank = low.rank(call["self"])
    axes = tuple(sorted(axis % rank for axis in call["dims"]))
    return low.add("flip", call["self"], axes=axes)


def _roll(low: Lowering, call: Call) -> Operand:
    x, shape = call["self"], low.shape(call["self"])
    axes: Sequence[int] = call["dims"]
    if not axes:
        x, axes = low.reshape(x, (-1,)), (0,)
    for axis, shift in zip(axes, call["shifts"], strict=True):
        size = low.shape(x)[axis]
        first = -shift % size
        if first:
            pieces = [low.cut(x, axis, first, size), low.cut(x, axis, 0, first)]
            x = joined(low, pieces, axis % len(shape))
    return low.reshape(x, shape)


def _repeat(low: Lowering, call: Call) -> Operand:
    times = call["repeats"]
    x = call["self"]
    shape = (1,) * (len(times) - low.rank(x)) + low.shape(x)
    apart: list[int] = []
    wide: list[int] = []
    for count, size in zip(times, shape, strict=True):
        if count > 1 and size > 1:
            apart += [1, size]
            wide += [count, size]
        else:
            apart.append(size)
            wide.append(count * size)
    return low.reshape(low.broadcast(low.reshape(x, apart), wide), call.shape)


# ── padding ──────────────────────────────────────────────────────────────────


def padded(
    low: Lowering,
    x: Operand,
    sides: dict[int, tuple[int, int]],
    value: float = 0,
) -> Tensor:
    """Put ``value`` before and after x along axes; negative sides cut."""
    for axis, (first, last) in sides.items():
        size = low.shape(x)[axis]
        x = low.cut(x, axis, max(0, -first), size - max(0, -last))
    ends = [sides.get(axis, (0, 0)) for axis in range(low.rank(x))]
    before = tuple(max(0, side[0]) for side in ends)
    after = tuple(max(0, side[1]) for side in ends)
    if not any(before + after):
        return low.cast(x, low.dtype(x))
    if isinstance(x, Filled) and x.value == value:
        shape = [sum(sizes) for sizes in zip(before, x.type.shape, after, strict=True)]
        return low.filled(value, x.type.dtype, shape)
    if low.dtype(x) is not DType.F32 and value != 0:
        return _framed(low, x, before, after, value)
    return low.add("pad", x, before=before, after=after, value=value + 0.0)


def _framed(
    low: Lowering,
    x: Operand,
    before: Sequence[int],
    after: Sequence[int],
    value: float,
) -> Tensor:
    for axis in range(low.rank(x)):
        pieces: list[Operand] = []
        for count in (before[axis], 0, after[axis]):
            shape = list(low.shape(x))
            shape[axis] = count
            pieces.append(low.filled(value, low.dtype(x), shape) if count else x)
        kept = [
            p for p, n in zip(pieces, (before[axis], 1, after[axis]), strict=True) if n
        ]
        x = joined(low, kept, axis)
    return low.cast(x, low.dtype(x))


def _constant_pad(low: Lowering, call: Call) -> Operand:
    rank, pad = low.rank(call["self"]), call["pad"]
    sides = {rank - 1 - i: (pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)}
    return padded(low, call["self"], sides, call["value"])


def _refused(reason: str) -> Rule:
    def rule(_: Lowering, __: Call) -> Operand:
        raise Unsupported(reason)

    return rule


RULES: Rules = {
    **dict.fromkeys(
        (
            aten.view.default,
            aten._unsafe_view.default,
            aten.reshape.default,
            aten._reshape_alias.default,
            aten.view_copy.default,
            aten.unsqueeze.default,
            aten.squeeze.default,
            aten.squeeze.dim,
            aten.squeeze.dims,
            aten.flatten.using_ints,
        ),
        _view,
    ),
    aten.expand.default: _expand,
    aten.t.default: _t,
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.diagonal.default: _diagonal,
    aten.diagonal_copy.default: _diagonal,
    aten.diag_embed.default: _diag_embed,
    aten.diagonal_backward.default: _diagonal_backward,
    aten.slice.Tensor: _slice,
    aten.slice_backward.default: _slice_backward,
    aten.slice_scatter.default: _slice_scatter,
    aten.select.int: _select,
    aten.select_backward.default: _select_backward,
    aten.select_scatter.default: _select_scatter,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    aten.unsafe_split.Tensor: _split,
    aten.unsafe_split_with_sizes.default: _split,
    aten.unbind.int: _unbind,
    aten.unfold.default: _unfold,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.flip.default: _flip,
    aten.roll.default: _roll,
    aten.repeat.default: _repeat,
    aten.constant_pad_nd.default: _constant_pad,
    aten.as_strided.default: _refused("write it with view, narrow and permute"),
}
