"""Who may ask a signer, and callers that send what is no request."""

import socket
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st

from node.errors import ListenError, SignerUnavailableError
from node.p2p.errors import PeerLostError
from node.p2p.frames import ByteStream
from node.remote.address import TcpListen, UnixAddress
from node.remote.messages import (
    MAX_MESSAGE_BYTES,
    AskReveal,
    AskState,
    Hello,
    SignerProtocolError,
    encode_request,
)
from node.remote.server import MAX_CONNECTIONS, admit
from node.remote.wire import framed
from tests.node.remote.running import (
    GENESIS,
    NODE,
    SIGNER,
    START_SECONDS,
    STRANGER,
    SUBJECT,
    B,
    Start,
    asking,
)

pytestmark = pytest.mark.network


def test_over_tcp_only_known_nodes_ask_and_only_the_known_signer(
    tmp_path: Path, start: Start
) -> None:
    running = start(TcpListen("127.0.0.1", 0), NODE)
    with pytest.raises(SignerUnavailableError, match="allow this node"):
        asking(tmp_path / "node", running.address, STRANGER)
    other = running.address.replace(SIGNER.id.hex(), STRANGER.id.hex())
    with pytest.raises(SignerUnavailableError, match="expected signer"):
        asking(tmp_path / "node", other)
    asking(tmp_path / "node", running.address).sign(SUBJECT)


def test_the_socket_is_private(tmp_path: Path, start: Start) -> None:
    start()
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o600


def test_another_user_is_refused(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the file system would let him in."""
    running = start()

    class Credentials:
        size = 12

        @staticmethod
        def unpack(_: bytes) -> tuple[int, int, int]:
            return (1, 65_534, 65_534)

    monkeypatch.setattr("node.remote.server._CREDENTIALS", Credentials)
    with pytest.raises(SignerUnavailableError):
        asking(tmp_path / "node", running.address)


def test_a_dead_socket_is_replaced_and_a_live_one_is_not(
    tmp_path: Path, start: Start
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    running = start()
    asking(tmp_path / "node", running.address).sign(SUBJECT)
    with pytest.raises(ListenError, match="Address already in use"):
        start()
    asking(tmp_path / "node", running.address).sign(SUBJECT)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ListenError, match="Address already in use"):
        start(UnixAddress(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


HELLO = framed(encode_request(Hello(1, GENESIS)))


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff" + bytes(100),
        b"\0\0",
        framed(b"garbage"),
        framed(encode_request(AskState())),
        framed(encode_request(AskReveal(1))),
        framed(encode_request(Hello(2, GENESIS))),
        framed(encode_request(Hello(1, B))),
        HELLO + HELLO,
        HELLO + framed(bytes(MAX_MESSAGE_BYTES)),
        HELLO[:5],
    ],
    ids=[
        "huge",
        "empty",
        "garbage",
        "no hello",
        "reveal first",
        "version",
        "chain",
        "twice",
        "zeros",
        "cut",
    ],
)
def test_hostile_bytes_end_their_own_connection_only(
    tmp_path: Path, start: Start, sent: bytes
) -> None:
    running = start()
    good = asking(tmp_path / "node", running.address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bad:
        bad.connect(str(tmp_path / "socket"))
        bad.sendall(sent)
        bad.shutdown(socket.SHUT_WR)
        bad.settimeout(START_SECONDS)
        with suppress(ConnectionResetError):
            while bad.recv(4_096):
                pass
    good.sign(SUBJECT)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_handshake(data: bytes) -> None:
    """In memory, because there are many."""

    async def main() -> None:
        mine, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(data)
        await theirs.aclose()
        with pytest.raises((PeerLostError, SignerProtocolError)):
            await admit(ByteStream(mine), SIGNER, {NODE.id})

    trio.run(main)


def test_connections_are_bounded(tmp_path: Path, start: Start) -> None:
    running = start()
    many = [asking(tmp_path / "node", running.address) for _ in range(MAX_CONNECTIONS)]
    with pytest.raises(SignerUnavailableError):
        asking(tmp_path / "node", running.address)
    many[0].close()
    many[0].sign(SUBJECT)  # with a connection of its own again
    many[1].close()
