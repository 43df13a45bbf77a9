"""How connections come about: TCP, behind a port that tests fill with memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from node.errors import ListenError
from node.p2p.address import endpoint
from node.p2p.errors import PeerLostError

BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a node accepts connections.

    Attributes:
        listeners: One for each address family.
        host: As it was given.
        port: The one that was taken, if any free one would do.
    """

    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
    host: str
    port: int


class Transport(Protocol):
    """Opens and accepts byte streams."""

    async def listen(self, host: str, port: int) -> Listening:
        """Accept connections.

        Raises:
            ListenError: the address is taken or not of this machine.
        """
        ...

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        """Open a connection.

        Raises:
            PeerLostError: nobody answers.
        """
        ...

    def remote(self, stream: trio.abc.Stream) -> tuple[str, int]:
        """IP address and port of the other side.

        Raises:
            PeerLostError: it is gone already.
        """
        ...


class TCP:
    """The real thing."""

    async def listen(self, host: str, port: int) -> Listening:
        """See `Transport`."""
        try:
            listeners = await trio.open_tcp_listeners(
                port, host=host or None, backlog=BACKLOG
            )
        except OSError as error:
            where = endpoint(host, port)
            raise ListenError(f"cannot listen on {where}: {error}") from error
        taken: int = listeners[0].socket.getsockname()[1]
        return Listening(listeners, host, taken)

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        """See `Transport`."""
        try:
            return await trio.open_tcp_stream(host, port)
        except (OSError, UnicodeError) as error:  # the latter: no name can be so
            raise PeerLostError(f"cannot reach {endpoint(host, port)}: {error}") from (
                error
            )

    def remote(self, stream: trio.abc.Stream) -> tuple[str, int]:
        """See `Transport`."""
        if not isinstance(stream, trio.SocketStream):
            raise TypeError(f"expected a socket, got {stream!r}")
        try:
            name = stream.socket.getpeername()
        except OSError as error:
            raise PeerLostError("the peer is gone already") from error
        host, port = str(name[0]), int(name[1])
        mapped = "::ffff:"
        return host.removeprefix(mapped) if "." in host else host, port
