"""The records of a chain file, read from a database."""

from collections.abc import Iterator

from chain.database import ChainDatabase
from node.chainfile import Record
from node.errors import LedgerError


def records(database: ChainDatabase) -> Iterator[Record]:
    """Every block from genesis to the head, as it is stored.

    Raises:
        LedgerError: a height below the head is missing.
    """
    if database.base() > 1:
        raise LedgerError(
            f"blocks 1 to {database.base() - 1} are not here: this node was pruned, or "
            "began at a snapshot; export from an archive node"
        )
    for number in range(database.head().number + 1):
        block = database.block_at(number)
        if block is None:
            raise LedgerError(f"block {number} is missing from the database")
        yield Record(
            block,
            tuple(receipt.encode() for receipt in database.receipts(block.hash)),
            database.certificate(block.hash),
            database.steps(block.hash),
        )
