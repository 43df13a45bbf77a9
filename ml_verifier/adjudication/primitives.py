"""The few ways in which a long computation is cut into stages."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ml_verifier.adjudication.refinement import Indices, Read, Refiner, Values
from ml_verifier.oracle.arithmetic import DEPTH_BLOCK, LANES, fma, fold
from ml_verifier.types import DType, TensorType, f32

# Terms of a reduction: for outputs ``o`` and elements ``e`` one value each, or
# two factors whose product is fused with the sum.
Term: TypeAlias = Callable[[Indices, Indices, Read], Values | tuple[Values, Values]]
# A value per output, read off a stage.
Result: TypeAlias = Callable[[Indices, Read], Values]

PER_LANE = 32  # elements a lane takes in one chunk
LANE_CHUNK = LANES * PER_LANE
SCAN_CHUNK = 64


def lanes(refiner: Refiner, name: str, size: int, count: int, term: Term) -> Result:
    """Refine ``lanes`` over ``count`` terms for each of ``size`` outputs.

    The stage [chunks, size, 32] holds all accumulators after each chunk of 1,024 terms.
    """
    chunks = -(-count // LANE_CHUNK)
    me = refiner.next_source

    def accumulators(indices: Indices, read: Read) -> Values:
        chunk, rest = np.divmod(indices, size * LANES)
        out, lane = np.divmod(rest, LANES)
        total = _previous(indices, chunk, size * LANES, me, read)
        for step in range(PER_LANE):
            element = (chunk * PER_LANE + step) * LANES + lane
            here = element < count
            if here.any():
                total[here] = _add(total[here], term(out[here], element[here], read))
        return total

    refiner.add(name, f32(chunks, size, LANES), accumulators, chained=True)

    def result(out: Indices, read: Read) -> Values:
        first = ((chunks - 1) * size + out) * LANES
        rows = [read(me, first + lane) for lane in range(LANES)]
        return fold(np.stack(rows))

    return result


def _previous(
    indices: Indices, chunk: Indices, stride: int, me: int, read: Read
) -> Values:
    """Return the same positions one chunk earlier, +0 before the first."""
    total = np.zeros(indices.shape, np.float32)
    later = chunk > 0
    if later.any():
        total[later] = read(me, indices[later] - stride)
    return total


def _add(total: Values, terms: Values | tuple[Values, Values]) -> Values:
    if isinstance(terms, tuple):
        return fma(*terms, total)
    return total + terms


def zeros(out: Indices, _: Read) -> Values:
    """Start at +0."""
    return np.zeros(out.shape, np.float32)


def matrix(*shape: int) -> tuple[int, int]:
    """Return [rows, columns] of a shape, as tiles cut it."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def staged(
    refiner: Refiner,
    name: str,
    shape: tuple[int, int],
    result: Result,
    dtype: DType = DType.F32,
) -> Result:
    """Commit a result as a stage of its own, so that reading it is one element."""
    number = refiner.add(name, TensorType(dtype, shape), result)
    return lambda out, read: read(number, out)


def dot(
    refiner: Refiner,
    name: str,
    shape: tuple[int, int],
    depth: int,
    term: Term,
    chunk: int = DEPTH_BLOCK,
) -> Result:
    """Refine the product order over ``depth`` terms for each element of ``shape``.

    Chains of fma run over blocks of 256; each stage element takes ``chunk`` of them.
    Where a block has several chunks, the chain's state after each is the first stage;
    sums of blocks are the second. What fits one chunk or one block has no such stage:
    then the result itself reads up to a chunk of terms.
    """
    size = math.prod(shape)
    parts = DEPTH_BLOCK // chunk
    chunks, blocks = -(-depth // chunk), -(-depth // DEPTH_BLOCK)

    def chain(out: Indices, part: Indices, start: Values, read: Read) -> Values:
        total = start
        for step in range(min(chunk, depth)):
            element = part * chunk + step
            here = element < depth
            if here.any():
                factors = term(out[here], element[here], read)
                total[here] = _add(total[here], factors)
        return total

    def block(out: Indices, number: Indices, read: Read) -> Values:
        """Return a block's chain, whole."""
        if parts > 1 and chunks > 1:
            last = np.minimum((number + 1) * parts, chunks) - 1
            return read(chains, last * size + out)
        return chain(out, number, np.zeros(out.shape, np.float32), read)

    chains = refiner.next_source
    if parts > 1 and chunks > 1:

        def states(indices: Indices, read: Read) -> Values:
            part, out = np.divmod(indices, size)
            start = np.zeros(indices.shape, np.float32)
            later = part % parts > 0
            if later.any():
                start[later] = read(chains, indices[later] - size)
            return chain(out, part, start, read)

        refiner.add(f"{name} chains", f32(chunks, *shape), states, chained=True)
    if blocks == 1:
        return lambda out, read: block(out, np.zeros_like(out), read)
    sums = refiner.next_source

    def totals(indices: Indices, read: Read) -> Values:
        number, out = np.divmod(indices, size)
        here = block(out, number, read)
        later = number > 0
        if later.any():
            before = read(sums, indices[later] - size)
            here[later] = before + here[later]
        return here

    refiner.add(f"{name} blocks", f32(blocks, *shape), totals, chained=True)
    return lambda out, read: read(sums, (blocks - 1) * size + out)


Step: TypeAlias = Callable[[Values, Indices, Indices, Read], Values]


def scan(
    refiner: Refiner,
    name: str,
    shape: tuple[int, int],
    count: int,
    start: Result,
    step: Step,
    *,
    dtype: DType = DType.F32,
    chunk: int = SCAN_CHUNK,
) -> tuple[int, Result]:
    """Refine ``for e in range(count): value = step(value, o, e)`` for each output.

    ``step`` is called for the outputs at which element e exists; it returns their next
    values. Returns the stage [chunks, *shape] of values after each chunk, and its last.
    """
    size = math.prod(shape)
    chunks = -(-count // chunk)
    me = refiner.next_source

    def states(indices: Indices, read: Read) -> Values:
        number, out = np.divmod(indices, size)
        value = start(out, read)
        later = number > 0
        if later.any():
            value[later] = read(me, indices[later] - size)
        for offset in range(min(chunk, count)):
            element = number * chunk + offset
            here = element < count
            if here.any():
                value[here] = step(value[here], out[here], element[here], read)
        return value

    refiner.add(name, TensorType(dtype, (chunks, *shape)), states, chained=True)
    return me, lambda out, read: read(me, (chunks - 1) * size + out)
