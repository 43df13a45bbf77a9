"""An operator as stages: tensors whose every element follows from few others.

An operator's definition (``docs/spec/numerics.md``) may touch its whole input for one
output element: a long sum, a softmax, a scatter. To try it piece by piece it is refined
into *stages*. A stage is a tensor with a rule: given positions, and a way to read the
operator's inputs and the stages so far, it returns the elements there. The rules read
at most ``FAN_IN`` elements for each of theirs, whatever the tensors' sizes: long
reductions commit their state after each chunk, a scatter commits who came before.
Some stages are the operator's outputs.

A *chained* stage also reads itself, at smaller indices along its first axis.

Where an operator traps, its first stage that sees the index raises ``OutOfRange`` and
has read nothing but inputs: a trap is shown without any stage.

The rules are the specification once more: they use the oracle's arithmetic and share
no code with the kernels. A solver computes stages only when one operator is on trial.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ml_verifier.operators import Attributes, Operator, infer
from ml_verifier.types import DType, TensorType

Values: TypeAlias = NDArray[Any]
Indices: TypeAlias = NDArray[np.int64]
# Elements of a source at flat positions. Sources are the operator's inputs in order,
# then its stages in order.
Read: TypeAlias = Callable[[int, Indices], Values]
# Elements of a stage at flat positions.
Rule: TypeAlias = Callable[[Indices, Read], Values]

FAN_IN = 8_192  # elements read for one: a whole row of a sort, and its indices


class OutOfRange(Exception):
    """An index points outside of its axis: the step must have trapped here."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a step knows beside the state and the batch.

    Attributes:
        seed: The job's.
        position: Steps taken before this one.
    """

    seed: int
    position: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One committed tensor on the way to an operator's outputs.

    Attributes:
        name: For listings.
        type: Its dtype and shape.
        rule: Its elements.
        chained: Whether the rule reads the stage itself, before along the first axis.
    """

    name: str
    type: TensorType
    rule: Rule
    chained: bool = False


@dataclass(frozen=True, slots=True)
class Refinement:
    """An operator's stages.

    Attributes:
        inputs: Types of the operator's inputs: sources 0, 1, ...
        stages: The stages in order: the sources that follow.
        outputs: Which stage each output is.
    """

    inputs: tuple[TensorType, ...]
    stages: tuple[Stage, ...]
    outputs: tuple[int, ...]

    def source_type(self, source: int) -> TensorType:
        """Return the type of an input or stage by its number as a source."""
        if source < len(self.inputs):
            return self.inputs[source]
        return self.stages[source - len(self.inputs)].type


@dataclass
class Refiner:
    """A refinement under construction, and what rules need to know of the node."""

    operator: Operator
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    attributes: Attributes
    facts: Facts

    def __post_init__(self) -> None:
        """Start without stages."""
        self.stages: list[Stage] = []

    def add(
        self, name: str, type_: TensorType, rule: Rule, *, chained: bool = False
    ) -> int:
        """Append a stage; return its number as a source."""
        self.stages.append(Stage(name, type_, rule, chained))
        return self.next_source - 1

    @property
    def next_source(self) -> int:
        """The number that the next stage will have as a source."""
        return len(self.inputs) + len(self.stages)

    def output(self, rule: Rule, index: int = 0, *, chained: bool = False) -> int:
        """Append the stage that is output ``index``."""
        return self.add(f"output {index}", self.outputs[index], rule, chained=chained)

    def finish(self, *outputs: int) -> Refinement:
        """Return the refinement; ``outputs`` are sources, one per output."""
        stages = tuple(source - len(self.inputs) for source in outputs)
        return Refinement(self.inputs, tuple(self.stages), stages)


Recipe: TypeAlias = Callable[[Refiner], Refinement]


def refine(
    recipes: Mapping[str, Recipe],
    operator: Operator,
    inputs: Sequence[TensorType],
    attributes: Attributes,
    facts: Facts,
) -> Refinement:
    """Return the stages of one node, by the recipe of its operator.

    Raises:
        KeyError: The operator has no recipe.
    """
    types = tuple(inputs)
    outputs = infer(operator, types, attributes)
    return recipes[operator.name](Refiner(operator, types, outputs, attributes, facts))


# ── what rules are written with ──────────────────────────────────────────────


def coordinates(indices: Indices, shape: Sequence[int]) -> tuple[Indices, ...]:
    """Return one array of coordinates per axis; none for a scalar."""
    if not shape:
        return ()
    return tuple(np.asarray(x, np.int64) for x in np.unravel_index(indices, shape))


def flat(coords: Sequence[Indices], shape: Sequence[int], like: Indices) -> Indices:
    """Return flat positions of coordinates; axes of extent 1 broadcast.

    Args:
        coords: At least as many axes as ``shape``; leading ones beyond it are ignored.
        shape: The tensor that is indexed.
        like: As many elements as the result has, for tensors of rank 0.
    """
    result = np.zeros(like.shape, np.int64)
    if shape:
        for coordinate, extent in zip(coords[-len(shape) :], shape, strict=True):
            result = result * extent + (coordinate if extent > 1 else 0)
    return result


def canonical(values: Values) -> Values:
    """Return values as they are committed: a NaN is the canonical one."""
    if values.dtype == DType.F32.numpy:
        return np.where(np.isnan(values), np.float32(np.nan), values)
    if values.dtype == DType.BF16.numpy:
        return np.where(values & 0x7FFF > 0x7F80, np.uint16(0x7FC0), values)
    return values


def filled(mask: NDArray[np.bool_], read: Callable[[Indices], Values],
           indices: Indices, default: Values) -> Values:  # fmt: skip
    """Return ``read(indices)`` where ``mask``, elsewhere ``default`` unread."""
    result = np.array(np.broadcast_to(default, mask.shape))
    if mask.any():
        result[mask] = read(indices[mask])
    return result
