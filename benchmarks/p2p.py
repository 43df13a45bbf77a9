"""Two switches in two processes, against a plain trio TCP stream between two processes.

The plain stream has no encryption, no limits and no channels: a length before each
message, one `send_all` for each. Messages go one way; the clock stops when the
receiver has acknowledged the last.
"""

import logging
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection as Pipe
from typing import Final

import structlog
import trio

from benchmarks.harness import Figure, interleaved
from chain.crypto import sha256
from node.p2p.address import PeerAddress
from node.p2p.identity import NodeKey
from node.p2p.interface import Channel, Peer
from node.p2p.noise import Handshake
from node.p2p.settings import Network, Settings
from node.p2p.switch import Switch

CHANNEL: Final = Channel(0x20, "bench", 1 << 20, 1e9, 1e12, 256, 1)
NETWORK: Final = Network(1, sha256(b"benchmark"))
END: Final = b"E"
ECHO: Final = b"P"
ROUNDS: Final = 5
BULK: Final = (65_536, 1_500)
SMALL: Final = (200, 20_000)
PINGS: Final = 1_000
_CHUNK: Final = 131_072
_PATIENCE: Final = 5

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]


class Meeting:
    """A reactor that hands its peer and inbox to whoever waits."""

    channels = (CHANNEL,)

    def __init__(self) -> None:
        self._met, self.met = trio.open_memory_channel[tuple[Send, Receive]](1)

    async def attend(
        self, peer: Peer, inbox: trio.MemoryReceiveChannel[tuple[int, bytes]]
    ) -> None:
        """Serve until the switch ends."""

        async def receive() -> bytes:
            return (await inbox.receive())[1]

        await self._met.send((partial(peer.send, CHANNEL.id), receive))
        await trio.sleep_forever()


def _plain(stream: trio.abc.Stream) -> tuple[Send, Receive]:
    buffer = bytearray()

    async def send(payload: bytes) -> None:
        await stream.send_all(len(payload).to_bytes(4, "big") + payload)

    async def receive() -> bytes:
        size = 4
        while len(buffer) < size or (
            len(buffer) < (size := 4 + int.from_bytes(buffer[:4], "big"))
        ):
            data = await stream.receive_some(_CHUNK)
            if not data:
                raise trio.EndOfChannel
            buffer.extend(data)
        message = bytes(buffer[4:size])
        del buffer[:size]
        return message

    return send, receive


async def _answer(send: Send, receive: Receive) -> None:
    """The receiver's side of every measurement, until the sender hangs up."""
    with suppress(
        trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError
    ):
        while True:
            payload = await receive()
            if payload[:1] in {END, ECHO}:
                await send(payload)


async def _serve_switch(pipe: Pipe) -> None:
    meeting = Meeting()
    settings = Settings(listen="127.0.0.1:0")
    switch = Switch(NodeKey(sha256(b"there")), NETWORK, settings, [meeting])
    async with trio.open_nursery() as nursery:
        address = await nursery.start(switch.run)
        pipe.send(address.port)
        await _answer(*await meeting.met.receive())
        nursery.cancel_scope.cancel()


async def _serve_plain(pipe: Pipe) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    pipe.send(listeners[0].socket.getsockname()[1])
    async with await listeners[0].accept() as stream:
        await _answer(*_plain(stream))


def _child(plain: bool, pipe: Pipe) -> None:  # noqa: FBT001 - crosses a process
    _be_quiet()
    trio.run(_serve_plain if plain else _serve_switch, pipe)


def _be_quiet() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
    )


@asynccontextmanager
async def _switched(port: int) -> AsyncIterator[tuple[Send, Receive]]:
    meeting = Meeting()
    there = PeerAddress(NodeKey(sha256(b"there")).id, "127.0.0.1", port)
    settings = Settings(listen=None, persistent=(there,))
    switch = Switch(NodeKey(sha256(b"here")), NETWORK, settings, [meeting])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(switch.run)
        yield await meeting.met.receive()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[Send, Receive]]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield _plain(stream)


async def _stream_of(case: tuple[int, int], send: Send, receive: Receive) -> float:
    size, count = case
    payload = bytes(size)
    start = time.perf_counter()
    for _ in range(count):
        await send(payload)
    await send(END)
    await receive()
    return time.perf_counter() - start


async def _round_trips(send: Send, receive: Receive) -> float:
    times: list[float] = []
    for _ in range(PINGS):
        start = time.perf_counter()
        await send(ECHO)
        await receive()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


async def _measure(port: int, plain: bool) -> list[float]:  # noqa: FBT001 - trio.run
    async with (_connected if plain else _switched)(port) as (send, receive):
        await _stream_of((65_536, 100), send, receive)
        return [
            await _stream_of(BULK, send, receive),
            await _stream_of(SMALL, send, receive),
            await _round_trips(send, receive),
        ]


def _round(*, plain: bool) -> list[float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(plain, there), daemon=True)
    child.start()
    try:
        return trio.run(_measure, here.recv(), plain)
    finally:
        child.join(_PATIENCE)
        child.terminate()


def _handshake() -> None:
    sides = [
        Handshake(
            initiator=name == b"a",
            prologue=b"",
            static=sha256(name),
            ephemeral=sha256(name + b"e"),
        )
        for name in (b"a", b"b")
    ]
    for turn in range(3):
        sides[1 - turn % 2].read(sides[turn % 2].write())
    for side in sides:
        side.split()


def figures() -> Iterator[Figure]:
    """Bulk, small messages, latency; medians of rounds that alternate."""
    _be_quiet()
    rounds = [(_round(plain=True), _round(plain=False)) for _ in range(ROUNDS)]
    plain, ours = (
        [statistics.median(column) for column in zip(*side, strict=True)]
        for side in zip(*rounds, strict=True)
    )
    peer = "plain trio TCP, two processes"
    size, count = BULK
    speed = size * count / ours[0] / 1e6
    yield Figure("p2p/bulk_64KiB", speed, "MB/s", peer, plain[0] / ours[0])
    rate = SMALL[1] / ours[1]
    yield Figure("p2p/small_200B", rate, "messages/s", peer, plain[1] / ours[1])
    latency = ours[2] * 1e3
    yield Figure("p2p/round_trip", latency, "ms", peer, ours[2] / plain[2])
    (seconds,) = interleaved(_handshake, repeat=50)
    budget = 1e-3
    yield Figure(
        "p2p/noise_handshake", seconds * 1e3, "ms, both sides", "1 ms", seconds / budget
    )
