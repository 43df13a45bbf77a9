"""Gathers and scatters, and the losses that pick by index.

A scatter adds to each target in ascending order of the sources that name it. Its stages
make the list of a target's sources explicit: *latest* [chunks of sources, targets] is
the last source so far that names each target; *previous* is, for each source, the one
before it that names the same target; *values* are each source's running result. Each
of them follows from one chunk of indices and a few elements.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ml_verifier.adjudication.primitives import lanes, scan, staged
from ml_verifier.adjudication.refinement import (
    Indices,
    OutOfRange,
    Read,
    Recipe,
    Refinement,
    Refiner,
    Values,
)
from ml_verifier.operators import integer
from ml_verifier.types import DType, TensorType, i64

SOURCES = 64  # of one chunk

# Of (outer, source or target, inner): an index, a start, or a source's value.
At: TypeAlias = Callable[[Indices, Indices, Indices, Read], Values]
Lookup: TypeAlias = Callable[..., Values]


def checked(index: Values, extent: int, skip: int | None = None) -> Indices:
    """Return indices, all of them in range or equal to ``skip``.

    Raises:
        OutOfRange: One is not.
    """
    wrong = (index < 0) | (index >= extent)
    if skip is not None:
        wrong &= index != skip
    if wrong.any():
        raise OutOfRange(f"expected indices below {extent}, got {index[wrong][0]}")
    return np.asarray(index, np.int64)


@dataclass(frozen=True, slots=True)
class Scatter:
    """What defines a scatter.

    Attributes:
        outer: Independent copies before the axis.
        extent: Targets along the axis.
        inner: Independent copies behind the axis.
        count: Sources along the axis.
        index: The target of (outer, source, inner).
        start: What is there before, of (outer, target, inner).
        source: What a source brings, of (outer, source, inner).
        combine: The new value from the one before and the source's.
        shared: Whether one index serves all of (outer, inner).
        skip: An index that names no target.
    """

    outer: int
    extent: int
    inner: int
    count: int
    index: At
    start: At
    source: At
    combine: Callable[[Values, Values], Values]
    shared: bool = False
    skip: int | None = None

    @property
    def copies(self) -> tuple[int, int]:
        """Outer and inner copies of the indices."""
        return (1, 1) if self.shared else (self.outer, self.inner)

    def target(self, o: Indices, s: Indices, i: Indices, read: Read) -> Indices:
        """Return the target of sources, in range or skipped."""
        return checked(self.index(o, s, i, read), self.extent, self.skip)

    def real(self, target: Indices) -> NDArray[np.bool_]:
        """Return which targets are not skipped."""
        if self.skip is None:
            return np.ones(target.shape, np.bool_)
        return np.asarray(target != self.skip)


def scattered(refiner: Refiner, scatter: Scatter) -> tuple[Lookup, Lookup]:
    """Refine a scatter into three stages.

    Returns:
        The last source of (outer, target, inner), -1 without one; and the running
        value at (outer, source, inner).
    """
    latest = _latest(refiner, scatter)
    previous = _previous(refiner, scatter, latest)
    return latest, _running(refiner, scatter, previous)


def _latest(refiner: Refiner, scatter: Scatter) -> Lookup:
    """[chunks, outer, targets, inner]: the last source so far of each target.

    Returns the lookup by (outer, target, inner) after the last chunk, or, with a chunk
    in front of them, after that one.
    """
    (outer, inner), extent, count = scatter.copies, scatter.extent, scatter.count
    chunks, table, me = (
        -(-count // SOURCES),
        outer * extent * inner,
        refiner.next_source,
    )

    def rule(at: Indices, read: Read) -> Values:
        chunk, rest = np.divmod(at, table)
        o, t, i = _split(rest, extent, inner)
        found = np.full(at.shape, -1, np.int64)
        for offset in range(min(SOURCES, count)):
            s = chunk * SOURCES + offset
            here = s < count
            if here.any():
                target = scatter.target(o[here], s[here], i[here], read)
                found[here] = np.where(target == t[here], s[here], found[here])
        older = (found < 0) & (chunk > 0)
        if older.any():
            found[older] = read(me, at[older] - table)
        return found

    shape = _lean((chunks, outer, extent, inner))
    refiner.add("latest", i64(*shape), rule, chained=True)

    def lookup(
        o: Indices, t: Indices, i: Indices, read: Read, *after: Indices
    ) -> Values:
        chunk = after[0] if after else chunks - 1
        oo, ii = (o * 0, i * 0) if scatter.shared else (o, i)
        return read(me, ((chunk * outer + oo) * extent + t) * inner + ii)

    return lookup


def _previous(refiner: Refiner, scatter: Scatter, latest: Lookup) -> Lookup:
    """[sources, outer, inner]: the source before with the same target, or -1."""
    outer, inner = scatter.copies

    def rule(at: Indices, read: Read) -> Values:
        s, o, i = _split(at, outer, inner)
        mine = scatter.target(o, s, i, read)
        chunk, real = s // SOURCES, scatter.real(mine)
        found = np.full(at.shape, -1, np.int64)
        later = (chunk > 0) & real
        if later.any():
            found[later] = latest(
                o[later], mine[later], i[later], read, chunk[later] - 1
            )
        for offset in range(min(SOURCES, scatter.count)):
            other = chunk * SOURCES + offset
            here = (other < s) & real
            if here.any():
                target = scatter.target(o[here], other[here], i[here], read)
                found[here] = np.where(target == mine[here], other[here], found[here])
        return found

    me = refiner.add("previous", i64(*_lean((scatter.count, outer, inner))), rule)

    def lookup(o: Indices, s: Indices, i: Indices, read: Read, *_: Indices) -> Values:
        oo, ii = (o * 0, i * 0) if scatter.shared else (o, i)
        return read(me, (s * outer + oo) * inner + ii)

    return lookup


def _running(refiner: Refiner, scatter: Scatter, previous: Lookup) -> Lookup:
    """[sources, outer, inner]: the value of its target after each source."""
    outer, inner, me = scatter.outer, scatter.inner, refiner.next_source

    def lookup(o: Indices, s: Indices, i: Indices, read: Read, *_: Indices) -> Values:
        return read(me, (s * outer + o) * inner + i)

    def rule(at: Indices, read: Read) -> Values:
        s, o, i = _split(at, outer, inner)
        earlier = previous(o, s, i, read)
        same = (o * 0, i * 0) if scatter.shared else (o, i)
        mine = scatter.target(same[0], s, same[1], read)
        brought = scatter.source(o, s, i, read)
        held = np.zeros_like(brought)
        chained = earlier >= 0
        if chained.any():
            held[chained] = lookup(o[chained], earlier[chained], i[chained], read)
        first = ~chained & scatter.real(mine)
        if first.any():
            held[first] = scatter.start(o[first], mine[first], i[first], read)
        return scatter.combine(held, brought)

    shape = _lean((scatter.count, outer, inner))
    type_ = TensorType(refiner.outputs[0].dtype, shape)
    refiner.add("values", type_, rule, chained=True)
    return lookup


def _lean(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop a last axis of 1, so that tiles are filled."""
    return shape[:-1] if len(shape) > 2 and shape[-1] == 1 else shape


