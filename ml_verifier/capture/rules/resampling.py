# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Interpolation and padding that repeat elements of the input.

Along each axis an output element reads one place of the input (nearest, reflect,
replicate) or two neighbours (linear); the gradient adds back to what was read.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Held, Operand, Tensor
from ml_verifier.capture.rules.arithmetic import floats
from ml_verifier.capture.rules.indexing import rows

aten = torch.ops.aten

Places: TypeAlias = Callable[[Call, int, int, int], list[int]]


def _read(low: Lowering, x: Operand, axis: int, places: Sequence[int]) -> Tensor:
    if list(places) == list(range(low.shape(x)[axis])):
        return floats(low, x)
    return low.add("take", x, Held(torch.tensor(places)), axis=axis)


def _added(
    low: Lowering, g: Operand, axis: int, places: Sequence[int], size: int
) -> Tensor:
    if list(places) == list(range(size)):
        return floats(low, g)
    return rows(low, g, Held(torch.tensor(places)), axis, size)


def _reading(places: Places) -> Rule:
    """Return the rule of an output that reads one place along each axis."""

    def rule(low: Lowering, call: Call) -> Operand:
        x: Operand = floats(low, call["self"])
        for axis in range(low.rank(x)):
            size, count = low.shape(x)[axis], call.shape[axis]
            if axis >= low.rank(x) - _dimensions(call):
                x = _read(low, x, axis, places(call, axis, size, count))
        return x

    return rule


def _adding(places: Places) -> Rule:
    """Return the rule of the gradient of ``_reading``."""

    def rule(low: Lowering, call: Call) -> Operand:
        g: Operand = floats(low, call["grad_output"])
        for axis in reversed(range(low.rank(g))):
            size, count = call.shape[axis], low.shape(g)[axis]
            if axis >= low.rank(g) - _dimensions(call):
                g = _added(low, g, axis, places(call, axis, size, count), size)
        return g

    return rule


def _dimensions(call: Call) -> int:
    """Return how many of the last axes a call works on."""
    name = str(call.node.target)
    return next(n for n in (1, 2, 3) if f"{n}d" in name)


def _side(call: Call, axis: int) -> int:
    """Return the padding before an axis; torch lists the last axis first."""
    padding = call["padding"]
    return int(padding[2 * (len(call.shape) - 1 - axis)])


def _reflected(call: Call, axis: int, size: int, count: int) -> list[int]:
    before = _side(call, axis)
    found: list[int] = []
    for place in range(-before, count - before):
        inner = abs(place)
        found.append(inner if inner < size else 2 * (size - 1) - inner)
    return found


def _replicated(call: Call, axis: int, size: int, count: int) -> list[int]:
    before = _side(call, axis)
    return [min(max(p, 0), size - 1) for p in range(-before, count - before)]


def _factor(call: Call, axis: int) -> float | None:
    """Return the scale factor that the caller gave for an axis."""
    names = {1: ("scales",), 2: ("scales_h", "scales_w")}.get(
        _dimensions(call), ("scales_d", "scales_h", "scales_w")
    )
    factor: float | None = call.arguments.get(names[axis - len(call.shape)])
    return factor


def _scale(call: Call, axis: int, size: int, count: int) -> np.float32:
    """Return input elements per output element."""
    factor = _factor(call, axis)
    if factor is not None and factor > 0:
        return np.float32(1.0 / factor)
    return np.float32(size) / np.float32(count)


def _nearest(call: Call, axis: int, size: int, count: int) -> list[int]:
    scale = _scale(call, axis, size, count)
    return [min(int(np.float32(i) * scale), size - 1) for i in range(count)]


def _nearest_exact(call: Call, axis: int, size: int, count: int) -> list[int]:
    scale = _scale(call, axis, size, count)
    half = np.float32(0.5)
    return [min(int((np.float32(i) + half) * scale), size - 1) for i in range(count)]


# ── linear ───────────────────────────────────────────────────────────────────


def _neighbours(
    call: Call, axis: int, size: int, count: int
) -> tuple[list[int], list[int], list[float]]:
    """Return the places below and above each output element, and the share above."""
    below: list[int] = []
    shares: list[float] = []
    for i in range(count):
        if call["align_corners"]:
            source = i * (size - 1) / (count - 1) if count > 1 else 0.0
        else:
            source = max(0.0, (i + 0.5) * float(_scale(call, axis, size, count)) - 0.5)
        place = min(int(source), size - 1)
        below.append(place)
        shares.append(source - place)
    return below, [min(p + 1, size - 1) for p in below], shares


def _shares(low: Lowering, shares: Sequence[float], rank: int, axis: int) -> Tensor:
    shape = [len(shares) if i == axis else 1 for i in range(rank)]
    return low.broadcast(Held(torch.tensor(shares).reshape(shape)), shape)


def _linear(low: Lowering, call: Call) -> Operand:
    x: Operand = floats(low, call["self"])
    rank = low.rank(x)
    for axis in range(rank - _dimensions(call), rank):
        size, count = low.shape(x)[axis], call.shape[axis]
        if size == count and _factor(call, axis) in {None, 1.0}:
            continue
        below, above, shares = _neighbours(call, axis, size, count)
        first, second = _read(low, x, axis, below), _read(low, x, axis, above)
        share = _shares(low, shares, rank, axis)
        step = low.add("mul", low.add("sub", second, first), share)
        x = low.add("add", first, step)
    return x


def _linear_backward(low: Lowering, call: Call) -> Operand:
    g: Operand = floats(low, call["grad_output"])
    rank = low.rank(g)
    for axis in reversed(range(rank - _dimensions(call), rank)):
        size, count = call.shape[axis], low.shape(g)[axis]
        if size == count and _factor(call, axis) in {None, 1.0}:
            continue
        below, above, shares = _neighbours(call, axis, size, count)
        upper = low.add("mul", g, _shares(low, shares, rank, axis))
        lower = low.add("sub", g, upper)
        g = low.add(
            "add",
            _added(low, lower, axis, below, size),
            _added(low, upper, axis, above, size),
        )
    return g


RULES: Rules = {
    **{
        getattr(aten, f"{kind}_pad{n}d{suffix}").default: make(places)
        for kind, places in (("reflection", _reflected), ("replication", _replicated))
        for n in (1, 2, 3)
        for suffix, make in (("", _reading), ("_backward", _adding))
    },
    **{
        getattr(aten, f"{kind}{n}d{suffix}").default: make(places)
        for kind, places in (
            ("upsample_nearest", _nearest),
            ("_upsample_nearest_exact", _nearest_exact),
        )
        for n in (1, 2, 3)
        for suffix, make in (("", _reading), ("_backward", _adding))
    },
    aten.upsample_linear1d.default: _linear,
    aten.upsample_linear1d_backward.default: _linear_backward,
    aten.upsample_bilinear2d.default: _linear,
    aten.upsample_bilinear2d_backward.default: _linear_backward,
    aten.upsample_trilinear3d.default: _linear,
    aten.upsample_trilinear3d_backward.default: _linear_backward,
}
