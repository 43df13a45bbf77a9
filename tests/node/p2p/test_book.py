"""The address book, the gate and standings: bounded, fair to sources, durable."""

import json
import random
from pathlib import Path

import pytest
import trio
from hypothesis import given, strategies as st

from chain.crypto import sha256
from node.p2p import book as book_module
from node.p2p.address import PeerAddress
from node.p2p.book import (
    CAPACITY,
    OPERATOR,
    PER_SOURCE,
    TRIED_FAILURES,
    UNTRIED_FAILURES,
    AddressBook,
    Entry,
    network_of,
)
from node.p2p.bookfile import BOOK_FILE, MAX_BYTES, book_content, load_book, save_book
from node.p2p.errors import AddressBookFileError
from node.p2p.gate import MAX_HOSTS, Gate
from node.p2p.standing import MAX_IDS, Standing, Standings
from tests.node.p2p.world import (
    Internet,
    address_of,
    connected,
    make_switch,
    node_key,
    run,
)

OWN = bytes(20)


def rng() -> random.Random:
    return random.Random(1)  # noqa: S311 - repeatable


def address(number: int, host: str | None = None) -> PeerAddress:
    default = f"{11 + number // 60_000}.{number // 256 % 256}.{number % 256}.1"
    return PeerAddress(sha256(b"%d" % number)[:20], host or default, 26_656)


def picked(book: AddressBook, wall: float = 0.0) -> PeerAddress | None:
    return book.pick(lambda _: True, lambda _: 0.0, wall, rng())


def test_one_source_can_not_fill_the_book() -> None:
    book, dice = AddressBook(OWN), rng()
    for number in range(3 * PER_SOURCE):
        source = f"10.1.{number % 256}.{number % 7}"
        assert book.add(address(number), source, dice) == (number < PER_SOURCE)
    assert len(book) == PER_SOURCE
    assert book.add(address(9_999), "10.2.0.1", dice)


def test_a_full_book_evicts_the_crowd_and_keeps_what_was_tried() -> None:
    book, dice = AddressBook(OWN), rng()
    kept = address(0)
    book.add(kept, "10.0.0.1", dice)
    book.reached(kept)
    for number in range(1, CAPACITY):
        assert book.add(address(number), f"10.{number % 9}.0.1", dice)
    for number in range(CAPACITY, CAPACITY + 500):
        assert book.add(address(number), f"20.{number}.0.1", dice)
        assert len(book) == CAPACITY
    assert kept in [entry.address for entry in book.entries()]


def test_a_book_full_of_tried_addresses_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(book_module, "CAPACITY", 3)
    book, dice = AddressBook(OWN), rng()
    for number in range(3):
        book.add(address(number), "10.0.0.1", dice)
        book.reached(address(number))
    assert not book.add(address(3), "10.0.0.1", dice)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.booleans())))
def test_counts_by_source_stay_true(steps: list[tuple[int, int, bool]]) -> None:
    book, dice = AddressBook(OWN), rng()
    for number, source, fail in steps:
        if fail:
            book.failed(address(number), 0.0)
        else:
            book.add(address(number), f"10.{source}.0.1", dice)
        counted = [e.source for e in book.entries()]
        assert {s: counted.count(s) for s in set(counted)} == dict(+book._by_source)


@pytest.mark.parametrize(
    "host",
    ["node.example.org", "0.0.0.0", "::", "224.0.0.1"],  # noqa: S104
)
def test_useless_addresses_are_refused(host: str) -> None:
    assert not AddressBook(OWN).add(address(1, host), "10.0.0.1", rng())


@pytest.mark.parametrize("scope", ["eth0", "\ufffd", "a..b", "\0", "a" * 64])
def test_addresses_of_another_machine_s_links_are_refused(scope: str) -> None:
    """What stands behind the % is no address, and no resolver takes some of it."""
    scoped = address(1, f"fe80::1%{scope}")
    book, dice = AddressBook(OWN), rng()
    assert not book.add(scoped, "10.0.0.1", dice)
    book.introduce(scoped, "10.0.0.1", dice)
    book.restore([Entry(scoped, "10.0.0.0/16")], dice)
    assert len(book) == 0


