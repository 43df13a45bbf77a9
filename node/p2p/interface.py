"""What the switch offers to reactors, and what it asks of them.

A *reactor* speaks one part of the protocol (consensus, mempool, sync) on its channels.
For each peer that knows all these channels the switch runs `attend`; the task is
cancelled when the peer goes. Everything is bounded: a slow peer fills its send queue
and `send` waits; a slow reactor fills its inbox and the switch stops reading from that
peer, which then waits in its own `send`. So a reactor must not stop reading its inbox
while it waits in `send`: two peers that do would wait for each other until one is
dropped. It sends from another task, or with `try_send`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

MAX_CHANNELS = 32
CONTROL = 0
EXCHANGE = 1
FIRST_FREE_CHANNEL = 2


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of traffic, with the bounds that both sides keep.

    Attributes:
        id: The byte on the wire; 0 and 1 are the transport's own.
        name: For logs and metrics.
        max_bytes: Of one message; a peer that announces more is at fault.
        messages_per_second: Sustained rate, twice of which a peer may send before it
            is no longer read. This side sends no faster.
        bytes_per_second: As above.
        queue: Messages that may wait to be sent to one peer, and to be read from it.
        priority: Share of the connection, relative to the other channels.
    """

    id: int
    name: str
    max_bytes: int
    messages_per_second: float
    bytes_per_second: float
    queue: int
    priority: int

    def __post_init__(self) -> None:
        """Refuse numbers that no channel can have."""
        if not FIRST_FREE_CHANNEL <= self.id <= 255 and self.id != EXCHANGE:
            raise ValueError(f"{self.name}: channel {self.id} is not of 2..255")
        bounds = (self.max_bytes, self.queue, self.priority)
        if min(bounds) < 1 or self.max_bytes >= 1 << 32:
            raise ValueError(f"{self.name}: a bound is out of range")
        if min(self.messages_per_second, self.bytes_per_second) <= 0:
            raise ValueError(f"{self.name}: a rate is not positive")


class Peer(Protocol):
    """A connected node."""

    @property
    def id(self) -> bytes:
        """20 bytes: the beginning of SHA-256 of its static key."""
        ...

    @property
    def address(self) -> str:
        """`id@host:port` as it is connected; the port of an inbound one is its own."""
        ...

    @property
    def outbound(self) -> bool:
        """Whether this node dialled it."""
        ...

    async def send(self, channel: int, payload: bytes) -> None:
        """Queue a message; wait while the queue is full.

        Raises:
            trio.BrokenResourceError: the peer is gone.
            ValueError: no such channel, or the payload is empty or too large.
        """
        ...

    def try_send(self, channel: int, payload: bytes) -> bool:
        """Queue a message unless the queue is full or the peer gone; tell whether.

        Raises:
            ValueError: no such channel, or the payload is empty or too large.
        """
        ...


class Reactor(Protocol):
    """One part of the protocol."""

    @property
    def channels(self) -> Sequence[Channel]:
        """What it speaks on; constant."""
        ...

    async def attend(
        self, peer: Peer, inbox: trio.MemoryReceiveChannel[tuple[int, bytes]]
    ) -> None:
        """Serve one peer until cancelled; `inbox` yields (channel, payload).

        Returning is allowed; later messages on these channels are then a fault.

        Raises:
            PeerFaultError: the peer broke a rule that every correct node keeps.
            chain.errors.Malformed: as above.
        """
        ...


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What an operator sees of one peer.

    Attributes:
        id: Node id in hex.
        address: `id@host:port`.
        outbound: Whether this node dialled it.
        seconds: Connected for so long.
        received: Bytes, encrypted.
        sent: Bytes, encrypted.
        pending: Bytes that wait to be sent.
        score: From -100 to 100, see `node.p2p.standing`.
        software: What it says it runs.
    """

    id: str
    address: str
    outbound: bool
    seconds: float
    received: int
    sent: int
    pending: int
    score: float
    software: str
