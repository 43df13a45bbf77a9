"""Numbers for metrics, named after CometBFT's; plain, anything can read them."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """What the switch counts. Names ending in `_total` only grow.

    Attributes:
        p2p_peers: Connected now.
        p2p_message_send_bytes_total: By channel name.
        p2p_message_receive_bytes_total: By channel name.
        p2p_messages_sent_total: By channel name.
        p2p_messages_received_total: By channel name.
        p2p_throttled_seconds_total: Not read because a peer was too fast, by channel.
        p2p_dials_total: By outcome: connected, failed.
        p2p_refused_total: Inbound connections that did not become peers, by reason.
        p2p_faults_total: Peers banned for a provable fault.
    """

    p2p_peers: int = 0
    p2p_message_send_bytes_total: Counter[str] = field(default_factory=Counter[str])
    p2p_message_receive_bytes_total: Counter[str] = field(default_factory=Counter[str])
    p2p_messages_sent_total: Counter[str] = field(default_factory=Counter[str])
    p2p_messages_received_total: Counter[str] = field(default_factory=Counter[str])
    p2p_throttled_seconds_total: dict[str, float] = field(
        default_factory=dict[str, float]
    )
    p2p_dials_total: Counter[str] = field(default_factory=Counter[str])
    p2p_refused_total: Counter[str] = field(default_factory=Counter[str])
    p2p_faults_total: int = 0

    def throttled(self, channel: str, seconds: float) -> None:
        """Count a pause in reading."""
        before = self.p2p_throttled_seconds_total.get(channel, 0.0)
        self.p2p_throttled_seconds_total[channel] = before + seconds
