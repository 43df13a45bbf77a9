"""Connections of an HTTP server, each on its own: Hypercorn speaks, trio accepts.

Hypercorn's own server lets a connection that makes it stumble end the whole program:
an upgrade to HTTP/2 with settings that are none does, and so may others. Here what one
client does ends its connection only. Connections are bounded in number, and who takes
nothing of its answer is not waited for.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

MAX_CONNECTIONS: Final = 512
SEND_SECONDS: Final = 30.0

_log = logging.getLogger("hypercorn.error")


class _Stream:
    """A client's stream, with a bound on how long it may refuse what is sent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self.receive_some = stream.receive_some
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose
        self._stream = stream

    async def send_all(self, data: bytes) -> None:
        """As of any stream; a client that takes nothing is gone."""
        with trio.move_on_after(SEND_SECONDS):
            await self._stream.send_all(data)
            return
        raise trio.BrokenResourceError(f"nothing was taken for {SEND_SECONDS:g} s")


class Connections:
    """The clients of one server."""

    def __init__(self, app: ASGIFramework, settings: Config) -> None:
        """Serve an ASGI application."""
        self._app = ASGIWrapper(app)
        self._settings = settings
        self._context = WorkerContext(None)
        self._open: set[trio.SocketStream] = set()
        self._left = trio.Event()  # set when a client goes

    async def serve(
        self,
        listener: trio.SocketListener,
        stop: Callable[[], Awaitable[None]],
        started: Callable[[], None],
    ) -> None:
        """Accept until `stop` returns, then end what is under way within the grace."""
        async with trio.open_nursery() as clients:
            async with trio.open_nursery() as accepting:
                accept = partial(trio.serve_listeners, handler_nursery=clients)
                accepting.start_soon(accept, self._attend, [listener])
                started()
                await stop()
                accepting.cancel_scope.cancel()
            await self._context.terminated.set()
            clients.start_soon(self._end, clients.cancel_scope)

    async def _end(self, clients: trio.CancelScope) -> None:
        """Hypercorn shields its sending from cancellation; a closed stream ends it."""
        with trio.move_on_after(self._settings.graceful_timeout):
            while self._open:
                await self._left.wait()
        for stream in tuple(self._open):
            await trio.aclose_forcefully(stream)
        clients.cancel()

    async def _attend(self, stream: trio.SocketStream) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        self._open.add(stream)
        try:
            await TCPServer(
                self._app,
                self._settings,
                self._context,
                ConnectionState({}),
                _Stream(stream),  # type: ignore[arg-type]  # it uses these methods only
            )
        except* Exception as errors:  # noqa: BLE001 - no client reaches further
            _log.warning("a client's connection failed: %r", errors.exceptions[0])
        finally:
            self._open.discard(stream)
            self._left.set()
            self._left = trio.Event()
            await trio.aclose_forcefully(stream)
