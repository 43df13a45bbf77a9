"""SHA-256 trees: vectors, openings, and what is refused."""

import pytest
from hypothesis import given, strategies as st

from ml_verifier import merkle
from ml_verifier.errors import MalformedOpening
from ml_verifier.merkle import Purpose, Tree
from tests.support.vectors import Vectors


def tree_of(count: int, purpose: Purpose = Purpose.RECORD) -> Tree:
    payloads = [i.to_bytes(4, "big") for i in range(count)]
    return Tree(purpose, [merkle.leaf(purpose, p) for p in payloads])


def test_vectors(vectors: Vectors) -> None:
    rows = [
        {
            "purpose": int(purpose),
            "payloads": [i.to_bytes(4, "big").hex() for i in range(count)],
            "root": tree_of(count, purpose).root.hex(),
            "path_of_last": [n.hex() for n in tree_of(count, purpose).path(count - 1)],
        }
        for purpose in Purpose
        for count in (1, 2, 3, 5, 8)
    ]
    vectors.check("merkle", rows)


@given(st.integers(1, 70), st.data())
def test_every_leaf_opens(count: int, data: st.DataObject) -> None:
    tree = tree_of(count)
    index = data.draw(st.integers(0, count - 1))
    payload = index.to_bytes(4, "big")
    merkle.verify_path(
        Purpose.RECORD, tree.root, count, index, payload, tree.path(index)
    )


@given(st.integers(2, 40), st.data())
def test_a_path_opens_nothing_else(count: int, data: st.DataObject) -> None:
    tree = tree_of(count)
    index = data.draw(st.integers(0, count - 1))
    other = data.draw(st.integers(0, count - 1).filter(lambda i: i != index))
    with pytest.raises(MalformedOpening, match="expected root"):
        merkle.verify_path(
            Purpose.RECORD,
            tree.root,
            count,
            other,
            index.to_bytes(4, "big"),
            tree.path(index),
        )


def test_padding_cannot_be_named() -> None:
    tree = tree_of(3)
    with pytest.raises(MalformedOpening, match="leaf below 3"):
        merkle.verify_path(Purpose.RECORD, tree.root, 3, 3, b"", tree.path(2))
    with pytest.raises(IndexError):
        tree.path(3)


def test_the_root_binds_the_count_and_the_purpose() -> None:
    roots = {tree_of(3).root, tree_of(4).root, tree_of(3, Purpose.STATE).root}
    padded = Tree(Purpose.RECORD, [*tree_of(3).levels[0][:3], merkle.EMPTY])
    assert len(roots | {padded.root}) == 4


@given(st.integers(1, 50), st.data())
def test_multiproofs_fold_to_the_root(count: int, data: st.DataObject) -> None:
    tree = tree_of(count)
    indices = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    leaves = {i: tree.levels[0][i] for i in indices}
    proof = tree.multiproof(sorted(indices))
    assert merkle.fold(Purpose.RECORD, count, leaves, proof) == tree.root
    wrong = leaves | {min(indices): bytes(32)}
    assert merkle.fold(Purpose.RECORD, count, wrong, proof) != tree.root
    with pytest.raises(MalformedOpening, match="siblings"):
        merkle.fold(Purpose.RECORD, count, leaves, [*proof, bytes(32)])


def test_fold_refuses_leaves_out_of_range() -> None:
    with pytest.raises(MalformedOpening, match="leaves below 3"):
        merkle.fold(Purpose.RECORD, 3, {3: bytes(32)}, [])
