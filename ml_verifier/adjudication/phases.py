"""Where a dispute stands: one class per phase, and whose move it is."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeAlias

from ml_verifier.adjudication.refinement import Facts, Refinement, refine
from ml_verifier.adjudication.rules import RECIPES
from ml_verifier.adjudication.trace import owner
from ml_verifier.commitment import tile_count
from ml_verifier.merkle import depth
from ml_verifier.program import Program
from ml_verifier.types import TensorType


class Side(Enum):
    """Who is to move."""

    SOLVER = "solver"
    CHALLENGER = "challenger"


class Verdict(Enum):
    """How a dispute ends."""

    SOLVER_CONVICTED = "solver convicted"
    CHALLENGE_FAILED = "challenge failed"


@dataclass(frozen=True)
class Case:
    """What both sides agree on.

    Attributes:
        program: The job's step.
        seed: The job's seed.
        data_root: The job's data.
        records: Records under it.
        steps: T.
        trajectory: The solver's commitment to h_0 .. h_T, h_0 being the right one.
    """

    program: Program
    seed: int
    data_root: bytes
    records: int
    steps: int
    trajectory: bytes


@dataclass(frozen=True, slots=True)
class Descent:
    """A walk down a tree: the node where it stands, and its opened descendants.

    Attributes:
        level: Of the node; 0 is a leaf.
        index: Of the node in its level.
        node: Its hash; empty at a top, which the tree's root binds.
        children: What the solver has opened; empty while it is to open.
    """

    level: int
    index: int = 0
    node: bytes = b""
    children: tuple[bytes, ...] = ()

    @property
    def mover(self) -> Side:
        """Who is to move."""
        return Side.CHALLENGER if self.children else Side.SOLVER


@dataclass(frozen=True, slots=True)
class InTrajectory:
    """On the way to the first state that differs."""

    descent: Descent

    @property
    def mover(self) -> Side:
        """Who is to move."""
        return self.descent.mover


@dataclass(frozen=True, slots=True)
class AtState:
    """State ``position + 1`` differs; the challenger shows the one before."""

    mover: ClassVar[Side] = Side.CHALLENGER
    position: int
    after: bytes


@dataclass(frozen=True, slots=True)
class AtStep:
    """Both ends of the step are known; the solver commits its values."""

    mover: ClassVar[Side] = Side.SOLVER
    position: int
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Posted:
    """The solver has said what the step computed; empty ``slots``: it trapped."""

    mover: ClassVar[Side] = Side.CHALLENGER
    position: int
    before: bytes
    trace: bytes
    slots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TrapDenied:
    """The solver is to show that the step traps: at ``node``, or anywhere (None)."""

    mover: ClassVar[Side] = Side.SOLVER
    step: Posted
    node: int | None


@dataclass(frozen=True, slots=True)
class InTrace:
    """On the way to the first value that differs."""

    step: Posted
    descent: Descent

    @property
    def mover(self) -> Side:
        """Who is to move."""
        return self.descent.mover


@dataclass(frozen=True, slots=True)
class AtSlot:
    """The value that differs is a slot before the step."""

    mover: ClassVar[Side] = Side.CHALLENGER
    step: Posted
    slot: int
    root: bytes


@dataclass(frozen=True, slots=True)
class AtOperator:
    """The value that differs is a node's output; the solver commits its stages."""

    mover: ClassVar[Side] = Side.SOLVER
    step: Posted
    value: int
    root: bytes


@dataclass(frozen=True, slots=True)
class AtStages:
    """The stages are known; the challenger names the first that differs."""

    mover: ClassVar[Side] = Side.CHALLENGER
    step: Posted
    node: int
    stages: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor on trial: a field of the batch, or a stage of a node.

    Attributes:
        step: The step it belongs to.
        type: Its dtype and shape.
        root: Its tensor root, as the solver committed it.
        field: Which field it is; None: a stage.
        at: The stages it is one of.
        stage: Which of them.
    """

    step: Posted
    type: TensorType
    root: bytes
    field: int | None = None
    at: AtStages | None = None
    stage: int = 0

    @property
    def top(self) -> Descent:
        """The top of its tile tree."""
        return Descent(depth(tile_count(self.type.shape)))


@dataclass(frozen=True, slots=True)
class InTiles:
    """On the way to the first tile that differs."""

    tensor: Tensor
    descent: Descent

    @property
    def mover(self) -> Side:
        """Who is to move."""
        return self.descent.mover


@dataclass(frozen=True, slots=True)
class AtTile:
    """The tile is found; the solver reveals its elements."""

    mover: ClassVar[Side] = Side.SOLVER
    tensor: Tensor
    tile: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Revealed:
    """The tile's elements are known; the challenger proves that one is wrong."""

    mover: ClassVar[Side] = Side.CHALLENGER
    tensor: Tensor
    tile: int
    data: bytes


Phase: TypeAlias = (
    InTrajectory | AtState | AtStep | Posted | TrapDenied | InTrace | AtSlot
    | AtOperator | AtStages | InTiles | AtTile | Revealed
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dispute:
    """A dispute in progress."""

    case: Case
    phase: Phase

    @property
    def mover(self) -> Side:
        """Who is to move."""
        return self.phase.mover


def refinement_of(case: Case, node: int, position: int) -> Refinement:
    """Return the stages of a node in the step after ``position`` steps."""
    program = case.program
    types = program.node_types(program.nodes[node])[0]
    placed = program.nodes[node]
    facts = Facts(case.seed, position)
    return refine(RECIPES, placed.operator, types, placed.attributes, facts)


def node_of(case: Case, value: int) -> int | None:
    """Return the node whose output a value is; None for slots and fields."""
    return owner(case.program, value)
