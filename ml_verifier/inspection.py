"""What a program costs: by node, by operator, and as a whole."""

from dataclasses import dataclass

from ml_verifier.errors import MalformedProgram
from ml_verifier.judge import MAX_WITNESS_BYTES, admit
from ml_verifier.memory import peak_memory
from ml_verifier.program import Program
from ml_verifier.types import TensorType


@dataclass(frozen=True, slots=True)
class NodeCost:
    """One node.

    Attributes:
        operator: Its operator's name.
        inputs: Types of its inputs.
        outputs: Types of its outputs.
        macs: Multiply-adds.
        moved: Bytes of inputs, outputs and traffic through scratch.
    """

    operator: str
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    macs: int
    moved: int


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """All nodes of one operator together."""

    operator: str
    nodes: int
    macs: int
    moved: int


@dataclass(frozen=True, slots=True)
class Report:
    """What ``inspect`` finds.

    Attributes:
        program: The program.
        nodes: Every node, in order.
        peak_memory: Bytes that one execution allocates.
        refused: Why a job can't carry it as it is; empty if one can.
    """

    program: Program
    nodes: tuple[NodeCost, ...]
    peak_memory: int
    refused: str

    @property
    def work_units(self) -> int:
        """Multiply-adds and bytes moved by one step."""
        return sum(node.macs + node.moved for node in self.nodes)

    @property
    def operators(self) -> list[OperatorCost]:
        """Costs by operator, the most multiply-adds first."""
        names = sorted({node.operator for node in self.nodes})
        rows = [self._operator(name) for name in names]
        return sorted(rows, key=lambda row: (-row.macs, row.operator))

    def _operator(self, name: str) -> OperatorCost:
        mine = [node for node in self.nodes if node.operator == name]
        macs, moved = (sum(costs) for costs in zip(*((n.macs, n.moved) for n in mine),
                                                    strict=True))  # fmt: skip
        return OperatorCost(name, len(mine), macs, moved)


def inspect(program: Program, records: int = 1) -> Report:
    """Return what one step of a program costs.

    Args:
        program: The program.
        records: Records of the data set; they count in a dispute's size.
    """
    try:
        witness = admit(program.encoded, records).witness_bytes
        refused = ""
        if witness > MAX_WITNESS_BYTES:
            refused = (
                f"expected a witness of at most {MAX_WITNESS_BYTES} bytes, "
                f"got {witness}"
            )
    except MalformedProgram as error:
        refused = str(error)
    nodes: list[NodeCost] = []
    for node in program.nodes:
        inputs, outputs = program.node_types(node)
        moved = sum(t.nbytes for t in (*inputs, *outputs))
        moved += node.operator.traffic(inputs, outputs, node.attributes)
        macs = node.operator.macs(inputs, outputs, node.attributes)
        nodes.append(NodeCost(node.operator.name, inputs, outputs, macs, moved))
    return Report(program, tuple(nodes), peak_memory(program), refused)
