"""The switch: with whom this node is connected, and why.

A connection becomes a peer when its handshake succeeds, the node is not banned, a place
is free and it is the one connection with that node (`roster`). It stays one until one
side has a reason to part; a provable fault gets the node banned (`standing`), garbage
its address (`gate`).
"""

import random
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
import trio

from node.p2p.address import PeerAddress, parse_endpoint
from node.p2p.book import AddressBook
from node.p2p.bookfile import book_content, load_book, save_book
from node.p2p.connection import Connection
from node.p2p.counters import Counters
from node.p2p.dialer import Dialer
from node.p2p.errors import (
    GarbageError,
    HandshakeError,
    P2PError,
    PeerFaultError,
    PeerLostError,
    PeerStalledError,
    RefusedError,
)
from node.p2p.exchange import Exchange
from node.p2p.gate import Gate
from node.p2p.handshake import Introduction, Secured, initiate, respond
from node.p2p.hello import Hello
from node.p2p.identity import KEY_BYTES, NodeKey
from node.p2p.interface import MAX_CHANNELS, PeerStatus, Reactor
from node.p2p.roster import Roster
from node.p2p.settings import Network, Settings
from node.p2p.standing import Standings
from node.p2p.transport import TCP, Transport

_log = structlog.get_logger("p2p")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the switch takes from the world; tests give their own.

    Attributes:
        transport: Opens and accepts byte streams.
        rng: Spreads waits and picks addresses.
        wall: Seconds since the epoch, for bans and the address book.
        entropy: Unpredictable bytes, for the keys of each handshake.
    """

    transport: Transport = field(default_factory=TCP)
    rng: random.Random = field(default_factory=random.SystemRandom)
    wall: Callable[[], float] = time.time
    entropy: Callable[[int], bytes] = secrets.token_bytes


class Switch:
    """All connections of a node.

    Args:
        key: Who it is.
        network: The chain it is on.
        settings: Limits, addresses, times.
        reactors: Who talks with peers.
        book_file: Where addresses and bans are kept, or None.
        surroundings: Transport, clock, randomness.

    Raises:
        AddressBookFileError: the file is damaged.
        ValueError: two reactors use the same channel, or too many channels.
    """

    def __init__(
        self,
        key: NodeKey,
        network: Network,
        settings: Settings,
        reactors: Sequence[Reactor],
        *,
        book_file: Path | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.id = key.id
        self.counters = Counters()
        self._key = key
        self._network = network
        self._settings = settings
        self._world = surroundings or Surroundings()
        self._book = AddressBook(key.id, settings.public_only)
        timing = settings.timing
        self._standings = Standings(timing.ban, timing.ban_most, settings.unconditional)
        self._book_file = book_file
        if book_file is not None:
            entries, bans = load_book(book_file)
            self._book.restore(entries, self._world.rng)
            self._standings.restore(bans)
        exchange = Exchange(self._book, self._world.rng, timing.exchange)
        self._reactors: list[Reactor] = [*reactors, exchange]
        self._channels = _channels(self._reactors)
        self._gate = Gate(settings.max_handshakes, settings.accepts_per_second)
        self._roster = Roster(
            key.id, settings, self._standings, self.counters, self._world.wall
        )
        self._listen = ""

    async def run(
        self,
        *,
        task_status: trio.TaskStatus[PeerAddress | None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and dial until cancelled; reports the address listened on.

        Raises:
            ListenError: the address is taken or not of this machine.
        """
        world = self._world
        dialer = Dialer(
            self.id, self._settings, self._book, self, world.rng, world.wall
        )
        try:
            async with trio.open_nursery() as nursery:
                address = await self._open(nursery)
                nursery.start_soon(dialer.run)
                nursery.start_soon(self._save_now_and_then)
                task_status.started(address)
        finally:
            if self._book_file is not None:
                _save(self._book_file, self._content())

    def peers(self) -> list[PeerStatus]:
        """The connected peers, longest first."""
        return self._roster.statuses()

    def finished(self, ident: bytes) -> trio.Event | None:
        """See `node.p2p.dialer.Links`."""
        return self._roster.finished(ident)

    def banned_until(self, ident: bytes) -> float:
        """See `node.p2p.dialer.Links`."""
        return self._standings.banned_until(ident)

    def score(self, ident: bytes) -> float:
        """See `node.p2p.dialer.Links`."""
        return self._standings.score(ident)

    async def connect(self, address: PeerAddress) -> float:
        """See `node.p2p.dialer.Links`."""
        timing = self._settings.timing
        began = None
        try:
            stream = await self._dial(address)
            try:
                with _limit(timing.handshake, "handshake"):
                    secured = await initiate(stream, self._introduction(), address.id)
                began = trio.current_time()
                await self._serve(secured, address, outbound=True)
            finally:
                await trio.aclose_forcefully(stream)
        except (HandshakeError, PeerLostError) as error:
            self.counters.p2p_dials_total["failed"] += 1
            _log.info("dialling failed", peer=str(address), reason=str(error))
        return 0.0 if began is None else trio.current_time() - began

    async def _open(self, nursery: trio.Nursery) -> PeerAddress | None:
        listen = self._settings.listen
        if listen is None:
            self._listen = self._settings.advertise
            return None
        place = await self._world.transport.listen(*parse_endpoint(listen))
        self._listen = self._settings.advertise or f":{place.port}"
        nursery.start_soon(
            partial(trio.serve_listeners, self._accept, list(place.listeners))
        )
        return PeerAddress(self.id, place.host, place.port)

    async def _dial(self, address: PeerAddress) -> trio.abc.Stream:
        with _limit(self._settings.timing.dial, "answer"):
            return await self._world.transport.dial(address.host, address.port)

    async def _accept(self, stream: trio.abc.Stream) -> None:
        host = ""
        try:
            host, port = self._world.transport.remote(stream)
            secured = await self._answer(stream, host)
            address = PeerAddress(secured.peer, host, port)
            await self._serve(secured, address, outbound=False)
        except (HandshakeError, PeerLostError) as error:
            self.counters.p2p_refused_total[type(error).__name__] += 1
            _log.debug("connection refused", host=host, reason=str(error))
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.abc.Stream, host: str) -> Secured:
        refusal = self._gate.enter(host, trio.current_time())
        if refusal is not None:
            raise RefusedError(refusal)
        try:
            with _limit(self._settings.timing.handshake, "handshake"):
                return await respond(stream, self._introduction())
        except GarbageError:
            self._gate.strike(host, trio.current_time())
            raise
        finally:
            self._gate.leave(host, trio.current_time())

    def _introduction(self) -> Introduction:
        hello = Hello(self._settings.software, self._listen, self._channels)
        ephemeral = self._world.entropy(KEY_BYTES)
        return Introduction(self._key, self._network, hello, ephemeral)

    async def _serve(
        self, secured: Secured, address: PeerAddress, *, outbound: bool
    ) -> None:
        """Make the connection a peer, until it ends.

        Raises:
            RefusedError: it does not become one.
        """
        await self._roster.make_way(address.id, outbound=outbound)
        peer = Connection(
            secured,
            address,
            self._reactors,
            self._settings.timing,
            self.counters,
            outbound=outbound,
        )
        self._roster.enter(peer)
        self._remember(peer)
        _log.info(
            "peer connected",
            peer=peer.address,
            outbound=outbound,
            software=peer.hello.software,
        )
        try:
            reason = await peer.run()
        finally:
            self._roster.leave(peer)
        self._judge(peer, reason)

    def _remember(self, peer: Connection) -> None:
        rng, seen = self._world.rng, peer.endpoint
        if peer.outbound:
            self.counters.p2p_dials_total["connected"] += 1
            self._book.add(seen, seen.host, rng)
            self._book.reached(seen)
        elif peer.hello.listen:
            host, port = parse_endpoint(peer.hello.listen)
            address = PeerAddress(peer.id, host or seen.host, port)
            self._book.introduce(address, seen.host, rng)

    def _judge(self, peer: Connection, reason: P2PError) -> None:
        seconds = trio.current_time() - peer.started
        if isinstance(reason, PeerFaultError):
            self.counters.p2p_faults_total += 1
            self._standings.fault(peer.id, self._world.wall())
            if not peer.outbound and peer.id not in self._roster.privileged:
                self._gate.strike(peer.endpoint.host, trio.current_time())
            _log.warning("peer banned", peer=peer.address, reason=str(reason))
            return
        if isinstance(reason, PeerStalledError):
            self._standings.stalled(peer.id)
        else:
            self._standings.connected(peer.id, seconds)
        _log.info("peer gone", peer=peer.address, reason=str(reason))

    def _content(self) -> bytes:
        bans = self._standings.bans(self._world.wall())
        return book_content(self._book, bans)

    async def _save_now_and_then(self) -> None:
        if self._book_file is None:
            return
        saved = b""
        while True:
            await trio.sleep(self._settings.timing.save)
            content = self._content()
            if content != saved:
                await trio.to_thread.run_sync(_save, self._book_file, content)
                saved = content


def _channels(reactors: Sequence[Reactor]) -> frozenset[int]:
    ids = [channel.id for reactor in reactors for channel in reactor.channels]
    if len(ids) > MAX_CHANNELS or len(ids) != len(set(ids)):
        raise ValueError(f"expected at most {MAX_CHANNELS} distinct channels: {ids}")
    return frozenset(ids)


@contextmanager
def _limit(seconds: float, what: str) -> Generator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise HandshakeError(f"no {what} within {seconds:g} s") from None


def _save(path: Path, content: bytes) -> None:
    """Write the address book; a full disk costs the book, not the node."""
    try:
        save_book(path, content)
    except OSError as error:
        _log.error("cannot save the address book", path=str(path), reason=str(error))
