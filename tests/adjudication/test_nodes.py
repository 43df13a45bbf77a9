"""Single nodes are opened without the program around them."""

import struct
from collections.abc import Callable

import pytest

from ml_verifier import merkle
from ml_verifier.adjudication.nodes import node_tree, placed_node, verify_node
from ml_verifier.errors import Malformed
from ml_verifier.merkle import Purpose, Tree
from ml_verifier.program import Program
from tests.ml_verifier.jobs import cnn_job, mlp_job


@pytest.mark.parametrize(
    "program", [mlp_job().program, cnn_job().program], ids=["mlp", "cnn"]
)
def test_every_node_opens(program: Program) -> None:
    tree = node_tree(program)
    for number, node in enumerate(program.nodes):
        payload = placed_node(program, number).encode()
        found = verify_node(tree.root, tree.count, number, payload, tree.path(number))
        assert (found.node.operator, found.node.inputs) == (node.operator, node.inputs)
        assert dict(found.node.attributes) == dict(node.attributes)
        assert (found.inputs, found.outputs) == program.node_types(node)
        assert found.first_output == program.first_output[number]


def test_another_place_count_path_or_payload_is_refused() -> None:
    program = mlp_job().program
    tree, payload = node_tree(program), placed_node(program, 2).encode()
    path = tree.path(2)
    for arguments in (
        (tree.root, tree.count, 3, payload, path),
        (tree.root, tree.count + 1, 2, payload, path),
        (tree.root, tree.count, 2, payload[:-1], path),
        (tree.root, tree.count, 2, payload, path[:-1]),
        (bytes(32), tree.count, 2, payload, path),
    ):
        with pytest.raises(Malformed):
            verify_node(*arguments)


BAD: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda p: p[:3], "at least 5 bytes"),
    (lambda p: p[:6], "truncated"),
    (lambda p: p[:5] + b"\x09" + p[6:], "dtype 9"),
    (lambda p: p[:6] + b"\x09" + p[7:], "rank 9"),
    (lambda p: p[:-1], "truncated"),
    (lambda p: p + b"\0", "trailing"),
    (lambda p: p[:4] + b"\x03" + p[5:15] + p[5:], "expected 3 inputs"),
    (lambda p: p[:4] + b"\x01" + p[15:], "expected 1 inputs"),
    (lambda p: p[:11] + struct.pack(">I", 999) + p[15:], "node 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=range(len(BAD)))
def test_whatever_is_committed_must_be_a_node(
    change: Callable[[bytes], bytes], message: str
) -> None:
    payload = change(placed_node(mlp_job().program, 0).encode())
    tree = Tree(Purpose.NODES, [merkle.leaf(Purpose.NODES, payload)])
    with pytest.raises(Malformed, match=message):
        verify_node(tree.root, 1, 0, payload, [])
