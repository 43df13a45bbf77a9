"""A small world of switches: memory streams instead of TCP, a seeded random source."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio
import trio.testing
from typing_extensions import override

from chain.crypto import sha256
from node.p2p.address import PeerAddress
from node.p2p.connection import Connection
from node.p2p.counters import Counters
from node.p2p.errors import PeerLostError
from node.p2p.handshake import Introduction, Secured, initiate, respond
from node.p2p.hello import Hello
from node.p2p.identity import NodeKey
from node.p2p.interface import Channel, Peer, Reactor
from node.p2p.settings import Network, Settings, Timing
from node.p2p.switch import Surroundings, Switch
from node.p2p.transport import Listening

NETWORK = Network(7, sha256(b"genesis"))
VOTES = Channel(0x20, "votes", 1_000, 1_000.0, 1_000_000.0, 8, 10)
PARTS = Channel(0x21, "parts", 70_000, 1_000.0, 10_000_000.0, 4, 1)
Inbox = trio.MemoryReceiveChannel[tuple[int, bytes]]
T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run on virtual time: a sleep takes no time when everybody sleeps."""
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def node_key(number: int) -> NodeKey:
    return NodeKey(sha256(b"node %d" % number))


def introduction(number: int, network: Network = NETWORK) -> Introduction:
    hello = Hello(f"test/{number}", f":{1000 + number}", frozenset({1, 0x20, 0x21}))
    ephemeral = sha256(b"ephemeral %d" % number)
    return Introduction(node_key(number), network, hello, ephemeral)


class _Listener(trio.abc.Listener[trio.abc.Stream]):
    def __init__(self, calls: trio.MemoryReceiveChannel[trio.abc.Stream]) -> None:
        self._calls = calls

    @override
    async def accept(self) -> trio.abc.Stream:
        try:
            return await self._calls.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    @override
    async def aclose(self) -> None:
        await self._calls.aclose()


@dataclass
class Internet:
    """Who listens where, and who cannot be reached."""

    listening: dict[tuple[str, int], trio.MemorySendChannel[trio.abc.Stream]] = field(
        default_factory=dict
    )
    dials: list[tuple[float, str, tuple[str, int]]] = field(default_factory=list)
    remotes: dict[trio.abc.Stream, tuple[str, int]] = field(default_factory=dict)


@dataclass
class MemoryTransport:
    """The transport of the node at one IP address."""

    internet: Internet
    host: str

    async def listen(self, host: str, port: int) -> Listening:
        await trio.lowlevel.checkpoint()
        assert not host
        sender, receiver = trio.open_memory_channel[trio.abc.Stream](16)
        self.internet.listening[self.host, port] = sender
        return Listening([_Listener(receiver)], self.host, port)

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.internet.dials.append((trio.current_time(), self.host, (host, port)))
        here, there = trio.testing.memory_stream_pair()
        self.internet.remotes[here] = (host, port)
        self.internet.remotes[there] = (self.host, 50_000 + len(self.internet.remotes))
        try:
            self.internet.listening[host, port].send_nowait(there)
        except (KeyError, trio.BrokenResourceError, trio.WouldBlock) as error:
            raise PeerLostError(f"nobody at {host}:{port}") from error
        return here

    def remote(self, stream: trio.abc.Stream) -> tuple[str, int]:
        return self.internet.remotes[stream]


class Recorder:
    """A reactor that keeps what it hears and does what a test wants."""

    def __init__(
        self,
        channels: Sequence[Channel] = (VOTES, PARTS),
        behaviour: Callable[[Peer, Inbox], Awaitable[None]] | None = None,
    ) -> None:
        self.channels = channels
        self.heard: list[tuple[bytes, int, bytes]] = []
        self.peers: dict[bytes, Peer] = {}
        self._behaviour = behaviour

    async def attend(self, peer: Peer, inbox: Inbox) -> None:
        self.peers[peer.id] = peer
        try:
            if self._behaviour is not None:
                await self._behaviour(peer, inbox)
                return
            async for channel, payload in inbox:
                self.heard.append((peer.id, channel, payload))
        finally:
            if self.peers.get(peer.id) is peer:
                del self.peers[peer.id]


def ip_of(number: int) -> str:
    """Each node in a network of its own."""
    return f"{100 + number}.1.1.1"


def address_of(number: int) -> PeerAddress:
    return PeerAddress(node_key(number).id, ip_of(number), 26_656)


def make_switch(
    internet: Internet,
    number: int,
    *reactors: Reactor,
    book_file: Path | None = None,
    **settings: object,
) -> Switch:
    rng = random.Random(number)  # noqa: S311 - repeatable
    return Switch(
        node_key(number),
        NETWORK,
        Settings(listen=":26656", software=f"test/{number}", **settings),  # type: ignore[arg-type]
        reactors or (Recorder(),),
        book_file=book_file,
        surroundings=Surroundings(
            transport=MemoryTransport(internet, ip_of(number)),
            rng=rng,
            wall=trio.current_time,
            entropy=rng.randbytes,
        ),
    )


async def connected(switch: Switch, count: int) -> None:
    """Wait on virtual time until a switch has so many peers."""
    with trio.fail_after(600):
        while len(switch.peers()) != count:  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.01)


async def handshakes() -> tuple[Secured, Secured]:
    """Nodes 1 and 2, connected by memory."""
    left, right = trio.testing.memory_stream_pair()
    found: dict[int, Secured] = {}

    async def answer() -> None:
        found[1] = await respond(right, introduction(2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        found[0] = await initiate(left, introduction(1), node_key(2).id)
    return found[0], found[1]


async def connections(
    left: Reactor, right: Reactor, timing: Timing | None = None
) -> tuple[Connection, Connection]:
    """Two ends, not running yet."""
    secured = await handshakes()
    made = [
        Connection(
            side,
            address_of(2 - index),
            (reactor,),
            timing or Timing(),
            Counters(),
            outbound=not index,
        )
        for index, (side, reactor) in enumerate(
            zip(secured, (left, right), strict=True)
        )
    ]
    return made[0], made[1]
