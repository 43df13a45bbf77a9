"""Where the records of a chain come from: a node's database, or a chain file."""

from collections.abc import Iterable, Iterator, Mapping
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
        left_over: Entries that a rolled back block left, after `finish`.
    """

    left_over: int

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
    b"x": "mark of a rollback",
}


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
        """As `Source.records`."""
        for number in range(self.head_number() + 1):
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

        But for what a rolled back block left, which has no place in the chain and no
        other content than its key says.
        """
        count = 0
        try:
            rolled_back = ChainDatabase(self._store).rolled_back() is not None
            for key, value in self._store.scan(b""):
                expected = own.get(key)
                if rolled_back and expected is None and _names_itself(key, value):
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
