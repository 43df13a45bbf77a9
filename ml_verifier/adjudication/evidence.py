"""Evidence about one unit of one stage: built by a party, judged by anyone.

It opens, in pieces of 1 KiB (``ml_verifier.pieces``), the unit as it is committed and
every element that the stage's rule reads for it. The judge recomputes the unit from
the opened elements and compares bits. It is bounded whatever the model's size: at most
``MAX_EVIDENCE_BYTES``, and at most ``MAX_READS`` elements are read.

Bytes: per source, ascending, u16 number, u32 length and the opening of its pieces.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ml_verifier import pieces
from ml_verifier.adjudication.execution import evaluate
from ml_verifier.adjudication.refinement import (
    Indices,
    OutOfRange,
    Refinement,
    Values,
    canonical,
)
from ml_verifier.adjudication.units import Unit, unit_at
from ml_verifier.errors import MalformedWitness
from ml_verifier.kernels.hashing import CHUNK_BYTES
from ml_verifier.types import TensorType

MAX_EVIDENCE_BYTES = 262_144
MAX_READS = 1 << 22  # a product's tile: 64 x 64 x 256 pairs, and some more
HEAD = struct.Struct(">HI")


class Source(Protocol):
    """A committed tensor as the party that holds it can open it."""

    @property
    def type(self) -> TensorType:
        """Its dtype and shape."""
        ...

    def read(self, indices: Indices) -> Values:
        """Return elements at flat positions."""
        ...

    def open(self, wanted: set[tuple[int, int]]) -> bytes:
        """Return the opening of these (tile, chunk) pieces."""
        ...


class TooLarge(Exception):
    """A unit's evidence would not fit; a smaller unit's will."""


@dataclass
class _Reads:
    """The pieces that a rule's reads touch, and how many elements it read."""

    reader: Callable[[int, Indices], Values]
    count: int = 0
    touched: dict[int, set[tuple[int, int]]] = field(
        default_factory=dict[int, set[tuple[int, int]]]
    )

    def read(self, source: int, indices: Indices) -> Values:
        self.count += indices.size
        if self.count > MAX_READS:
            raise TooLarge(f"more than {MAX_READS} elements are read")
        return self.reader(source, indices)


def build(
    refinement: Refinement,
    sources: Sequence[Source],
    stage: int,
    unit: Unit,
    *,
    trap: bool = False,
) -> bytes:
    """Return the evidence about a unit.

    Args:
        refinement: The operator's.
        sources: Its inputs, then its stages, at least up to ``stage``, as committed.
        stage: The stage on trial, by its number among the stages.
        unit: What is tried.
        trap: Whether an index there is out of range: then inputs are all that is read.

    Raises:
        TooLarge: It exceeds a bound: try a smaller unit.
    """
    me = len(refinement.inputs) + stage
    wanted: dict[int, set[tuple[int, int]]] = {}

    def note(source: int, indices: Indices) -> None:
        tiles, chunks, _ = pieces.piece_of(refinement.source_type(source), indices)
        pairs = np.unique(np.stack([tiles, chunks], axis=1), axis=0)
        wanted.setdefault(source, set()).update(map(tuple, pairs.tolist()))

    def read(source: int, indices: Indices) -> Values:
        note(source, indices)
        return sources[source].read(indices)

    positions = unit.positions(refinement.stages[stage].type.shape)
    if not trap:
        note(me, positions)
    with suppress(OutOfRange):  # what was read up to there is the proof
        evaluate(refinement.stages[stage], positions, _Reads(read).read)
    parts: list[bytes] = []
    for source in sorted(wanted):
        opening = sources[source].open(wanted[source])
        parts.append(HEAD.pack(source, len(opening)) + opening)
    evidence = b"".join(parts)
    if len(evidence) > MAX_EVIDENCE_BYTES:
        raise TooLarge(f"{len(evidence)} bytes exceed {MAX_EVIDENCE_BYTES}")
    return evidence


def build_at(
    refinement: Refinement,
    sources: Sequence[Source],
    stage: int,
    position: int,
    *,
    trap: bool = False,
) -> tuple[Unit, bytes]:
    """Return the largest unit that holds a position and fits, and its evidence.

    Raises:
        TooLarge: Not even the element fits; no operator that is admitted is such.
    """
    shape = refinement.stages[stage].type.shape
    tile, row, element = unit_at(shape, position)
    for unit in (tile, row):
        with suppress(TooLarge):
            return unit, build(refinement, sources, stage, unit, trap=trap)
    return element, build(refinement, sources, stage, element, trap=trap)


