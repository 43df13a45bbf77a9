"""The scheduler of block sync: rules one by one, then whole runs."""

import pytest
from hypothesis import given, strategies as st

from node.p2p.errors import PeerFaultError
from node.sync.assembly import EncodedBlock
from node.sync.scheduler import Ask, Limits, Scheduler

A, B, C = (name * 20 for name in (b"a", b"b", b"c"))
LIMITS = Limits(window=20, batch=4, requests=2, silence=5, patience=20, rest=1)


def block(height: int, size: int = 10) -> EncodedBlock:
    return EncodedBlock(height, bytes(size), b"")


def answer(scheduler: Scheduler, ask: Ask, now: float = 0, size: int = 10) -> None:
    for height in range(ask.first, ask.first + ask.count):
        scheduler.received(ask.peer, block(height, size), now)
    scheduler.ended(ask.peer, ask.first, ask.count, now)


def _reached(scheduler: Scheduler) -> bool:
    return scheduler.reached


def finish(scheduler: Scheduler) -> None:
    """Verify and import everything that can be."""
    for each in scheduler.unverified(1000):
        scheduler.accept(each.height)
    scheduler.advance(scheduler.verified)


def test_ranges_are_spread_over_peers_within_the_window() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 100)
    scheduler.status(B, 1, 100)
    asks = scheduler.plan(0)
    assert asks == [Ask(A, 1, 4), Ask(B, 5, 4), Ask(A, 9, 4), Ask(B, 13, 4)]
    assert scheduler.plan(0) == []
    answer(scheduler, asks[0])
    assert scheduler.plan(0) == [Ask(A, 17, 4)]
    answer(scheduler, asks[1])
    assert scheduler.plan(0) == []  # the window ends at 20
    finish(scheduler)
    assert scheduler.head == 8
    assert scheduler.plan(0) == [Ask(B, 21, 4)]


def test_only_who_has_a_block_is_asked() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 6)
    scheduler.status(B, 9, 12)
    assert scheduler.plan(0) == [Ask(A, 1, 4), Ask(A, 5, 2)]
    scheduler.status(C, 1, 12)
    assert scheduler.plan(0) == [Ask(C, 7, 4), Ask(B, 11, 2)]


def test_with_nothing_to_fetch_nothing_is_asked() -> None:
    scheduler = Scheduler(5, LIMITS)
    assert scheduler.plan(0) == []
    assert not _reached(scheduler)
    scheduler.status(A, 1, 5)
    assert scheduler.plan(0) == []
    assert _reached(scheduler)
    assert scheduler.idle
    scheduler.status(A, 1, 6)  # consensus is about to bring this one
    assert scheduler.plan(0) == []
    scheduler.status(A, 1, 7)
    assert scheduler.plan(0) == [Ask(A, 6, 2)]
    assert not scheduler.idle


def test_a_lag_of_one_block_is_left_to_consensus_for_a_while() -> None:
    scheduler = Scheduler(5, LIMITS)
    scheduler.status(A, 1, 5)
    scheduler.status(A, 1, 6)
    assert scheduler.plan(10) == []
    assert scheduler.plan(14.9) == []
    scheduler.advance(6)  # consensus brought it
    scheduler.status(A, 1, 7)
    assert scheduler.plan(15.1) == []
    assert scheduler.plan(20) == []
    assert scheduler.plan(20.2) == [Ask(A, 7, 1)]
    answer(scheduler, Ask(A, 7, 1))
    finish(scheduler)
    assert scheduler.idle


def test_an_answer_that_should_have_ended_is_a_fault() -> None:
    """Otherwise each request could bring a whole batch of the largest blocks."""
    scheduler = Scheduler(0, Limits(expected=100))
    scheduler.status(A, 1, 50)
    scheduler.plan(0)
    scheduler.received(A, block(1, 99), 0)
    scheduler.received(A, block(2, 1_000), 0)
    with pytest.raises(PeerFaultError, match="1099 bytes goes on with block 3"):
        scheduler.received(A, block(3, 1), 0)


def test_a_late_range_goes_to_another_peer_and_the_slow_one_rests() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 8)
    first, second = scheduler.plan(0)
    scheduler.received(A, block(1), 1)
    assert scheduler.expire(6) == []  # the last sign of life was at 1
    scheduler.status(B, 1, 8)
    assert scheduler.expire(6.1) == []
    assert scheduler.plan(6.1) == [Ask(B, 2, 3), Ask(B, 5, 4)]
    # What comes too late is passed over.
    scheduler.received(A, block(2), 7)
    assert [each.height for each in scheduler.unverified(9)] == [1]
    scheduler.received(A, block(3), 7)
    scheduler.received(A, block(4), 7)
    scheduler.ended(A, first.first, 4, 7)
    answer(scheduler, second, 7)
    answer(scheduler, Ask(B, 2, 3), 7)
    answer(scheduler, Ask(B, 5, 4), 7)
    assert [each.height for each in scheduler.unverified(9)] == [*range(1, 9)]