def test_its_own_id_is_refused() -> None:
    book = AddressBook(address(1).id)
    assert not book.add(address(1), "10.0.0.1", rng())
    book.add_own(address(1))
    assert len(book) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "fe80::1"])
def test_private_addresses_are_for_private_networks(host: str) -> None:
    assert AddressBook(OWN).add(address(1, host), "10.0.0.1", rng())
    public = AddressBook(OWN, public_only=True)
    assert not public.add(address(1, host), "10.0.0.1", rng())
    assert public.add(address(1, "9.9.9.9"), "10.0.0.1", rng())


def test_hearsay_does_not_replace_but_the_node_s_own_word_does() -> None:
    book, dice = AddressBook(OWN), rng()
    true, lie = address(1), address(1, "66.6.6.6")
    book.add(true, "10.0.0.1", dice)
    assert not book.add(lie, "10.9.0.1", dice)
    assert picked(book) == true
    moved = address(1, "77.7.7.7")
    book.introduce(moved, "77.7.7.7", dice)
    assert picked(book) == moved
    book.introduce(address(2), "77.7.7.7", dice)
    assert len(book) == 2


def test_the_operator_s_word_is_not_replaced_and_does_not_go() -> None:
    book = AddressBook(OWN)
    book.add_own(address(1))
    book.introduce(address(1, "77.7.7.7"), "77.7.7.7", rng())
    for _ in range(30):
        book.failed(address(1), 0.0)
    assert picked(book) is None
    assert picked(book, 4_000.0) == address(1)


def test_bootstrap_addresses_are_the_last_resort() -> None:
    book, dice = AddressBook(OWN), rng()
    book.add_own(address(1))
    assert picked(book) == address(1)
    book.add(address(2), "10.0.0.1", dice)
    assert {picked(book) for _ in range(20)} == {address(2)}


def test_failures_put_off_the_next_try_and_then_the_address_goes() -> None:
    for tried, bound in ((False, UNTRIED_FAILURES), (True, TRIED_FAILURES)):
        book, wall = AddressBook(OWN), 0.0
        book.add(address(1), "10.0.0.1", rng())
        if tried:
            book.reached(address(1))
        for failure in range(bound):
            assert picked(book, wall) == address(1)
            book.failed(address(1), wall)
            assert picked(book, wall) is None
            wall += min(5.0 * 2**failure, 3_600)
        assert len(book) == 0


def test_success_forgives_failures() -> None:
    book = AddressBook(OWN)
    book.add(address(1), "10.0.0.1", rng())
    book.failed(address(1), 0.0)
    assert book.sample(9, rng()) == []
    book.served(address(1))
    assert book.sample(9, rng()) == [address(1)]
    assert picked(book) == address(1)


def test_news_of_an_address_that_changed_meanwhile_is_ignored() -> None:
    book = AddressBook(OWN)
    book.add(address(1), "10.0.0.1", rng())
    old = address(1, "66.6.6.6")
    book.reached(old)
    book.served(old)
    for _ in range(9):
        book.failed(old, 0.0)
    assert picked(book) == address(1)


def test_the_better_of_two_is_dialled() -> None:
    book, dice = AddressBook(OWN), rng()
    for number in (1, 2):
        book.add(address(number), "10.0.0.1", dice)
    scores = {address(1).id: -50.0, address(2).id: 3.0}
    for _ in range(20):
        assert book.pick(lambda _: True, scores.__getitem__, 0, dice) == address(2)
    usable = {address(1).id}.__contains__
    assert book.pick(usable, scores.__getitem__, 0, dice) == address(1)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("10.1.2.3", "10.1.0.0/16"),
        ("2001:db8:1::5", "2001:db8::/32"),
        ("127.3.4.5", "loopback"),
        ("::1", "loopback"),
        ("a.example", "a.example"),
    ],
)
def test_networks(host: str, network: str) -> None:
    assert network_of(host) == network


