"""What the parties of a dispute may say. Every move is data that anyone can check."""

from dataclasses import dataclass
from typing import TypeAlias

from ml_verifier.adjudication.units import Unit

Path: TypeAlias = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf's payload and the siblings that lead from it to a root."""

    payload: bytes
    path: Path


# ── the solver's ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Open:
    """Up to 64 descendants of the tree node at which the descent stands."""

    nodes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PostStep:
    """The values of the disputed step.

    Attributes:
        trace: Root over all values (``adjudication.trace``).
        slots: Tensor roots of all slots after the step; empty: the step trapped.
    """

    trace: bytes
    slots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PostStages:
    """Tensor roots of a node's stages, and its outputs in the trace."""

    roots: tuple[bytes, ...]
    outputs: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Reveal:
    """The elements of the tile at which the descent arrived."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NodeTraps:
    """An index of a node is out of range: its stage and unit, with evidence.

    Attributes:
        node: Which node.
        stage: Which stage's rule finds it.
        unit: Where.
        evidence: See ``adjudication.evidence``.
        inputs: The node's input values in the trace.
    """

    node: int
    stage: int
    unit: Unit
    evidence: bytes
    inputs: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class NotFinite:
    """A slot's next value has an infinite or NaN element: one opened piece of it.

    The solver shows it to prove a trap, the challenger to prove that there was one.

    Attributes:
        slot: Which slot.
        leaf: Its next value in the trace.
        opening: Pieces of it (``ml_verifier.pieces``).
    """

    slot: int
    leaf: Leaf
    opening: bytes


# ── the challenger's ─────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Follow:
    """The first opened child that is not the challenger's."""

    child: int


@dataclass(frozen=True, slots=True)
class ShowBefore:
    """The state before the disputed step, under the same commitment.

    Attributes:
        before: Its root and path in the trajectory.
        trapped: Where that is a trap state, which must repeat: the root it hashes.
    """

    before: Leaf
    trapped: bytes = b""


@dataclass(frozen=True, slots=True)
class Descend:
    """Go down to the first value of the trace that is not the challenger's."""


@dataclass(frozen=True, slots=True)
class SlotDiffers:
    """A slot after the step is not the value that the program says it becomes."""

    slot: int
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class DenyTrap:
    """The step did not trap: let the solver show where."""


@dataclass(frozen=True, slots=True)
class ShowSlot:
    """The disputed value's slot before the step."""

    leaf: Leaf


@dataclass(frozen=True, slots=True)
class ShowRecord:
    """A record of the batch, one of whose elements is another in the revealed tile.

    Attributes:
        element: Row-major in the tile.
        record: The record's bytes and path in the data.
    """

    element: int
    record: Leaf


@dataclass(frozen=True, slots=True)
class ChooseStage:
    """The first stage that is not the challenger's."""

    stage: int


@dataclass(frozen=True, slots=True)
class Prove:
    """Evidence that a unit is wrong.

    Attributes:
        unit: Which unit of the revealed tile.
        evidence: See ``adjudication.evidence``.
        inputs: The node's input values in the trace.
    """

    unit: Unit
    evidence: bytes
    inputs: tuple[Leaf, ...]


# ── nobody's ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Timeout:
    """The side to move has let its time pass."""


Move: TypeAlias = (
    Open | PostStep | PostStages | Reveal | NodeTraps | NotFinite
    | Follow | ShowBefore | Descend | SlotDiffers | DenyTrap
    | ShowSlot | ShowRecord | ChooseStage | Prove | Timeout
)  # fmt: skip