def _split(at: Indices, extent: int, inner: int) -> tuple[Indices, Indices, Indices]:
    """Split a position of [outer, extent, inner]."""
    rest, i = np.divmod(at, inner)
    o, t = np.divmod(rest, extent)
    return o, t, i


def _axis(refiner: Refiner, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (outer, extent, inner) of a shape around the operator's axis."""
    axis = integer(refiner.attributes, "axis")
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _take(refiner: Refiner) -> Refinement:
    outer, extent, inner = _axis(refiner, refiner.inputs[0].shape)
    del outer
    count = refiner.inputs[1].size

    def rule(at: Indices, read: Read) -> Values:
        o, s, i = _split(at, count, inner)
        index = checked(read(1, s), extent)
        return read(0, (o * extent + index) * inner + i)

    return refiner.finish(refiner.output(rule))


def _gather(refiner: Refiner) -> Refinement:
    _, extent, inner = _axis(refiner, refiner.inputs[0].shape)
    _, count, _ = _axis(refiner, refiner.inputs[1].shape)

    def rule(at: Indices, read: Read) -> Values:
        o, _, i = _split(at, count, inner)
        index = checked(read(1, at), extent)
        return read(0, (o * extent + index) * inner + i)

    return refiner.finish(refiner.output(rule))


def _signed(refiner: Refiner, name: str) -> int:
    """Return an attribute that holds 32 bits in two's complement."""
    word = integer(refiner.attributes, name)
    return word - 2**32 if word >= 2**31 else word


def _scatter_rows(refiner: Refiner) -> Refinement:
    outer, extent, inner = _axis(refiner, refiner.outputs[0].shape)
    count, word = refiner.inputs[1].size, _signed(refiner, "skip")
    skip = None if word == -1 else word
    scatter = Scatter(
        *(outer, extent, inner, count),
        index=lambda _o, s, _i, read: read(1, s),
        start=nothing,
        source=lambda o, s, i, read: read(0, (o * count + s) * inner + i),
        combine=np.add,
        shared=True,
        skip=skip,
    )
    last, value = scattered(refiner, scatter)

    def rule(at: Indices, read: Read) -> Values:
        o, t, i = _split(at, extent, inner)
        source = last(o, t, i, read)
        found = (source >= 0) & scatter.real(t)  # a skipped index names no target
        result = np.zeros(at.shape, np.float32)
        if found.any():
            result[found] = value(o[found], source[found], i[found], read)
        return result

    return refiner.finish(refiner.output(rule))


def _scatter(combine: Callable[[Values, Values], Values]) -> Recipe:
    def recipe(refiner: Refiner) -> Refinement:
        outer, extent, inner = _axis(refiner, refiner.outputs[0].shape)
        _, count, _ = _axis(refiner, refiner.inputs[1].shape)

        def base(o: Indices, t: Indices, i: Indices, read: Read) -> Values:
            return read(0, (o * extent + t) * inner + i)

        scatter = Scatter(
            *(outer, extent, inner, count),
            index=lambda o, s, i, read: read(1, (o * count + s) * inner + i),
            start=base,
            source=lambda o, s, i, read: read(2, (o * count + s) * inner + i),
            combine=combine,
        )
        last, value = scattered(refiner, scatter)

        def rule(at: Indices, read: Read) -> Values:
            o, t, i = _split(at, extent, inner)
            source = last(o, t, i, read)
            found = source >= 0
            result = np.zeros(at.shape, refiner.outputs[0].dtype.numpy)
            if found.any():
                result[found] = value(o[found], source[found], i[found], read)
            if not found.all():
                rest = ~found
                result[rest] = base(o[rest], t[rest], i[rest], read)
            return result

        return refiner.finish(refiner.output(rule))

    return recipe


def nothing(o: Indices, _t: Indices, _i: Indices, _r: Read) -> Values:
    """Start at +0."""
    return np.zeros(o.shape, np.float32)


def _replace(_: Values, brought: Values) -> Values:
    return brought


# ── the loss of a classification ─────────────────────────────────────────────


def _nll_loss(refiner: Refiner) -> Refinement:
    rows, classes = refiner.inputs[0].shape
    ignored = _signed(refiner, "ignore")

    kept = staged(
        refiner, "targets", (1, rows),
        lambda row, read: checked(read(1, row), classes, ignored), DType.I64,
    )  # fmt: skip

    def counted(total: Values, _: Indices, row: Indices, read: Read) -> Values:
        return np.asarray(total + (kept(row, read) != ignored))

    def picked(out: Indices, row: Indices, read: Read) -> Values:
        del out
        target = kept(row, read)
        result = np.zeros(row.shape, np.float32)
        here = target != ignored
        if here.any():
            result[here] = -read(0, row[here] * classes + target[here])
        return result

    _, number = scan(
        refiner, "counts", (1, 1), rows, lambda at, _: np.zeros_like(at), counted,
        dtype=DType.I64,
    )  # fmt: skip
    total = lanes(refiner, "lanes", 1, rows, picked)
    count = refiner.output(lambda at, read: number(at, read).astype(np.float32), 1)
    loss = refiner.output(lambda at, read: total(at, read) / read(count, at))
    return refiner.finish(loss, count)


def _nll_loss_backward(refiner: Refiner) -> Refinement:
    classes = integer(refiner.attributes, "classes")
    ignored = _signed(refiner, "ignore")

    def rule(at: Indices, read: Read) -> Values:
        row, column = np.divmod(at, classes)
        target = checked(read(1, row), classes, ignored)
        zero = np.zeros_like(at)
        share = -(read(0, zero) / read(2, zero))
        here = (target == column) & (target != ignored)
        return np.asarray(np.where(here, share, np.float32(0)))

    return refiner.finish(refiner.output(rule))


RECIPES: dict[str, Recipe] = {
    "take": _take,
    "gather": _gather,
    "scatter_rows": _scatter_rows,
    "scatter_add": _scatter(np.add),
    "scatter": _scatter(_replace),
    "nll_loss": _nll_loss,
    "nll_loss_backward": _nll_loss_backward,
}