def test_the_book_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / BOOK_FILE
    book, dice = AddressBook(OWN), rng()
    for number in range(5):
        book.add(address(number), f"10.{number}.0.1", dice)
    book.reached(address(1))
    book.failed(address(2), 100.0)
    book.add_own(address(7))
    bans = {address(3).id: Standing(-100.0, 2, 5_000.0)}
    save_book(path, book_content(book, bans))
    assert path.stat().st_mode & 0o777 == 0o600
    entries, restored = load_book(path)
    again = AddressBook(OWN)
    again.restore(entries, dice)
    assert list(again.entries()) == [e for e in book.entries() if e.source != OPERATOR]
    assert restored == bans


def test_a_book_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert load_book(tmp_path / BOOK_FILE) == ([], {})


GOOD = {
    "version": 1,
    "addresses": [
        {
            "address": str(address(1)),
            "source": "10.0.0.0/16",
            "tried": True,
            "failures": 0,
            "not_before": 0,
        }
    ],
    "bans": [{"id": "00" * 20, "until": 1.0, "faults": 1}],
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b" " * (MAX_BYTES + 1),
        json.dumps(GOOD | {"version": 2}).encode(),
        json.dumps(GOOD | {"addresses": [{"address": "nowhere"}]}).encode(),
        json.dumps(GOOD | {"addresses": 5}).encode(),
        json.dumps(GOOD | {"bans": [{"id": "00", "until": 1, "faults": 1}]}).encode(),
    ],
)
def test_a_damaged_book_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / BOOK_FILE
    path.write_text(json.dumps(GOOD))
    entries, bans = load_book(path)
    assert (len(entries), len(bans)) == (1, 1)
    path.write_bytes(content)
    with pytest.raises(AddressBookFileError, match="delete it"):
        load_book(path)


def test_an_unreadable_book_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(AddressBookFileError, match="cannot read"):
        load_book(tmp_path)


def test_a_switch_finds_its_peers_again_without_bootstrap(tmp_path: Path) -> None:
    async def life() -> None:
        internet = Internet()
        a = make_switch(internet, 1, book_file=tmp_path / BOOK_FILE)
        async with trio.open_nursery() as nursery:
            await nursery.start(make_switch(internet, 2, max_outbound=0).run)
            await nursery.start(a.run)
            await connected(a, 1)
            nursery.cancel_scope.cancel()

    book = AddressBook(node_key(1).id)
    book.add(address_of(2), "10.0.0.1", rng())
    save_book(tmp_path / BOOK_FILE, book_content(book, {}))
    run(life)
    (entry,), _ = load_book(tmp_path / BOOK_FILE)
    assert entry.tried
    run(life)


def test_bans_outlive_a_restart_of_the_node() -> None:
    standings = Standings(100, 1_000, frozenset())
    standings.fault(OWN, 50.0)
    again = Standings(100, 1_000, frozenset())
    again.restore(standings.bans(60.0))
    assert again.banned_until(OWN) == 150.0
    assert again.bans(151.0) == {}
    again.fault(OWN, 200.0)
    assert again.banned_until(OWN) == 400.0
    exempt = Standings(100, 1_000, frozenset({OWN}))
    exempt.restore({OWN: Standing(-100.0, 1, 150.0)})
    assert exempt.banned_until(OWN) == 0.0


def test_bans_double_up_to_a_bound() -> None:
    standings = Standings(100, 1_000, frozenset())
    for expected in (100, 200, 400, 800, 1_000, 1_000):
        standings.fault(OWN, 0.0)
        assert standings.banned_until(OWN) == expected
    for _ in range(100):
        standings.fault(OWN, 0.0)
    assert standings.banned_until(OWN) == 1_000


