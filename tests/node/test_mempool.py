"""Mempool rules: admission, replacement, bounds, eviction and selection."""

from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

import pytest
from hypothesis import given, strategies as st

from chain.transaction import Transaction
from node.mempool import (
    Account,
    AlreadyKnownError,
    InsufficientFundsError,
    Mempool,
    MempoolError,
    NonceTooHighError,
    NonceTooLowError,
    OversizedError,
    PoolLimits,
    ReplacementUnderpricedError,
    SenderQueueFullError,
    UnderpricedError,
    cost_of,
    tip_at,
)

GWEI = 10**9
ALICE, BOB, CAROL = b"\xaa" * 20, b"\xbb" * 20, b"\xcc" * 20


@dataclass
class Chain:
    """Accounts at the head, as the pool sees them."""

    accounts: dict[bytes, Account] = field(default_factory=dict)

    def __call__(self, address: bytes) -> Account:
        return self.accounts.get(address, Account(nonce=0, balance=10**18))


def make(
    sender: bytes = ALICE,
    nonce: int = 0,
    *,
    fee_cap: int = 2 * GWEI,
    tip_cap: int = GWEI,
    gas: int = 21_000,
    value: int = 0,
    size: int = 100,
) -> Transaction:
    fields = repr((nonce, fee_cap, tip_cap, gas, value)).encode()
    raw = (sender[:1] + fields).ljust(size, b".")
    return Transaction(
        raw=raw,
        hash=sha256(raw).digest(),
        sender=sender,
        nonce=nonce,
        gas=gas,
        max_fee_per_gas=fee_cap,
        max_priority_fee_per_gas=tip_cap,
        value=value,
        type=2,
        chain_id=1,
        to=None,
        data=b"",
        access_list=(),
        authorizations=(),
        y_parity=0,
        r=1,
        s=1,
    )


def pool(chain: Chain | None = None, **limits: int) -> Mempool:
    return Mempool(PoolLimits(**limits), chain or Chain())


def drain(mempool: Mempool, base_fee: int = GWEI) -> list[Transaction]:
    selection, chosen = mempool.select(base_fee), []
    while (best := selection.best()) is not None:
        chosen.append(best)
        selection.accept()
    return chosen


def test_admitted_transaction_is_found_and_selected() -> None:
    mempool, transaction = pool(), make()
    mempool.add(transaction, GWEI)
    assert mempool.get(transaction.hash) == transaction
    assert drain(mempool) == [transaction]
    assert mempool.size == len(transaction.raw)


def test_same_transaction_twice_is_already_known() -> None:
    mempool = pool()
    mempool.add(make(), GWEI)
    with pytest.raises(AlreadyKnownError, match="already known"):
        mempool.add(make(), GWEI)
    assert len(mempool) == 1


def test_used_nonce_is_too_low() -> None:
    mempool = pool(Chain({ALICE: Account(nonce=5, balance=10**18)}))
    with pytest.raises(NonceTooLowError, match="next nonce 5, tx nonce 4"):
        mempool.add(make(nonce=4), GWEI)


def test_distant_nonce_is_too_high() -> None:
    mempool = pool(per_sender=4)
    mempool.add(make(nonce=3), GWEI)
    with pytest.raises(NonceTooHighError, match="tx nonce 4"):
        mempool.add(make(nonce=4), GWEI)


def test_queue_with_spent_nonces_left_in_it_is_still_bounded() -> None:
    chain = Chain()
    mempool = pool(chain, per_sender=2)
    mempool.add(make(nonce=0), GWEI)
    mempool.add(make(nonce=1), GWEI)
    chain.accounts[ALICE] = Account(nonce=1, balance=10**18)
    with pytest.raises(SenderQueueFullError, match="2 transactions wait"):
        mempool.add(make(nonce=2), GWEI)


def test_balance_must_cover_everything_queued() -> None:
    cost = 21_000 * 2 * GWEI
    mempool = pool(Chain({ALICE: Account(nonce=0, balance=2 * cost)}))
    mempool.add(make(nonce=0), GWEI)
    mempool.add(make(nonce=1), GWEI)
    with pytest.raises(
        InsufficientFundsError, match=f"have {2 * cost} want {3 * cost}"
    ):
        mempool.add(make(nonce=2), GWEI)


