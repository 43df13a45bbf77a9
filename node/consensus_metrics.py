"""Metrics of consensus, under CometBFT's names after `lockstep_`.

Whoever commits a block calls `committed`; the round is looked up when it is asked for.
Stakes are in wei, so sums are exact only to 53 bits.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from chain.block import Block
from chain.sidecar import CommitCertificate
from consensus.validators import ValidatorSet

_INTERVAL_BUCKETS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Committed:
    """A block that became final here.

    Attributes:
        certificate: Of the block itself.
        voters: Who could sign the certificate.
        offenders: Addresses that the block's evidence convicts.
        interval: Seconds since the block before was committed here; None when this is
            the first one of this process.
    """

    block: Block
    certificate: CommitCertificate
    voters: ValidatorSet
    offenders: Collection[bytes] = ()
    interval: float | None = None


class ConsensusMetrics:
    """What a dashboard shows of consensus."""

    def __init__(self, registry: CollectorRegistry, validator: bytes | None) -> None:
        """Register all.

        Args:
            registry: Of the node.
            validator: Our address, when we validate.
        """
        self._validator = validator

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge("lockstep_consensus_" + name, help_text, registry=registry)

        self.height = gauge("height", "Height of the chain")
        self.rounds = gauge("rounds", "Round of the height that is decided now")
        self.validators = gauge("validators", "Validators of the last block")
        self.power = gauge("validators_power", "Stake of all validators, wei")
        self.own_power = gauge("validator_power", "Our stake, wei; 0: no vote")
        self.last_signed = gauge(
            "validator_last_signed_height", "Last block whose certificate we are in"
        )
        self.missed = gauge(
            "validator_missed_blocks",
            "Blocks since the start whose certificate lacks us",
        )
        self.missing = gauge("missing_validators", "Validators not in the certificate")
        self.missing_power = gauge("missing_validators_power", "Their stake, wei")
        self.byzantine = gauge(
            "byzantine_validators", "Validators that the last block convicts"
        )
        self.byzantine_power = gauge("byzantine_validators_power", "Their stake, wei")
        self.num_txs = gauge("num_txs", "Transactions of the last block")
        self.total_txs = gauge("total_txs", "Transactions since the start")
        self.block_size = gauge("block_size_bytes", "Size of the last block")
        self.interval = Histogram(
            "lockstep_consensus_block_interval_seconds",
            "Time between two commits",
            buckets=_INTERVAL_BUCKETS,
            registry=registry,
        )
        self.late_rounds = Counter(
            "lockstep_consensus_late_rounds",
            "Rounds after the first that blocks needed",
            registry=registry,
        )

    def watch_round(self, round_: Callable[[], int]) -> None:
        """Show the round that is under way whenever metrics are asked for."""
        self.rounds.set_function(round_)

    def committed(self, news: Committed) -> None:
        """Tell that a block is final."""
        block, voters = news.block, news.voters
        signers = {each.validator for each in news.certificate.signatures}
        stakes = {each.address: each.stake for each in voters.members}
        missing = stakes.keys() - signers
        # An offender may have left the set since; then its stake is not known here.
        guilty = set(news.offenders)
        self.height.set(block.number)
        self.late_rounds.inc(news.certificate.round)
        self.validators.set(len(stakes))
        self.power.set(voters.total_stake)
        self.missing.set(len(missing))
        self.missing_power.set(sum(stakes[each] for each in missing))
        self.byzantine.set(len(guilty))
        self.byzantine_power.set(sum(stakes.get(each, 0) for each in guilty))
        self.num_txs.set(len(block.transactions))
        self.total_txs.inc(len(block.transactions))
        self.block_size.set(len(block.encode()))
        if news.interval is not None:
            self.interval.observe(news.interval)
        self._own(block.number, stakes, signers)

    def _own(
        self, height: int, stakes: dict[bytes, int], signers: Collection[bytes]
    ) -> None:
        if self._validator is None:
            return
        self.own_power.set(stakes.get(self._validator, 0))
        if self._validator in signers:
            self.last_signed.set(height)
        elif self._validator in stakes:
            self.missed.inc()
