"""The Merkle-Patricia trie (yellow paper, appendix D): reads, updates, proofs.

A `Trie` is a lazily loaded tree. Nodes come from a reader, by hash, when a key first
leads through them; updates change the tree in memory; `commit` hashes what changed
and returns the new root with the new nodes, so a batch of updates hashes every node
once. Nothing is deleted: old roots stay readable.

Paths are strings of hexadecimal digits, one per nibble. The *reference* of a node is
what its parent holds: the keccak of its encoding, or, when that is shorter than 32
bytes, the node itself. A node whose reference is None has changed since the last
commit.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from chain import rlp
from chain.crypto import keccak
from chain.errors import StoreCorrupt
from chain.header import EMPTY_TRIE_ROOT

Reader: TypeAlias = Callable[[bytes], bytes]

_HASH_BYTES: Final = 32


@dataclass(slots=True, eq=False)
class _Leaf:
    path: str
    value: bytes
    reference: "rlp.Item | None" = None


@dataclass(slots=True, eq=False)
class _Extension:
    path: str
    child: "_Node | _Stored"
    reference: "rlp.Item | None" = None


@dataclass(slots=True, eq=False)
class _Branch:
    children: "list[_Node | _Stored | None]"
    value: bytes
    reference: "rlp.Item | None" = None


@dataclass(slots=True, eq=False)
class _Stored:
    """A node that nothing has led through yet."""

    reference: rlp.Decoded


_Node: TypeAlias = _Leaf | _Extension | _Branch
# Nodes near the root are read by every transaction. What is decoded is only read.
_decoded = lru_cache(maxsize=8_192)(rlp.decode)


class Trie:
    """One trie over a reader of nodes.

    Args:
        reader: Maps a node's hash to its encoding; raises `NotFound` otherwise.
        root: The root hash to start from.
    """

    def __init__(self, reader: Reader, root: bytes = EMPTY_TRIE_ROOT) -> None:
        self._reader = reader
        self._root: _Node | _Stored | None = (
            None if root == EMPTY_TRIE_ROOT else _Stored(root)
        )

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, or None."""
        path = key.hex()
        if self._root is None:
            return None
        node = self._root = self._load(self._root)
        while True:
            if isinstance(node, _Leaf):
                return node.value if node.path == path else None
            if isinstance(node, _Extension):
                if not path.startswith(node.path):
                    return None
                path = path[len(node.path) :]
                child = node.child = self._load(node.child)
            elif path:
                index = int(path[0], 16)
                slot = node.children[index]
                if slot is None:
                    return None
                path = path[1:]
                child = node.children[index] = self._load(slot)
            else:
                return node.value or None
            node = child

    def set(self, key: bytes, value: bytes) -> None:
        """Put `value` at `key`; an empty value removes the key."""
        path = key.hex()
        if value:
            self._root = self._insert(self._root, path, value)
        elif self._root is not None:
            self._root = self._remove(self._load(self._root), path)

    def commit(self) -> tuple[bytes, dict[bytes, bytes]]:
        """The root hash now, and every node made since the last commit by hash."""
        nodes: dict[bytes, bytes] = {}
        root = self._root
        if root is None:
            return EMPTY_TRIE_ROOT, nodes
        reference = _reference(root, nodes)
        if isinstance(reference, bytes) and len(reference) == _HASH_BYTES:
            return reference, nodes
        # The root is hashed however short it is.
        encoded = rlp.encode(reference)
        digest = keccak(encoded)
        nodes[digest] = encoded
        return digest, nodes

    def _load(self, node: "_Node | _Stored") -> _Node:
        if not isinstance(node, _Stored):
            return node
        reference = node.reference
        items = (
            _decoded(self._reader(reference))
            if isinstance(reference, bytes)
            else reference
        )
        return _parse(items, reference)

    def _insert(self, slot: "_Node | _Stored | None", path: str, value: bytes) -> _Node:
        if slot is None:
            return _Leaf(path, value)
        node = self._load(slot)
        if isinstance(node, _Branch):
            if path:
                index = int(path[0], 16)
                node.children[index] = self._insert(
                    node.children[index], path[1:], value
                )
            else:
                node.value = value
            node.reference = None
            return node
        shared = _common(node.path, path)
        if shared == len(node.path):
            if isinstance(node, _Extension):
                node.child = self._insert(node.child, path[shared:], value)
                node.reference = None
                return node
            if shared == len(path):
                return node if node.value == value else _Leaf(path, value)
        branch = _Branch([None] * 16, b"")
        _hang(branch, node, shared)
        self._insert(branch, path[shared:], value)
        return _Extension(path[:shared], branch) if shared else branch

    def _remove(self, node: _Node, path: str) -> _Node | None:
        """`node` without the value at `path`; the very same if there is none."""
        if isinstance(node, _Leaf):
            return None if node.path == path else node
        if isinstance(node, _Extension):
            return self._remove_below(node, path)
        if path:
            index = int(path[0], 16)
            slot = node.children[index]
            if slot is None:
                return node
            child = node.children[index] = self._load(slot)
            left = self._remove(child, path[1:])
            if left is child and child.reference is not None:
                return node
            node.children[index] = left
        else:
            if not node.value:
                return node
            node.value = b""
        node.reference = None
        return self._collapse(node)

    def _remove_below(self, node: _Extension, path: str) -> _Node:
        if not path.startswith(node.path):
            return node
        child = node.child = self._load(node.child)
        left = self._remove(child, path[len(node.path) :])
        # A branch has at least two entries, so something is left of it.
        if left is None or (left is child and child.reference is not None):
            return node
        return _prepend(node.path, left)

    def _collapse(self, branch: _Branch) -> _Node | None:
        """`branch`, or the shorter node that replaces it when one entry is left."""
        occupied = [i for i, child in enumerate(branch.children) if child is not None]
        if len(occupied) + bool(branch.value) > 1:
            return branch
        if not occupied:
            return _Leaf("", branch.value) if branch.value else None
        only = branch.children[occupied[0]]
        if only is None:
            return None
        return _prepend(f"{occupied[0]:x}", self._load(only))


