"""Signers and nodes for the tests of this folder."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from node.p2p.identity import NodeKey
from node.remote.address import TcpListen, UnixAddress
from node.remote.client import RemoteSigner
from tests.node.remote.running import ASKING, NODE, Running, Start, asking


@pytest.fixture(autouse=True)
def hang_up() -> Iterator[None]:
    """Close what `asking` opened."""
    yield
    while ASKING:
        ASKING.pop().close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The signer's directory."""
    made = tmp_path / "signer"
    made.mkdir()
    return made


@pytest.fixture
def start(tmp_path: Path, home: Path) -> Iterator[Start]:
    """Start signers; whatever the test leaves running is stopped."""
    running: list[Running] = []

    def begin(listen: object = None, *allowed: NodeKey) -> Running:
        where = UnixAddress(tmp_path / "socket") if listen is None else listen
        assert isinstance(where, UnixAddress | TcpListen)
        running.append(Running(home, where, *allowed))
        return running[-1]

    yield begin
    for each in running:
        with suppress(trio.RunFinishedError):
            each.stop()


@pytest.fixture(params=["unix", "tcp"])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, start: Start
) -> RemoteSigner:
    """A node's signer, over either kind of connection."""
    listen = None if request.param == "unix" else TcpListen("127.0.0.1", 0)
    return asking(tmp_path / "node", start(listen, NODE).address)
