"""Prometheus metrics of one node, in a registry of its own.

Where CometBFT has a metric for a thing, it has that name here, after `lockstep_`.
"""

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from chain.database import ChainDatabase
from node.consensus_metrics import ConsensusMetrics
from node.mempool import Mempool
from node.p2p.counters import Counters
from node.p2p.interface import PeerStatus
from node.peer_metrics import PeerMetrics
from node.vitals import Restoration

_CALL_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


class Metrics:
    """What an operator's dashboard shows."""

    def __init__(self, validator: bytes | None = None) -> None:
        """Register all.

        Args:
            validator: Our address, when we validate.
        """
        self.registry = CollectorRegistry()
        self.consensus = ConsensusMetrics(self.registry, validator)
        self.timestamp = Gauge(
            "lockstep_block_timestamp_seconds",
            "Timestamp of the last committed block",
            registry=self.registry,
        )
        self.gas = Counter(
            "lockstep_gas_used",
            "Gas used by committed blocks",
            registry=self.registry,
        )
        self.base_fee = Gauge(
            "lockstep_base_fee_wei",
            "Base fee per gas of the last committed block",
            registry=self.registry,
        )
        self.mempool_transactions = Gauge(
            "lockstep_mempool_size",
            "Transactions that wait",
            registry=self.registry,
        )
        self.mempool_bytes = Gauge(
            "lockstep_mempool_size_bytes",
            "Bytes of the transactions that wait",
            registry=self.registry,
        )
        # CometBFT's counter has no `_total` at its end, which only a gauge may lack.
        self.failed = Gauge(
            "lockstep_mempool_failed_txs",
            "Transactions refused or dropped since the start",
            registry=self.registry,
        )
        self.syncing = Gauge(
            "lockstep_blocksync_syncing",
            "1 while blocks that others have are fetched",
            registry=self.registry,
        )
        self.restoring = Gauge(
            "lockstep_statesync_syncing",
            "1 while the node begins at a snapshot",
            registry=self.registry,
        )
        self.restored_height = Gauge(
            "lockstep_statesync_snapshot_height",
            "Of the snapshot that is being restored; 0: none",
            registry=self.registry,
        )
        self.restored_chunks = Gauge(
            "lockstep_statesync_chunks",
            "Chunks of it that were restored",
            registry=self.registry,
        )
        self.wanted_chunks = Gauge(
            "lockstep_statesync_chunks_wanted",
            "Chunks that it has",
            registry=self.registry,
        )
        self.first_block = Gauge(
            "lockstep_store_first_block",
            "Lowest block above genesis that is here whole",
            registry=self.registry,
        )
        self.first_state = Gauge(
            "lockstep_store_first_state",
            "Lowest height from which on all states are here",
            registry=self.registry,
        )
        self.snapshot = Gauge(
            "lockstep_store_snapshot_height",
            "Of the newest snapshot that is offered to peers; 0: none",
            registry=self.registry,
        )
        self.refused = Counter(
            "lockstep_mempool_refused",
            "Transactions refused by the mempool or dropped while building",
            ["reason"],
            registry=self.registry,
        )
        self.calls = Histogram(
            "lockstep_rpc_seconds",
            "Time to answer a JSON-RPC call",
            ["method"],
            buckets=_CALL_BUCKETS,
            registry=self.registry,
        )
        self.failures = Counter(
            "lockstep_rpc_errors",
            "JSON-RPC calls that were answered with an error",
            ["method"],
            registry=self.registry,
        )

    def answered(self, method: str, seconds: float, *, failed: bool) -> None:
        """Count an answered call (`node.rpc.dispatch.Observer`)."""
        self.calls.labels(method).observe(seconds)
        if failed:
            self.failures.labels(method).inc()

    def count_refusal(self, reason: str) -> None:
        """Count a transaction that did not get into the mempool or left it unused."""
        self.refused.labels(reason).inc()
        self.failed.inc()

    def watch_store(self, database: ChainDatabase, snapshot: Callable[[], int]) -> None:
        """Show what is kept, and the height of the newest snapshot."""
        self.first_block.set_function(database.base)
        self.first_state.set_function(database.state_base)
        self.snapshot.set_function(snapshot)

    def watch_mempool(self, mempool: Mempool) -> None:
        """Show what waits in a pool whenever metrics are asked for."""
        self.mempool_transactions.set_function(lambda: len(mempool))
        self.mempool_bytes.set_function(lambda: mempool.size)

    def watch_peers(
        self, counters: Counters, peers: Callable[[], Sequence[PeerStatus]]
    ) -> None:
        """Show a switch's counters whenever metrics are asked for."""
        self.registry.register(PeerMetrics(counters, peers))

    def watch_sync(self, syncing: Callable[[], bool]) -> None:
        """Show whether blocks are fetched whenever metrics are asked for."""
        self.syncing.set_function(syncing)

    def watch_restoration(self, look: Callable[[], Restoration]) -> None:
        """Show how far the restoration of a snapshot is."""
        self.restoring.set(1)
        self.restored_height.set_function(lambda: look().height)
        self.restored_chunks.set_function(lambda: look().chunks)
        self.wanted_chunks.set_function(lambda: look().of)

    def exposition(self) -> tuple[bytes, str]:
        """The text format and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
