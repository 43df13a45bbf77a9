"""Hostile bodies and parameters: named errors, and a node that stays up."""

import json
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import trio
from hypothesis import HealthCheck, given, settings, strategies as st

from chain.crypto import keccak
from node.errors import ListenError
from node.rpc import connections
from node.rpc.errors import INTERNAL_ERROR
from tests.node.conftest import RunningNode
from tests.node.tiny import ALICE, address, make_node, transfer

ADDRESS = "0x" + address(ALICE).hex()
METHODS = [
    "eth_blockNumber",
    "eth_call",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_getBalance",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getBlockReceipts",
    "eth_getCode",
    "eth_getFilterChanges",
    "eth_getFilterLogs",
    "eth_getLogs",
    "eth_getProof",
    "eth_getStorageAt",
    "eth_getTransactionByBlockNumberAndIndex",
    "eth_getTransactionByHash",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_newFilter",
    "eth_sendRawTransaction",
    "eth_uninstallFilter",
    "debug_getRawBlock",
    "debug_getRawReceipts",
    "lockstep_certificate",
    "lockstep_sidecar",
    "web3_sha3",
]
KEYS = [
    "accessList",
    "address",
    "blockHash",
    "blockNumber",
    "data",
    "from",
    "fromBlock",
    "gas",
    "gasPrice",
    "input",
    "maxFeePerGas",
    "storageKeys",
    "to",
    "toBlock",
    "topics",
    "value",
]
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

HEX = st.binary(max_size=40).map(lambda raw: "0x" + raw.hex())
QUANTITIES = st.integers(0, 2**260).map(hex) | st.sampled_from(["0x", "0x00", "-0x1"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | HEX
    | QUANTITIES
    | st.sampled_from([ADDRESS, "latest", "pending", "earliest", "0x" + "00" * 32])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)


def check_answer(document: Any) -> None:  # noqa: ANN401 - whatever came back
    assert document["jsonrpc"] == "2.0"
    if "error" in document:
        assert isinstance(document["error"]["message"], str)
        assert document["error"]["message"]
        assert document["error"]["code"] != INTERNAL_ERROR, document
    else:
        assert "result" in document


@SHARED
@given(st.sampled_from(METHODS), st.lists(VALUES, max_size=4))
def test_no_parameters_make_an_internal_error(
    running: RunningNode, method: str, params: list[Any]
) -> None:
    check_answer(running.answer(method, *params))


@SHARED
@given(st.binary(max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_the_server(running: RunningNode, body: bytes) -> None:
    response = running.post(body)
    assert response.status_code in {200, 204}
    if response.status_code == 200:
        document = response.json()
        for each in document if isinstance(document, list) else [document]:
            check_answer(each)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 200_000, -32700),
        (b"9" * 10_000, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":NaN}', -32700),
        (b"[]", -32600),
        (b"7", -32600),
        (b'{"id":1,"method":"eth_chainId"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"eth_mine"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[1]}', -32602),
    ],
    ids=range(13),
)
def test_malformed_bodies_get_the_right_code(
    running: RunningNode, body: bytes, code: int
) -> None:
    document = running.post(body).json()
    assert document["error"]["code"] == code


def test_batches_answer_in_order_and_skip_notifications(running: RunningNode) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 2, "method": "no_such"},
        3,
    ]
    answers = running.post(json.dumps(batch).encode()).json()
    assert [answer["id"] for answer in answers] == ["a", 2, None]
    assert answers[1]["error"]["code"] == -32601
    silent = json.dumps([batch[1]]).encode()
    assert running.post(silent).status_code == 204


def test_batches_are_bounded(running: RunningNode) -> None:
    member = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}
    answer = running.post(json.dumps([member] * 101).encode()).json()
    assert answer["error"] == {
        "code": -32600,
        "message": "batch too large: 101 of at most 100",
    }