def test_scores_rise_with_time_and_fall_with_stalls() -> None:
    standings = Standings(100, 1_000, frozenset())
    standings.connected(OWN, 120)
    assert standings.score(OWN) == 2
    standings.connected(OWN, 1e6)
    assert standings.score(OWN) == 12
    standings.stalled(OWN)
    assert standings.score(OWN) == 7
    for _ in range(100):
        standings.connected(OWN, 1e6)
    assert standings.score(OWN) == 100
    for _ in range(100):
        standings.stalled(OWN)
    assert standings.score(OWN) == -100
    assert standings.score(b"stranger") == 0


def test_standings_are_bounded_and_forget_the_innocent_first() -> None:
    standings = Standings(100, 1_000, frozenset())
    standings.fault(OWN, 0.0)
    for number in range(MAX_IDS + 10):
        standings.stalled(b"%d" % number)
    assert len(standings._known) == MAX_IDS
    assert standings.banned_until(OWN) == 100
    assert standings.score(b"0") == 0


def test_the_gate_admits_at_its_rate() -> None:
    gate = Gate(1_000, 2.0)
    admitted = [gate.enter("9.9.9.9", 0.0) for _ in range(30)]
    assert admitted == [None] * 20 + ["too many connections"] * 10
    assert gate.enter("8.8.8.8", 0.0) is None
    assert gate.enter("9.9.9.9", 0.5) is None


def test_one_address_holds_at_most_half_of_the_handshakes() -> None:
    gate = Gate(4, 100.0)
    assert [gate.enter("9.9.9.9", 0) for _ in range(3)] == [
        None,
        None,
        "too many handshakes",
    ]
    assert gate.enter("8.8.8.8", 0) is None
    assert gate.enter("7.7.7.7", 0) is None
    assert gate.enter("6.6.6.6", 0) == "too many handshakes"
    gate.leave("9.9.9.9", 0)
    assert gate.enter("6.6.6.6", 0) is None


def test_three_strikes_close_the_gate_longer_each_time() -> None:
    gate = Gate(1_000, 1e6)
    now = 0.0
    for _ in range(3):
        assert gate.enter("9.9.9.9", now) is None
        gate.strike("9.9.9.9", now)
    for ban in (60, 120, 240, 480, 960, 1_920, 3_600):
        assert gate.enter("9.9.9.9", now + ban - 1) == "banned address"
        now += ban
        assert gate.enter("9.9.9.9", now) is None
        gate.strike("9.9.9.9", now)


def test_old_strikes_are_forgiven() -> None:
    gate = Gate(1_000, 1e6)
    for strike in range(9):
        gate.strike("9.9.9.9", strike * 3_601.0)
        assert gate.enter("9.9.9.9", strike * 3_601.0) is None


def test_this_machine_is_never_banned() -> None:
    gate = Gate(1_000, 1e6)
    for _ in range(9):
        gate.strike("127.0.0.1", 0)
    assert gate.enter("127.0.0.1", 0) is None


def test_an_ipv6_site_counts_as_one() -> None:
    gate = Gate(1_000, 1e6)
    for host in range(3):
        gate.strike(f"2001:db8::{host}", 0)
    assert gate.enter("2001:db8::99", 0) == "banned address"
    assert gate.enter("2001:db8:0:1::99", 0) is None


def test_the_gate_remembers_a_bounded_number_and_bans_longest() -> None:
    gate = Gate(10, 1e6)
    for _ in range(3):
        gate.strike("9.9.9.9", 0)
    assert gate.enter("8.8.8.8", 0) is None
    for number in range(MAX_HOSTS + 100):
        gate.strike(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0)
    assert len(gate._hosts) == MAX_HOSTS
    assert gate.enter("9.9.9.9", 0) == "banned address"
    gate.leave("8.8.8.8", 0)
    assert gate._pending == 0
