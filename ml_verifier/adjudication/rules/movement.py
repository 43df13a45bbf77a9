"""Operators that move elements, fill tensors, or draw random ones."""

import numpy as np

from ml_verifier.adjudication.refinement import (
    Indices,
    Read,
    Recipe,
    Refinement,
    Refiner,
    Values,
    coordinates,
    filled,
    flat,
)
from ml_verifier.operators import integer, integers
from ml_verifier.oracle.arithmetic import fma, scalar
from ml_verifier.oracle.philox import blocks
from ml_verifier.types import DType

ONE = np.float32(1)


def _reshape(refiner: Refiner) -> Refinement:
    return refiner.finish(refiner.output(lambda indices, read: read(0, indices)))


def _transpose(refiner: Refiner) -> Refinement:
    order = integers(refiner.attributes, "permutation")
    source = refiner.inputs[0].shape

    def rule(indices: Indices, read: Read) -> Values:
        coords = coordinates(indices, refiner.outputs[0].shape)
        moved = [coords[order.index(axis)] for axis in range(len(order))]
        return read(0, flat(moved, source, indices))

    return refiner.finish(refiner.output(rule))


def _broadcast(refiner: Refiner) -> Refinement:
    def rule(indices: Indices, read: Read) -> Values:
        coords = coordinates(indices, refiner.outputs[0].shape)
        return read(0, flat(coords, refiner.inputs[0].shape, indices))

    return refiner.finish(refiner.output(rule))


def _slice(refiner: Refiner) -> Refinement:
    starts = integers(refiner.attributes, "starts")
    steps = integers(refiner.attributes, "steps")

    def rule(indices: Indices, read: Read) -> Values:
        coords = coordinates(indices, refiner.outputs[0].shape)
        moved = [
            start + step * x
            for start, step, x in zip(starts, steps, coords, strict=True)
        ]
        return read(0, flat(moved, refiner.inputs[0].shape, indices))

    return refiner.finish(refiner.output(rule))


def _flip(refiner: Refiner) -> Refinement:
    axes, shape = integers(refiner.attributes, "axes"), refiner.inputs[0].shape

    def rule(indices: Indices, read: Read) -> Values:
        coords = coordinates(indices, shape)
        moved = [
            extent - 1 - x if axis in axes else x
            for axis, (extent, x) in enumerate(zip(shape, coords, strict=True))
        ]
        return read(0, flat(moved, shape, indices))

    return refiner.finish(refiner.output(rule))


def _pad(refiner: Refiner) -> Refinement:
    before, shape = integers(refiner.attributes, "before"), refiner.inputs[0].shape
    value = scalar(refiner.attributes, "value")
    default = np.asarray(value).astype(refiner.inputs[0].dtype.numpy)

    def rule(indices: Indices, read: Read) -> Values:
        coords = coordinates(indices, refiner.outputs[0].shape)
        moved = [x - shift for x, shift in zip(coords, before, strict=True)]
        inside = np.ones(indices.shape, np.bool_)
        for x, extent in zip(moved, shape, strict=True):
            inside &= (x >= 0) & (x < extent)
        source = flat(moved, shape, indices)
        return filled(inside, lambda at: read(0, at), source, default)

    return refiner.finish(refiner.output(rule))


def _concat(refiner: Refiner) -> Refinement:
    axis = integer(refiner.attributes, "axis")

    def rule(indices: Indices, read: Read) -> Values:
        coords = list(coordinates(indices, refiner.outputs[0].shape))
        result = np.zeros(indices.shape, refiner.outputs[0].dtype.numpy)
        place = coords[axis]
        for source, type_ in enumerate(refiner.inputs):
            here = (place >= 0) & (place < type_.shape[axis])
            moved = [*coords[:axis], place, *coords[axis + 1 :]]
            if here.any():
                at = flat([x[here] for x in moved], type_.shape, indices[here])
                result[here] = read(source, at)
            place = place - type_.shape[axis]
        return result

    return refiner.finish(refiner.output(rule))


def _constant(refiner: Refiner) -> Refinement:
    value = scalar(refiner.attributes, "value")
    return refiner.finish(
        refiner.output(lambda indices, _: np.full(indices.shape, value, np.float32))
    )


def _literal(refiner: Refiner) -> Refinement:
    data = refiner.attributes["data"]
    if not isinstance(data, bytes):
        raise TypeError(f"attribute data: expected bytes, got {type(data).__name__}")
    dtype = DType(integer(refiner.attributes, "dtype"))
    elements = np.frombuffer(data, dtype.numpy)
    return refiner.finish(refiner.output(lambda indices, _: elements[indices]))


def _iota(refiner: Refiner) -> Refinement:
    return refiner.finish(refiner.output(lambda indices, _: indices.astype(np.int64)))


def _seed(refiner: Refiner) -> Refinement:
    value = np.uint64(refiner.facts.seed).astype(np.int64)
    return refiner.finish(refiner.output(lambda at, _: np.full(at.shape, value)))


def _step(refiner: Refiner) -> Refinement:
    value = np.int64(refiner.facts.position)
    return refiner.finish(refiner.output(lambda at, _: np.full(at.shape, value)))


def _words(refiner: Refiner, indices: Indices, read: Read) -> Values:
    """Return the Philox word of each element (``numerics.md``, Randomness)."""
    zero = np.zeros(1, np.int64)
    seed, step = read(0, zero), read(1, zero)
    key = int(seed.astype(np.uint64)[0])
    word3 = int(step.astype(np.uint64)[0] % np.uint64(2**32 - 1))
    number = (indices // 4).astype(np.uint64)
    counters = np.stack(
        [
            number & np.uint64(2**32 - 1),
            number >> np.uint64(32),
            np.full_like(number, integer(refiner.attributes, "stream")),
            np.full_like(number, word3),
        ],
        axis=1,
    )
    words = blocks(counters, key)
    return words[np.arange(len(indices)), indices % 4]


def _uniform(refiner: Refiner) -> Refinement:
    low, high = scalar(refiner.attributes, "low"), scalar(refiner.attributes, "high")

    def rule(indices: Indices, read: Read) -> Values:
        words = _words(refiner, indices, read)
        unit = (words >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)
        return fma(unit, high - low, low)

    return refiner.finish(refiner.output(rule))


def _dropout_mask(refiner: Refiner) -> Refinement:
    p = scalar(refiner.attributes, "p")
    threshold = np.uint64(np.ceil(float(p) * 2**24))
    kept = ONE / (ONE - p)

    def rule(indices: Indices, read: Read) -> Values:
        dropped = _words(refiner, indices, read) >> np.uint64(8) < threshold
        return np.where(dropped, np.float32(0), kept)

    return refiner.finish(refiner.output(rule))


RECIPES: dict[str, Recipe] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast": _broadcast,
    "slice": _slice,
    "flip": _flip,
    "pad": _pad,
    "concat": _concat,
    "constant": _constant,
    "literal": _literal,
    "iota": _iota,
    "seed": _seed,
    "step": _step,
    "uniform": _uniform,
    "dropout_mask": _dropout_mask,
}
