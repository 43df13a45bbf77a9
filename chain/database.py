"""Blocks, receipts, state nodes and the head: typed access to a `Store`.

Every key starts with one letter:

| key | value |
|---|---|
| ``f`` | format version of this table |
| ``h`` + block hash | header, RLP |
| ``b`` + block hash | body (transactions and sidecar), RLP |
| ``r`` + block hash | receipts, RLP list of byte strings |
| ``w`` + block hash | interpreter steps that the block took, 8 bytes |
| ``c`` + block hash | commit certificate of that block, RLP |
| ``n`` + number, 8 bytes | hash of the block at that height |
| ``t`` + transaction hash | block hash, number (8 bytes), index (4 bytes) |
| ``s`` + node hash | node of a state or storage trie |
| ``k`` + code hash | contract code |
| ``v`` + set hash | validator set, as `consensus.validators` encodes it |
| ``g`` | hash of the genesis block |
| ``l`` | hash of the last committed block |
| ``y``, ``z`` | a restoration under way (`node.sync.restore`) |
| ``a`` | lowest height above 0 whose whole block is here, 8 bytes; absent: 1 |
| ``o`` | lowest height above 0 whose state is here, 8 bytes; absent: one below ``a`` |
| ``d`` | pruning under way: lowest height whose block may be here still, 8 bytes |
| ``x`` | a block was rolled back: its state may be here still; the height, 8 bytes |

Of the heights from 1 to that lowest one, a chain restored from a snapshot knows the
newest headers only (`node.sync.snapshots`), a pruned one all headers. Genesis and its
state are always here.

A block becomes visible by one atomic batch (`commit`), so a crash shows either the
whole block, its state and the new head, or nothing of it. Finality takes one block:
there is one chain, and the index by number never changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from chain import rlp
from chain.block import Block
from chain.crypto import keccak
from chain.errors import MissingNode, NotFound, StoreCorrupt, StoreError
from chain.header import Header
from chain.receipt import Receipt
from chain.sidecar import CommitCertificate
from chain.store import Store

FORMAT: Final = b"1"

_FORMAT_KEY: Final = b"f"
_GENESIS_KEY: Final = b"g"
_HEAD_KEY: Final = b"l"
BASE_KEY: Final = b"a"
STATE_BASE_KEY: Final = b"o"
_PRUNING_KEY: Final = b"d"
ROLLED_BACK_KEY: Final = b"x"


# The head is read at every turn; a header never changes, and takes 60 us to decode.
_decoded_header = lru_cache(maxsize=256)(Header.decode)


def node_key(digest: bytes) -> bytes:
    """The key of a trie node."""
    return b"s" + digest


def code_key(digest: bytes) -> bytes:
    """The key of a contract's code."""
    return b"k" + digest


def validators_key(digest: bytes) -> bytes:
    """The key of a validator set."""
    return b"v" + digest


def steps_key(block_hash: bytes) -> bytes:
    """The key of a block's interpreter steps."""
    return b"w" + block_hash


@dataclass(frozen=True, slots=True)
class Location:
    """Where a transaction is."""

    block_hash: bytes
    number: int
    index: int


