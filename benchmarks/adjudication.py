"""Evidence about single units: its size and the elements read, whatever the model.

For every node of every model the largest unit that fits is sized at the last element of
each stage, from types alone where no index decides what is read. One matrix product has
the shape of a 70B model's feed-forward layer; its operands are made tile by tile and
never held whole.
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.harness import Figure
from ml_verifier import commitment, pieces
from ml_verifier.adjudication.evidence import MAX_EVIDENCE_BYTES, MAX_READS, TooLarge
from ml_verifier.adjudication.execution import evaluate
from ml_verifier.adjudication.refinement import (
    Facts,
    Indices,
    Refinement,
    Values,
    refine,
)
from ml_verifier.adjudication.rules import RECIPES
from ml_verifier.adjudication.units import Unit, unit_at
from ml_verifier.commitment import TILE, tile_grid, tile_shape
from ml_verifier.operators import BY_NAME
from ml_verifier.oracle import philox_uniform
from ml_verifier.program import Program
from ml_verifier.types import TensorType, f32

FACTS = Facts(seed=1, position=0)
TOKENS, WIDTH, HIDDEN = 4096, 8192, 28672  # one layer of a 70B-shaped model


class Zeros:
    """Counts what a rule reads of tensors that are all zero, and sizes its opening."""

    def __init__(self, refinement: Refinement) -> None:
        self.refinement = refinement
        self.reads = 0
        self.wanted: dict[int, set[tuple[int, int]]] = {}

    def note(self, source: int, indices: Indices) -> None:
        """Remember the pieces that hold these elements."""
        tiles, chunks, _ = pieces.piece_of(self.refinement.source_type(source), indices)
        pairs = np.unique(np.stack([tiles, chunks], axis=1), axis=0)
        self.wanted.setdefault(source, set()).update(map(tuple, pairs.tolist()))

    def read(self, source: int, indices: Indices) -> Values:
        """Return zeros."""
        self.reads += indices.size
        if self.reads > MAX_READS:
            raise TooLarge
        self.note(source, indices)
        return np.zeros(indices.shape, self.refinement.source_type(source).dtype.numpy)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the evidence."""
        return sum(
            6 + pieces.opening_size(self.refinement.source_type(source), wanted)
            for source, wanted in self.wanted.items()
        )


def largest_unit(refinement: Refinement, stage: int) -> tuple[Unit, int, int]:
    """Return the largest unit at a stage's last element, its bytes and its reads."""
    rule = refinement.stages[stage]
    me = len(refinement.inputs) + stage
    for unit in unit_at(rule.type.shape, rule.type.size - 1):
        zeros = Zeros(refinement)
        positions = unit.positions(rule.type.shape)
        zeros.note(me, positions)
        try:
            evaluate(rule, positions, zeros.read)
        except TooLarge:
            continue
        if zeros.nbytes <= MAX_EVIDENCE_BYTES:
            return unit, zeros.nbytes, zeros.reads
    raise TooLarge(f"stage {rule.name} of {rule.type}: not even an element fits")


def worst(program: Program) -> tuple[int, int, int]:
    """Return the most evidence bytes, the most reads, and how many stages differ."""
    most = reads = stages = 0
    seen: set[str] = set()
    for node in program.nodes:
        types = program.node_types(node)[0]
        same = f"{node.operator.name} {types} {sorted(node.attributes.items())}"
        if same in seen:  # a layer like another
            continue
        seen.add(same)
        found = refine(RECIPES, node.operator, types, node.attributes, FACTS)
        for stage in range(len(found.stages)):
            _, nbytes, read = largest_unit(found, stage)
            most, reads, stages = max(most, nbytes), max(reads, read), stages + 1
    return most, reads, stages


class TiledOperand:
    """A matrix of random numbers that exists one tile at a time."""

    def __init__(self, type_: TensorType, key: int) -> None:
        """Name the type and the generator's key; nothing is made yet."""
        self.type, self._key = type_, key

    def tile(self, number: int) -> Values:
        """Return the elements of a tile."""
        out = np.empty(tile_shape(self.type.shape, number), np.float32)
        philox_uniform(out.reshape(-1), self._key, number, 0, -1.0, 1.0)
        return out

    def read(self, indices: Indices) -> Values:
        """Return elements at flat positions, making the tiles that hold them."""
        rows, columns = np.divmod(indices, self.type.shape[-1])
        across = tile_grid(self.type.shape)[1]
        numbers = rows // TILE * across + columns // TILE
        result = np.empty(indices.shape, np.float32)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            result[here] = self.tile(number)[rows[here] % TILE, columns[here] % TILE]
        return result


def product_tile() -> tuple[int, int, bytes]:
    """Recompute one tile of a block sum of the 70B-shaped product.

    Returns the evidence's bytes, the elements read, and the hash of the tile.
    """
    inputs = (f32(TOKENS, WIDTH), f32(WIDTH, HIDDEN))
    found = refine(RECIPES, BY_NAME["matmul"], inputs, {"ta": 0, "tb": 0}, FACTS)
    operands = [TiledOperand(type_, key) for key, type_ in enumerate(inputs)]
    unit, nbytes, reads = largest_unit(found, 0)
    rule = found.stages[0]
    # The first block has no block before it to read.
    first = Unit(tile_grid(rule.type.shape)[1] + 1)
    data = evaluate(
        rule,
        first.positions(rule.type.shape),
        lambda source, indices: operands[source].read(indices),
    )
    tile = commitment.hash_tile(rule.type, first.tile, data.tobytes())
    return nbytes, reads, tile if unit.row is None else b""


def figures() -> Iterator[Figure]:
    """Size the evidence of every model, and of the large product."""
    from benchmarks.zoo import SUBJECTS, Pair  # noqa: PLC0415 - torch only for these

    for subject in SUBJECTS:
        if subject.name == "mlp_b512":
            continue
        most, reads, stages = worst(Pair(subject).captured.program)
        yield from _pair(subject.name, most, reads, f"{stages} stages")
    most, reads, tile = product_tile()
    if not tile:
        raise TooLarge("not even a tile of the large product fits")
    yield from _pair("product_70b", most, reads, f"{TOKENS}x{WIDTH}x{HIDDEN}")


def _pair(name: str, most: int, reads: int, what: str) -> Iterator[Figure]:
    yield Figure(
        f"evidence_bytes/{name}",
        most,
        "bytes",
        f"bound of 262,144; {what}",
        most / MAX_EVIDENCE_BYTES,
    )
    yield Figure(
        f"evidence_reads/{name}",
        reads,
        "elements",
        f"bound of {MAX_READS:,}; {what}",
        reads / MAX_READS,
    )
