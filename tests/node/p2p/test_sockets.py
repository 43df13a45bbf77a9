"""Switches over TCP on this machine, with strangers who misbehave."""

import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from node.errors import ListenError
from node.p2p.address import PeerAddress
from node.p2p.errors import PeerLostError
from node.p2p.handshake import Secured, initiate
from node.p2p.identity import load_node_key
from node.p2p.interface import Peer
from node.p2p.packets import HEADER
from node.p2p.settings import Settings, Timing
from node.p2p.switch import Switch
from node.p2p.transport import TCP
from tests.node.p2p.world import (
    NETWORK,
    PARTS,
    VOTES,
    Inbox,
    Recorder,
    introduction,
    node_key,
)

pytestmark = pytest.mark.network
PATIENCE = 30
QUICK = Timing(retry_first=0.05, retry_most=0.2)


class Meeting:
    """A reactor that tells who came, what was heard and who left, as it happens."""

    channels = (VOTES, PARTS)

    def __init__(self) -> None:
        self._came, self.came = trio.open_memory_channel[Peer](100)
        self._left, self.left = trio.open_memory_channel[bytes](100)
        self._heard, self.heard = trio.open_memory_channel[bytes](10_000)

    async def attend(self, peer: Peer, inbox: Inbox) -> None:
        self._came.send_nowait(peer)
        try:
            async for _, payload in inbox:
                self._heard.send_nowait(payload)
        finally:
            self._left.send_nowait(peer.id)


def tcp_switch(number: int, reactor: Meeting | Recorder, **settings: object) -> Switch:
    return Switch(
        node_key(number),
        NETWORK,
        Settings(listen="127.0.0.1:0", **settings),  # type: ignore[arg-type]
        [reactor],
    )


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(PATIENCE):
            await main()

    trio.run(bounded)


@pytest.mark.slow
def test_five_in_a_ring_find_each_other_over_tcp() -> None:
    async def main() -> None:
        meetings = [Meeting() for _ in range(5)]
        async with trio.open_nursery() as nursery:
            bootstrap: tuple[PeerAddress, ...] = ()
            switches: list[Switch] = []
            for number, meeting in enumerate(meetings):
                switch = tcp_switch(number, meeting, bootstrap=bootstrap)
                address = await nursery.start(switch.run)
                bootstrap = (address,)
                switches.append(switch)
            everyone = {switch.id for switch in switches}
            for switch, meeting in zip(switches, meetings, strict=True):
                met: set[bytes] = set()
                while met != everyone - {switch.id}:
                    met.add((await meeting.came.receive()).id)
            nursery.cancel_scope.cancel()

    run(main)


def test_a_killed_peer_is_connected_again_at_once() -> None:
    async def main() -> None:
        here, there = Meeting(), Meeting()
        async with trio.open_nursery() as nursery:
            first = tcp_switch(1, there)
            async with trio.open_nursery() as life:
                address = await life.start(first.run)
                watcher = tcp_switch(2, here, persistent=(address,), timing=QUICK)
                nursery.start_soon(watcher.run)
                await here.came.receive()
                life.cancel_scope.cancel()
            await here.left.receive()
            reborn = Switch(
                node_key(1),
                NETWORK,
                Settings(listen=f"127.0.0.1:{address.port}"),
                [there],
            )
            await nursery.start(reborn.run)
            assert (await here.came.receive()).id == first.id
            nursery.cancel_scope.cancel()

    run(main)


def dial(address: PeerAddress) -> Awaitable[trio.abc.Stream]:
    return TCP().dial(address.host, address.port)


async def _garbage(address: PeerAddress) -> None:
    rng = random.Random(5)  # noqa: S311 - repeatable
    for _ in range(20):
        async with await dial(address) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(rng.randbytes(5_000))
                while await stream.receive_some():
                    pass


async def _stall(address: PeerAddress) -> None:
    async with await dial(address), await dial(address) as stream:
        await initiate(stream, introduction(50), address.id)
        await trio.sleep_forever()


