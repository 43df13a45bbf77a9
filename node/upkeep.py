"""What an operator does to a stopped node: import, roll back, snapshot, restore."""

from collections.abc import Callable, Iterable
from pathlib import Path

from chain.block import Block
from chain.database import ChainDatabase
from chain.errors import ChainError
from chain.header import Header
from chain.store import Store
from consensus.certificate import verify_certificate
from consensus.errors import ConsensusError
from genesis import ChainSpec
from genesis.builder import build
from node.chainfile import Record
from node.epochs import Epochs
from node.errors import ChainFileError, DataDirectoryError, LedgerError
from node.ledger import Ledger
from node.pruning import Plan, Pruned, blocks_to_keep, prune
from node.sync.restore import Restorer, Trust, restore
from node.sync.snapshotfile import SnapshotFile, write_snapshot
from node.sync.snapshots import Manifest, snapshot_history
from runtime.block import ExecutedBlock
from runtime.errors import InvalidBlock

Progress = Callable[[int], None]


def ledger_of(spec: ChainSpec, database: ChainDatabase) -> Ledger:
    """The chain of a specification, on a database that holds its genesis."""
    epochs = Epochs(
        database,
        spec.rules,
        spec.validator_set,
        epoch_blocks=spec.consensus.epoch_blocks if spec.elects else 0,
        evidence_age=spec.consensus.evidence_age_blocks,
    )
    return Ledger(database, spec.rules, epochs)


def import_records(
    spec: ChainSpec,
    database: ChainDatabase,
    records: Iterable[Record],
    progress: Progress = lambda _: None,
) -> int:
    """Execute and commit the blocks of a chain file that are not here yet.

    Everything is checked as if a peer had sent it. What was committed before an error
    stays. Returns how many blocks were new.

    Raises:
        ChainFileError: a block is not final or breaks a rule, or is of another chain.
    """
    ledger = ledger_of(spec, database)
    count = 0
    for record in records:
        block = record.block
        known = database.hash_at(block.number)
        if known is not None:
            if known != block.hash:
                raise ChainFileError(
                    f"block {block.number} is 0x{block.hash.hex()} in the file and "
                    f"0x{known.hex()} here: another chain"
                )
            continue
        certificate = record.certificate
        if certificate is None:
            raise ChainFileError(f"block {block.number} has no certificate")
        try:
            verify_certificate(
                ledger.genesis_hash,
                certificate,
                ledger.epochs.voters(block.number),
                height=block.number,
                block_hash=block.hash,
            )
            ledger.commit(ledger.check(database.head(), block), certificate)
        except (ConsensusError, ChainError, InvalidBlock) as error:
            raise ChainFileError(f"block {block.number}: {error}") from error
        count += 1
        progress(block.number)
    return count


def roll_back(database: ChainDatabase) -> Header:
    """Take the last block away; returns the new head.

    For a node whose last block was executed wrongly by a faulty program: with the
    right one it fetches the block from its peers and executes it again. What was
    signed stays signed.

    Raises:
        LedgerError: there is no block above genesis, or its parent is not here.
    """
    head = database.head()
    if not head.number or database.hash_at(head.number - 1) is None:
        raise LedgerError("only genesis, or the first block of a snapshot, is here")
    if head.number <= database.base():
        raise LedgerError(
            f"block {head.number} is the first that this database holds whole"
        )
    if not database.has_state(head.number - 1):
        raise LedgerError(f"the state of block {head.number - 1} is pruned here")
    database.roll_back()
    return database.head()


def planned(spec: ChainSpec, database: ChainDatabase, blocks: int, states: int) -> Plan:
    """What pruning keeps: so many blocks and states.

    Args:
        spec: Of the chain.
        database: Of a stopped node.
        blocks: Newest ones to keep; 0: as few as the chain allows.
        states: Newest ones to keep.

    Raises:
        ConfigError: these are too few blocks.
    """
    return Plan.of(database, blocks_to_keep(spec, blocks), states)


def prune_all(
    database: ChainDatabase,
    plan: Plan,
    progress: Callable[[Pruned], None] = lambda _: None,
    *,
    dry: bool = False,
) -> Pruned:
    """Prune to the end, and give the space back.

    Raises:
        LedgerError: a kept state is not whole; no node was removed.
    """
    done = Pruned()
    for done in prune(database, plan, dry=dry):
        progress(done)
    if not dry:
        database.store.compact()
    return done


def make_snapshot(
    path: Path, spec: ChainSpec, database: ChainDatabase, height: int | None
) -> Manifest:
    """Write a snapshot of a height, the head if None.

    Raises:
        SyncError: this database lacks something.
    """
    chosen = database.head().number if height is None else height
    return write_snapshot(
        path, database, chosen, snapshot_history(spec.consensus.evidence_age_blocks)
    )


def restore_snapshot(
    path: Path, spec: ChainSpec, store: Store, height: int, block_hash: bytes
) -> Header:
    """Restore a snapshot into an empty database, held against a trusted block.

    Raises:
        SyncError: the database is not empty.
        BadSnapshotError: the file is damaged, or not of that block.
        DataDirectoryError: the file cannot be read.
    """
    genesis = build(spec)
    trust = Trust(
        height,
        block_hash,
        genesis.block,
        genesis.writes,
        snapshot_history(spec.consensus.evidence_age_blocks),
    )

    def execute(database: ChainDatabase, parent: Header, block: Block) -> ExecutedBlock:
        return ledger_of(spec, database).check(parent, block)

    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataDirectoryError(f"cannot read {path}: {error}") from error
    with stream:
        found = SnapshotFile(stream)
        return restore(Restorer(store, found.manifest, trust, execute), iter(found))
