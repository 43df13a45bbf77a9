"""The signer's side: answers requests about one key on one chain.

One request after the other, whoever asks: signatures are made under one lock, and each
is in the last-sign-state before its answer leaves (`node.signer.LocalSigner`). Two
nodes that ask one signer can't make it contradict itself; the second gets a refusal.

Connections are few and bounded: in number, in the size of a frame, in the time that a
handshake, a request or an answer may take.
"""

import errno
import os
import secrets
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import structlog
import trio
from typing_extensions import override

from consensus.votes import Subject
from node.errors import DoubleSignError, KeyFileError, ListenError
from node.p2p.address import PeerAddress, node_id
from node.p2p.errors import GarbageError, PeerLostError
from node.p2p.frames import ByteStream
from node.p2p.identity import NodeKey
from node.p2p.noise import CipherState
from node.remote.address import NoiseAddress, TcpListen, UnixAddress
from node.remote.messages import (
    VERSION,
    Answer,
    AskReveal,
    AskSignature,
    AskState,
    Hello,
    Made,
    Refusal,
    Refused,
    Request,
    Revealed,
    SignerProtocolError,
    State,
    Welcome,
    decode_request,
    encode_answer,
)
from node.remote.wire import FIRST, LENGTH, THIRD, frame_size, framed, handshake
from node.signer import LocalSigner
from node.signstate import shown

MAX_CONNECTIONS: Final = 8
HANDSHAKE_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 600.0
_BACKLOG: Final = 8

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_Result = TypeVar("_Result")

_log = structlog.get_logger("node.signer")


class SignerServer:
    """Answers for one signer; `serve` is one connection's life."""

    def __init__(self, signer: LocalSigner) -> None:
        """Answer with this signer, which nobody else may use."""
        self._signer = signer
        self._lock = trio.Lock()
        self._connections = 0

    async def answer(self, request: Request) -> Answer:
        """The answer to one request."""
        signer = self._signer
        match request:
            case Hello():
                return self._greet(request)
            case AskState():
                known = signer.last_height is not None
                return State(known, tuple(signer.latest()))
            case AskSignature():
                return await self._sign(request.subject)
            case AskReveal():
                reveal = await self._alone(lambda: signer.reveal(request.height))
                return Revealed(reveal)

    def _greet(self, hello: Hello) -> Answer:
        if hello.version != VERSION:
            text = f"version {hello.version} was asked for, this is {VERSION}"
            return Refused(Refusal.MALFORMED, text)
        mine = self._signer.genesis_hash
        if hello.genesis_hash != mine:
            text = (
                f"this signer is of chain 0x{mine.hex()}, not of "
                f"0x{hello.genesis_hash.hex()}"
            )
            return Refused(Refusal.OTHER_CHAIN, text)
        return Welcome(self._signer.public)

    async def _sign(self, subject: Subject) -> Answer:
        try:
            signed = await self._alone(lambda: self._signer.sign(subject))
        except DoubleSignError as error:
            _log.warning("refused", reason=str(error))
            return Refused(Refusal.DOUBLE_SIGN, str(error))
        except KeyFileError as error:
            _log.error("cannot sign", reason=str(error))
            return Refused(Refusal.FAILED, str(error))
        _log.debug("signed", what=shown(signed.subject))
        return Made(signed)

    async def _alone(self, work: Callable[[], _Result]) -> _Result:
        """Do what uses the key, one after the other."""
        async with self._lock:
            return await trio.to_thread.run_sync(work)

    async def serve(self, channel: "Channel") -> None:
        """Answer the requests of one connection until it ends.

        Raises:
            PeerLostError: it broke.
            SignerProtocolError: it sent what is no request.
        """
        if self._connections >= MAX_CONNECTIONS:
            _log.warning("too many connections", most=MAX_CONNECTIONS)
            return
        self._connections += 1
        try:
            if await self._next(channel, HANDSHAKE_SECONDS, first=True):
                while await self._next(channel, IDLE_SECONDS, first=False):
                    pass
        finally:
            self._connections -= 1

    async def _next(self, channel: "Channel", seconds: float, *, first: bool) -> bool:
        """Answer one request; tell whether others may follow."""
        message: bytes | None = None
        with trio.move_on_after(seconds):
            message = await channel.receive()
        if message is None:
            return False
        request = decode_request(message)
        if isinstance(request, Hello) != first:
            raise SignerProtocolError("the first request, and no other, is a hello")
        answer = await self.answer(request)
        with trio.move_on_after(HANDSHAKE_SECONDS) as limit:
            await channel.send(encode_answer(answer))
        welcome = not (first and isinstance(answer, Refused))
        return welcome and not limit.cancelled_caught


class Channel(Protocol):
    """A connection on which one message follows the other."""

    async def receive(self) -> bytes:
        """The next message.

        Raises:
            PeerLostError: the connection ended.
            SignerProtocolError: a frame beyond the bounds, or forged.
        """
        ...

    async def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            PeerLostError: the connection broke.
        """
        ...


class PlainChannel(Channel):
    """Over a Unix socket."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    @override
    async def receive(self) -> bytes:
        return await _frame(self._stream)

    @override
    async def send(self, message: bytes) -> None:
        await self._stream.send(framed(message))


