"""When a block happened: the median of what those who committed its parent say.

Every precommit names its validator's clock. The time of a block is the median of the
times in its parent's certificate, weighted by stake, in whole seconds and never before
the parent's. Less than a third of the stake can move it no further than to some honest
validator's clock, and a proposer has no say but in which precommits it collects. Block
1, whose parent nobody voted on, has the genesis block's time. (Tendermint's BFT time.)
"""

from chain.sidecar import CommitCertificate
from consensus.validators import ValidatorSet

_MILLISECONDS = 1_000


def median_time(certificate: CommitCertificate, validators: ValidatorSet) -> int:
    """The weighted median in milliseconds; of a certificate that was verified.

    The smallest time that validators with at least half of the certificate's stake do
    not exceed.
    """
    times = sorted(
        (entry.time, validators.at(index).stake)
        for entry in certificate.signatures
        if (index := validators.index_of(entry.validator)) is not None
    )
    total, passed = sum(stake for _, stake in times), 0
    for time, stake in times:
        passed += stake
        if 2 * passed >= total:
            return time
    raise ValueError("a certificate without signatures has no time")


def block_time(
    parent_timestamp: int,
    certificate: CommitCertificate | None,
    validators: ValidatorSet,
) -> int:
    """The timestamp of the block after the one that `certificate` commits, in seconds.

    Args:
        parent_timestamp: In seconds.
        certificate: Of the parent; None when the parent is the genesis block.
        validators: The set that signed the certificate.
    """
    if certificate is None:
        return parent_timestamp
    median = median_time(certificate, validators) // _MILLISECONDS
    return max(parent_timestamp, median)