def test_a_trickle_is_late_too() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 4)
    scheduler.plan(0)
    for height, now in ((1, 4), (2, 8), (3, 12)):
        scheduler.received(A, block(height), now)
        assert scheduler.expire(now) == []
    scheduler.received(A, block(4), 17)
    scheduler.expire(20.1)  # the end never came
    scheduler.status(B, 1, 6)
    assert scheduler.plan(20.1) == [Ask(B, 5, 2)]


def test_a_peer_that_never_answers_is_dropped() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 4)
    scheduler.plan(0)
    assert scheduler.expire(5.1) == []
    assert scheduler.expire(40) == []
    assert scheduler.expire(40.1) == [A]


def test_a_peer_that_is_slow_again_and_again_is_dropped() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 4)
    now, lost = 0.0, list[bytes]()
    for strike in range(4):
        (ask,) = scheduler.plan(now)
        now += 5.1
        lost = scheduler.expire(now)
        answer(scheduler, ask, now)
        if strike < 3:
            assert lost == []
            assert scheduler.plan(now + 0.9 * 2**strike) == []  # it rests
        now += 2**strike
    assert lost == [A]


def test_a_peer_without_the_block_it_told_of() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 1_000_000)
    scheduler.status(B, 1, 2)
    first, second = scheduler.plan(0)
    assert (first, second) == (Ask(A, 1, 4), Ask(A, 5, 4))
    for height in (1, 2):
        scheduler.received(A, block(height), 0)
    scheduler.ended(A, 1, 2, 0)
    scheduler.ended(A, 5, 0, 0)
    finish(scheduler)
    assert scheduler.best == 4
    # It has proved nothing above 2, and does not keep us from joining consensus.
    assert scheduler.reached
    scheduler.gone(A)
    assert scheduler.idle


def test_what_a_lost_peer_was_asked_is_asked_again() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 8)
    scheduler.plan(0)
    scheduler.received(A, block(1), 0)
    scheduler.gone(A)
    scheduler.gone(A)
    scheduler.status(B, 1, 8)
    assert scheduler.plan(0) == [Ask(B, 2, 3), Ask(B, 5, 4)]
    assert [each.height for each in scheduler.unverified(9)] == [1]


def test_a_bad_block_costs_its_sender_everything_unverified() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 12)
    scheduler.status(B, 1, 12)
    one, two, three = scheduler.plan(0)
    assert [each.peer for each in (one, two, three)] == [A, B, A]
    for ask in (one, two, three):
        answer(scheduler, ask)
    scheduler.accept(1)
    assert scheduler.reject(1) is None  # verified ones stay
    assert scheduler.reject(2) == A
    assert scheduler.reject(2) is None
    assert scheduler.peers == 1
    wanted: list[int] = []
    while asks := scheduler.plan(0):
        for ask in asks:
            assert ask.peer == B
            wanted += range(ask.first, ask.first + ask.count)
            answer(scheduler, ask)
    assert wanted == [2, 3, 4, 9, 10, 11, 12]
    finish(scheduler)
    assert scheduler.head == 12


@pytest.mark.parametrize(
    ("first", "served"), [(2, 1), (1, 0), (1, 2)], ids=["other", "fewer", "more"]
)
def test_a_false_end_is_a_fault(first: int, served: int) -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 4)
    scheduler.plan(0)
    scheduler.received(A, block(1), 0)
    with pytest.raises(PeerFaultError, match="expected 1 blocks from 1 on"):
        scheduler.ended(A, first, served, 0)


def test_blocks_that_nobody_asked_for_are_a_fault() -> None:
    scheduler = Scheduler(0, LIMITS)
    with pytest.raises(PeerFaultError, match="nobody asked"):
        scheduler.received(A, block(1), 0)
    scheduler.status(A, 1, 2)
    with pytest.raises(PeerFaultError, match="nobody asked"):
        scheduler.ended(A, 1, 0, 0)
    scheduler.plan(0)
    with pytest.raises(PeerFaultError, match="of which 1 comes next"):
        scheduler.received(A, block(2), 0)
    for height in (1, 2):
        scheduler.received(A, block(height), 0)
    with pytest.raises(PeerFaultError, match="of which 3 comes next"):
        scheduler.received(A, block(3), 0)