def _prepend(path: str, node: _Node) -> _Node:
    if isinstance(node, _Leaf):
        return _Leaf(path + node.path, node.value)
    if isinstance(node, _Extension):
        return _Extension(path + node.path, node.child)
    return _Extension(path, node)


def _hang(branch: _Branch, node: "_Leaf | _Extension", shared: int) -> None:
    """Make `node`, less `shared` nibbles, an entry of `branch`."""
    rest = node.path[shared:]
    if isinstance(node, _Extension):
        below = _Extension(rest[1:], node.child) if len(rest) > 1 else node.child
        branch.children[int(rest[0], 16)] = below
    elif rest:
        branch.children[int(rest[0], 16)] = _Leaf(rest[1:], node.value)
    else:
        branch.value = node.value


def _common(left: str, right: str) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _pack(path: str, *, leaf: bool) -> bytes:
    """Hex-prefix encoding: a flag nibble, padded to whole bytes."""
    flag = 2 if leaf else 0
    return bytes.fromhex(f"{flag + 1}{path}" if len(path) & 1 else f"{flag}0{path}")


def _unpack(packed: bytes) -> tuple[str, bool]:
    digits = packed.hex()
    flag = int(digits[0], 16)
    return digits[1 if flag & 1 else 2 :], bool(flag & 2)


def _parse(items: rlp.Decoded, reference: rlp.Item) -> _Node:
    if len(items) == 17 and not isinstance(items, bytes):
        children: list[_Node | _Stored | None] = [
            _Stored(item) if item else None for item in items[:16]
        ]
        return _Branch(children, rlp.as_bytes(items[16]), reference)
    if len(items) == 2 and not isinstance(items, bytes):
        path, leaf = _unpack(rlp.as_bytes(items[0]))
        if leaf:
            return _Leaf(path, rlp.as_bytes(items[1]), reference)
        return _Extension(path, _Stored(items[1]), reference)
    raise StoreCorrupt("a trie node is neither a branch, an extension nor a leaf")


def _reference(node: "_Node | _Stored", nodes: dict[bytes, bytes]) -> rlp.Item:
    """What the parent of `node` holds; new encodings go into `nodes`."""
    if node.reference is not None:
        return node.reference
    items: list[rlp.Item]
    if isinstance(node, _Leaf):
        items = [_pack(node.path, leaf=True), node.value]
    elif isinstance(node, _Extension):
        items = [_pack(node.path, leaf=False), _reference(node.child, nodes)]
    else:
        items = [
            b"" if child is None else _reference(child, nodes)
            for child in node.children
        ]
        items.append(node.value)
    encoded = rlp.encode(items)
    if len(encoded) < _HASH_BYTES:
        node.reference = items
        return items
    digest = keccak(encoded)
    nodes[digest] = encoded
    node.reference = digest
    return digest


def ordered_root(values: Iterable[bytes]) -> bytes:
    """The root over `values` keyed by rlp(index): transactions, receipts."""
    trie = Trie(_no_nodes)
    for index, value in enumerate(values):
        trie.set(rlp.encode(rlp.encode_uint(index)), value)
    return trie.commit()[0]


def _no_nodes(digest: bytes) -> bytes:
    raise StoreCorrupt(f"a trie built in memory has no stored node {digest.hex()}")


def prove(reader: Reader, root: bytes, key: bytes) -> tuple[bytes, ...]:
    """The encoded nodes from the root towards `key`, as eth_getProof lists them.

    They prove the value there, or that there is none. Nodes that are inlined in
    their parent are not listed apart.
    """
    if root == EMPTY_TRIE_ROOT:
        return ()
    path = key.hex()
    reference: rlp.Decoded = root
    proof: list[bytes] = []
    while reference:
        if isinstance(reference, bytes):
            proof.append(reader(reference))
            reference = rlp.decode(proof[-1])
        node = _parse(reference, b"")
        if isinstance(node, _Branch) and path:
            child = node.children[int(path[0], 16)]
            path = path[1:]
        elif isinstance(node, _Extension) and path.startswith(node.path):
            child = node.child
            path = path[len(node.path) :]
        else:
            break
        reference = child.reference if isinstance(child, _Stored) else b""
    return tuple(proof)


def verify(root: bytes, key: bytes, proof: Iterable[bytes]) -> bytes | None:
    """The value that `proof` shows at `key` under `root`; None if it shows absence.

    Raises:
        StoreCorrupt: The proof does not lead from the root to an answer.
    """
    nodes = {keccak(node): node for node in proof}

    def read(digest: bytes) -> bytes:
        node = nodes.get(digest)
        if node is None:
            raise StoreCorrupt(f"the proof lacks node {digest.hex()}")
        return node

    return Trie(read, root).get(key)
