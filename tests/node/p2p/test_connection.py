"""Two connected peers on virtual time: limits, stalls, faults, back-pressure."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from chain.errors import Malformed
from node.p2p.connection import PING, PONG, Connection
from node.p2p.counters import Counters
from node.p2p.errors import (
    P2PError,
    PeerFaultError,
    PeerLostError,
    PeerStalledError,
)
from node.p2p.frames import FrameStream
from node.p2p.handshake import Secured
from node.p2p.interface import Channel, Peer
from node.p2p.packets import HEADER
from node.p2p.settings import Timing
from tests.node.p2p.world import (
    PARTS,
    VOTES,
    Inbox,
    Recorder,
    address_of,
    connections,
    handshakes,
    run,
)

SLOW = Channel(0x20, "slow", 1_000, 10.0, 10_000.0, 4, 1)


def packet(channel: int, data: bytes, left: int = 0) -> bytes:
    return HEADER.pack(channel, left, len(data)) + data


class Ended(list[P2PError]):
    """The reasons for which connections ended."""

    async def watch(self, connection: Connection) -> None:
        self.append(await connection.run())


async def against(
    play: Callable[[FrameStream], Awaitable[None]],
    reactor: Recorder | None = None,
    timing: Timing | None = None,
) -> tuple[P2PError, Connection]:
    """The reason for which a connection with a scripted peer ended."""
    mine, theirs = await handshakes()
    connection = Connection(
        mine,
        address_of(2),
        (reactor or Recorder(),),
        timing or Timing(),
        Counters(),
        outbound=True,
    )
    ended = Ended()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ended.watch, connection)
        await trio.testing.wait_all_tasks_blocked()
        await play(theirs.frames)
        with trio.fail_after(10_000):
            await connection.finished.wait()
    return ended[0], connection


def sends(*frames: bytes) -> Callable[[FrameStream], Awaitable[None]]:
    async def play(frames_out: FrameStream) -> None:
        for frame in frames:
            await frames_out.send(frame)

    return play


async def pair_up(
    left: Recorder, right: Recorder, test: Callable[[Peer, Peer], Awaitable[None]]
) -> None:
    a, b = await connections(left, right)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.run)
        nursery.start_soon(b.run)
        await trio.testing.wait_all_tasks_blocked()
        await test(a, b)
        nursery.cancel_scope.cancel()


def test_messages_of_any_size_cross() -> None:
    left, right = Recorder(), Recorder()

    async def test(a: Peer, b: Peer) -> None:
        sizes = [1, 2, 999, 1_000, 65_512, 65_513, 70_000]
        for size in sizes:
            await a.send(PARTS.id, bytes([size % 251]) * size)
        await b.send(VOTES.id, b"back")
        await trio.sleep(1)
        assert [len(payload) for _, _, payload in right.heard] == sizes
        assert left.heard == [(address_of(2).id, VOTES.id, b"back")]

    run(lambda: pair_up(left, right, test))


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (packet(0x55, b"x"), "channel 85 is not open"),
        (packet(VOTES.id, bytes(1_001)), "1001 bytes was announced, 1000 are"),
        (packet(VOTES.id, b"x", left=(1 << 32) - 1), "announced, 1000 are allowed"),
        (packet(VOTES.id, b"xx", left=3) + packet(VOTES.id, b"x"), "were announced"),
        (packet(0, b"\x07"), "unknown control message 07"),
        (packet(0, b"\x01\x01"), "2 bytes was announced, 1 are allowed"),
        (b"\x20", "header is cut off"),
    ],
)
def test_what_no_correct_node_sends_is_a_fault(frame: bytes, complaint: str) -> None:
    reason, _ = run(lambda: against(sends(frame)))
    assert isinstance(reason, PeerFaultError)
    assert complaint in str(reason)


@pytest.mark.parametrize("size", [0, 16, 40])
def test_bytes_that_do_not_authenticate_end_it_but_blame_nobody(size: int) -> None:
    """Else anyone on the path could get two honest nodes to ban each other."""

    async def play(frames: FrameStream) -> None:
        await frames.bytes.send_message(bytes(size))

    reason, _ = run(lambda: against(play))
    assert isinstance(reason, PeerLostError)
    assert "does not authenticate" in str(reason) or "holds nothing" in str(reason)


def test_a_peer_that_hangs_up_is_no_fault() -> None:
    async def play(frames: FrameStream) -> None:
        await frames.bytes.aclose()

    reason, _ = run(lambda: against(play))
    assert isinstance(reason, PeerLostError)
    assert "closed" in str(reason)


Reaction = Callable[[Exception, Inbox], Awaitable[None]]


async def _raise(error: Exception, inbox: Inbox) -> None:
    async for _ in inbox:
        raise error


async def _raise_in_nursery(error: Exception, inbox: Inbox) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(_raise, error, inbox)


@pytest.mark.parametrize("error", [PeerFaultError("bad vote"), Malformed("bad vote")])
@pytest.mark.parametrize("how", [_raise, _raise_in_nursery])
def test_a_reactor_s_complaint_is_a_fault(error: Exception, how: Reaction) -> None:
    reactor = Recorder(behaviour=lambda _, inbox: how(error, inbox))
    reason, _ = run(lambda: against(sends(packet(VOTES.id, b"x")), reactor))
    assert isinstance(reason, PeerFaultError)
    assert str(reason) == "bad vote"


def test_a_message_after_the_reactor_left_is_a_fault() -> None:
    async def leaves(_: Peer, inbox: Inbox) -> None:
        await inbox.receive()

    one = packet(VOTES.id, b"x")
    reason, _ = run(lambda: against(sends(one, one), Recorder(behaviour=leaves)))
    assert isinstance(reason, PeerFaultError)
    assert "nobody expects" in str(reason)


def test_a_reactor_that_the_peer_knows_in_part_is_not_run() -> None:
    half = Channel(0x70, "unknown to the peer", 10, 1.0, 1.0, 1, 1)
    reactor = Recorder((VOTES, half))

    async def play(frames: FrameStream) -> None:
        await frames.send(packet(VOTES.id, b"x"))
        await trio.testing.wait_all_tasks_blocked()
        assert not reactor.peers
        await frames.bytes.aclose()

    reason, connection = run(lambda: against(play, reactor))
    assert not isinstance(reason, PeerFaultError)
    assert reactor.heard == []
    with pytest.raises(ValueError, match="not open to this peer"):
        connection._outbox.push(VOTES.id, b"x")


def test_a_silent_peer_is_pinged_then_dropped() -> None:
    timing = Timing(ping=10, idle=30)
    pings: list[float] = []

    async def play(frames: FrameStream) -> None:
        start = trio.current_time()
        for _ in range(2):
            assert await frames.receive() == packet(0, PING)
            pings.append(trio.current_time() - start)

    reason, _ = run(lambda: against(play, timing=timing))
    assert isinstance(reason, PeerStalledError)
    assert pings == [10, 20]
    assert "silent for 30 s" in str(reason)


def test_a_pong_keeps_the_connection() -> None:
    async def play(frames: FrameStream) -> None:
        for _ in range(20):
            assert await frames.receive() == packet(0, PING)
            await frames.send(packet(0, PONG))
        await frames.bytes.aclose()

    reason, _ = run(lambda: against(play))
    assert not isinstance(reason, PeerStalledError)


def test_a_ping_is_answered() -> None:
    async def play(frames: FrameStream) -> None:
        await frames.send(packet(0, PING))
        assert await frames.receive() == packet(0, PONG)
        await frames.bytes.aclose()

    run(lambda: against(play))


def test_a_frame_that_trickles_in_counts_as_silence() -> None:
    async def play(frames: FrameStream) -> None:
        await frames.bytes.send(b"\xff\xff")
        for _ in range(29):
            await trio.sleep(1)
            await frames.bytes.send(b"x")

    reason, _ = run(lambda: against(play))
    assert isinstance(reason, PeerStalledError)


def test_a_peer_that_takes_nothing_is_dropped() -> None:
    async def main() -> None:
        mine, theirs = await handshakes()
        left, _right = trio.testing.lockstep_stream_pair()
        mine.frames.bytes._stream = left
        recorder = Recorder()
        connection = Connection(
            Secured(mine.frames, theirs.peer, mine.hello),
            address_of(2),
            (recorder,),
            Timing(),
            Counters(),
            outbound=True,
        )
        ended = Ended()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ended.watch, connection)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BrokenResourceError, match="took nothing"):
                await _send_for_ever(connection)
            assert 30 <= trio.current_time() <= 41
        assert isinstance(ended[0], PeerStalledError)

    run(main)


async def _send_for_ever(peer: Peer) -> None:
    while True:
        await peer.send(VOTES.id, b"x")


def test_a_flood_is_read_at_the_channel_s_rate() -> None:
    reactor = Recorder((SLOW,))

    async def play(frames: FrameStream) -> None:
        for _ in range(10):
            await frames.send(packet(SLOW.id, b"x") * 100)
        await trio.sleep(60)
        # 20 at once, then ten a second.
        assert 600 <= len(reactor.heard) <= 622
        await trio.sleep(60)
        await frames.bytes.aclose()

    reason, connection = run(lambda: against(play, reactor))
    assert not isinstance(reason, PeerFaultError)
    assert len(reactor.heard) == 1_000
    assert connection._counters.p2p_throttled_seconds_total["slow"] > 90


def test_a_reactor_that_does_not_read_stops_the_sender() -> None:
    async def idle(_peer: Peer, _inbox: Inbox) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        a, b = await connections(Recorder(), Recorder(behaviour=idle))
        # Streams that hold nothing themselves.
        pipes = trio.testing.lockstep_stream_pair()
        a.stream.bytes._stream, b.stream.bytes._stream = pipes
        sent = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.run)
            nursery.start_soon(b.run)
            with trio.move_on_after(20):
                while True:
                    await a.send(PARTS.id, bytes(PARTS.max_bytes))
                    sent += 1
            # b's inbox holds 12, a's queue 4; one or two are on the way.
            assert 16 <= sent <= 18
            nursery.cancel_scope.cancel()

    run(main)


def test_a_full_queue_makes_send_wait_and_try_send_refuse() -> None:
    async def main() -> None:
        a, _ = await connections(Recorder(), Recorder())
        while a.try_send(VOTES.id, b"x"):
            pass
        assert a.pending == VOTES.queue
        with trio.move_on_after(5) as scope:
            await a.send(VOTES.id, b"x")
        assert scope.cancelled_caught

    run(main)


def test_a_sender_that_waits_learns_that_the_peer_is_gone() -> None:
    async def main() -> None:
        a, _ = await connections(Recorder(), Recorder())
        while a.try_send(VOTES.id, b"x"):
            pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_broken, a)
            await trio.testing.wait_all_tasks_blocked()
            a.close(PeerLostError("enough"))
        assert not a.try_send(VOTES.id, b"x")
        await _expect_broken(a)

    run(main)


async def _expect_broken(peer: Peer) -> None:
    with pytest.raises(trio.BrokenResourceError, match="enough"):
        await peer.send(VOTES.id, b"x")


@pytest.mark.parametrize("payload", [b"", bytes(1_001)])
def test_a_message_out_of_bounds_is_the_caller_s_bug(payload: bytes) -> None:
    async def main() -> None:
        a, _ = await connections(Recorder(), Recorder())
        with pytest.raises(ValueError, match="expected 1 to 1000 bytes"):
            await a.send(VOTES.id, payload)
        with pytest.raises(ValueError, match="not open"):
            a.try_send(0x99, b"x")

    run(main)


def test_our_own_slowness_is_not_the_peer_s_silence() -> None:
    async def slow(_: Peer, inbox: Inbox) -> None:
        await trio.sleep(1_000)
        async for _message in inbox:
            pass

    async def play(frames: FrameStream) -> None:
        for _ in range(30):
            await frames.send(packet(VOTES.id, b"x"))
        await trio.sleep(1_001)
        await frames.bytes.aclose()

    reason, _ = run(lambda: against(play, Recorder(behaviour=slow)))
    assert not isinstance(reason, PeerStalledError)
