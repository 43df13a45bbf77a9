"""Single nodes of a program, opened without the rest of it.

A program may be larger than a transaction. Admission, which sees it whole, also derives
the root of a SHA-256 tree (purpose ``NODES``) whose leaves describe one node each,
self-contained: which operator with which attributes, which values it reads and their
types, and which value its first output is. ``docs/spec/adjudication.md`` has the bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ml_verifier import merkle
from ml_verifier.errors import Malformed, MalformedOpening
from ml_verifier.merkle import Purpose, Tree
from ml_verifier.operators import ShapeError, infer
from ml_verifier.program import Node, Program, decode_node, encode_node
from ml_verifier.types import MAX_RANK, DType, TensorType

HEAD = struct.Struct(">IB")  # first output, inputs


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """A node and what surrounds it.

    Attributes:
        node: Operator, input values, attributes.
        inputs: Types of the input values.
        first_output: Number of the first output value.
    """

    node: Node
    inputs: tuple[TensorType, ...]
    first_output: int

    @property
    def outputs(self) -> tuple[TensorType, ...]:
        """Types of the output values."""
        return infer(self.node.operator, self.inputs, self.node.attributes)

    def encode(self) -> bytes:
        """Return the leaf's payload."""
        types = b"".join(
            struct.pack(f">BB{len(t.shape)}I", t.dtype, len(t.shape), *t.shape)
            for t in self.inputs
        )
        head = HEAD.pack(self.first_output, len(self.inputs))
        return head + types + encode_node(self.node)


def placed_node(program: Program, number: int) -> PlacedNode:
    """Return node ``number`` of a program."""
    node = program.nodes[number]
    inputs, _ = program.node_types(node)
    return PlacedNode(node, inputs, program.first_output[number])


def node_tree(program: Program) -> Tree:
    """Return the tree of all nodes; its root is derived at admission."""
    payloads = [placed_node(program, i).encode() for i in range(len(program.nodes))]
    return Tree(Purpose.NODES, [merkle.leaf(Purpose.NODES, p) for p in payloads])


def verify_node(
    root: bytes, count: int, number: int, payload: bytes, path: Sequence[bytes]
) -> PlacedNode:
    """Check that ``payload`` is node ``number`` of ``count`` and decode it.

    Raises:
        Malformed: It is not, or it does not decode.
    """
    merkle.verify_path(Purpose.NODES, root, count, number, payload, path)
    if len(payload) < HEAD.size:
        raise MalformedOpening(f"expected at least {HEAD.size} bytes, got {payload!r}")
    first, inputs = HEAD.unpack_from(payload)
    at, types = HEAD.size, list[TensorType]()
    for _ in range(inputs):
        if len(payload) < at + 2:
            raise MalformedOpening("truncated node")
        code, rank = payload[at], payload[at + 1]
        end = at + 2 + 4 * rank
        if code not in set(DType) or rank > MAX_RANK or len(payload) < end:
            raise MalformedOpening(f"unknown dtype {code} or rank {rank}")
        shape = struct.unpack_from(f">{rank}I", payload, at + 2)
        types.append(TensorType(DType(code), shape))
        at = end
    placed = PlacedNode(decode_node(payload[at:], number), tuple(types), first)
    if len(placed.node.inputs) != inputs:
        raise MalformedOpening(f"expected {inputs} inputs, got {placed.node.inputs}")
    try:
        placed.outputs  # noqa: B018 - the shape rule is the check
    except ShapeError as error:
        raise Malformed(f"node {number}: {error}") from None
    return placed
