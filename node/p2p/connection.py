"""One connected peer: reads, writes, keeps alive, and ends for a reason.

Tasks of a connection, all in one nursery that ends with the first reason to part:

- *read* takes frames, charges them to the channel's rates and hands messages to the
  inbox of the reactor. Over the rate it pauses; with a full inbox it waits. Either way
  nothing more is read, and TCP makes the peer wait.
- *write* drains the outbox.
- *watch* pings a silent peer, and parts when a peer is silent or takes nothing for too
  long. Time in which this side chose not to read does not count as the peer's silence.
- one *attend* for each reactor whose channels the peer knows.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio

from chain.errors import Malformed
from node.p2p.address import PeerAddress
from node.p2p.counters import Counters
from node.p2p.errors import (
    GarbageError,
    P2PError,
    PeerFaultError,
    PeerLostError,
    PeerStalledError,
)
from node.p2p.handshake import Secured
from node.p2p.interface import CONTROL, Channel, Reactor
from node.p2p.limits import Meter
from node.p2p.outbox import Outbox
from node.p2p.packets import Assembler, Packet
from node.p2p.settings import Timing

PING: Final = b"\x01"
PONG: Final = b"\x02"
READ_BURST_SECONDS: Final = 2.0
_CONTROL_CHANNEL: Final = Channel(1, "control", 1, 1.0, 64.0, 4, 1)

_Inbox = trio.MemorySendChannel[tuple[int, bytes]]


class Connection:
    """A peer as its reactors see it (`node.p2p.interface.Peer`)."""

    def __init__(
        self,
        secured: Secured,
        address: PeerAddress,
        reactors: Sequence[Reactor],
        timing: Timing,
        counters: Counters,
        *,
        outbound: bool,
    ) -> None:
        self.id = address.id
        self.address = str(address)
        self.endpoint = address
        self.outbound = outbound
        self.hello = secured.hello
        self.stream = secured.frames
        self.started = now = trio.current_time()
        self.finished = trio.Event()
        self.reason: P2PError | None = None
        self._timing = timing
        self._counters = counters
        self._reactors = [
            r for r in reactors if {c.id for c in r.channels} <= self.hello.channels
        ]
        self._channels = {c.id: c for r in reactors for c in r.channels}
        served = [c for r in self._reactors for c in r.channels]
        self._outbox = Outbox(served, now)
        self._assembler = Assembler(
            {c.id: c.max_bytes for c in self._channels.values()} | {CONTROL: 1}
        )
        metered = {**self._channels, CONTROL: _CONTROL_CHANNEL}
        self._meters = {
            number: Meter(channel, READ_BURST_SECONDS, now)
            for number, channel in metered.items()
        }
        self._inboxes: dict[int, _Inbox] = {}
        self._work = trio.lowlevel.ParkingLot()
        self._room = {channel.id: trio.lowlevel.ParkingLot() for channel in served}
        self._reading_since: float | None = None
        self._writing_since: float | None = None
        self._scope = trio.CancelScope()

    async def send(self, channel: int, payload: bytes) -> None:
        """See `node.p2p.interface.Peer.send`."""
        # Not a full checkpoint: messages that fit the queue leave in one frame.
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.try_send(channel, payload):
            if self.reason is not None:
                raise trio.BrokenResourceError(f"peer {self.address}: {self.reason}")
            await self._room[channel].park()

    def try_send(self, channel: int, payload: bytes) -> bool:
        """See `node.p2p.interface.Peer.try_send`."""
        if self.reason is not None or not self._outbox.has_room(channel):
            return False
        self._outbox.push(channel, payload)
        self._work.unpark()
        return True

    @property
    def pending(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.pending

    def close(self, reason: P2PError) -> None:
        """Part from the peer; the first reason counts."""
        if self.reason is None:
            self.reason = reason
        self._scope.cancel()
        for lot in self._room.values():
            lot.unpark_all()

    async def run(self) -> P2PError:
        """Serve the peer until there is a reason to part; return it."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for reactor in self._reactors:
                        nursery.start_soon(self._until_reason, self._attended(reactor))
                    for task in (self._read, self._write, self._watch):
                        nursery.start_soon(self._until_reason, task)
        finally:
            self.close(PeerLostError("this node hung up"))
            await self.stream.bytes.aclose()
            self.finished.set()
        if self.reason is None:
            raise AssertionError("close() gave a reason")
        return self.reason

    async def _until_reason(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except GarbageError as error:
            # Whoever is on the path can do that; the peer need not be at fault.
            self.close(PeerLostError(str(error)))
        except (PeerFaultError, PeerLostError) as error:
            self.close(error)

    def _attended(self, reactor: Reactor) -> Callable[[], Awaitable[None]]:
        capacity = sum(channel.queue for channel in reactor.channels)
        sender, receiver = trio.open_memory_channel[tuple[int, bytes]](capacity)
        self._inboxes |= {channel.id: sender for channel in reactor.channels}
        return partial(self._attend, reactor, receiver)

    async def _attend(
        self, reactor: Reactor, inbox: trio.MemoryReceiveChannel[tuple[int, bytes]]
    ) -> None:
        async with inbox:
            try:
                await reactor.attend(self, inbox)
            except* (PeerFaultError, Malformed) as faults:
                self.close(PeerFaultError(str(_first(faults))))
            except* trio.BrokenResourceError:
                # `send` after the end; the cancellation is on its way.
                if self.reason is None:
                    raise

    async def _read(self) -> None:
        clock = trio.current_time
        while True:
            self._reading_since = clock()
            frame = await self.stream.receive()
            self._reading_since = None
            for packet in self._assembler.feed(frame):
                if packet.message is not None:
                    await self._deliver(packet.channel, packet.message)
                await self._throttle(packet)

    async def _deliver(self, channel: int, message: bytes) -> None:
        if channel == CONTROL:
            self._control(message)
            return
        name = self._channels[channel].name
        self._counters.p2p_message_receive_bytes_total[name] += len(message)
        self._counters.p2p_messages_received_total[name] += 1
        inbox = self._inboxes.get(channel)
        if inbox is None:
            return  # of a reactor that the peer knows only in part
        try:
            try:
                inbox.send_nowait((channel, message))
            except trio.WouldBlock:
                await inbox.send((channel, message))
        except trio.BrokenResourceError:
            raise PeerFaultError(f"{name}: a message that nobody expects") from None

    async def _throttle(self, packet: Packet) -> None:
        meter = self._meters[packet.channel]
        pause = meter.charge(packet.cost, int(packet.first), trio.current_time())
        if pause:
            channel = self._channels.get(packet.channel, _CONTROL_CHANNEL)
            self._counters.throttled(channel.name, pause)
            await trio.sleep(pause)

    def _control(self, message: bytes) -> None:
        if message == PING:
            self._outbox.push_control(PONG)
            self._work.unpark()
        elif message != PONG:
            raise PeerFaultError(f"unknown control message {message.hex()}")

    async def _write(self) -> None:
        clock = trio.current_time
        while True:
            now = clock()
            frame, done = self._outbox.frame(now)
            if not frame:
                await self._wait_for_work(self._outbox.wait(now))
                continue
            for channel, size in done:
                self._counters.p2p_message_send_bytes_total[channel.name] += size
                self._counters.p2p_messages_sent_total[channel.name] += 1
                self._room[channel.id].unpark_all()
            self._writing_since = now
            await self.stream.send(frame)
            self._writing_since = None

    async def _wait_for_work(self, pause: float | None) -> None:
        if pause is None:
            await self._work.park()
            return
        with trio.move_on_after(pause):
            await self._work.park()

    async def _watch(self) -> None:
        ping, idle = self._timing.ping, self._timing.idle
        pinged = 0.0
        while True:
            await trio.sleep(min(ping, idle) / 2)
            now = trio.current_time()
            if self._writing_since is not None and now - self._writing_since >= idle:
                raise PeerStalledError(f"the peer took nothing for {idle:g} s")
            if self._reading_since is None:
                continue
            silent = now - self._reading_since
            if silent >= idle:
                raise PeerStalledError(f"the peer was silent for {silent:g} s")
            if silent >= ping and now - pinged >= ping:
                pinged = now
                self._outbox.push_control(PING)
                self._work.unpark()


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
