"""Transactions of a node that forgets what it was sent."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from eth_account import Account
from eth_utils.crypto import keccak
from typing_extensions import override

from lockstep.client.connection import Connection
from lockstep.errors import ChainError, TransactionTimeout

SENDER = Account.from_key("0x" + "11" * 32)
SOMEBODY = "0x" + "22" * 20
POOL_FULL = "transaction underpriced: the pool is full"


class ForgetfulNode:
    """Keeps a transaction once it was sent `keeps_after` times, and mines it at once.

    Attributes:
        sent: what came, in order.
    """

    def __init__(self, keeps_after: int, refusal: str = "") -> None:
        self.sent: list[bytes] = []
        self._keeps_after = keeps_after
        self._refusal = refusal

    def answer(self, method: str, parameters: list[str]) -> object:
        match method:
            case "eth_chainId":
                return "0x539"
            case "eth_getTransactionCount":
                return "0x0"
            case "eth_getBlockByNumber":
                return {"number": "0x1", "baseFeePerGas": "0x7"}
            case "eth_sendRawTransaction":
                if self.sent and self._refusal:
                    raise ChainError(self._refusal)
                self.sent.append(bytes.fromhex(parameters[0][2:]))
                return "0x" + keccak(self.sent[-1]).hex()
            case "eth_getTransactionByHash":
                return None
            case "eth_getTransactionReceipt":
                return self._receipt(bytes.fromhex(parameters[0][2:]))
            case _:
                raise AssertionError(method)

    def _receipt(self, digest: bytes) -> object:
        if len([raw for raw in self.sent if keccak(raw) == digest]) < self._keeps_after:
            return None
        return {
            "transactionHash": "0x" + digest.hex(),
            "blockNumber": "0x2",
            "gasUsed": "0x5208",
            "effectiveGasPrice": "0x7",
            "status": "0x1",
            "logs": [],
        }


@contextmanager
def serving(node: ForgetfulNode) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = json.loads(body)
            answer: dict[str, object] = {"jsonrpc": "2.0", "id": request["id"]}
            try:
                answer["result"] = node.answer(request["method"], request["params"])
            except ChainError as error:
                answer["error"] = {"code": -32000, "message": str(error)}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_forgotten_transaction_is_sent_again() -> None:
    node = ForgetfulNode(keeps_after=2)
    with serving(node) as url:
        receipt = Connection(url, (), SENDER).transfer(SOMEBODY, 1)
    assert receipt.block == 2
    assert len(node.sent) == 2
    assert node.sent[0] == node.sent[1]


def test_why_a_node_does_not_take_it_again_is_told() -> None:
    node = ForgetfulNode(keeps_after=2, refusal=POOL_FULL)
    with (
        serving(node) as url,
        pytest.raises(TransactionTimeout, match=POOL_FULL),
    ):
        Connection(url, (), SENDER, transaction_seconds=3).transfer(SOMEBODY, 1)
    assert len(node.sent) == 1