def test_gas_counts_at_the_fee_cap() -> None:
    mempool = pool(Chain({ALICE: Account(nonce=0, balance=21_000 * 2 * GWEI - 1)}))
    with pytest.raises(InsufficientFundsError):
        mempool.add(make(), GWEI)


def test_replacement_needs_ten_percent_on_both_fees() -> None:
    mempool = pool()
    old = make(fee_cap=2 * GWEI, tip_cap=GWEI)
    mempool.add(old, GWEI)
    for cheap in (
        make(fee_cap=2 * GWEI + GWEI // 5, tip_cap=GWEI),
        make(fee_cap=2 * GWEI, tip_cap=GWEI + GWEI // 10),
        make(fee_cap=2 * GWEI + GWEI // 5 - 1, tip_cap=GWEI + GWEI // 10),
    ):
        with pytest.raises(ReplacementUnderpricedError, match="underpriced"):
            mempool.add(cheap, GWEI)
    better = make(fee_cap=2 * GWEI + GWEI // 5, tip_cap=GWEI + GWEI // 10)
    mempool.add(better, GWEI)
    assert mempool.get(old.hash) is None
    assert drain(mempool) == [better]


def test_tip_below_the_minimum_is_underpriced() -> None:
    with pytest.raises(UnderpricedError, match="minimum needed 5"):
        pool(min_tip=5).add(make(tip_cap=4), GWEI)


def test_transaction_larger_than_the_pool_is_oversized() -> None:
    with pytest.raises(OversizedError, match="limit 99"):
        pool(size=99).add(make(), GWEI)


def test_full_pool_evicts_the_cheapest() -> None:
    mempool = pool(transactions=2)
    cheap, middle = make(ALICE, tip_cap=1), make(BOB, tip_cap=2)
    mempool.add(cheap, GWEI)
    mempool.add(middle, GWEI)
    rich = make(CAROL, tip_cap=3)
    mempool.add(rich, GWEI)
    assert list(mempool.transactions()) == [middle, rich]


def test_full_pool_refuses_what_pays_no_more() -> None:
    mempool = pool(transactions=1)
    mempool.add(make(ALICE, tip_cap=2), GWEI)
    with pytest.raises(UnderpricedError, match="full"):
        mempool.add(make(BOB, tip_cap=2), GWEI)
    assert len(mempool) == 1


def test_eviction_takes_the_last_nonce_so_that_no_queue_gets_a_hole() -> None:
    mempool = pool(transactions=2)
    first, last = make(ALICE, 0, tip_cap=1), make(ALICE, 1, tip_cap=2)
    mempool.add(first, GWEI)
    mempool.add(last, GWEI)
    mempool.add(make(BOB, tip_cap=5), GWEI)
    assert mempool.get(first.hash) is first
    assert mempool.get(last.hash) is None


def test_what_no_block_can_take_makes_room_first() -> None:
    mempool = pool(transactions=2)
    gapped, modest = make(ALICE, 5, tip_cap=GWEI), make(BOB, 0, tip_cap=2)
    mempool.add(gapped, GWEI)
    mempool.add(modest, GWEI)
    mempool.add(make(CAROL, 0, tip_cap=1), GWEI)
    assert mempool.get(gapped.hash) is None
    assert mempool.get(modest.hash) is modest


def test_gapped_newcomer_displaces_no_executable_one() -> None:
    mempool = pool(transactions=1)
    mempool.add(make(ALICE, 0, tip_cap=1), GWEI)
    with pytest.raises(UnderpricedError, match="full"):
        mempool.add(make(BOB, 3, tip_cap=GWEI), GWEI)


def test_bytes_are_bounded_as_well() -> None:
    mempool = pool(size=250)
    mempool.add(make(ALICE, tip_cap=1), GWEI)
    mempool.add(make(BOB, tip_cap=2), GWEI)
    mempool.add(make(CAROL, tip_cap=3), GWEI)
    assert mempool.size == 200
    assert [tx.sender for tx in drain(mempool)] == [CAROL, BOB]


def test_refused_newcomer_evicts_nobody() -> None:
    mempool = pool(size=250)
    mempool.add(make(ALICE, tip_cap=1), GWEI)
    mempool.add(make(BOB, tip_cap=9), GWEI)
    with pytest.raises(UnderpricedError):
        mempool.add(make(CAROL, tip_cap=3, size=250), GWEI)
    assert len(mempool) == 2


def test_selection_is_by_tip_and_keeps_nonce_order() -> None:
    mempool = pool()
    a0, a1 = make(ALICE, 0, tip_cap=1), make(ALICE, 1, tip_cap=900)
    b0 = make(BOB, 0, tip_cap=50)
    for transaction in (a1, b0, a0):
        mempool.add(transaction, GWEI)
    assert drain(mempool) == [b0, a0, a1]


def test_selection_breaks_ties_by_arrival() -> None:
    mempool = pool()
    mempool.add(make(BOB), GWEI)
    mempool.add(make(ALICE), GWEI)
    assert [tx.sender for tx in drain(mempool)] == [BOB, ALICE]


def test_selection_stops_at_a_nonce_gap_and_below_the_base_fee() -> None:
    mempool = pool()
    mempool.add(make(ALICE, 1), GWEI)
    mempool.add(make(BOB, 0, fee_cap=GWEI), GWEI)
    assert drain(mempool, base_fee=GWEI + 1) == []
    assert [tx.sender for tx in drain(mempool)] == [BOB]


def test_skipped_transaction_costs_only_its_sender_its_turn() -> None:
    mempool = pool()
    for transaction in (
        make(ALICE, 0, tip_cap=99),
        make(ALICE, 1),
        make(BOB, 0, tip_cap=9),
    ):
        mempool.add(transaction, GWEI)
    selection = mempool.select(GWEI)
    assert (best := selection.best()) is not None
    assert best.sender == ALICE
    selection.skip()
    assert (best := selection.best()) is not None
    assert best.sender == BOB
    selection.accept()
    assert selection.best() is None


def test_pending_nonce_counts_the_run_without_gaps() -> None:
    mempool = pool(Chain({ALICE: Account(nonce=3, balance=10**18)}))
    for nonce in (3, 4, 6):
        mempool.add(make(nonce=nonce), GWEI)
    assert mempool.pending_nonce(ALICE) == 5
    assert mempool.pending_nonce(BOB) == 0


def test_advance_drops_spent_nonces() -> None:
    chain = Chain()
    mempool = pool(chain)
    for nonce in (0, 1, 2):
        mempool.add(make(nonce=nonce), GWEI)
    chain.accounts[ALICE] = Account(nonce=2, balance=10**18)
    expired = mempool.advance([ALICE, BOB])
    assert [tx.nonce for tx in drain(mempool)] == [2]
    assert sorted(each.transaction.nonce for each in expired) == [0, 1]
    assert all("next nonce 2" in each.reason for each in expired)


def test_a_balance_that_fell_drops_the_last_ones() -> None:
    cost = 21_000 * 2 * GWEI
    chain = Chain({ALICE: Account(nonce=0, balance=3 * cost)})
    mempool = pool(chain)
    for nonce in (0, 1, 2):
        mempool.add(make(nonce=nonce), GWEI)
    chain.accounts[ALICE] = Account(nonce=0, balance=2 * cost - 1)
    assert mempool.advance([BOB]) == ()
    expired = mempool.advance([ALICE])
    assert [each.transaction.nonce for each in expired] == [2, 1]
    assert f"have {2 * cost - 1} want {3 * cost}" in expired[0].reason
    assert [tx.nonce for tx in drain(mempool)] == [0]
    assert mempool.advance([ALICE]) == ()


def test_an_early_newcomer_may_not_take_the_money_of_later_ones() -> None:
    cost = 21_000 * 2 * GWEI
    mempool = pool(Chain({ALICE: Account(nonce=0, balance=2 * cost)}))
    mempool.add(make(nonce=1), GWEI)
    with pytest.raises(InsufficientFundsError):
        mempool.add(make(nonce=0, value=1), GWEI)
    mempool.add(make(nonce=0), GWEI)


def test_a_replacement_gives_back_what_the_replaced_one_costs() -> None:
    cost = 21_000 * 2 * GWEI
    mempool = pool(Chain({ALICE: Account(nonce=0, balance=2 * cost)}))
    mempool.add(make(), GWEI)
    mempool.add(make(fee_cap=4 * GWEI, tip_cap=2 * GWEI), GWEI)
    assert [tx.max_fee_per_gas for tx in drain(mempool)] == [4 * GWEI]


def test_since_tells_what_came_and_still_waits() -> None:
    mempool, calls = pool(), list[int]()
    mempool.listeners.append(lambda: calls.append(len(mempool)))
    assert mempool.since(0) == ([], 0)
    first, second, third = (make(nonce=nonce) for nonce in (0, 1, 2))
    mempool.add(first, GWEI)
    mempool.add(second, GWEI)
    found, seen = mempool.since(0)
    assert found == [first, second]
    assert mempool.since(seen) == ([], seen)
    mempool.add(third, GWEI)
    mempool.discard(first.hash)
    assert mempool.since(0)[0] == [second, third]
    assert mempool.since(seen)[0] == [third]
    assert calls == [1, 2, 3]


def test_discard_of_an_absent_transaction_changes_nothing() -> None:
    mempool = pool()
    mempool.add(make(), GWEI)
    mempool.discard(b"absent")
    assert len(mempool) == 1
    mempool.discard(make().hash)
    assert (len(mempool), mempool.size) == (0, 0)


def cheapest(mempool: Mempool, base_fee: int, sender: bytes) -> list[bytes]:
    """The order of eviction by its definition, without any heap."""
    order: list[bytes] = []
    queues = {
        who: sorted(queue.by_nonce.values(), key=lambda each: each.nonce)
        for who, queue in mempool._queues.items()
        if who != sender
    }
    arrivals = mempool._arrival
    while lasts := [queue[-1] for queue in queues.values() if queue]:
        gaps = {each.hash: mempool._queues[each.sender].gap() for each in lasts}
        lasts.sort(
            key=lambda each: (
                each.nonce < gaps[each.hash],
                tip_at(each, base_fee),
                -arrivals[each.hash],
            )
        )
        order.append(lasts[0].hash)
        queues[lasts[0].sender].pop()
    return order


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ALICE, BOB, CAROL]),
            st.integers(0, 4),
            st.integers(1, 9),
            st.integers(0, 9),
        ),
        max_size=40,
    ),
    st.integers(1, 3),
)
def test_eviction_is_by_rank_whatever_happened_before(
    operations: list[tuple[bytes, int, int, int]], fee: int
) -> None:
    chain = Chain()
    mempool = pool(chain, transactions=7)
    rich = make(b"\xdd" * 20, tip_cap=10**12, fee_cap=10**12)
    for sender, nonce, tip, action in operations:
        if action == 0:
            chain.accounts[sender] = Account(nonce, 10**18)
            mempool.advance([sender])
        elif action == 1:
            mempool.discard(make(sender, nonce, tip_cap=tip).hash)
        else:
            with suppress(MempoolError):
                mempool.add(make(sender, nonce, tip_cap=tip), fee * action)
        for base_fee in (fee, fee * GWEI):
            found = mempool._cheapest_first(rich, base_fee, gapless=True)
            hashes = [each.hash for each in found]
            assert hashes == cheapest(mempool, base_fee, rich.sender)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from([ALICE, BOB, CAROL]),
        st.integers(0, 6),
        st.integers(1, 40),
        st.integers(90, 300),
        st.integers(0, 9),
        st.integers(1, 40),
    ),
    max_size=40,
)


