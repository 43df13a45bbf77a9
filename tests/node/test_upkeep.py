"""Import, roll back, snapshot, restore: all held against the rules."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from chain.database import ChainDatabase
from chain.errors import StoreError
from chain.store import Store
from genesis import ChainSpec, open_chain
from genesis.accounts import validator
from node.author import Validator
from node.chainfile import Record
from node.config import load_config
from node.doppelganger import Guard
from node.errors import ChainFileError, LedgerError
from node.exporting import records
from node.opening import encode_spec
from node.service import Chain, Node
from node.signer import LocalSigner
from node.sync.errors import BadSnapshotError
from node.upkeep import (
    import_records,
    ledger_of,
    make_snapshot,
    restore_snapshot,
    roll_back,
)
from node.validatorkey import ValidatorKey
from node.wal import WriteAheadLog

SPEC = ChainSpec.load("devnet")
BLOCKS = 5


def grown(directory: Path, spec: ChainSpec, blocks: int) -> dict[bytes, bytes]:
    """Every entry of a database with so many blocks."""
    store = Store.memory()
    database = open_chain(spec, store)
    secrets = validator(0)
    key = ValidatorKey.checked(secrets.secret, secrets.beacon_secret)
    chain = Chain(
        database,
        encode_spec(spec),
        spec.rules,
        spec.validator_set,
        epoch_blocks=spec.consensus.epoch_blocks,
        evidence_age=spec.consensus.evidence_age_blocks,
    )
    signer = LocalSigner(directory, database.genesis_hash(), key)
    wal = WriteAheadLog(directory / "wal")
    node = Node(
        load_config(environment={}),
        chain,
        Validator(signer, Guard(signer, 0, heights=0)),
        wal,
    )

    async def main() -> None:
        for _ in range(blocks):
            await node.engine.step()

    trio.run(main)
    wal.close()
    return dict(store.scan(b""))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, bytes]:
    """Every entry of a database with five blocks."""
    return grown(tmp_path_factory.mktemp("validator"), SPEC, BLOCKS)


def database_of(rows: dict[bytes, bytes]) -> ChainDatabase:
    store = Store.memory()
    store.write(rows)
    return ChainDatabase(store)


def empty() -> ChainDatabase:
    return open_chain(SPEC, Store.memory())


def test_an_exported_chain_is_imported_block_by_block(rows: dict[bytes, bytes]) -> None:
    source, target = database_of(rows), empty()
    heights: list[int] = []
    assert import_records(SPEC, target, records(source), heights.append) == BLOCKS
    assert heights == list(range(1, BLOCKS + 1))
    assert dict(target.store.scan(b"")) == rows
    assert import_records(SPEC, target, records(source)) == 0


def spoiled(rows: dict[bytes, bytes], number: int, **change: object) -> list[Record]:
    found = list(records(database_of(rows)))
    found[number] = replace(found[number], **change)  # type: ignore[arg-type]  # one field
    return found


def test_what_is_not_final_or_breaks_a_rule_is_not_imported(
    rows: dict[bytes, bytes],
) -> None:
    source = list(records(database_of(rows)))
    target = empty()
    with pytest.raises(ChainFileError, match="block 3 has no certificate"):
        import_records(SPEC, target, spoiled(rows, 3, certificate=None))
    assert target.head().number == 2
    with pytest.raises(ChainFileError, match="block 3: expected block 3"):
        import_records(
            SPEC, target, spoiled(rows, 3, certificate=source[2].certificate)
        )
    block = replace(source[3].block, transactions=(b"rubbish",))
    with pytest.raises(ChainFileError, match="block 3: transaction"):
        import_records(SPEC, target, spoiled(rows, 3, block=block))
    assert target.head().number == 2


def test_another_chain_is_not_imported(rows: dict[bytes, bytes]) -> None:
    database = open_chain(SPEC.with_parameters(challenge_window=21), Store.memory())
    with pytest.raises(ChainFileError, match="another chain"):
        import_records(SPEC, database, records(database_of(rows)))


def test_a_block_is_rolled_back_and_comes_again(rows: dict[bytes, bytes]) -> None:
    database = database_of(rows)
    last = database.head()
    assert roll_back(database).hash == last.parent_hash
    assert database.hash_at(last.number) is None
    assert import_records(SPEC, database, records(database_of(rows))) == 1
    assert database.head() == last


def test_genesis_is_not_rolled_back() -> None:
    with pytest.raises(LedgerError, match="only genesis"):
        roll_back(empty())
    with pytest.raises(StoreError, match="no parent"):
        empty().roll_back()


def test_a_snapshot_is_restored_and_the_chain_goes_on(
    tmp_path: Path, rows: dict[bytes, bytes]
) -> None:
    source, path = database_of(rows), tmp_path / "snapshot"
    made = make_snapshot(path, SPEC, source, 3)
    store = Store.memory()
    restored = restore_snapshot(path, SPEC, store, 3, made.block_hash)
    assert restored.number == 3
    target = ChainDatabase(store)
    later = list(records(source))[4:]
    assert import_records(SPEC, target, later) == BLOCKS - 3
    assert target.head() == source.head()
    while target.head().number > 3:
        roll_back(target)
    with pytest.raises(LedgerError, match="first"):
        roll_back(target)


def test_a_snapshot_of_another_block_than_the_trusted_one_is_refused(
    tmp_path: Path, rows: dict[bytes, bytes]
) -> None:
    path = tmp_path / "snapshot"
    make_snapshot(path, SPEC, database_of(rows), None)
    with pytest.raises(BadSnapshotError, match="expected a snapshot of block 3"):
        restore_snapshot(path, SPEC, Store.memory(), 3, bytes(32))


def test_a_snapshot_within_an_epoch_needs_no_state_from_before_it(
    tmp_path: Path,
) -> None:
    consensus = SPEC.consensus.model_copy(update={"epoch_blocks": 4})
    spec = SPEC.model_copy(update={"consensus": consensus})
    assert spec.elects
    whole = database_of(grown(tmp_path, spec, 10))
    later = list(records(whole))[7:]
    source = whole
    while source.head().number > 6:
        roll_back(source)
    made = make_snapshot(tmp_path / "snapshot", spec, source, 6)
    store = Store.memory()
    head = restore_snapshot(tmp_path / "snapshot", spec, store, 6, made.block_hash)
    assert head == source.head()
    voters = ledger_of(spec, ChainDatabase(store)).epochs.voters
    assert voters(8) == ledger_of(spec, source).epochs.voters(8)
    assert import_records(spec, ChainDatabase(store), later) == 4
    assert ChainDatabase(store).head().number == 10