def holds(
    refinement: Refinement,
    roots: Mapping[int, bytes],
    stage: int,
    unit: Unit,
    evidence: bytes,
) -> bool:
    """Return whether a committed unit is what its rule gives.

    Args:
        refinement: The operator's.
        roots: Tensor roots of inputs and stages, by their numbers as sources.
        stage: The stage on trial.
        unit: What is tried.
        evidence: See ``build``.

    Raises:
        Malformed: The evidence does not open what the rule reads; it convicts nobody.
    """
    opened = _decode(refinement, roots, evidence)
    reads = _Reads(opened)
    rule = refinement.stages[stage]
    positions = unit.positions(rule.type.shape)
    committed = opened(len(refinement.inputs) + stage, positions)
    try:
        expected = evaluate(rule, positions, reads.read)
    except OutOfRange:
        return False
    except TooLarge as error:
        raise MalformedWitness(str(error)) from None
    # Committed bits count as they are: a NaN other than the canonical one is wrong.
    return bool(committed.tobytes() == canonical(expected).tobytes())


def traps(
    refinement: Refinement,
    roots: Mapping[int, bytes],
    stage: int,
    unit: Unit,
    evidence: bytes,
) -> bool:
    """Return whether a unit's rule finds an index out of range.

    Args:
        refinement: The operator's.
        roots: Tensor roots of the inputs: nothing else is read before.
        stage: The stage whose rule finds it.
        unit: Where.
        evidence: See ``build``.

    Raises:
        Malformed: The evidence does not open what the rule reads.
    """
    rule = refinement.stages[stage]
    reads = _Reads(_decode(refinement, roots, evidence))
    try:
        evaluate(rule, unit.positions(rule.type.shape), reads.read)
    except OutOfRange:
        return True
    except TooLarge as error:
        raise MalformedWitness(str(error)) from None
    return False


def _decode(
    refinement: Refinement, roots: Mapping[int, bytes], evidence: bytes
) -> Callable[[int, Indices], Values]:
    """Return a reader of what the evidence opens."""
    if len(evidence) > MAX_EVIDENCE_BYTES:
        raise MalformedWitness(
            f"expected at most {MAX_EVIDENCE_BYTES} bytes, got {len(evidence)}"
        )
    found: dict[int, tuple[TensorType, dict[pieces.Piece, bytes]]] = {}
    at, last = 0, -1
    while at < len(evidence):
        if len(evidence) < at + HEAD.size:
            raise MalformedWitness("truncated evidence")
        source, length = HEAD.unpack_from(evidence, at)
        at += HEAD.size
        if source <= last or source not in roots or at + length > len(evidence):
            raise MalformedWitness(f"unexpected source {source} of {length} bytes")
        type_ = refinement.source_type(source)
        opening = evidence[at : at + length]
        found[source] = type_, pieces.verify_pieces(roots[source], type_, opening)
        at, last = at + length, source
    opened = {number: _Opened(*item) for number, item in found.items()}

    def read(source: int, indices: Indices) -> Values:
        if source not in opened:
            raise MalformedWitness(f"source {source} is not opened")
        return opened[source].read(indices)

    return read


class _Opened:
    """The elements of a tensor's opened pieces."""

    def __init__(self, type_: TensorType, found: Mapping[pieces.Piece, bytes]) -> None:
        """Lay the pieces out beside each other, in ascending order."""
        self._type = type_
        numbers = sorted(found)
        self._keys = np.array([_key(*number) for number in numbers], np.int64)
        itemsize = type_.dtype.numpy.itemsize
        width = CHUNK_BYTES // itemsize
        self._values = np.zeros((len(numbers), width), type_.dtype.numpy)
        for row, number in enumerate(numbers):
            values = np.frombuffer(found[number], type_.dtype.numpy)
            self._values[row, : len(values)] = values

    def read(self, indices: Indices) -> Values:
        """Return elements; raises ``MalformedWitness`` where one is not opened."""
        if indices.size and not 0 <= indices.min() <= indices.max() < self._type.size:
            raise MalformedWitness(f"an element outside of {self._type} is read")
        tiles, chunks, offsets = pieces.piece_of(self._type, indices)
        keys: Indices = np.asarray(_key(tiles, chunks), np.int64)
        places: Any = np.searchsorted(self._keys, keys)
        rows: Indices = np.minimum(places, len(self._keys) - 1)
        missing = self._keys[rows] != keys
        if missing.any():
            at = indices[missing][0]
            raise MalformedWitness(f"element {at} of {self._type} is not opened")
        values: Values = self._values[rows, offsets // self._type.dtype.numpy.itemsize]
        return values


def _key(tile: Any, chunk: Any) -> Any:  # noqa: ANN401 - an integer or an array
    """Order pieces by (tile, chunk): a tile has at most 32 chunks."""
    return tile * 32 + chunk
