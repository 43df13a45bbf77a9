"""Connections through a relay stand still while it is cut, and lose nothing."""

import select
import socket
from collections.abc import Iterator

import pytest

from node.testnet import Ports
from tests.testnets.relays import Relays

_SECONDS = 20.0
_A_MOMENT = 0.2


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Node 1."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_SECONDS)
        yield server


@pytest.fixture
def relays(listener: socket.socket) -> Iterator[Relays]:
    port = listener.getsockname()[1]
    made = Relays(2, Ports(port - 1, 0))
    yield made
    made.close()


def dialled(relays: Relays, node: int, other: int) -> socket.socket:
    host, _, port = relays.dial(node, other).partition(":")
    return socket.create_connection((host, int(port)), timeout=_SECONDS)


def readable(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], _A_MOMENT)[0])


@pytest.mark.parametrize("who", [0, 1])
def test_what_is_sent_while_cut_off_arrives_afterwards(
    relays: Relays, listener: socket.socket, who: int
) -> None:
    with dialled(relays, 0, 1) as near:
        far, _ = listener.accept()
        with far:
            far.settimeout(_SECONDS)
            near.sendall(b"a")
            assert far.recv(10) == b"a"
            relays.cut(who)
            near.sendall(b"b")
            far.sendall(b"c")
            assert not readable(far)
            assert not readable(near)
            relays.heal(who)
            assert far.recv(10) == b"b"
            assert near.recv(10) == b"c"


def test_nobody_is_reached_while_cut_off(
    relays: Relays, listener: socket.socket
) -> None:
    relays.cut(1)
    with dialled(relays, 0, 1) as near:
        assert not readable(listener)
        relays.heal(1)
        far, _ = listener.accept()
        far.close()
        assert near.recv(10) == b""


def test_a_node_that_is_not_there_refuses(
    relays: Relays, listener: socket.socket
) -> None:
    listener.close()
    with dialled(relays, 0, 1) as near:
        assert near.recv(10) == b""


def test_others_are_told_of_no_way_around(relays: Relays) -> None:
    assert relays.settings(0)["p2p_advertise"] != relays.listen(0)
    assert relays.dial(0, 1) != relays.listen(1)
