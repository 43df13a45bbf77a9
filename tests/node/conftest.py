"""Running nodes with real sockets for the tests of this folder."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import requests
import trio

from node.service import Node
from tests.node.tiny import make_node

START_SECONDS = 30
REQUEST_SECONDS = 30


class RunningNode:
    """A node in a thread of its own, with a JSON-RPC client that speaks plainly."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.session = requests.Session()
        self._started: Queue[tuple[str, trio.Event, trio.lowlevel.TrioToken]] = Queue()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.url, self._stop, self._token = self._started.get(timeout=START_SECONDS)

    def _run(self) -> None:
        async def main() -> None:
            stop = trio.Event()
            token = trio.lowlevel.current_trio_token()

            def ready(url: str) -> None:
                self._started.put((url, stop, token))

            await self.node.run(stop, ready=ready)

        try:
            trio.run(main)
        except BaseException as error:
            self._failure.append(error)
            raise

    def stop(self) -> None:
        self.session.close()
        self._token.run_sync_soon(self._stop.set)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive(), "the node did not stop"
        assert not self._failure, self._failure

    def post(self, body: bytes, **headers: str) -> requests.Response:
        return self.session.post(
            self.url,
            data=body,
            headers={"content-type": "application/json"} | headers,
            timeout=REQUEST_SECONDS,
        )

    def answer(self, method: str, *params: Any) -> dict[str, Any]:  # noqa: ANN401
        document = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        response = self.post(json.dumps(document).encode())
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        assert found["id"] == 1
        return found

    def call(self, method: str, *params: Any) -> Any:  # noqa: ANN401
        found = self.answer(method, *params)
        assert "error" not in found, found
        return found["result"]

    def error(self, method: str, *params: Any) -> dict[str, Any]:  # noqa: ANN401
        found = self.answer(method, *params)
        assert "result" not in found, found
        error: dict[str, Any] = found["error"]
        return error

    def mine(self, count: int = 1) -> None:
        """Make blocks now; the node's own beat is an hour."""
        for _ in range(count):
            trio.from_thread.run(self.node.engine.hurry, trio_token=self._token)

    def send(self, raw: bytes) -> str:
        """Put a transaction into the mempool."""
        sent: str = self.call("eth_sendRawTransaction", "0x" + raw.hex())
        return sent

    def mined(self, raw: bytes) -> dict[str, Any]:
        """Send a transaction, make a block, and return the receipt."""
        sent = self.send(raw)
        self.mine()
        receipt: dict[str, Any] = self.call("eth_getTransactionReceipt", sent)
        return receipt


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node on a tiny chain, shared by the tests of a module."""
    started = RunningNode(make_node(tmp_path_factory.mktemp("validator")))
    yield started
    started.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningNode]:
    """A node of the test's own."""
    started = RunningNode(make_node(tmp_path))
    yield started
    started.stop()
