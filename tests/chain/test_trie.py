"""The trie against py-trie, which computes the same roots node by node."""

from typing import Any

import pytest
from hypothesis import given, strategies as st
from trie.hexary import HexaryTrie

from chain import rlp
from chain.crypto import keccak
from chain.errors import StoreCorrupt
from chain.header import EMPTY_TRIE_ROOT
from chain.trie import Trie, ordered_root, prove, verify

# Few and short keys, so that they share prefixes and end inside each other.
KEYS = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.integers(0, 30).map(lambda n: keccak(bytes((n,)))),
    st.lists(st.sampled_from([0x11, 0x12, 0x21]), min_size=1, max_size=4).map(bytes),
)
VALUES = st.one_of(
    st.just(b""), st.binary(min_size=1, max_size=3), st.binary(min_size=33, max_size=60)
)
EDITS = st.lists(st.lists(st.tuples(KEYS, VALUES), max_size=12), max_size=6)


@given(EDITS, st.booleans())
def test_roots_values_and_proofs_agree(
    batches: list[list[tuple[bytes, bytes]]],
    reopen: bool,  # noqa: FBT001  (hypothesis passes it by name)
) -> None:
    oracle: Any = HexaryTrie({})
    nodes: dict[bytes, bytes] = {}
    expected: dict[bytes, bytes] = {}
    trie = Trie(nodes.__getitem__)
    for batch in batches:
        for key, value in batch:
            trie.set(key, value)
            if value:
                oracle[key] = expected[key] = value
            elif key in expected:
                del oracle[key]
                del expected[key]
        root, new = trie.commit()
        nodes.update(new)
        assert root == oracle.root_hash
        if reopen:
            trie = Trie(nodes.__getitem__, root)
        for key in {key for key, _ in batch} | expected.keys():
            assert trie.get(key) == expected.get(key)
            proof = prove(nodes.__getitem__, root, key)
            assert verify(root, key, proof) == expected.get(key)


def test_an_unchanged_trie_commits_nothing() -> None:
    nodes: dict[bytes, bytes] = {}
    trie = Trie(nodes.__getitem__)
    for number in range(20):
        trie.set(keccak(bytes((number,))), b"value" * 10)
    root, new = trie.commit()
    nodes.update(new)
    again = Trie(nodes.__getitem__, root)
    again.set(b"absent" * 5, b"")
    again.set(keccak(b"\3"), b"value" * 10)
    assert again.commit()[0] == root


def test_old_roots_stay_readable() -> None:
    nodes: dict[bytes, bytes] = {}
    trie = Trie(nodes.__getitem__)
    roots = []
    for number in range(5):
        trie.set(b"key", bytes((number + 1,)) * 40)
        root, new = trie.commit()
        nodes.update(new)
        roots.append(root)
    assert [Trie(nodes.__getitem__, root).get(b"key") for root in roots] == [
        bytes((number + 1,)) * 40 for number in range(5)
    ]


def test_the_empty_trie() -> None:
    nothing: dict[bytes, bytes] = {}
    trie = Trie(nothing.__getitem__)
    assert trie.commit() == (EMPTY_TRIE_ROOT, {})
    assert trie.get(b"x") is None
    assert prove(nothing.__getitem__, EMPTY_TRIE_ROOT, b"x") == ()


def test_ordered_root_is_that_of_transactions() -> None:
    values = [bytes((number,)) * (number + 1) for number in range(200)]
    oracle: Any = HexaryTrie({})
    for index, value in enumerate(values):
        oracle[rlp.encode(rlp.encode_uint(index))] = value
    assert ordered_root(values) == oracle.root_hash
    assert ordered_root([]) == EMPTY_TRIE_ROOT


def test_a_proof_must_lead_from_the_root() -> None:
    nodes: dict[bytes, bytes] = {}
    trie = Trie(nodes.__getitem__)
    for number in range(50):
        trie.set(keccak(bytes((number,))), b"value" * 10)
    root, new = trie.commit()
    proof = prove(new.__getitem__, root, keccak(b"\1"))
    assert len(proof) > 1
    with pytest.raises(StoreCorrupt, match="lacks node"):
        verify(root, keccak(b"\1"), proof[1:])
    with pytest.raises(StoreCorrupt, match="lacks node"):
        verify(root, keccak(b"\1"), proof[:-1])


def test_garbage_in_the_store_is_named() -> None:
    with pytest.raises(StoreCorrupt, match="neither a branch"):
        Trie(lambda _: rlp.encode([b"a", b"b", b"c"]), b"\1" * 32).get(b"k")
