"""Audits of what a pruning, or a restored snapshot, left."""

from collections.abc import Mapping

import pytest

from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.store import Store
from node.audit import AuditMismatch, Auditor, DatabaseSource
from node.pruning import Plan
from node.upkeep import make_snapshot, prune_all, restore_snapshot
from node.watching import WatchedStore
from tests.node.test_upkeep import SPEC, grown


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, bytes]:
    """Nine blocks of devnet."""
    return grown(tmp_path_factory.mktemp("validator"), SPEC, 9)


def stored(rows: Mapping[bytes, bytes]) -> WatchedStore:
    store = Store.memory()
    store.write(rows)
    return WatchedStore(store)


@pytest.fixture(scope="module")
def pruned(whole: dict[bytes, bytes]) -> dict[bytes, bytes]:
    store = stored(whole)
    prune_all(ChainDatabase(store), Plan(4, 6))
    return dict(store.scan(b""))


@pytest.fixture(scope="module")
def restored(
    whole: dict[bytes, bytes], tmp_path_factory: pytest.TempPathFactory
) -> dict[bytes, bytes]:
    path = tmp_path_factory.mktemp("snapshot") / "file"
    snapshot = make_snapshot(path, SPEC, ChainDatabase(stored(whole)), 7)
    store = Store.memory()
    restore_snapshot(path, SPEC, store, 7, snapshot.block_hash)
    return dict(store.scan(b""))


def audit(rows: Mapping[bytes, bytes]) -> Auditor:
    source = DatabaseSource(stored(rows))
    auditor = Auditor(SPEC, source, Store.memory(), use_oracle=False)
    auditor.run()
    return auditor


def test_a_pruned_database_is_audited_from_where_it_begins(
    pruned: dict[bytes, bytes],
) -> None:
    report = audit(pruned).report
    assert report.beginning is not None
    assert (report.beginning.block, report.beginning.state) == (4, 6)
    assert (report.head, report.blocks, report.certificates) == (9, 7, 6)


def test_a_restored_database_is_audited_from_where_it_begins(
    restored: dict[bytes, bytes],
) -> None:
    report = audit(restored).report
    assert report.beginning is not None
    assert (report.beginning.block, report.beginning.state) == (7, 6)
    assert (report.head, report.blocks) == (7, 2)


def test_pruned_at_the_head_and_with_all_blocks(whole: dict[bytes, bytes]) -> None:
    for plan in (Plan(1, 9), Plan(9, 9), Plan(9, 8), Plan(1, 1)):
        store = stored(whole)
        prune_all(ChainDatabase(store), plan)
        report = audit(dict(store.scan(b""))).report
        assert report.head == 9
        assert report.beginning is not None
        assert report.beginning.state == plan.state_base


@pytest.mark.parametrize("kind", ["pruned", "restored"])
def test_every_entry_of_a_late_beginning_is_held_against_something(
    kind: str, request: pytest.FixtureRequest
) -> None:
    rows: dict[bytes, bytes] = request.getfixturevalue(kind)
    database = ChainDatabase(stored(rows))
    # Steps follow from nothing but the execution of their block.
    trusted = {
        b"w" + (database.hash_at(number) or b"")
        for number in range(1, database.state_base() + 1)
    }
    for key, value in rows.items():
        if key in trusted:
            continue
        spoiled = value[:-1] + bytes((value[-1] ^ 1,))
        for changed in ({**rows, key: spoiled}, {k: rows[k] for k in rows if k != key}):
            with pytest.raises(AuditMismatch):
                audit(changed)


def test_an_interrupted_pruning_is_told(pruned: dict[bytes, bytes]) -> None:
    with pytest.raises(AuditMismatch, match="run `lockstep prune` again"):
        audit({**pruned, b"d": bytes(8)})


def test_a_stray_node_is_found_in_a_pruned_database(
    pruned: dict[bytes, bytes],
) -> None:
    with pytest.raises(AuditMismatch, match="no such entry"):
        audit({**pruned, b"s" + keccak(b"stray"): b"stray"})
    assert audit({**pruned, b"k" + keccak(b"code"): b"code"}).report.left_over == 1