class ChainDatabase:
    """What a node knows, read and written by meaning.

    Args:
        store: Empty, or written by this class.

    Raises:
        StoreCorrupt: The store has another format.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        found = store.get(_FORMAT_KEY)
        if found not in (None, FORMAT):
            raise StoreCorrupt(
                f"the database has format {found!r}, this program reads {FORMAT!r}; "
                "sync again into an empty directory"
            )

    def genesis_hash(self) -> bytes:
        """The hash of block 0.

        Raises:
            NotFound: The store is empty.
        """
        return self._need(_GENESIS_KEY, "genesis block")

    def is_empty(self) -> bool:
        """Whether no genesis has been committed."""
        return self.store.get(_GENESIS_KEY) is None

    def head(self) -> Header:
        """The header of the last committed block.

        Raises:
            NotFound: The store is empty.
        """
        return self.header(self._need(_HEAD_KEY, "head"))

    def header(self, block_hash: bytes) -> Header:
        """The header with this hash.

        Raises:
            NotFound: There is none.
        """
        return _decoded_header(self._need(b"h" + block_hash, "header", block_hash))

    def hash_at(self, number: int) -> bytes | None:
        """The hash of the block at a height, or None above the head."""
        if number < 0 or number >> 64:
            return None
        return self.store.get(b"n" + number.to_bytes(8, "big"))

    def header_at(self, number: int) -> Header | None:
        """The header at a height, or None above the head."""
        found = self.hash_at(number)
        return None if found is None else self.header(found)

    def block(self, block_hash: bytes) -> Block:
        """The whole block with this hash.

        Raises:
            NotFound: There is none.
        """
        body = self._need(b"b" + block_hash, "block", block_hash)
        return Block.with_body(self.header(block_hash), body)

    def encoded_block(self, block_hash: bytes) -> bytes:
        """The block as `Block.encode` writes it, joined without decoding.

        Raises:
            NotFound: There is none.
        """
        header = self._need(b"h" + block_hash, "header", block_hash)
        body = self._need(b"b" + block_hash, "block", block_hash)
        return rlp.wrap(header + rlp.payload(body))

    def block_at(self, number: int) -> Block | None:
        """The whole block at a height, or None above the head."""
        found = self.hash_at(number)
        return None if found is None else self.block(found)

    def receipts(self, block_hash: bytes) -> tuple[Receipt, ...]:
        """The receipts of a block, in the order of its transactions.

        Raises:
            NotFound: There is no such block.
        """
        data = self._need(b"r" + block_hash, "receipts", block_hash)
        return tuple(
            Receipt.decode(rlp.as_bytes(item)) for item in rlp.decode_list(data)
        )

    def location(self, transaction_hash: bytes) -> Location | None:
        """Where the transaction with this hash is, or None."""
        data = self.store.get(b"t" + transaction_hash)
        if data is None:
            return None
        return Location(
            data[:32],
            int.from_bytes(data[32:40], "big"),
            int.from_bytes(data[40:], "big"),
        )

    def certificate(self, block_hash: bytes) -> CommitCertificate | None:
        """The certificate that committed the block, if this node has it."""
        data = self.store.get(b"c" + block_hash)
        return None if data is None else CommitCertificate.decode(data)

    def encoded_certificate(self, block_hash: bytes) -> bytes | None:
        """The stored bytes of `certificate`."""
        return self.store.get(b"c" + block_hash)

    def steps(self, block_hash: bytes) -> int:
        """The interpreter steps that a block took.

        Raises:
            NotFound: There is no such block.
        """
        return int.from_bytes(
            self._need(steps_key(block_hash), "step count", block_hash), "big"
        )

    def node(self, digest: bytes) -> bytes:
        """A trie node by hash.

        Raises:
            MissingNode: There is none: the state it belongs to was pruned, or was never
                executed here.
        """
        found = self.store.get(node_key(digest))
        if found is None:
            raise MissingNode(digest)
        return found

    def code(self, digest: bytes) -> bytes:
        """Contract code by hash.

        Raises:
            NotFound: There is none.
        """
        return self._need(code_key(digest), "contract code", digest)

    def validators(self, digest: bytes) -> bytes:
        """The encoding of the validator set with this hash.

        Raises:
            NotFound: There is none.
        """
        return self._need(validators_key(digest), "validator set", digest)

    def base(self) -> int:
        """The lowest height above 0 whose whole block is here, when it is here."""
        found = self.store.get(BASE_KEY)
        return 1 if found is None else int.from_bytes(found, "big")

    def state_base(self) -> int:
        """The lowest height from which on all states are here; genesis' is anyway."""
        found = self.store.get(STATE_BASE_KEY)
        return self.base() - 1 if found is None else int.from_bytes(found, "big")

    def has_state(self, number: int) -> bool:
        """Whether the state of a block up to the head is here whole."""
        return number == 0 or number >= self.state_base()

    def headers(self, start: int, count: int) -> Iterator[Header]:
        """At most `count` headers from height `start` upwards."""
        for number in range(start, start + count):
            header = self.header_at(number)
            if header is None:
                return
            yield header

    def commit(
        self,
        block: Block,
        receipts: Sequence[Receipt],
        state: Mapping[bytes, bytes],
        *,
        certificate: CommitCertificate | None = None,
        validators: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Store an executed block and make it the head, in one atomic batch.

        Args:
            block: The child of the head, or a genesis for an empty store.
            receipts: One for each transaction.
            state: What its execution wrote, keyed as above.
            certificate: The votes that committed it, when known.
            validators: Encoded validator sets by hash, when they are new.

        Raises:
            StoreError: The block does not follow the head; nothing was written.
        """
        self._check_follows(block)
        if len(receipts) != len(block.transactions):
            raise StoreError(
                f"block {block.number}: {len(block.transactions)} transactions, "
                f"{len(receipts)} receipts"
            )
        puts = dict(state)
        puts[b"h" + block.hash] = block.header.encode()
        puts[b"b" + block.hash] = block.encode_body()
        puts[b"r" + block.hash] = rlp.encode([each.encode() for each in receipts])
        number = block.number.to_bytes(8, "big")
        puts[b"n" + number] = block.hash
        puts.setdefault(steps_key(block.hash), bytes(8))
        for index, raw in enumerate(block.transactions):
            puts[b"t" + keccak(raw)] = block.hash + number + index.to_bytes(4, "big")
        if certificate is not None:
            puts[b"c" + block.hash] = certificate.encode()
        for digest, encoded in (validators or {}).items():
            puts[validators_key(digest)] = encoded
        if block.number == 0:
            puts[_FORMAT_KEY] = FORMAT
            puts[_GENESIS_KEY] = block.hash
        puts[_HEAD_KEY] = block.hash
        self.store.write(puts)

    def adopt(self, headers: Sequence[Header], steps: int) -> None:
        """Put headers between genesis and a block that comes next, without bodies.

        Args:
            headers: Descending, each the parent of the one before; the first becomes
                the head, and its state must be here.
            steps: Interpreter steps that the first one's block took.

        Raises:
            StoreError: The head is not the genesis block.
        """
        if self.head().number:
            raise StoreError("only a chain that ends with genesis adopts headers")
        puts: dict[bytes, bytes] = {}
        for header in headers:
            puts[b"h" + header.hash] = header.encode()
            puts[b"n" + header.number.to_bytes(8, "big")] = header.hash
        head = headers[0]
        puts[steps_key(head.hash)] = steps.to_bytes(8, "big")
        puts[_HEAD_KEY] = head.hash
        puts[BASE_KEY] = (head.number + 1).to_bytes(8, "big")
        self.store.write(puts)

    def roll_back(self) -> None:
        """Make the parent the head again, and forget the last block.

        State, code and validator sets that it wrote stay, since other blocks may have
        written the same; `rolled_back` remembers that nothing may lead to them.

        Raises:
            StoreError: The head is the genesis block.
        """
        head = self.head()
        if not head.number:
            raise StoreError("the genesis block has no parent")
        deletes = [b"n" + head.number.to_bytes(8, "big")]
        transactions = self.block(head.hash).transactions
        deletes += [b"t" + keccak(raw) for raw in transactions]
        deletes += [kind + head.hash for kind in (b"h", b"b", b"r", b"c")]
        deletes.append(steps_key(head.hash))
        puts = {_HEAD_KEY: head.parent_hash}
        puts[ROLLED_BACK_KEY] = head.number.to_bytes(8, "big")
        self.store.write(puts, deletes)

    def rolled_back(self) -> int | None:
        """The height of the block that was rolled back last, if there was one."""
        found = self.store.get(ROLLED_BACK_KEY)
        return None if found is None else int.from_bytes(found, "big")

    # -- pruning ----------------------------------------------------------------------

    def pruning(self) -> int | None:
        """Where pruning stopped that is not finished; see ``d``."""
        found = self.store.get(_PRUNING_KEY)
        return None if found is None else int.from_bytes(found, "big")

    def begin_pruning(self, base: int, state_base: int) -> None:
        """Say which blocks and states count from now on; nothing is removed yet.

        Args:
            base: The lowest block to keep.
            state_base: The lowest state to keep.

        Raises:
            StoreError: They are above the head, or below what is here.
        """
        head, lowest = self.head().number, self.base()
        if not (
            lowest <= base <= head
            and max(base - 1, self.state_base()) <= state_base <= head
        ):
            raise StoreError(
                f"cannot keep blocks from {base} and states from {state_base}: blocks "
                f"from {lowest} and states from {self.state_base()} to {head} are here"
            )
        going_on = self.pruning()
        start = lowest if going_on is None else going_on
        values = {BASE_KEY: base, STATE_BASE_KEY: state_base, _PRUNING_KEY: start}
        self.store.write({key: each.to_bytes(8, "big") for key, each in values.items()})

    def remove_block(self, number: int) -> None:
        """Remove all of a block but its header, and note that it is done.

        Steps stay until those of the next block go: that block needs them.
        """
        deletes: list[bytes] = []
        header = self.header_at(number)
        body = None if header is None else self.store.get(b"b" + header.hash)
        if header is not None:
            deletes += [kind + header.hash for kind in (b"b", b"r", b"c")]
        if header is not None and number > 1:
            deletes.append(steps_key(header.parent_hash))
        if header is not None and body is not None:
            block = Block.with_body(header, body)
            deletes += [b"t" + keccak(raw) for raw in block.transactions]
        done = {_PRUNING_KEY: (number + 1).to_bytes(8, "big")}
        self.store.write(done, deletes, sync=False)

    def end_pruning(self) -> None:
        """Everything was removed that no longer counts."""
        self.store.write({}, [_PRUNING_KEY])

    def put_certificate(self, certificate: CommitCertificate) -> None:
        """Remember the votes for a block that is already stored."""
        self.store.write({b"c" + certificate.block_hash: certificate.encode()})

    def put_validators(self, sets: Mapping[bytes, bytes]) -> None:
        """Store encoded validator sets by hash."""
        puts = {validators_key(digest): data for digest, data in sets.items()}
        self.store.write(puts)

    def _check_follows(self, block: Block) -> None:
        head = self.store.get(_HEAD_KEY)
        if block.number == 0:
            if head is not None:
                raise StoreError("this database already holds a chain")
        elif head != block.header.parent_hash:
            raise StoreError(
                f"block {block.number} follows {block.header.parent_hash.hex()}, the "
                f"head is {'absent' if head is None else head.hex()}"
            )

    def _need(self, key: bytes, what: str, digest: bytes = b"") -> bytes:
        value = self.store.get(key)
        if value is None:
            raise NotFound(f"no {what} {digest.hex()}".rstrip())
        return value
