"""What decodes blocks runs in a thread, once, and never in the loop of consensus."""

import json
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.block import Block
from chain.receipt import Receipt
from chain.transaction import Transaction, decode
from node.rpc import fees, objects
from node.service import Node
from tests.node.tiny import ALICE, CHAIN_ID, make_node, transfer

COUNT = 12
CROWDED_GAS = 2_500_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """At block 1, which is more than half full of transactions."""
    found = make_node(tmp_path)
    data = bytes(CROWDED_GAS // 10 - 5_000)  # a zero byte costs 10 gas
    for nonce in range(COUNT):
        raw = transfer(ALICE, nonce, data=data, gas=CROWDED_GAS)
        found.mempool.add(decode(raw, CHAIN_ID), 10**9)
    trio.run(found.engine.step)
    head = found.chain.database.head()
    assert 2 * head.gas_used > head.gas_limit
    yield found
    found.engine._wal.close()


def ask(node: Node, *calls: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    body = [
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        for method, params in calls
    ]
    answer = trio.run(node._dispatcher().answer, json.dumps(body).encode())
    return list(json.loads(answer))


class Watch:
    """Counts what is decoded, and in which threads."""

    def __init__(self, node: Node, patch: pytest.MonkeyPatch) -> None:
        self.threads: set[int] = set()
        self.decoded = 0
        database = node.chain.database
        block, receipts = database.block, database.receipts

        def watched_block(block_hash: bytes) -> Block:
            self.threads.add(threading.get_ident())
            return block(block_hash)

        def watched_receipts(block_hash: bytes) -> tuple[Receipt, ...]:
            self.threads.add(threading.get_ident())
            return receipts(block_hash)

        def watched_decode(raw: bytes, chain_id: int) -> Transaction:
            self.decoded += 1
            return decode(raw, chain_id)

        patch.setattr(database, "block", watched_block)
        patch.setattr(database, "receipts", watched_receipts)
        for module in (fees, objects):
            patch.setattr(module, "decode", watched_decode)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_getBlockByNumber", ["latest", True]),
        ("eth_getBlockReceipts", ["latest"]),
        ("eth_getTransactionReceipt", None),
        ("eth_gasPrice", []),
        ("eth_maxPriorityFeePerGas", []),
        ("eth_feeHistory", ["0x2", "latest", [50]]),
        ("eth_getLogs", [{}]),
    ],
)
def test_blocks_are_read_in_threads(
    node: Node, monkeypatch: pytest.MonkeyPatch, method: str, params: list[Any] | None
) -> None:
    head = node.chain.database.head()
    if params is None:
        raw = node.chain.database.block(head.hash).transactions[5]
        params = ["0x" + decode(raw, CHAIN_ID).hash.hex()]
    watch = Watch(node, monkeypatch)
    (answer,) = ask(node, (method, params))
    assert "error" not in answer
    assert threading.get_ident() not in watch.threads


def test_a_receipt_costs_one_transaction(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = node.chain.database.block(node.chain.database.head().hash)
    (wanted,) = ask(node, ("eth_getBlockReceipts", ["latest"]))
    watch = Watch(node, monkeypatch)
    for index in (0, 5, len(block.transactions) - 1):
        digest = decode(block.transactions[index], CHAIN_ID).hash
        before = watch.decoded
        (found,) = ask(node, ("eth_getTransactionReceipt", ["0x" + digest.hex()]))
        assert found["result"] == wanted["result"][index]
        assert watch.decoded == before + 1


def test_tips_of_a_block_are_looked_up_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(node, monkeypatch)
    answers = ask(node, *[("eth_gasPrice", [])] * 5)
    assert len({each["result"] for each in answers}) == 1
    block = node.chain.database.block(node.chain.database.head().hash)
    assert watch.decoded == len(block.transactions)


def test_filters_of_waiting_transactions_remember_none_of_them(tmp_path: Path) -> None:
    """Else a thousand filters would hold a thousand copies of the pool's hashes."""
    node = make_node(tmp_path)
    for nonce in range(60):
        node.mempool.add(decode(transfer(ALICE, nonce), CHAIN_ID), 10**9)
    dispatcher = node._dispatcher()
    body = json.dumps(
        [{"jsonrpc": "2.0", "id": 1, "method": "eth_newPendingTransactionFilter"}] * 100
    ).encode()
    trio.run(dispatcher.answer, body)
    tracemalloc.start()
    trio.run(dispatcher.answer, body)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    node.engine._wal.close()
    assert grown < 100 * 1_500
