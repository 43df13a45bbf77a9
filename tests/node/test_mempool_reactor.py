"""Gossip of transactions: no echo, offers, bounds, faults; also over sockets."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st

from chain import rlp
from chain.crypto import keccak
from chain.errors import Malformed
from chain.transaction import Transaction, decode as decode_transaction
from node.mempool import Account, Mempool, PoolLimits
from node.mempool_reactor import (
    MEMPOOL,
    BoundedSet,
    GossipLimits,
    Inbox,
    MempoolReactor,
)
from node.p2p.address import PeerAddress
from node.p2p.errors import PeerFaultError
from node.p2p.identity import NodeKey
from node.p2p.interface import Reactor
from node.p2p.settings import Network, Settings, Timing
from node.p2p.switch import Switch
from node.pool_messages import (
    BATCH_BYTES,
    MAX_COUNT,
    MAX_HASHES,
    MAX_MESSAGE_BYTES,
    MAX_REQUEST,
    Message,
    Offer,
    Request,
    Transactions,
    batches,
    decode,
    encode,
)
from tests.node.sync.chains import until
from tests.node.tiny import ALICE, BOB, CHAIN_ID, ETHER, transfer
from tests.support.vectors import Vectors

GWEI = 10**9


def make(
    count: int, secret: bytes = ALICE, *, size: int = 0, first: int = 0
) -> list[Transaction]:
    return [
        decode_transaction(
            transfer(secret, nonce, data=bytes(size), gas=10**6), CHAIN_ID
        )
        for nonce in range(first, first + count)
    ]


class Inline:
    """Recovers at once: a clock that jumps does not wait for threads."""

    async def batch(self, raws: Sequence[bytes]) -> list[Transaction]:
        await trio.lowlevel.checkpoint()
        return [decode_transaction(raw, CHAIN_ID) for raw in raws]


class Pool:
    """A mempool and its reactor."""

    def __init__(
        self, limits: GossipLimits | None = None, *, threads: bool = False
    ) -> None:
        pool_limits = PoolLimits(per_sender=1_000)
        self.mempool = Mempool(pool_limits, lambda _: Account(0, 10**6 * ETHER))
        self.accepting = True
        self.tried: list[bytes] = []
        self.reactor = MempoolReactor(
            self.mempool,
            CHAIN_ID,
            self.admit,
            accepting=lambda: self.accepting,
            limits=limits,
        )
        if not threads:
            self.reactor._recovery = Inline()  # type: ignore[assignment]

    def admit(self, transaction: Transaction) -> None:
        self.tried.append(transaction.hash)
        self.mempool.add(transaction, GWEI)

    def add(self, transactions: Sequence[Transaction]) -> None:
        for each in transactions:
            self.mempool.add(each, GWEI)


class Wire:
    """One direction of a connection, remembering what passed."""

    def __init__(self, name: bytes, queue: int = 64) -> None:
        self.id = name
        self.address = name.decode()
        self.outbound = True
        self.sent: list[Message] = []
        self._sender, self.inbox = trio.open_memory_channel[tuple[int, bytes]](queue)

    async def send(self, channel: int, payload: bytes) -> None:
        assert channel == MEMPOOL.id
        assert 0 < len(payload) <= MEMPOOL.max_bytes
        self.sent.append(decode(payload))
        await self._sender.send((channel, payload))

    def try_send(self, channel: int, payload: bytes) -> bool:
        raise AssertionError((channel, payload))

    def end(self) -> None:
        self._sender.close()

    async def say(self, message: Message) -> None:
        await self._sender.send((MEMPOOL.id, encode(message)))

    def whole(self) -> list[bytes]:
        told = [each for each in self.sent if isinstance(each, Transactions)]
        return [raw for each in told for raw in each.raws]

    def offered(self) -> list[bytes]:
        told = [each for each in self.sent if isinstance(each, Offer)]
        return [digest for each in told for digest in each.hashes]

    def requested(self) -> list[bytes]:
        told = [each for each in self.sent if isinstance(each, Request)]
        return [digest for each in told for digest in each.hashes]


def play(main: Callable[[], Awaitable[None]]) -> None:
    """Run with a clock that jumps when everybody waits."""
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def joined(
    nursery: trio.Nursery, one: Pool, other: Pool, names: bytes = b"ab"
) -> tuple[Wire, Wire]:
    forth, back = Wire(names[1:]), Wire(names[:1])
    nursery.start_soon(one.reactor.attend, forth, back.inbox)
    nursery.start_soon(other.reactor.attend, back, forth.inbox)
    return forth, back


def test_everything_goes_once_and_nothing_comes_back() -> None:
    one, other = Pool(), Pool()
    early, late, yours = make(10), make(20, first=10), make(20, BOB)

    async def main() -> None:
        one.add(early)
        async with trio.open_nursery() as nursery:
            forth, back = joined(nursery, one, other)
            await trio.sleep(1)
            assert forth.offered() == [each.hash for each in early]
            assert back.requested() == forth.offered()
            one.add(late)
            other.add(yours)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert len(one.mempool) == len(other.mempool) == 50
        assert forth.whole() == [each.raw for each in (*early, *late)]
        assert back.whole() == [each.raw for each in yours]
        assert back.offered() == []
        assert len(forth.sent) == 3, "a burst travels together"

    play(main)


def test_three_in_a_ring_hear_everything() -> None:
    pools = [Pool(), Pool(), Pool()]
    news = make(5)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            joined(nursery, pools[0], pools[1], b"ab")
            last = joined(nursery, pools[1], pools[2], b"bc")
            joined(nursery, pools[2], pools[0], b"ca")
            pools[0].add(news)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert [len(each.mempool) for each in pools] == [5, 5, 5]
        assert len(last[0].whole()) + len(last[1].whole()) <= 10
        assert all(len(each.tried) <= 10 for each in pools)

    play(main)


def test_large_ones_are_offered_and_come_on_request() -> None:
    one, other = Pool(), Pool()
    large = make(1, size=5_000)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            forth, back = joined(nursery, one, other)
            await trio.sleep(1)
            one.add(large)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert forth.offered() == [large[0].hash]
        assert back.requested() == [large[0].hash]
        assert forth.whole() == [large[0].raw]
        assert other.mempool.get(large[0].hash) is not None

    play(main)


def test_one_peer_is_asked_at_a_time_and_the_next_when_it_is_late() -> None:
    pool = Pool(GossipLimits(patience=5.0))
    (wanted,) = make(1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inboxes = [Wire(b"pool1"), Wire(b"pool2")]
            peers = [Wire(b"lazy"), Wire(b"good")]
            for peer, inbox in zip(peers, inboxes, strict=True):
                nursery.start_soon(pool.reactor.attend, peer, inbox.inbox)
            await inboxes[0].say(Offer((wanted.hash,)))
            await trio.sleep(1)
            await inboxes[1].say(Offer((wanted.hash,)))
            await trio.sleep(3)
            assert [len(each.requested()) for each in peers] == [1, 0]
            await trio.sleep(7)
            assert [each.requested() for each in peers] == [[wanted.hash]] * 2
            await inboxes[1].say(Transactions((wanted.raw,)))
            await trio.sleep(60)
            assert [len(each.requested()) for each in peers] == [1, 1]
            nursery.cancel_scope.cancel()

    play(main)
    assert len(pool.mempool) == 1


def test_offers_of_what_does_not_exist_are_bounded() -> None:
    pool = Pool(GossipLimits(offered=500, asked=100))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peer, inbox = Wire(b"liar", 1_000), Wire(b"pool")
            nursery.start_soon(pool.reactor.attend, peer, inbox.inbox)
            for page in range(3):
                hashes = [keccak(bytes((page,)) + bytes(i)) for i in range(MAX_HASHES)]
                await inbox.say(Offer(tuple(hashes)))
            await trio.sleep(1)
            assert len(peer.requested()) == 100
            await trio.sleep(100)
            # 500 wait for their turn, besides those that had it between two offers.
            asked = peer.requested()
            assert 500 <= len(asked) <= 700
            assert len(set(asked)) == len(asked)
            nursery.cancel_scope.cancel()

    play(main)
    assert not pool.reactor._asked


def test_requests_are_answered_with_what_is_here() -> None:
    pool = Pool()
    here, absent = make(2)
    pool.add([here])

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peer, inbox = Wire(b"peer"), Wire(b"pool")
            nursery.start_soon(pool.reactor.attend, peer, inbox.inbox)
            await inbox.say(Request((absent.hash, here.hash)))
            await inbox.say(Request((absent.hash,)))
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert peer.whole() == [here.raw]

    play(main)


def test_a_flood_of_requests_is_thrown_away_while_the_peer_takes_no_answers() -> None:
    pool = Pool()
    transactions = make(1)
    pool.add(transactions)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peer, inbox = Wire(b"peer", 0), Wire(b"pool", 0)
            nursery.start_soon(pool.reactor.attend, peer, inbox.inbox)
            for _ in range(1_000):
                await inbox.say(Request((transactions[0].hash,)))
            nursery.cancel_scope.cancel()
        assert len(peer.sent) <= 2

    play(main)


def test_a_refused_one_is_nobodys_fault_and_is_passed_over_for_a_while() -> None:
    pool = Pool(GossipLimits(refusal=10.0))
    (used,) = make(1)
    pool.mempool = Mempool(PoolLimits(), lambda _: Account(5, ETHER))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inboxes = [Wire(b"pool1"), Wire(b"pool2")]
            for inbox in inboxes:
                nursery.start_soon(pool.reactor.attend, Wire(b"p"), inbox.inbox)
                await inbox.say(Transactions((used.raw,)))
                await inbox.say(Offer((used.hash,)))
                await trio.sleep(1)
            assert pool.tried == [used.hash]
            await trio.sleep(10)
            await inboxes[0].say(Transactions((used.raw,)))
            await trio.sleep(1)
            assert pool.tried == [used.hash] * 2
            nursery.cancel_scope.cancel()

    play(main)


def test_a_node_that_is_behind_takes_nothing() -> None:
    pool = Pool()
    pool.accepting = False
    first, second = make(2)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peer, inbox = Wire(b"peer"), Wire(b"pool")
            nursery.start_soon(pool.reactor.attend, peer, inbox.inbox)
            await inbox.say(Transactions((first.raw,)))
            await inbox.say(Offer((second.hash,)))
            await trio.sleep(1)
            assert pool.tried == []
            pool.accepting = True
            await inbox.say(Transactions((first.raw,)))
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert peer.sent == []

    play(main)
    assert pool.tried == [first.hash]


def test_a_peer_that_sends_too_fast_is_not_read_for_a_while() -> None:
    pool = Pool(GossipLimits(recoveries=10.0, burst=20.0))
    transactions = make(60)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inbox = Wire(b"pool")
            nursery.start_soon(pool.reactor.attend, Wire(b"fast"), inbox.inbox)
            for start in range(0, 60, 20):
                raws = tuple(each.raw for each in transactions[start : start + 20])
                await inbox.say(Transactions(raws))
            await trio.sleep(1)
            assert len(pool.mempool) == 40
            await trio.sleep(2)
            assert len(pool.mempool) == 60
            nursery.cancel_scope.cancel()

    play(main)


RAW = transfer(ALICE)
FORGED = RAW[:-32] + bytes(31) + b"\x05"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x01", "the data ends"),
        (b"\x04\xc0", "kind 0x04"),
        (b"\x01\xc0", "about nothing"),
        (b"\x01\x80", "expected a list"),
        (b"\x01" + rlp.encode([[]]), "byte string"),
        (b"\x01" + rlp.encode([b"rubbish"]), "type 0x72"),
        (b"\x01" + rlp.encode([RAW[:-1]]), "type 2"),
        (b"\x01" + rlp.encode([RAW, RAW]), "twice"),
        (b"\x01" + rlp.encode([bytes((i, 0)) for i in range(256)] * 2), "items"),
        (b"\x01" + rlp.encode([bytes(70_000), bytes(70_001)]), "131072 bytes"),
        (b"\x02" + rlp.encode([bytes(31)]), "expected 32"),
        (b"\x03" + rlp.encode([keccak(bytes(i)) for i in range(65)]), "items"),
        (bytes(MAX_MESSAGE_BYTES + 1), "a message of"),
    ],
)
def test_what_means_nothing_is_the_peers_fault(payload: bytes, reason: str) -> None:
    pool = Pool()

    async def main() -> None:
        inbox = Wire(b"pool")
        inbox._sender.send_nowait((MEMPOOL.id, payload))
        with pytest.raises(ExceptionGroup) as caught:
            await pool.reactor.attend(Wire(b"bad"), inbox.inbox)
        faults = caught.value.exceptions
        assert isinstance(faults[0], PeerFaultError | Malformed)
        assert reason in str(faults[0])

    play(main)
    assert pool.tried == []


def test_a_signature_that_names_nobody_is_the_peers_fault() -> None:
    pool = Pool()

    async def main() -> None:
        inbox = Wire(b"pool")
        await inbox.say(Transactions((FORGED, transfer(BOB))))
        with pytest.raises(ExceptionGroup) as caught:
            await pool.reactor.attend(Wire(b"bad"), inbox.inbox)
        assert caught.group_contains(PeerFaultError, match="mempool: ")

    play(main)
    assert pool.tried == []


def test_a_peer_that_goes_ends_its_attendance() -> None:
    pool = Pool()

    async def main() -> None:
        inbox = Wire(b"pool")
        inbox.end()
        with trio.fail_after(1):
            await pool.reactor.attend(Wire(b"peer"), inbox.inbox)

    play(main)


@given(st.lists(st.integers(1, 3_000), max_size=40))
def test_batches_hold_everything_in_order_and_are_bounded(sizes: list[int]) -> None:
    raws = [i.to_bytes(4) + bytes(size * 100) for i, size in enumerate(sizes)]
    found = list(batches(raws))
    assert [raw for batch in found for raw in batch.raws] == raws
    for batch in found:
        assert decode(encode(batch)) == batch
        assert len(batch.raws) <= MAX_COUNT
        assert len(batch.raws) == 1 or sum(map(len, batch.raws)) <= BATCH_BYTES


def test_vectors(vectors: Vectors) -> None:
    rows: dict[str, Message] = {
        "transactions": Transactions((b"\x02one", b"\x02another")),
        "offer": Offer((bytes(32), b"\1" * 32)),
        "request": Request((b"\2" * 32,)),
    }
    found = {name: "0x" + encode(each).hex() for name, each in rows.items()}
    vectors.check("mempool_messages", found)


HASHES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, unique=True)


@given(HASHES, st.sampled_from([Offer, Request]))
def test_hashes_come_back(hashes: list[bytes], kind: type[Offer | Request]) -> None:
    message = kind(tuple(hashes[:MAX_REQUEST]))
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        message = decode(payload)
    except Malformed:
        return
    assert encode(message) == payload


@given(st.lists(st.binary(max_size=1)), st.integers(1, 5))
def test_a_bounded_set_remembers_the_newest(items: list[bytes], most: int) -> None:
    found = BoundedSet(most)
    for item in items:
        found.add(item)
    newest = list(dict.fromkeys(reversed(items)))[:most]
    assert len(found) == len(newest)
    assert all(item in found for item in newest)


# -- over real sockets -----------------------------------------------------------------


def switch(number: int, reactor: Reactor, *others: object) -> Switch:
    return Switch(
        NodeKey(bytes(31) + bytes((number,))),
        Network(CHAIN_ID, bytes(32)),
        Settings(
            listen="127.0.0.1:0",
            persistent=tuple(PeerAddress.parse(str(each)) for each in others),
            accepts_per_second=100,
            timing=Timing(retry_first=0.05),
        ),
        (reactor,),
    )


class Garbage:
    """A reactor that sends a transaction whose signature names nobody."""

    channels = (MEMPOOL,)

    async def attend(self, peer: Wire, inbox: Inbox) -> None:
        await peer.send(MEMPOOL.id, encode(Transactions((FORGED,))))
        async for _ in inbox:
            pass


@pytest.mark.network
def test_over_real_sockets_a_bad_one_is_banned_and_the_others_agree() -> None:
    pools = [Pool(threads=True) for _ in range(3)]
    small, large, late = make(30), make(3, BOB, size=100_000), make(5, first=30)

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                pools[0].add(small)
                hub = switch(1, pools[0].reactor)
                address = await nursery.start(hub.run)
                bad = switch(9, Garbage(), address)  # type: ignore[arg-type]
                await nursery.start(bad.run)
                await until(lambda: hub.counters.p2p_faults_total == 1)
                for number, pool in enumerate(pools[1:], start=2):
                    made = switch(number, pool.reactor, address)
                    await nursery.start(made.run)
                await until(lambda: len(hub.peers()) == 2)
                pools[1].add(large)
                pools[2].add(late)
                await until(lambda: all(len(each.mempool) == 38 for each in pools))
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_what_a_peer_that_went_was_asked_for_is_forgotten() -> None:
    """Else each connection would leave hashes behind that nobody has."""

    async def main() -> None:
        pool = Pool()
        hashes = tuple(number.to_bytes(32) for number in range(1, MAX_REQUEST + 1))
        peer, said = Wire(b"liar"), Wire(b"us")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.reactor.attend, peer, said.inbox)
            await said.say(Offer(hashes))
            await trio.testing.wait_all_tasks_blocked()
            assert set(peer.requested()) == set(hashes)
            said.end()
        assert not pool.reactor._asked

    play(main)
