"""Where the records of a chain come from: a node's database, or a chain file."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from chain import rlp
from chain.block import Block
from chain.crypto import keccak
from chain.database import ROLLED_BACK_KEY, ChainDatabase
from chain.errors import ChainError, Malformed
from chain.header import Header
from chain.sidecar import CommitCertificate
from chain.store import Store
from chain.trie import ordered_root
from consensus.errors import InvalidValidatorSet
from consensus.validators import ValidatorSet
from node.audit.comparison import AuditMismatch, equal
from node.chainfile import Record


class Source(Protocol):
    """Where the records of a chain come from.

    Attributes:
        left_over: Entries, after `finish`, that no block explains and that do no harm:
            of a rolled back block, or codes and sets from before the first block.
    """

    left_over: int

    @property
    def beginning(self) -> "Beginning | None":
        """Where its history begins, if not with block 1."""
        ...

    def records(self) -> Iterator[Record]:
        """Every block from genesis, in order.

        Raises:
            AuditMismatch: one cannot be read as what it should be.
        """
        ...

    def compare(self, number: int, written: Mapping[bytes, bytes]) -> int:
        """Compare what executing a block wrote with what is stored; count entries.

        Raises:
            AuditMismatch: an entry differs or is missing.
        """
        ...

    def finish(self, own: Store) -> int:
        """Compare everything once more at the end; count entries.

        Raises:
            AuditMismatch: an entry should not be there.
        """
        ...


_KINDS = {
    b"f": "format",
    b"h": "header",
    b"b": "body",
    b"r": "receipts",
    b"w": "step count",
    b"c": "certificate",
    b"n": "number index",
    b"t": "transaction index",
    b"s": "state node",
    b"k": "contract code",
    b"g": "genesis pointer",
    b"l": "head pointer",
    b"v": "validator set",
    b"a": "base pointer",
    b"o": "state pointer",
    b"d": "mark of pruning",
    b"x": "mark of a rollback",
}


@dataclass(frozen=True, slots=True)
class Beginning:
    """A history that does not begin with block 1.

    Attributes:
        block: The lowest whole block.
        state: The lowest state but that of genesis; blocks above it can be executed.
    """

    block: int
    state: int


def _entry(key: bytes) -> str:
    kind = _KINDS.get(key[:1], "unknown entry")
    return (
        f"{kind} {key[1:].hex()}".rstrip()
        if key[:1] in _KINDS
        else (f"{kind} {key.hex()}")
    )


def _names_itself(key: bytes, value: bytes) -> bool:
    """Whether an entry is state, code or a validator set under its own hash."""
    match key[:1]:
        case b"s" | b"k":
            return key[1:] == keccak(value)
        case b"v":
            try:
                return key[1:] == ValidatorSet.decode(value).hash
            except InvalidValidatorSet:
                return False
        case _:
            return key == ROLLED_BACK_KEY and len(value) == 8


class DatabaseSource:
    """A node's database, read raw."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.left_over = 0

    @property
    def beginning(self) -> Beginning | None:
        """As `Source.beginning`.

        Raises:
            AuditMismatch: it is being pruned, or says what cannot be.
        """
        head = self.head_number()
        database = ChainDatabase(self._store)
        if database.pruning() is not None:
            raise AuditMismatch(
                None, "pruning", "finished", "interrupted; run `lockstep prune` again"
            )
        found = Beginning(database.base(), database.state_base())
        if found == Beginning(1, 0):
            return None
        if not (0 < found.block <= head and found.block - 1 <= found.state <= head):
            raise AuditMismatch(None, "beginning", f"heights up to {head}", found)
        return found

    def raw(self, number: int, key: bytes) -> bytes:
        """An entry that must be here, for a block.

        Raises:
            AuditMismatch: there is none.
        """
        return self._get(number, key)

    def find(self, number: int, key: bytes) -> bytes | None:
        """An entry, if it is here."""
        return self._find(number, key)

    def head_number(self) -> int:
        """The height that the database claims.

        Raises:
            AuditMismatch: it has no readable head.
        """
        try:
            return ChainDatabase(self._store).head().number
        except (ChainError, ValueError) as error:
            raise AuditMismatch(None, "head", "a stored header", error) from error

    def records(self) -> Iterator[Record]:
        """As `Source.records`; of a history that begins late, genesis and the rest."""
        beginning = self.beginning
        first = 1 if beginning is None else beginning.block
        for number in (0, *range(first, self.head_number() + 1)):
            yield self._record(number)

    def _find(self, number: int, key: bytes) -> bytes | None:
        try:
            return self._store.get(key)
        except ChainError as error:
            raise AuditMismatch(number, _entry(key), "readable", error) from error

    def _get(self, number: int, key: bytes) -> bytes:
        value = self._find(number, key)
        if value is None:
            raise AuditMismatch(number, _entry(key), "an entry", "none")
        return value

    def _record(self, number: int) -> Record:
        block_hash = self._get(number, b"n" + number.to_bytes(8))
        header = self._get(number, b"h" + block_hash)
        equal(number, "header", block_hash, keccak(header))
        body = self._get(number, b"b" + block_hash)
        receipts = self._get(number, b"r" + block_hash)
        steps = self._get(number, b"w" + block_hash)
        certificate = self._find(number, b"c" + block_hash)
        part = "header"
        try:
            decoded = Header.decode(header)
            part = "body"
            block = Block.with_body(decoded, body)
            self._check_transactions(block)
            part = "receipts"
            each = tuple(rlp.as_bytes(item) for item in rlp.decode_list(receipts))
            part = "certificate"
            voted = None
            if certificate is not None:
                voted = CommitCertificate.decode(certificate)
        except Malformed as error:
            raise AuditMismatch(number, part, "well-formed bytes", error) from error
        return Record(block, each, voted, int.from_bytes(steps))

    def _check_transactions(self, block: Block) -> None:
        """Name the transaction when a body no longer has the header's root."""
        if ordered_root(block.transactions) == block.header.transactions_root:
            return
        for index, raw in enumerate(block.transactions):
            if self._find(block.number, b"t" + keccak(raw)) is None:
                raise AuditMismatch(
                    block.number,
                    "transaction",
                    "one that transactionsRoot and the index know",
                    raw,
                    transaction=index,
                )

    def compare(self, number: int, written: Mapping[bytes, bytes]) -> int:
        """As `Source.compare`."""
        for key, value in written.items():
            if key != b"l":
                got = self._get(number, key)
                if got != value:
                    raise AuditMismatch(number, _entry(key), value, got)
        return len(written)

    def finish(self, own: Store) -> int:
        """As `Source.finish`: every entry must be one that the audit wrote too.

        But for what a rolled back block left, and for codes and validator sets from
        before the first block: they have no other content than their key says.
        """
        count = 0
        try:
            excused = b"kv" if self.beginning is not None else b""
            if ChainDatabase(self._store).rolled_back() is not None:
                excused = b"skvx"
            for key, value in self._store.scan(b""):
                expected = own.get(key)
                stray = expected is None and key[:1] in excused
                if stray and _names_itself(key, value):
                    self.left_over += key != ROLLED_BACK_KEY
                    continue
                if expected != value:
                    wanted = "no such entry" if expected is None else expected
                    raise AuditMismatch(None, _entry(key), wanted, value)
                count += 1
        except ChainError as error:
            raise AuditMismatch(None, "database", "readable", error) from error
        return count


class FileSource:
    """A chain file; it has no entries beyond its records."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records
        self.left_over = 0

    @property
    def beginning(self) -> None:
        """As `Source.beginning`: a file is whole."""

    def records(self) -> Iterator[Record]:
        """As `Source.records`."""
        yield from self._records

    def compare(self, number: int, written: Mapping[bytes, bytes]) -> int:
        """As `Source.compare`: nothing to compare with."""
        del number, written
        return 0

    def finish(self, own: Store) -> int:
        """As `Source.finish`: the file's own digest was checked by its reader."""
        del own
        return 0
