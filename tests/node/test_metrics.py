"""Metrics: CometBFT's names, what a commit and a switch tell, a port of their own."""

import socket
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from chain.sidecar import CommitCertificate, CommitSignature
from node.consensus_metrics import Committed
from node.mempool import Account, Mempool, PoolLimits
from node.metrics import Metrics
from node.p2p.counters import Counters
from node.p2p.interface import PeerStatus
from tests.consensus.committee import Committee
from tests.node.blocks import make_block
from tests.node.conftest import RunningNode
from tests.node.test_mempool import GWEI, make
from tests.node.tiny import make_node


def samples(metrics: Metrics) -> dict[str, float]:
    """By name, with labels as in the text."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.exposition()[0].decode()):
        for each in family.samples:
            label = ",".join(f"{k}={v}" for k, v in each.labels.items())
            found[each.name + (f"{{{label}}}" if label else "")] = each.value
    return found


def commit(
    metrics: Metrics, committee: Committee, *signers: int, round_: int = 0
) -> None:
    members = committee.set.members
    block = make_block(7, transactions=(b"one", b"two"))
    entries = tuple(
        CommitSignature(members[index].address, 0, bytes(65)) for index in signers
    )
    certificate = CommitCertificate(7, round_, block.hash, entries)
    offenders = {members[0].address}
    metrics.consensus.committed(
        Committed(block, certificate, committee.set, offenders, 1.25)
    )


def test_a_commit_is_shown_under_cometbfts_names() -> None:
    committee = Committee(4, 3, 2, 1)
    stakes = [each.stake for each in committee.set.members]
    own = committee.set.members[3].address
    metrics = Metrics(own)
    metrics.consensus.watch_round(lambda: 3)
    commit(metrics, committee, 0, 1, 2, round_=2)
    found = samples(metrics)
    prefix = "lockstep_consensus_"
    expected = {
        "height": 7,
        "rounds": 3,
        "validators": 4,
        "validators_power": sum(stakes),
        "validator_power": stakes[3],
        "validator_last_signed_height": 0,
        "validator_missed_blocks": 1,
        "missing_validators": 1,
        "missing_validators_power": stakes[3],
        "byzantine_validators": 1,
        "byzantine_validators_power": stakes[0],
        "num_txs": 2,
        "total_txs": 2,
        "block_interval_seconds_count": 1,
        "block_interval_seconds_sum": 1.25,
        "late_rounds_total": 2,
    }
    assert {name: found[prefix + name] for name in expected} == expected
    assert found[prefix + "block_size_bytes"] > 500
    commit(metrics, committee, 1, 2, 3)
    found = samples(metrics)
    assert found[prefix + "total_txs"] == 4
    assert found[prefix + "validator_last_signed_height"] == 7
    assert found[prefix + "validator_missed_blocks"] == 1


def test_a_node_without_a_key_misses_nothing() -> None:
    metrics = Metrics()
    commit(metrics, Committee(1, 1), 0)
    assert samples(metrics)["lockstep_consensus_validator_missed_blocks"] == 0
    assert samples(metrics)["lockstep_consensus_validator_power"] == 0


def test_the_mempool_and_sync_are_read_when_asked() -> None:
    metrics = Metrics()
    pool = Mempool(PoolLimits(), lambda _: Account(0, 10**18))
    busy = [True]
    metrics.watch_mempool(pool)
    metrics.watch_sync(lambda: busy[0])
    pool.add(make(), GWEI)
    metrics.count_refusal("Underpriced")
    found = samples(metrics)
    assert found["lockstep_mempool_size"] == 1
    assert found["lockstep_mempool_size_bytes"] == pool.size
    assert found["lockstep_mempool_failed_txs"] == 1
    assert found["lockstep_blocksync_syncing"] == 1
    busy[0] = False
    assert samples(metrics)["lockstep_blocksync_syncing"] == 0


def test_a_switch_is_read_when_asked() -> None:
    metrics, counters = Metrics(), Counters()
    peer = PeerStatus("ab" * 20, "ab@h:1", True, 1.0, 1, 2, 3, 0.0, "test")  # noqa: FBT003
    metrics.watch_peers(counters, lambda: [peer])
    assert samples(metrics)["lockstep_p2p_peers"] == 0
    counters.p2p_peers = 1
    counters.p2p_message_receive_bytes_total["mempool"] += 100
    counters.p2p_message_send_bytes_total["blocks"] += 50
    counters.throttled("mempool", 0.5)
    counters.p2p_faults_total += 1
    found = samples(metrics)
    assert found["lockstep_p2p_peers"] == 1
    assert found["lockstep_p2p_message_receive_bytes_total{channel=mempool}"] == 100
    assert found["lockstep_p2p_message_send_bytes_total{channel=blocks}"] == 50
    assert found["lockstep_p2p_throttled_seconds_total{channel=mempool}"] == 0.5
    assert found["lockstep_p2p_faults_total"] == 1
    assert found[f"lockstep_p2p_peer_pending_send_bytes{{peer_id={peer.id}}}"] == 3


@pytest.mark.network
def test_metrics_have_a_port_of_their_own(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = RunningNode(make_node(tmp_path, metrics_port=port))
    try:
        url = f"http://127.0.0.1:{port}"
        shown = requests.get(f"{url}/metrics", timeout=30)
        assert shown.status_code == 200
        assert "lockstep_consensus_height" in shown.text
        assert shown.headers["content-type"].startswith("text/plain")
        assert requests.get(f"{url}/health", timeout=30).status_code == 404
        assert requests.post(url, data=b"{}", timeout=30).status_code == 404
    finally:
        running.stop()