class NoiseChannel(Channel):
    """Over TCP."""

    def __init__(
        self, stream: ByteStream, outgoing: CipherState, incoming: CipherState
    ) -> None:
        self._stream = stream
        self._outgoing = outgoing
        self._incoming = incoming

    @override
    async def receive(self) -> bytes:
        try:
            return self._incoming.decrypt(await _frame(self._stream))
        except GarbageError as error:
            raise SignerProtocolError(str(error)) from error

    @override
    async def send(self, message: bytes) -> None:
        await self._stream.send(framed(self._outgoing.encrypt(message)))


async def _frame(stream: ByteStream, *, exactly: int | None = None) -> bytes:
    prefix = bytes(await stream.exactly(LENGTH))
    return bytes(await stream.exactly(frame_size(prefix, exactly=exactly)))


async def admit(
    stream: ByteStream, identity: NodeKey, allowed: Collection[bytes]
) -> Channel:
    """The handshake over TCP, as the side that was called.

    Raises:
        PeerLostError: the connection ended.
        SignerProtocolError: no handshake, or by a node that is not allowed.
    """
    noise = handshake(
        initiator=False, static=identity.secret, ephemeral=secrets.token_bytes(32)
    )
    try:
        noise.read(await _frame(stream, exactly=FIRST))
        await stream.send(framed(noise.write()))
        noise.read(await _frame(stream, exactly=THIRD))
    except GarbageError as error:
        raise SignerProtocolError(str(error)) from error
    caller = node_id(noise.remote_static)
    if caller not in allowed:
        raise SignerProtocolError(f"node {caller.hex()} is not allowed to ask")
    return NoiseChannel(stream, *noise.split())


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask over TCP.

    Attributes:
        identity: Who this signer is.
        allowed: Ids of nodes.
    """

    identity: NodeKey
    allowed: Collection[bytes]


async def run_server(
    server: SignerServer,
    listen: UnixAddress | TcpListen,
    access: Access,
    ready: Callable[[str], None],
) -> None:
    """Accept connections until cancelled.

    Args:
        server: Answers.
        listen: Where.
        access: Who may ask over TCP.
        ready: Told once where nodes find this signer, as they write it.

    Raises:
        ListenError: the address is taken or cannot be used.
    """
    if isinstance(listen, UnixAddress):
        made = trio.socket.from_stdlib_socket(_bound(listen.path))
        ready(str(listen))
        await trio.serve_listeners(_guarded(_unix(server)), [trio.SocketListener(made)])
    else:
        await _serve_tcp(server, listen, access, ready)


async def _serve_tcp(
    server: SignerServer,
    listen: TcpListen,
    access: Access,
    ready: Callable[[str], None],
) -> None:
    try:
        listeners = await trio.open_tcp_listeners(
            listen.port, host=listen.host or None, backlog=_BACKLOG
        )
    except OSError as error:
        raise ListenError(f"cannot listen on {listen}: {error}") from error
    port: int = listeners[0].socket.getsockname()[1]
    place = PeerAddress(access.identity.id, listen.host or "127.0.0.1", port)
    ready(str(NoiseAddress(place)))
    await trio.serve_listeners(_guarded(_tcp(server, access)), listeners)


_Handler = Callable[[trio.SocketStream], Awaitable[None]]


def _guarded(handle: _Handler) -> _Handler:
    """A connection's fault ends that connection only."""

    async def guarded(stream: trio.SocketStream) -> None:
        try:
            await handle(stream)
        except PeerLostError:
            pass  # they come and go
        except SignerProtocolError as error:
            _log.warning("a connection was ended", reason=str(error))
        finally:
            await trio.aclose_forcefully(stream)

    return guarded


def _unix(server: SignerServer) -> _Handler:
    async def handle(stream: trio.SocketStream) -> None:
        credentials = stream.socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        _, user, _ = _CREDENTIALS.unpack(credentials)
        if user not in (0, os.geteuid()):
            raise SignerProtocolError(f"user {user} is not allowed to ask")
        await server.serve(PlainChannel(ByteStream(stream)))

    return handle


def _tcp(server: SignerServer, access: Access) -> _Handler:
    async def handle(stream: trio.SocketStream) -> None:
        admitted: list[Channel] = []
        with trio.move_on_after(HANDSHAKE_SECONDS):
            admitted = [
                await admit(ByteStream(stream), access.identity, access.allowed)
            ]
        for channel in admitted:
            await server.serve(channel)

    return handle


def _bound(path: Path) -> socket.socket:
    """A socket that only this user can open.

    One that a killed signer left is removed; the lock on the key's directory has told
    already that no other process signs with this key.

    Raises:
        ListenError: something else is in the way.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            _remove_dead(path)
        mask = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(mask)
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise ListenError(f"cannot listen on unix:{path}: {error}") from error
    return made


def _remove_dead(path: Path) -> None:
    """Remove a socket on which nobody listens.

    Raises:
        OSError: somebody does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
