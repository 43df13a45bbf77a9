"""The world state during a block: accounts, storage, and how to undo.

Reads fall through to the tries of the parent's state root; writes stay in memory until
`commit` folds them into new tries. Every change is recorded in a journal as "this
dictionary held that under this key", so a snapshot is a length and a revert pops.

An account with nonce 0, no balance and no code does not exist (EIP-161): nothing in
this state is ever empty and present.

Per transaction (`begin`) the world also keeps what EIP-2929 calls accessed, EIP-1153
transient storage, the values before the transaction (EIP-2200), logs, the refund
counter and the contracts to delete; all but the original values are journaled too.
"""

from collections.abc import MutableMapping
from typing import Any, Final, NamedTuple

from chain import rlp
from chain.crypto import EMPTY_KECCAK, keccak
from chain.database import ChainDatabase, code_key, node_key
from chain.header import EMPTY_TRIE_ROOT
from chain.receipt import Log
from chain.trie import Trie


class Account(NamedTuple):
    """An account as the state trie holds it."""

    nonce: int
    balance: int
    storage_root: bytes
    code_hash: bytes

    def encode(self) -> bytes:
        """The RLP in the state trie."""
        return rlp.encode(
            [
                rlp.encode_uint(self.nonce),
                rlp.encode_uint(self.balance),
                self.storage_root,
                self.code_hash,
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> "Account":
        """Read `encode`'s output."""
        nonce, balance, storage_root, code_hash = rlp.decode_list(data, length=4)
        return cls(
            rlp.as_uint(nonce, 64),
            rlp.as_uint(balance),
            rlp.as_bytes(storage_root, 32),
            rlp.as_bytes(code_hash, 32),
        )


NO_ACCOUNT: Final = Account(0, 0, EMPTY_TRIE_ROOT, EMPTY_KECCAK)

# What the journal records for a key that was not there.
_ABSENT: Final = object()

_Undo = tuple[MutableMapping[Any, Any], Any, Any]


class Mark(NamedTuple):
    """A point to which `World.revert` can return."""

    journal: int
    logs: int
    refund: int


class World:
    """The state of one block under execution.

    Args:
        database: Where the tries of old states are.
        root: The parent's state root.
    """

    def __init__(self, database: ChainDatabase, root: bytes) -> None:
        self._database = database
        self._trie = Trie(database.node, root)
        self._accounts: dict[bytes, Account] = {}
        self._storage: dict[bytes, dict[int, int]] = {}
        self._wiped: dict[bytes, bool] = {}
        self._storage_tries: dict[bytes, Trie] = {}
        self._codes: dict[bytes, bytes] = {EMPTY_KECCAK: b""}
        self._new_codes: set[bytes] = set()
        self._dirty_accounts: set[bytes] = set()
        self._dirty_slots: dict[bytes, set[int]] = {}
        self._journal: list[_Undo] = []
        self.begin()

    # -- transactions ---------------------------------------------------------

    def begin(self) -> None:
        """Start a transaction: earlier changes can no longer be undone."""
        self._journal.clear()
        self._warm: dict[bytes | tuple[bytes, int], bool] = {}
        self._transient: dict[tuple[bytes, int], int] = {}
        self._originals: dict[tuple[bytes, int], int] = {}
        self._doomed: dict[bytes, bool] = {}
        self.created: dict[bytes, bool] = {}
        self.logs: list[Log] = []
        self.refund = 0

    def mark(self) -> Mark:
        """Remember this point."""
        return Mark(len(self._journal), len(self.logs), self.refund)

    def revert(self, mark: Mark) -> None:
        """Undo every change since `mark`."""
        journal = self._journal
        while len(journal) > mark.journal:
            mapping, key, old = journal.pop()
            if old is _ABSENT:
                del mapping[key]
            else:
                mapping[key] = old
        del self.logs[mark.logs :]
        self.refund = mark.refund

    def _put(self, mapping: MutableMapping[Any, Any], key: object, new: object) -> None:
        self._journal.append((mapping, key, mapping.get(key, _ABSENT)))
        mapping[key] = new

    # -- accounts -------------------------------------------------------------

    def account(self, address: bytes) -> Account:
        """The account, `NO_ACCOUNT` when there is none."""
        found = self._accounts.get(address)
        if found is None:
            data = self._trie.get(keccak(address))
            found = NO_ACCOUNT if data is None else Account.decode(data)
            self._accounts[address] = found
        return found

    def _set_account(self, address: bytes, account: Account) -> None:
        self._put(self._accounts, address, account)
        self._dirty_accounts.add(address)

    def exists(self, address: bytes) -> bool:
        """Whether the account has a nonce, a balance or code."""
        nonce, balance, _, code_hash = self.account(address)
        return nonce != 0 or balance != 0 or code_hash != EMPTY_KECCAK

    def is_occupied(self, address: bytes) -> bool:
        """Whether a contract cannot be created here (EIP-684, EIP-7610)."""
        nonce, _, storage_root, code_hash = self.account(address)
        return (
            nonce != 0 or code_hash != EMPTY_KECCAK or storage_root != EMPTY_TRIE_ROOT
        )

    def balance(self, address: bytes) -> int:
        """Wei."""
        return self.account(address).balance

    def set_balance(self, address: bytes, balance: int) -> None:
        """Set the balance, in wei."""
        nonce, _, storage_root, code_hash = self.account(address)
        self._set_account(address, Account(nonce, balance, storage_root, code_hash))

    def nonce(self, address: bytes) -> int:
        """Transactions sent, or contracts created plus one."""
        return self.account(address).nonce

    def set_nonce(self, address: bytes, nonce: int) -> None:
        """Set the nonce."""
        _, balance, storage_root, code_hash = self.account(address)
        self._set_account(address, Account(nonce, balance, storage_root, code_hash))

    def code_hash(self, address: bytes) -> bytes:
        """Keccak of the code."""
        return self.account(address).code_hash

    def code(self, address: bytes) -> bytes:
        """The code, empty for an account without."""
        digest = self.account(address).code_hash
        code = self._codes.get(digest)
        if code is None:
            code = self._codes[digest] = self._database.code(digest)
        return code

    def set_code(self, address: bytes, code: bytes) -> None:
        """Set the code; empty removes it."""
        digest = keccak(code)
        if digest not in self._codes:
            self._new_codes.add(digest)
            self._codes[digest] = code
        nonce, balance, storage_root, _ = self.account(address)
        self._set_account(address, Account(nonce, balance, storage_root, digest))

    # -- storage --------------------------------------------------------------

    def storage(self, address: bytes, slot: int) -> int:
        """The value at a slot."""
        slots = self._storage.get(address)
        if slots is None:
            slots = self._storage[address] = {}
        value = slots.get(slot)
        if value is None:
            value = slots[slot] = self._stored(address, slot)
        return value

    def _stored(self, address: bytes, slot: int) -> int:
        if address in self._wiped:
            return 0
        root = self.account(address).storage_root
        if root == EMPTY_TRIE_ROOT:
            return 0
        trie = self._storage_tries.get(address)
        if trie is None:
            trie = self._storage_tries[address] = Trie(self._database.node, root)
        data = trie.get(keccak(slot.to_bytes(32, "big")))
        return 0 if data is None else rlp.as_uint(rlp.decode(data))

    def original_storage(self, address: bytes, slot: int) -> int:
        """The value at a slot when the transaction began."""
        original = self._originals.get((address, slot))
        return self.storage(address, slot) if original is None else original

    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        """Set the value at a slot; zero clears it."""
        current = self.storage(address, slot)
        self._originals.setdefault((address, slot), current)
        self._put(self._storage[address], slot, value)
        self._dirty_slots.setdefault(address, set()).add(slot)

    def wipe_storage(self, address: bytes) -> None:
        """Forget everything that an account stored."""
        self._put(self._storage, address, {})
        self._put(self._wiped, address, new=True)
        self._dirty_slots.setdefault(address, set())

    def transient(self, address: bytes, slot: int) -> int:
        """The value of a transient slot (EIP-1153)."""
        return self._transient.get((address, slot), 0)

    def set_transient(self, address: bytes, slot: int, value: int) -> None:
        """Set a transient slot."""
        self._put(self._transient, (address, slot), value)

    # -- access, creation, deletion -------------------------------------------

    def is_warm(self, address: bytes) -> bool:
        """Whether the transaction has accessed the account (EIP-2929)."""
        return address in self._warm

    def warm(self, address: bytes) -> None:
        """Mark the account as accessed."""
        if address not in self._warm:
            self._put(self._warm, address, new=True)

    def is_slot_warm(self, address: bytes, slot: int) -> bool:
        """Whether the transaction has accessed the slot."""
        return (address, slot) in self._warm

    def warm_slot(self, address: bytes, slot: int) -> None:
        """Mark the slot as accessed."""
        if (address, slot) not in self._warm:
            self._put(self._warm, (address, slot), new=True)

    def note_creation(self, address: bytes) -> None:
        """Note in `created` that the transaction makes this contract (EIP-6780)."""
        self._put(self.created, address, new=True)

    def doom(self, address: bytes) -> None:
        """Delete the account when the transaction ends."""
        self._put(self._doomed, address, new=True)

    def delete_doomed(self) -> None:
        """Delete what self-destructed, as the last act of a transaction."""
        for address in self._doomed:
            self.wipe_storage(address)
            self._set_account(address, NO_ACCOUNT)

    # -- the end of a block ---------------------------------------------------

    def commit(self) -> tuple[bytes, dict[bytes, bytes]]:
        """The new state root, and what must be written for it to be readable.

        The world must not be used afterwards.
        """
        nodes: dict[bytes, bytes] = {}
        roots = {
            address: self._storage_root(address, slots, nodes)
            for address, slots in self._dirty_slots.items()
            if self.exists(address)  # nothing leads to the storage of others
        }
        writes: dict[bytes, bytes] = {}
        for address in sorted(self._dirty_accounts | self._dirty_slots.keys()):
            account = self.account(address)
            root = roots.get(address, account.storage_root)
            if self.exists(address):
                encoded = account._replace(storage_root=root).encode()
                if account.code_hash in self._new_codes:
                    writes[code_key(account.code_hash)] = self._codes[account.code_hash]
            else:
                encoded = b""
            self._trie.set(keccak(address), encoded)
        root, new_nodes = self._trie.commit()
        nodes.update(new_nodes)
        writes.update((node_key(digest), node) for digest, node in nodes.items())
        return root, writes

    def _storage_root(
        self, address: bytes, slots: set[int], nodes: dict[bytes, bytes]
    ) -> bytes:
        root = self.account(address).storage_root
        if address in self._wiped:
            trie = Trie(self._database.node)
        else:
            trie = self._storage_tries.get(address) or Trie(self._database.node, root)
        for slot in sorted(slots):
            value = self.storage(address, slot)
            encoded = rlp.encode(rlp.encode_uint(value)) if value else b""
            trie.set(keccak(slot.to_bytes(32, "big")), encoded)
        root, new_nodes = trie.commit()
        nodes.update(new_nodes)
        return root
