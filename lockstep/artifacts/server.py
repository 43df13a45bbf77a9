"""Serves a store over HTTP: `GET /<kind>/<root>`, the whole artifact or nothing.

No ranges, no listing, no redirects, no writing. At most `MAX_CONCURRENT` answers are
being sent, the others wait for their turn; request heads are bounded by Hypercorn.
An answer always carries its length, so that the other side can refuse before reading.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from lockstep.artifacts.kinds import Kind
from lockstep.artifacts.store import Store
from lockstep.errors import ConfigurationError
from lockstep.journal import write_durably
from node.rpc.connections import Connections

__all__ = ["MAX_CONCURRENT", "Server", "application", "resumed"]

MAX_CONCURRENT = 64
_START_SECONDS = 30


def application(store: Store) -> Starlette:
    """The ASGI application over one store."""
    turns = trio.CapacityLimiter(MAX_CONCURRENT)

    async def artifact(request: Request) -> Response:
        address = _address(request.path_params["kind"], request.path_params["root"])
        if address is None:
            return PlainTextResponse("no such kind of artifact, or no root\n", 404)
        size = await trio.to_thread.run_sync(store.size, *address)
        if size is None:
            return PlainTextResponse("this root is not served here\n", 404)
        headers = {"Content-Length": str(size), "X-Content-Type-Options": "nosniff"}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="application/octet-stream")
        return _InTurn(
            turns,
            store.chunks(*address),
            headers=headers,
            media_type="application/octet-stream",
        )

    route = Route("/{kind}/{root}", artifact, methods=["GET", "HEAD"])
    return Starlette(routes=[route])


class _InTurn(StreamingResponse):
    """An answer that waits for its turn, and gives it back however it ends."""

    def __init__(
        self,
        turns: trio.CapacityLimiter,
        chunks: Iterator[bytes],
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        super().__init__(chunks, headers=headers, media_type=media_type)
        self._turns = turns

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turns:
            await super().__call__(scope, receive, send)


class Server:
    """A store's server in a thread of its own."""

    def __init__(self, store: Store, bind: str, public_url: str | None = None) -> None:
        """Bind the socket, so that `url` is known before anything runs.

        Args:
            store: what to serve.
            bind: `host:port`; port 0 takes a free one.
            public_url: what others are told, if it differs from `http://<bind>`.

        Raises:
            ConfigurationError: the address is malformed or taken.
        """
        self._socket = _listening(bind)
        host, port = self._socket.getsockname()[:2]
        self.bound = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.url = (public_url or f"http://{self.bound}").rstrip("/")
        # Starlette and Hypercorn describe the same ASGI callable in other types.
        self._application = cast(ASGIFramework, application(store))
        self._ready = threading.Event()
        self._stop: Callable[[], None] | None = None
        self._thread = threading.Thread(
            target=self._run, name="artifact server", daemon=True
        )

    def start(self) -> None:
        """Serve from now on.

        Raises:
            ConfigurationError: the server did not come up.
        """
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise ConfigurationError(
                f"the artifact server did not start within {_START_SECONDS} s"
            )

    def close(self) -> None:
        """Stop serving; answers in progress get half a second."""
        if self._stop is not None:
            self._stop()
            self._thread.join()

    def _run(self) -> None:
        trio.run(self._serve)

    async def _serve(self) -> None:
        stopped = trio.Event()
        token = trio.lowlevel.current_trio_token()
        self._stop = partial(token.run_sync_soon, stopped.set)
        config = Config()
        config.errorlog = logging.getLogger("lockstep.artifacts")
        config.include_server_header = False
        config.graceful_timeout = 0.5
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        connections = Connections(self._application, config)
        await connections.serve(listener, stopped.wait, self._ready.set)


def resumed(store: Store, bind: str, public_url: str | None, note: Path) -> Server:
    """A server at the address of the last run, if any free port would do.

    The URL stands on the chain for as long as a job lasts, so a process that is started
    again must be found where the last one was.

    Args:
        store: what to serve.
        bind: `host:port`; with port 0, the noted address is taken if there is one.
        public_url: see `Server`.
        note: file with the address.

    Raises:
        ConfigurationError: the address is malformed or taken.
    """
    if bind.endswith(":0") and note.exists():
        bind = note.read_text("utf-8").strip()
    server = Server(store, bind, public_url)
    write_durably(note, server.bound.encode())
    return server


def _address(kind: str, root: str) -> tuple[Kind, bytes] | None:
    if kind not in {*Kind} or len(root) != 64 or root != root.lower():
        return None
    try:
        return Kind(kind), bytes.fromhex(root)
    except ValueError:
        return None


def _listening(bind: str) -> socket.socket:
    parts = urlsplit(f"//{bind}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise ConfigurationError(
            f"cannot serve artifacts at {bind!r}: expected host:port, such as "
            "127.0.0.1:9000, or port 0 for a free one"
        )
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve artifacts at {bind}: {error.strerror}; choose another port"
        ) from error
