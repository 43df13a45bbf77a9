"""Switches on virtual time: who connects with whom, who is dropped, who comes back."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from node.p2p.address import PeerAddress, node_id
from node.p2p.dialer import POLL_SECONDS
from node.p2p.errors import HandshakeError, PeerFaultError
from node.p2p.handshake import initiate
from node.p2p.interface import Channel, Peer
from node.p2p.roster import supersedes
from node.p2p.settings import Settings, Timing
from node.p2p.switch import Switch
from tests.node.p2p.world import (
    NETWORK,
    PARTS,
    VOTES,
    Inbox,
    Internet,
    MemoryTransport,
    Recorder,
    address_of,
    connected,
    introduction,
    ip_of,
    make_switch,
    node_key,
    run,
)

FAST = Timing(retry_first=1.0, retry_most=8.0, steady=60.0)


def ids(switch: Switch) -> set[str]:
    return {peer.id for peer in switch.peers()}


def test_five_in_a_ring_find_each_other() -> None:
    async def main() -> None:
        internet = Internet()
        ring = [
            make_switch(internet, n, bootstrap=(address_of((n + 1) % 5),))
            for n in range(5)
        ]
        async with trio.open_nursery() as nursery:
            for switch in ring:
                await nursery.start(switch.run)
            for switch in ring:
                await connected(switch, 4)
            assert {s.counters.p2p_peers for s in ring} == {4}
            nursery.cancel_scope.cancel()
        assert [s.peers() for s in ring] == [[]] * 5

    run(main)


def test_messages_reach_the_reactor_of_their_channel() -> None:
    async def main() -> None:
        internet = Internet()
        votes, parts, other = Recorder((VOTES,)), Recorder((PARTS,)), Recorder()
        a = make_switch(internet, 1, votes, parts)
        b = make_switch(internet, 2, other, persistent=(address_of(1),))
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            await nursery.start(b.run)
            await connected(b, 1)
            peer = other.peers[a.id]
            await peer.send(VOTES.id, b"vote")
            await peer.send(PARTS.id, bytes(PARTS.max_bytes))
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(1)
            assert votes.heard == [(b.id, VOTES.id, b"vote")]
            assert parts.heard == [(b.id, PARTS.id, bytes(PARTS.max_bytes))]
            assert a.counters.p2p_messages_received_total["votes"] == 1
            status = a.peers()[0]
            assert status.software == "test/2"
            assert not status.outbound
            assert status.received > PARTS.max_bytes
            nursery.cancel_scope.cancel()

    run(main)


def test_a_persistent_peer_is_dialled_for_ever_with_growing_waits() -> None:
    async def main() -> None:
        internet = Internet()
        a = make_switch(internet, 1, persistent=(address_of(2),), timing=FAST)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            await trio.sleep(100)
            waits = [
                later[0] - earlier[0]
                for earlier, later in zip(
                    internet.dials, internet.dials[1:], strict=False
                )
            ]
            for wait, nominal in zip(waits, [1, 2, 4, 8, 8, 8], strict=False):
                assert 0.74 * nominal < wait < 1.26 * nominal
            assert len({round(wait, 6) for wait in waits}) == len(waits)  # jitter
            await nursery.start(make_switch(internet, 2).run)
            await connected(a, 1)
            nursery.cancel_scope.cancel()

    run(main)


def test_a_peer_that_comes_back_is_connected_again() -> None:
    async def main() -> None:
        internet = Internet()
        a = make_switch(internet, 1, persistent=(address_of(2),), timing=FAST)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            for _ in range(3):
                async with trio.open_nursery() as life:
                    await life.start(make_switch(internet, 2).run)
                    await connected(a, 1)
                    life.cancel_scope.cancel()
                await connected(a, 0)
            nursery.cancel_scope.cancel()

    run(main)


async def _refuse(_: Peer, inbox: Inbox) -> None:
    async for _channel, payload in inbox:
        raise PeerFaultError(f"{payload!r} is no vote")


def test_a_fault_bans_for_a_time_and_longer_the_next_time() -> None:
    async def main() -> None:
        internet = Internet()
        timing = Timing(ban=100, retry_first=1.0, retry_most=1.0)
        victim = make_switch(internet, 1, Recorder(behaviour=_refuse), timing=timing)
        rogue = Recorder()
        b = make_switch(internet, 2, rogue, persistent=(address_of(1),), timing=timing)
        async with trio.open_nursery() as nursery:
            await nursery.start(victim.run)
            await nursery.start(b.run)
            for ban in (100, 200):
                await connected(victim, 1)
                await rogue.peers[victim.id].send(VOTES.id, b"junk")
                await connected(victim, 0)
                banned = victim.banned_until(b.id) - trio.current_time()
                assert ban - 1 < banned <= ban
                assert victim.score(b.id) == -100
                await trio.sleep(ban / 2)
                assert victim.peers() == []
            assert victim.counters.p2p_faults_total == 2
            assert victim.counters.p2p_refused_total["RefusedError"] > 10
            nursery.cancel_scope.cancel()

    run(main)


def test_an_unconditional_peer_is_dropped_but_never_banned() -> None:
    async def main() -> None:
        internet = Internet()
        friend = frozenset({node_key(2).id})
        reactor = Recorder(behaviour=_refuse)
        victim = make_switch(internet, 1, reactor, unconditional=friend)
        rogue = Recorder()
        b = make_switch(internet, 2, rogue, persistent=(address_of(1),), timing=FAST)
        async with trio.open_nursery() as nursery:
            await nursery.start(victim.run)
            await nursery.start(b.run)
            await connected(victim, 1)
            await rogue.peers[victim.id].send(VOTES.id, b"junk")
            await connected(victim, 0)
            await connected(victim, 1)
            nursery.cancel_scope.cancel()

    run(main)


def test_inbound_places_are_limited_save_for_unconditional_peers() -> None:
    async def main() -> None:
        internet = Internet()
        friend = frozenset({node_key(5).id})
        a = make_switch(internet, 1, max_inbound=2, unconditional=friend)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            for number in (2, 3, 4):
                b = make_switch(internet, number, persistent=(address_of(1),))
                await nursery.start(b.run)
                await trio.sleep(30)
            assert ids(a) == {node_key(n).id.hex() for n in (2, 3)}
            c = make_switch(internet, 5, persistent=(address_of(1),))
            await nursery.start(c.run)
            await connected(a, 3)
            nursery.cancel_scope.cancel()

    run(main)


def test_outbound_places_are_limited() -> None:
    async def main() -> None:
        internet = Internet()
        async with trio.open_nursery() as nursery:
            for number in range(2, 7):
                silent = make_switch(internet, number, max_outbound=0)
                await nursery.start(silent.run)
            bootstrap = tuple(address_of(n) for n in range(2, 7))
            a = make_switch(internet, 1, bootstrap=bootstrap, max_outbound=3)
            await nursery.start(a.run)
            await trio.sleep(20 * POLL_SECONDS)
            assert len(a.peers()) == 3
            assert all(peer.outbound for peer in a.peers())
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_two_that_dial_each_other_keep_one_connection(order: tuple[int, int]) -> None:
    async def main() -> None:
        internet = Internet()
        switches = {
            n: make_switch(internet, n, persistent=(address_of(3 - n),)) for n in order
        }
        async with trio.open_nursery() as nursery:
            for switch in switches.values():
                nursery.start_soon(switch.run)
            await trio.sleep(30)
            a, b = switches[1].peers(), switches[2].peers()
            assert (len(a), len(b)) == (1, 1)
            assert a[0].outbound != b[0].outbound
            assert a[0].seconds > 20
            nursery.cancel_scope.cancel()

    run(main)


def test_both_sides_agree_which_connection_stays() -> None:
    low, high = bytes(20), bytes(19) + b"\1"
    for old_by_low in (True, False):
        for new_by_low in (True, False):
            at_low = supersedes(low, high, old=old_by_low, new=new_by_low)
            at_high = supersedes(high, low, old=not old_by_low, new=not new_by_low)
            assert at_low == at_high == (old_by_low == new_by_low or new_by_low)


def test_a_second_connection_in_the_same_direction_replaces_the_first() -> None:
    async def main() -> None:
        internet = Internet()
        recorder = Recorder()
        a = make_switch(internet, 1, recorder)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            transport = MemoryTransport(internet, ip_of(2))
            first = await transport.dial(ip_of(1), 26_656)
            await initiate(first, introduction(2), a.id)
            await connected(a, 1)
            second = await transport.dial(ip_of(1), 26_656)
            await initiate(second, introduction(2), a.id)
            await trio.sleep(1)
            assert len(a.peers()) == 1
            with pytest.raises(trio.BrokenResourceError):
                await first.send_all(b"x")
            await second.send_all(b"x")
            nursery.cancel_scope.cancel()

    run(main)


def test_a_switch_does_not_dial_itself() -> None:
    async def main() -> None:
        internet = Internet()
        own = address_of(1)
        a = make_switch(internet, 1, bootstrap=(own,), persistent=(own,))
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            await trio.sleep(60)
            assert internet.dials == []
            nursery.cancel_scope.cancel()

    run(main)


def test_an_impostor_at_a_known_address_is_refused() -> None:
    async def main() -> None:
        internet = Internet()
        wrong = PeerAddress(node_id(b"somebody else"), ip_of(2), 26_656)
        a = make_switch(internet, 1, persistent=(wrong,), timing=FAST)
        async with trio.open_nursery() as nursery:
            await nursery.start(make_switch(internet, 2, max_outbound=0).run)
            await nursery.start(a.run)
            await trio.sleep(60)
            assert a.peers() == []
            assert a.counters.p2p_dials_total["failed"] > 5
            nursery.cancel_scope.cancel()

    run(main)


def test_garbage_closes_the_gate_to_its_address_alone() -> None:
    async def main() -> None:
        internet = Internet()
        a = make_switch(internet, 1)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            rogue = MemoryTransport(internet, ip_of(2))
            for _ in range(4):
                stream = await rogue.dial(ip_of(1), 26_656)
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
                await trio.sleep(0.1)
            assert a.counters.p2p_refused_total == {
                "GarbageError": 3,
                "RefusedError": 1,
            }
            b = make_switch(internet, 3, persistent=(address_of(1),))
            await nursery.start(b.run)
            await connected(a, 1)
            nursery.cancel_scope.cancel()

    run(main)


def test_a_silent_stranger_is_shown_out_and_its_place_is_free_again() -> None:
    async def main() -> None:
        internet = Internet()
        a = make_switch(internet, 1, max_handshakes=2)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            for number in (2, 3):
                await MemoryTransport(internet, ip_of(number)).dial(ip_of(1), 26_656)
            b = make_switch(internet, 4, persistent=(address_of(1),), timing=FAST)
            await nursery.start(b.run)
            await trio.sleep(1)
            assert a.peers() == []
            await connected(a, 1)
            assert a.counters.p2p_refused_total["HandshakeError"] == 2
            nursery.cancel_scope.cancel()

    run(main)


def test_a_crowd_of_ids_at_one_address_is_let_in_slowly() -> None:
    async def main() -> None:
        internet = Internet()
        a = make_switch(internet, 1, accepts_per_second=1.0, max_inbound=1_000)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            rogue = MemoryTransport(internet, ip_of(2))
            for number in range(100, 130):
                stream = await rogue.dial(ip_of(1), 26_656)
                with trio.move_on_after(0.01), suppress(HandshakeError):
                    await initiate(stream, introduction(number), a.id)
            assert 10 <= len(a.peers()) <= 11
            nursery.cancel_scope.cancel()

    run(main)


def _same_channel() -> Switch:
    return make_switch(Internet(), 1, Recorder((VOTES,)), Recorder((VOTES,)))


def _too_many_channels() -> Switch:
    many = [Channel(n, f"{n}", 1, 1, 1, 1, 1) for n in range(2, 34)]
    return make_switch(Internet(), 1, Recorder(many))


@pytest.mark.parametrize("make", [_same_channel, _too_many_channels])
def test_a_channel_belongs_to_one_reactor(make: Callable[[], Switch]) -> None:
    with pytest.raises(ValueError, match="distinct channels"):
        make()


def test_a_bug_in_a_reactor_is_not_hidden() -> None:
    async def broken(peer: Peer, _: Inbox) -> None:
        raise ZeroDivisionError(peer.address)

    async def main() -> None:
        internet = Internet()
        a = make_switch(internet, 1, Recorder(behaviour=broken))
        async with trio.open_nursery() as nursery:
            await nursery.start(
                make_switch(internet, 2, persistent=(address_of(1),)).run
            )
            await nursery.start(a.run)
            await trio.sleep(60)

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main)
    assert caught.group_contains(ZeroDivisionError)


def test_a_node_that_only_dials_need_not_listen() -> None:
    async def main() -> None:
        internet = Internet()
        a = make_switch(internet, 1)
        quiet = Switch(
            node_key(2),
            NETWORK,
            Settings(listen=None, persistent=(address_of(1),)),
            [Recorder()],
            surroundings=make_switch(internet, 2)._world,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            assert await nursery.start(quiet.run) is None
            await connected(a, 1)
            assert len(a._book) == 0
            nursery.cancel_scope.cancel()

    run(main)