def test_the_buffer_bounds_what_is_asked_but_never_the_next_height() -> None:
    limits = Limits(window=100, batch=2, requests=8, buffer=100, expected=40)
    scheduler = Scheduler(0, limits)
    scheduler.status(A, 1, 100)
    asks = scheduler.plan(0)
    assert asks == [Ask(A, 1, 2), Ask(A, 3, 2)]
    scheduler.received(A, block(1, 500), 0)
    scheduler.ended(A, 1, 1, 0)
    assert scheduler.plan(0) == []
    scheduler.accept(1)
    scheduler.advance(1)
    assert scheduler.plan(0) == [Ask(A, 2, 1)]


def test_the_head_may_move_without_us() -> None:
    scheduler = Scheduler(0, LIMITS)
    scheduler.status(A, 1, 8)
    one, two = scheduler.plan(0)
    scheduler.received(A, block(1), 0)
    scheduler.advance(6)
    scheduler.advance(5)
    assert (scheduler.head, scheduler.verified) == (6, 6)
    for height in (2, 3, 4):
        scheduler.received(A, block(height), 0)
    scheduler.ended(A, one.first, 4, 0)
    answer(scheduler, two)
    assert [each.height for each in scheduler.unverified(9)] == [7, 8]
    finish(scheduler)
    assert scheduler.idle


def test_a_batch_that_no_request_can_carry_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 1..64, got 65"):
        Limits(batch=65)


CHAOS = Limits(window=16, batch=4, silence=5, patience=20, rest=1, buffer=400)
CHAOS_STEPS = 60


class Run:
    """Peers answer in part, lie, fall silent, go and come; A is honest throughout."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.top = data.draw(st.integers(1, 60))
        self.scheduler = Scheduler(0, CHAOS)
        self.scheduler.status(A, 1, self.top)
        self.open: list[Ask] = []
        self.now = 0.0
        self.steps = 0

    @property
    def chaos(self) -> bool:
        return self.steps < CHAOS_STEPS

    def lose(self, peer: bytes) -> None:
        self.scheduler.gone(peer)
        self.open = [ask for ask in self.open if ask.peer != peer]

    def step(self) -> None:
        self.steps += 1
        assert self.steps < 5_000
        for ask in self.scheduler.plan(self.now):
            assert 0 < ask.count <= CHAOS.batch
            assert ask.first > self.scheduler.verified
            assert ask.first + ask.count - 1 <= self.scheduler.head + CHAOS.window
            self.open.append(ask)
        actions = ("answer", "answer", "come", "go", "wait")
        action = self.data.draw(st.sampled_from(actions)) if self.chaos else "answer"
        if action == "come":
            peer = self.data.draw(st.sampled_from((B, C)))
            if all(ask.peer != peer for ask in self.open):
                head = self.data.draw(st.integers(0, 2 * self.top))
                self.scheduler.status(peer, 1, head)
        elif action == "go":
            self.lose(self.data.draw(st.sampled_from((B, C))))
        elif action == "wait" or not self.open:
            self.now += self.data.draw(st.floats(0.5, 6)) if self.chaos else 6
            for lost in self.scheduler.expire(self.now):
                if lost != A:
                    self.lose(lost)
        else:
            self.answer()
        self.verify()

    def answer(self) -> None:
        most = len(self.open) - 1
        index = self.data.draw(st.integers(0, most)) if self.chaos else 0
        peer = self.open[index].peer
        ask = next(each for each in self.open if each.peer == peer)
        self.open.remove(ask)
        count = max(0, min(ask.count, self.top - ask.first + 1))
        bad = False
        if peer != A:
            count = self.data.draw(st.integers(0, count))
            bad = self.data.draw(st.booleans())
        for height in range(ask.first, ask.first + count):
            content = EncodedBlock(height, bytes((bad,)), b"")
            self.scheduler.received(peer, content, self.now)
        self.scheduler.ended(peer, ask.first, count, self.now)

    def verify(self) -> None:
        for content in self.scheduler.unverified(5):
            if content.block == b"\1":
                culprit = self.scheduler.reject(content.height)
                assert culprit in (B, C)
                self.lose(culprit)
                break
            self.scheduler.accept(content.height)
        if not self.chaos or self.data.draw(st.booleans()):
            self.scheduler.advance(self.scheduler.verified)


@given(st.data())
def test_everything_is_imported_whatever_peers_do(data: st.DataObject) -> None:
    run = Run(data)
    while run.scheduler.head < run.top - run.scheduler.reached:
        run.step()
    # Once caught up, the last block is left to consensus.
    assert run.scheduler.head in (run.top, run.top - 1)
    assert run.scheduler.unverified(5) == []