async def _lie(address: PeerAddress) -> None:
    async with await dial(address) as stream:
        secured = await initiate(stream, introduction(51), address.id)
        await secured.frames.send(HEADER.pack(VOTES.id, 1 << 31, 1) + b"x")
        with pytest.raises(PeerLostError):
            await _listen(secured)


async def _listen(secured: Secured) -> None:
    while True:
        await secured.frames.receive()


async def _flood(address: PeerAddress) -> None:
    frame = (HEADER.pack(VOTES.id, 0, 1) + b"x") * 8_000
    async with await dial(address) as stream:
        secured = await initiate(stream, introduction(52), address.id)
        while True:
            await secured.frames.send(frame)


@pytest.mark.parametrize("mischief", [_garbage, _stall, _lie, _flood])
def test_who_misbehaves_disturbs_nobody_else(
    mischief: Callable[[PeerAddress], Awaitable[None]],
) -> None:
    async def main() -> None:
        quiet = Recorder()
        meeting = Meeting()
        async with trio.open_nursery() as nursery:
            victim = tcp_switch(1, quiet)
            address = await nursery.start(victim.run)
            friend = tcp_switch(2, meeting, persistent=(address,))
            nursery.start_soon(friend.run)
            peer = await meeting.came.receive()
            nursery.start_soon(mischief, address)
            for number in range(200):
                await peer.send(VOTES.id, b"%d" % number)
            while len(from_friend := _from(quiet, friend.id)) < 200:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert from_friend == [b"%d" % number for number in range(200)]
            assert friend.peers()[0].seconds > 0
            nursery.cancel_scope.cancel()

    run(main)


def _from(recorder: Recorder, ident: bytes) -> list[bytes]:
    return [payload for who, _, payload in recorder.heard if who == ident]


def test_a_liar_is_banned() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            meeting = Meeting()
            victim = tcp_switch(1, meeting)
            address = await nursery.start(victim.run)
            await _lie(address)
            assert await meeting.left.receive() == node_key(51).id
            async with await dial(address) as stream:
                secured = await initiate(stream, introduction(51), address.id)
                with pytest.raises(PeerLostError):
                    await _listen(secured)
            assert victim.banned_until(node_key(51).id) > 0
            nursery.cancel_scope.cancel()

    run(main)


def test_a_taken_address_is_a_clear_error() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            address = await nursery.start(tcp_switch(1, Meeting()).run)
            second = Switch(
                node_key(2),
                NETWORK,
                Settings(listen=f"127.0.0.1:{address.port}"),
                [Meeting()],
            )
            with pytest.RaisesGroup(
                pytest.RaisesExc(ListenError, match="cannot listen on 127.0.0.1")
            ):
                await second.run()
            nursery.cancel_scope.cancel()

    run(main)


def test_nobody_there_is_a_clear_error() -> None:
    async def main() -> None:
        listening = await TCP().listen("127.0.0.1", 0)
        for listener in listening.listeners:
            await listener.aclose()
        with pytest.raises(PeerLostError, match=r"cannot reach 127\.0\.0\.1"):
            await TCP().dial("127.0.0.1", listening.port)

    run(main)


@pytest.mark.parametrize("host", ["fe80::1%\ufffd", "fe80::1%a..b", "a" * 64])
def test_what_no_resolver_takes_is_nobody_there(host: str) -> None:
    async def main() -> None:
        with pytest.raises(PeerLostError, match="cannot reach"):
            await TCP().dial(host, 1)

    run(main)


def test_the_default_surroundings_serve(tmp_path: Path) -> None:
    """A key from disk, the system's randomness and clock, a book on disk."""

    async def main() -> None:
        meeting = Meeting()
        book = tmp_path / "addresses.json"
        async with trio.open_nursery() as nursery:
            address = await nursery.start(tcp_switch(1, Meeting()).run)
            key = load_node_key(tmp_path, secrets.token_bytes)
            settings = Settings(listen=None, bootstrap=(address,))
            switch = Switch(key, NETWORK, settings, [meeting], book_file=book)
            async with trio.open_nursery() as life:
                await life.start(switch.run)
                await meeting.came.receive()
                life.cancel_scope.cancel()
            assert book.exists()
            nursery.cancel_scope.cancel()

    run(main)
