"""Prometheus metrics of one node, in a registry of its own."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_BUILD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_CALL_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


class Metrics:
    """What an operator's dashboard shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.height = Gauge(
            "lockstep_block_height",
            "Number of the last committed block",
            registry=self.registry,
        )
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
        self.transactions = Counter(
            "lockstep_transactions",
            "Transactions in committed blocks",
            registry=self.registry,
        )
        self.base_fee = Gauge(
            "lockstep_base_fee_wei",
            "Base fee per gas of the last committed block",
            registry=self.registry,
        )
        self.block_seconds = Histogram(
            "lockstep_block_build_seconds",
            "Time to build, sign and commit a block",
            buckets=_BUILD_BUCKETS,
            registry=self.registry,
        )
        self.mempool_transactions = Gauge(
            "lockstep_mempool_transactions",
            "Transactions that wait",
            registry=self.registry,
        )
        self.mempool_bytes = Gauge(
            "lockstep_mempool_bytes",
            "Bytes of the transactions that wait",
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

    def exposition(self) -> tuple[bytes, str]:
        """The text format and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
