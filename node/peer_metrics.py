"""Metrics of peers, read from the switch when they are asked for.

CometBFT's names after `lockstep_`; its label `chID` is the channel's name here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from node.p2p.counters import Counters
from node.p2p.interface import PeerStatus


class PeerMetrics(Collector):
    """Counters of one switch, for a registry."""

    def __init__(
        self, counters: Counters, peers: Callable[[], Sequence[PeerStatus]]
    ) -> None:
        """Read these on every scrape."""
        self._counters = counters
        self._peers = peers

    @override
    def collect(self) -> Iterator[Metric]:
        """All metrics, as of now."""
        found = self._counters
        yield GaugeMetricFamily(
            "lockstep_p2p_peers", "Connected peers", value=found.p2p_peers
        )
        pending = GaugeMetricFamily(
            "lockstep_p2p_peer_pending_send_bytes",
            "Bytes that wait to be sent to a peer",
            labels=["peer_id"],
        )
        for peer in self._peers():
            pending.add_metric([peer.id], peer.pending)
        yield pending
        yield _by(
            "message_receive_bytes",
            "Bytes of messages received",
            "channel",
            found.p2p_message_receive_bytes_total,
        )
        yield _by(
            "message_send_bytes",
            "Bytes of messages sent",
            "channel",
            found.p2p_message_send_bytes_total,
        )
        yield _by(
            "messages_received",
            "Messages received",
            "channel",
            found.p2p_messages_received_total,
        )
        yield _by(
            "messages_sent", "Messages sent", "channel", found.p2p_messages_sent_total
        )
        yield _by(
            "throttled_seconds",
            "Seconds in which a peer was not read because it was too fast",
            "channel",
            found.p2p_throttled_seconds_total,
        )
        yield _by("dials", "Attempts to connect", "outcome", found.p2p_dials_total)
        yield _by(
            "refused",
            "Inbound connections that became no peers",
            "reason",
            found.p2p_refused_total,
        )
        yield CounterMetricFamily(
            "lockstep_p2p_faults",
            "Peers banned for a provable fault",
            value=found.p2p_faults_total,
        )


def _by(
    name: str, help_text: str, label: str, values: Mapping[str, float]
) -> CounterMetricFamily:
    family = CounterMetricFamily("lockstep_p2p_" + name, help_text, labels=[label])
    for each, value in sorted(values.items()):
        family.add_metric([each], value)
    return family
