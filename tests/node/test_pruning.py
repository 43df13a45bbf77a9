"""Pruning: exactly what is kept stays, and the chain goes on."""

from pathlib import Path

import pytest

from chain.crypto import keccak
from chain.errors import MissingNode, NotFound, StoreError
from node.errors import ConfigError, LedgerError
from node.exporting import records
from node.pruning import Plan, blocks_to_keep, window
from node.sync.blocks import read_blocks
from node.sync.errors import SyncError
from node.upkeep import make_snapshot, prune_all, roll_back
from tests.node.prunable import BLOCKS, PLAN, done, exact, made, more, nodes_of
from tests.node.test_upkeep import SPEC


def test_an_archive_is_exact_and_states_come_back() -> None:
    chain = made()
    exact(chain.database, 1)
    roots = [nodes_of(chain.database, n) for n in (BLOCKS, BLOCKS - 2)]
    assert len(roots[0] & roots[1]) > len(roots[0]) // 3


def test_what_is_below_goes_and_the_rest_is_whole() -> None:
    chain, whole = made(), made()
    database = chain.database
    told = done(chain, PLAN)
    exact(database, 17)
    assert (database.base(), database.state_base()) == (11, 17)
    assert told.blocks == 10
    assert told.kept == len(list(database.store.scan(b"s")))
    assert told.nodes == len(list(whole.database.store.scan(b"s"))) - told.kept > 0
    for number in range(BLOCKS + 1):
        header = whole.database.header_at(number)
        assert header is not None
        assert database.header_at(number) == header
        assert database.has_state(number) == (number == 0 or number >= 17)
        kept = number == 0 or number >= 11
        for read in (database.block, database.receipts):
            if kept:
                read(header.hash)
            else:
                with pytest.raises(NotFound):
                    read(header.hash)
        raws = whole.block(number).transactions
        assert all((database.location(keccak(r)) is not None) == kept for r in raws)
        assert (database.certificate(header.hash) is not None) == (kept and number > 0)
    assert database.pruning() is None
    with pytest.raises(MissingNode):
        nodes_of(database, 16)


def test_the_chain_goes_on_and_is_pruned_again() -> None:
    chain, whole = made(), made()
    done(chain, PLAN)
    for each in (chain, whole):
        more(each, 8)
    assert chain.database.head() == whole.database.head()
    done(chain, Plan(20, 30))
    exact(chain.database, 30)
    once = made(BLOCKS + 8)
    done(once, Plan(20, 30))
    here, there = (dict(each.database.store.scan(b"")) for each in (chain, once))
    assert here == there


def test_a_dry_run_counts_and_changes_nothing() -> None:
    chain = made()
    before = dict(chain.database.store.scan(b""))
    counted = done(chain, PLAN, dry=True)
    assert dict(chain.database.store.scan(b"")) == before
    assert done(chain, PLAN) == counted


@pytest.mark.parametrize("plan", [Plan(0, 5), Plan(5, 3), Plan(5, 99), Plan(30, 31)])
def test_what_is_not_here_cannot_be_kept(plan: Plan) -> None:
    chain = made(9)
    done(chain, Plan(3, 4))
    with pytest.raises(StoreError, match="cannot keep"):
        done(chain, plan)


def test_plans_never_go_back() -> None:
    database = made(20).database
    assert Plan.of(database, 100, 100) == Plan(1, 0)
    assert Plan.of(database, 15, 4) == Plan(6, 17)
    assert Plan.of(database, 4, 15) == Plan(17, 16)
    prune_all(database, Plan(6, 17))
    assert Plan.of(database, 100, 100) == Plan(6, 17)


def test_a_chain_says_how_many_blocks_it_needs() -> None:
    assert window(SPEC) == SPEC.parameters["unbonding_blocks"] == 1_200
    assert blocks_to_keep(SPEC, 0) == 1_200
    assert blocks_to_keep(SPEC, 5_000) == 5_000
    with pytest.raises(ConfigError, match="reach 1200 blocks back"):
        blocks_to_keep(SPEC, 1_199)
    long = SPEC.with_parameters(challenge_window=5_000)
    assert window(long) == 2 * (5_000 + SPEC.parameters["reveal_window"])


def test_what_needs_the_past_says_that_it_is_pruned(tmp_path: Path) -> None:
    chain = made()
    done(chain, PLAN)
    with pytest.raises(SyncError, match="the state before block 17 is pruned"):
        make_snapshot(tmp_path / "snapshot", SPEC, chain.database, 17)
    with pytest.raises(LedgerError, match="blocks 1 to 10 are not here"):
        list(records(chain.database))
    assert read_blocks(chain.database, 10, 4) == ()
    assert [each.height for each in read_blocks(chain.database, 11, 4)] == [
        *range(11, 15)
    ]
    while chain.database.head().number > 17:
        roll_back(chain.database)
    with pytest.raises(LedgerError, match="the state of block 16 is pruned"):
        roll_back(chain.database)