@given(OPERATIONS)
def test_bounds_and_books_hold_after_every_call(
    operations: list[tuple[bytes, int, int, int, int, int]],
) -> None:
    chain = Chain()
    limits = PoolLimits(transactions=6, size=1_000, per_sender=4)
    mempool = Mempool(limits, chain)
    for sender, nonce, tip, size, action, funds in operations:
        if action < 2:
            before = len(mempool)
            chain.accounts[sender] = Account(nonce, funds * 10**13)
            expired = mempool.advance([sender])
            assert len(mempool) == before - len(expired)
        else:
            with suppress(MempoolError):
                mempool.add(make(sender, nonce, tip_cap=tip, size=size), GWEI)
        waiting = list(mempool.transactions())
        assert len(waiting) == len(mempool) <= limits.transactions
        assert sum(len(tx.raw) for tx in waiting) == mempool.size <= limits.size
        assert len({(tx.sender, tx.nonce) for tx in waiting}) == len(waiting)
        chosen = drain(mempool)
        for who in (ALICE, BOB, CAROL):
            nonces = [tx.nonce for tx in chosen if tx.sender == who]
            start = chain(who).nonce
            assert nonces == list(range(start, start + len(nonces)))
            queued = [tx for tx in waiting if tx.sender == who]
            assert sum(map(cost_of, queued)) <= chain(who).balance
