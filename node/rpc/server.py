"""HTTP: POST / for JSON-RPC, GET /health, /ready and /metrics; metrics alone, too.

Bodies are bounded before they are read: by their Content-Length when there is one, and
while reading in any case. Cross-origin requests get no CORS header unless origins are
configured. Hypercorn speaks HTTP (`node.rpc.connections`).
"""

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.config import NodeConfig
from node.errors import ListenError
from node.p2p.address import endpoint
from node.rpc.connections import Connections
from node.rpc.dispatch import Dispatcher
from node.rpc.envelope import error_object, write_body
from node.rpc.errors import INVALID_REQUEST, RpcError

Health = Callable[[], tuple[bool, dict[str, object]]]
Ready = Callable[[], tuple[int, dict[str, object]]]
Metrics = Callable[[], tuple[bytes, str]]
_JSON = "application/json"
_KEEP_ALIVE_SECONDS = 30
_GRACE_SECONDS = 2


def application(
    config: NodeConfig,
    dispatcher: Dispatcher,
    health: Health,
    metrics: Metrics,
    *,
    ready: Ready,
) -> Starlette:
    """The ASGI application of a node.

    Args:
        config: Body bound, body time and CORS origins.
        dispatcher: Answers JSON-RPC bodies.
        health: Whether the node works, and details to show.
        metrics: The exposition in Prometheus' text format, and its media type.
        ready: The status of GET /ready (`node.vitals.Readiness`), and details to show.
    """

    async def rpc(request: Request) -> Response:
        try:
            with trio.fail_after(config.rpc_body_seconds):
                body = await _bounded_body(request, config.rpc_max_body)
        except trio.TooSlowError:
            return _refusal(408, "the body took too long to arrive")
        except ClientDisconnect:
            return _refusal(400, "the client went away")
        if body is None:
            return _refusal(413, f"content too large: at most {config.rpc_max_body}")
        answer = await dispatcher.answer(body)
        if not answer:
            return Response(status_code=204)
        return Response(answer, media_type=_JSON)

    async def show_health(_: Request) -> Response:
        healthy, details = health()
        return JSONResponse(details, status_code=200 if healthy else 503)

    async def show_ready(_: Request) -> Response:
        status, details = ready()
        return JSONResponse(details, status_code=status)

    middleware: list[Middleware] = []
    if config.rpc_cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(config.rpc_cors_origins),
                allow_methods=["POST"],
                allow_headers=["content-type"],
            )
        )
    routes = [
        Route("/", rpc, methods=["POST"]),
        Route("/health", show_health, methods=["GET"]),
        Route("/ready", show_ready, methods=["GET"]),
        _metrics_route(metrics),
    ]
    return Starlette(routes=routes, middleware=middleware)


def metrics_application(metrics: Metrics) -> Starlette:
    """The ASGI application of the port for metrics: GET /metrics and nothing else."""
    return Starlette(routes=[_metrics_route(metrics)])


def _metrics_route(metrics: Metrics) -> Route:
    async def show(_: Request) -> Response:
        content, media_type = metrics()
        return Response(content, headers={"content-type": media_type})

    return Route("/metrics", show, methods=["GET"])


async def _bounded_body(request: Request, limit: int) -> bytes | None:
    """The body, or None as soon as it is known to exceed the limit."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            size += len(chunk)
            if size > limit:
                return None
            chunks.append(chunk)
    return b"".join(chunks)


def _refusal(status: int, message: str) -> Response:
    error = RpcError(INVALID_REQUEST, message)
    body = write_body(error_object(None, error))
    return Response(body, status_code=status, media_type=_JSON)


def _bound_socket(host: str, port: int) -> socket.socket:
    """A socket at that address; Hypercorn's own would leak when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port "
            "(0 takes any free one)"
        ) from error
    return bound


async def serve_http(
    app: Starlette,
    config: NodeConfig,
    stop: Callable[[], Awaitable[None]],
    *,
    task_status: "trio.TaskStatus[list[str]]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the RPC until `stop` returns; reports the URLs that it listens on.

    Raises:
        ListenError: the address is taken, or not of this machine.
    """
    await _serve(app, config.rpc_host, config.rpc_port, stop, task_status=task_status)


async def serve_metrics(
    metrics: Metrics,
    config: NodeConfig,
    stop: Callable[[], Awaitable[None]],
    *,
    task_status: "trio.TaskStatus[list[str]]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve metrics on their own port until `stop` returns; nothing when it is 0.

    Raises:
        ListenError: the address is taken, or not of this machine.
    """
    if not config.metrics_port:
        task_status.started([])
        return
    await _serve(
        metrics_application(metrics),
        config.metrics_host,
        config.metrics_port,
        stop,
        task_status=task_status,
    )


async def _serve(
    app: Starlette,
    host: str,
    port: int,
    stop: Callable[[], Awaitable[None]],
    *,
    task_status: "trio.TaskStatus[list[str]]",
) -> None:
    settings = Config()
    settings.alpn_protocols = ["http/1.1"]
    settings.include_server_header = False
    settings.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    settings.graceful_timeout = _GRACE_SECONDS
    settings.accesslog = None
    settings.errorlog = logging.getLogger("hypercorn.error")
    bound = _bound_socket(host, port)
    bound.listen(settings.backlog)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
    url = f"http://{endpoint(host, bound.getsockname()[1])}"
    connections = Connections(
        app,  # type: ignore[arg-type]  # Starlette types scopes as plain mappings
        settings,
    )
    await connections.serve(listener, stop, lambda: task_status.started([url]))
