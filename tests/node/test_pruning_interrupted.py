"""Pruning that is cut short, or goes on beside new blocks: what is kept stays whole."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings, strategies as st
from typing_extensions import override

from chain.database import ChainDatabase
from chain.errors import StoreError
from chain.store import PassThrough, Store
from node.errors import LedgerError
from node.pruning import Plan, prune
from node.upkeep import prune_all
from node.watching import WatchedStore
from tests.node.prunable import BLOCKS, PLAN, done, exact, made, more, nodes_of, storing


class PowerCut(Exception):
    """Nothing more is written."""


class Cut(PassThrough):
    """A store that takes so many writes."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.left = 1_000_000

    @override
    def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        sync: bool = True,
    ) -> None:
        if not self.left:
            raise PowerCut
        self.left -= 1
        self._inner.write(puts, deletes, sync=sync)


def test_a_crash_after_any_write_loses_nothing_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("node.pruning._NODES_AT_ONCE", 8)
    whole = made()
    rows = dict(whole.database.store.scan(b""))
    done(whole, PLAN)
    wanted = dict(whole.database.store.scan(b""))
    for writes in range(1_000):
        store = Store.memory()
        store.write(rows)
        cut = Cut(store)
        cut.left = writes
        database = ChainDatabase(WatchedStore(cut))
        try:
            prune_all(database, PLAN)
        except PowerCut:
            for number in range(17, BLOCKS + 1):
                nodes_of(database, number)
                database.block(database.hash_at(number) or b"")
            again = ChainDatabase(WatchedStore(store))
            prune_all(again, Plan.of(again, BLOCKS - 10, BLOCKS - 16))
            assert dict(store.scan(b"")) == wanted
        else:
            assert dict(store.scan(b"")) == wanted
            break
    assert writes > 15


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=6))
def test_blocks_that_are_committed_meanwhile_are_spared(
    pauses: list[int],
) -> None:
    chain = made()
    steps = prune(chain.database, PLAN)
    for pause in pauses:
        for _ in range(pause):
            next(steps, None)
        more(chain)
    for _ in steps:
        pass
    for number in range(17, BLOCKS + len(pauses) + 1):
        nodes_of(chain.database, number)
    done(chain, Plan(11, 17))
    exact(chain.database, 17)


def test_a_node_that_is_swept_may_come_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every state comes back after two blocks: between any two steps of the sweep."""
    monkeypatch.setattr("node.pruning._NODES_AT_ONCE", 1)
    chain = made()
    for told in prune(chain.database, Plan(BLOCKS, BLOCKS)):
        if told.phase == "sweep" and told.nodes % 8 == 0:
            more(chain)
    for number in range(BLOCKS, chain.database.head().number + 1):
        nodes_of(chain.database, number)


def test_a_state_with_a_hole_is_told_before_anything_goes() -> None:
    chain = made()
    head = chain.database.head()
    chain.database.store.write({}, [b"s" + head.state_root])
    before = dict(chain.database.store.scan(b"s"))
    with pytest.raises(LedgerError, match="is not whole"):
        done(chain, PLAN)
    assert dict(chain.database.store.scan(b"s")) == before


def test_only_one_prunes_and_only_a_watched_store() -> None:
    chain = made(4)
    first = prune(chain.database, Plan(2, 2))
    for told in first:
        if told.phase == "sweep":
            break
    with pytest.raises(StoreError, match="being pruned"):
        done(chain, Plan(2, 2))
    first.close()
    done(chain, Plan(2, 2))
    with pytest.raises(StoreError, match="watched"):
        WatchedStore.of(chain.database).remove_nodes([b"s"])
    with pytest.raises(StoreError, match="nobody watches"):
        prune_all(storing(Store.memory()), Plan(1, 0))
