"""A state, walked from its root: the one order in which a snapshot holds it. Pure.

Depth first, a node before what it leads to, branches from slot 0 to 15. After the leaf
of an account come the trie of its storage and its code, the code only where it occurs
for the first time. Whoever has the root thus knows the hash of every piece before it
comes: no piece can be false, left out or too many.
"""

from collections.abc import Callable

from chain import rlp
from chain.crypto import EMPTY_KECCAK, keccak
from chain.errors import MalformedRLP
from chain.header import EMPTY_TRIE_ROOT
from node.sync.errors import BadSnapshotError

ACCOUNTS = 0
STORAGE = 1
CODE = 2

Wanted = tuple[int, bytes]


class StateWalk:
    """A walk under way.

    Args:
        stack: Where to go on; the next piece last.
        has_code: Whether a code came before.
    """

    def __init__(self, stack: list[Wanted], has_code: Callable[[bytes], bool]) -> None:
        self._stack = stack
        self._has_code = has_code

    @classmethod
    def of(cls, root: bytes, has_code: Callable[[bytes], bool]) -> "StateWalk":
        """A walk through the state with this root."""
        return cls([] if root == EMPTY_TRIE_ROOT else [(ACCOUNTS, root)], has_code)

    @property
    def stack(self) -> tuple[Wanted, ...]:
        """Where to go on."""
        return tuple(self._stack)

    @property
    def wanted(self) -> Wanted | None:
        """Kind and hash of the next piece; None at the end."""
        while self._stack:
            kind, digest = self._stack[-1]
            if kind != CODE or not self._has_code(digest):
                return kind, digest
            self._stack.pop()
        return None

    def take(self, data: bytes) -> Wanted:
        """Go on with the next piece; return what it was.

        Raises:
            BadSnapshotError: it is another one, or the walk is over.
        """
        wanted = self.wanted
        if wanted is None:
            raise BadSnapshotError("the state is complete, and more of it comes")
        kind, digest = wanted
        if keccak(data) != digest:
            raise BadSnapshotError(
                f"state: expected the piece 0x{digest.hex()}, "
                f"got 0x{keccak(data).hex()}"
            )
        self._stack.pop()
        if kind != CODE:
            try:
                found = below(kind, rlp.decode(data))
            except MalformedRLP as error:
                raise BadSnapshotError(
                    f"node 0x{digest.hex()} is no trie node: {error}"
                ) from error
            self._stack += reversed(found)
        return wanted


def below(kind: int, node: rlp.Decoded) -> list[Wanted]:
    """What a node leads to, in order."""
    items = rlp.as_list(node)
    if len(items) == 17:
        return [each for item in items[:16] for each in _child(kind, item)]
    path, value = rlp.as_list(node, 2)
    if not rlp.as_bytes(path)[:1] >= b"\x20":
        return _child(kind, value)
    if kind == STORAGE:
        return []
    account = rlp.decode_list(rlp.as_bytes(value), length=4)
    storage, code = rlp.as_bytes(account[2], 32), rlp.as_bytes(account[3], 32)
    found: list[Wanted] = []
    if storage != EMPTY_TRIE_ROOT:
        found.append((STORAGE, storage))
    if code != EMPTY_KECCAK:
        found.append((CODE, code))
    return found


def _child(kind: int, item: rlp.Decoded) -> list[Wanted]:
    if not isinstance(item, bytes):  # shorter than a hash, it stands in its parent
        return below(kind, item)
    return [(kind, rlp.as_bytes(item, 32))] if item else []