def test_largest_body_is_read_and_a_larger_one_refused(running: RunningNode) -> None:
    limit = running.node.config.rpc_max_body
    data = "0x" + "ab" * 262_144
    assert running.call("web3_sha3", data)
    padded = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    assert running.post(padded.ljust(limit)).json()["result"]
    refused = running.post(padded.ljust(limit + 1))
    assert refused.status_code == 413
    assert "too large" in refused.json()["error"]["message"]


def test_body_without_length_is_bounded_while_reading(running: RunningNode) -> None:
    chunk = bytes(1 << 16)

    def endless() -> Any:  # noqa: ANN401 - a generator of chunks
        for _ in range(64):
            yield chunk

    try:
        response = requests.post(running.url, data=endless(), timeout=30)
    except requests.ConnectionError:
        # The node hung up while we were still sending, which is its right.
        pass
    else:
        assert response.status_code == 413
    assert running.call("eth_chainId")


def test_cors_is_off_unless_configured(running: RunningNode) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    response = running.post(body, origin="https://evil.example")
    assert "access-control-allow-origin" not in response.headers


def test_configured_origin_may_call(tmp_path: Path) -> None:
    origin = "https://wallet.example"
    node = RunningNode(make_node(tmp_path, rpc_cors_origins=(origin,)))
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    try:
        allowed = node.post(body, origin=origin)
        refused = node.post(body, origin="https://evil.example")
    finally:
        node.stop()
    assert allowed.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in refused.headers


def test_taken_port_is_named(running: RunningNode, tmp_path: Path) -> None:
    port = int(running.url.rsplit(":", 1)[1])
    node = make_node(tmp_path, rpc_port=port)

    async def main() -> None:
        await node.run(trio.Event(), ready=lambda _: None)

    with pytest.RaisesGroup(
        pytest.RaisesExc(ListenError, match=f"cannot listen on 127.0.0.1:{port}"),
        flatten_subgroups=True,
    ):
        trio.run(main)


def test_other_paths_and_verbs_are_refused(running: RunningNode) -> None:
    assert running.session.get(running.url, timeout=30).status_code == 405
    assert running.session.get(running.url + "/x", timeout=30).status_code == 404


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
)
PRIOR = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def said(node: RunningNode, content: bytes) -> None:
    """Say this on a connection, and leave without a word."""
    place = urlsplit(node.url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port), timeout=5) as client:
        client.sendall(content)
        client.settimeout(0.3)
        with suppress(OSError):
            client.recv(1_024)


@pytest.mark.parametrize(
    "content",
    [
        UPGRADE + b"h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
        UPGRADE + b"h2c\r\nHTTP2-Settings: !\r\n\r\n" + PRIOR + b"\xff" * 100,
        UPGRADE + b"h2c\r\n\r\n",
        UPGRADE + b"websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + b"\x81\xff" * 50,
        PRIOR + b"\xff" * 300,
        PRIOR + bytes(3) + b"\4" + bytes(5) + b"\0\0\1\1\5\0\0\0\1\x82",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        bytes(range(256)) * 10,
    ],
    ids=range(9),
)
def test_no_bytes_on_a_connection_reach_beyond_it(
    fresh: RunningNode, content: bytes
) -> None:
    for _ in range(3):
        said(fresh, content)
        assert fresh.call("eth_chainId")


def test_who_does_not_read_its_answer_keeps_no_node_from_stopping(
    tmp_path: Path,
) -> None:
    node = RunningNode(make_node(tmp_path))
    large = transfer(data=bytes(380_000), gas=4_000_000)
    node.mined(large)
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "eth_getTransactionByHash",
        "params": ["0x" + keccak(large).hex()],
    }
    body = json.dumps([call] * 30).encode()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    place = urlsplit(node.url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port), timeout=5) as client:
        client.sendall(head + body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        node.stop()


def test_connections_are_bounded(
    fresh: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    place = urlsplit(fresh.url)
    assert place.hostname is not None
    fresh.call("eth_chainId")  # its own connection stays open
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(
                socket.create_connection((place.hostname, place.port), timeout=5)
            )
        late = held.enter_context(
            socket.create_connection((place.hostname, place.port), timeout=5)
        )
        assert late.recv(1) == b""
        assert fresh.call("eth_chainId")
