"""A node that was restored from a snapshot answers what it has, and says what not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.store import Store
from node.sync.restore import restore
from tests.node.conftest import RunningNode
from tests.node.sync.test_snapshots import HEIGHT, all_chunks, chain, restorer
from tests.node.tiny import ALICE, address, make_node


@pytest.fixture
def restored(tmp_path: Path) -> Iterator[RunningNode]:
    store = Store.memory()
    content = all_chunks()
    restore(restorer(store, content), content)
    running = RunningNode(make_node(tmp_path, store))
    yield running
    running.stop()


@pytest.mark.network
def test_rpc_of_a_restored_node(restored: RunningNode) -> None:
    head = restored.call("eth_getBlockByNumber", "latest", False)  # noqa: FBT003 - RPC
    assert head["hash"] == "0x" + chain().block(HEIGHT).hash.hex()
    assert len(head["transactions"]) == 3
    account = "0x" + address(ALICE).hex()
    assert int(restored.call("eth_getBalance", account, "latest"), 16) > 0
    early = hex(HEIGHT - 3)
    raw = chain().block(HEIGHT - 3).header.encode()
    assert restored.call("debug_getRawHeader", early) == "0x" + raw.hex()
    for method, *params in (
        ("eth_getBlockByNumber", early, False),
        ("lockstep_sidecar", early),
    ):
        error = restored.error(method, *params)
        assert error["code"] == 4444
        assert error["message"].startswith("pruned history unavailable: no ")
    error = restored.error("eth_getBalance", account, early)
    assert error["code"] == -32000
    assert error["message"].startswith("missing trie node ")
