# pragma version 0.4.3
"""
@title Verification
@license Apache-2.0
@notice Proof that a verifier recomputed a segment of a commitment: a digest over states
        that the solver did not publish, committed under the verifier's address and
        revealed later, so that nobody can copy it. What verifiers earn by it is paid
        elsewhere; here stands who proved what, and when.
"""

from contracts.interfaces import IClock
from contracts.interfaces import IJobMarket

# State of a job (JobMarket) in which it is verified.
COMMITTED: constant(uint256) = 3

#   commitment    keccak256(trial, verifier, start, end, digest, salt)
#   committed_at  tick of the commitment; 0: there is none
#   digest        zero until revealed
struct Proof:
    commitment: bytes32
    committed_at: uint256
    digest: bytes32

event DigestCommitted:
    job_id: indexed(uint256)
    verifier: indexed(address)
    start: uint256
    end: uint256
    commitment: bytes32

event DigestRevealed:
    job_id: indexed(uint256)
    verifier: indexed(address)
    start: uint256
    end: uint256
    digest: bytes32

CLOCK: immutable(IClock)
JOB_MARKET: immutable(IJobMarket)
CHALLENGE_WINDOW: immutable(uint256)
REVEAL_WINDOW: immutable(uint256)
MINIMUM_REVEAL_DELAY: immutable(uint256)

proofs: HashMap[bytes32, Proof]


@deploy
def __init__(
    clock: address,
    job_market: address,
    challenge_window: uint256,
    reveal_window: uint256,
    minimum_reveal_delay: uint256,
):
    """
    @param clock The Clock.
    @param job_market The JobMarket.
    @param challenge_window Ticks after a job's commitment during which digests are
           committed.
    @param reveal_window Ticks after that during which they are revealed.
    @param minimum_reveal_delay Ticks that a digest stays sealed.
    """
    assert minimum_reveal_delay > 0, "verification: reveals in the block of the commit"
    CLOCK = IClock(clock)
    JOB_MARKET = IJobMarket(job_market)
    CHALLENGE_WINDOW = challenge_window
    REVEAL_WINDOW = reveal_window
    MINIMUM_REVEAL_DELAY = minimum_reveal_delay


@external
@view
def proof(job_id: uint256, verifier: address, start: uint256, end: uint256) -> Proof:
    """
    @notice What a verifier has shown about the steps [start, end); zero if nothing.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    return self.proofs[self._key(case.trial, verifier, start, end)]


@external
@view
def parameters() -> (uint256, uint256, uint256):
    """
    @notice challenge_window, reveal_window, minimum_reveal_delay, in ticks.
    """
    return CHALLENGE_WINDOW, REVEAL_WINDOW, MINIMUM_REVEAL_DELAY


@external
@nonreentrant
def commit_digest(job_id: uint256, start: uint256, end: uint256, commitment: bytes32):
    """
    @notice Bind the caller to a digest over the steps [start, end) of a committed job.
    @param job_id The job.
    @param start First step.
    @param end One past the last step.
    @param commitment keccak256(abi.encode(trial, verifier, start, end, digest, salt)).
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    now: uint256 = staticcall CLOCK.now()
    assert case.state == COMMITTED, "verification: not committed"
    assert now <= case.committed_at + CHALLENGE_WINDOW, "verification: too late"
    assert start < end and end <= case.steps, "verification: no such segment"
    key: bytes32 = self._key(case.trial, msg.sender, start, end)
    assert self.proofs[key].committed_at == 0, "verification: already committed"
    self.proofs[key].commitment = commitment
    self.proofs[key].committed_at = now
    log DigestCommitted(
        job_id=job_id, verifier=msg.sender, start=start, end=end, commitment=commitment
    )


@external
@nonreentrant
def reveal_digest(
    job_id: uint256, start: uint256, end: uint256, digest: bytes32, salt: bytes32
):
    """
    @notice Reveal a digest. Not before `minimum_reveal_delay` and not after the reveal
            window, once.
    @param job_id The job.
    @param start First step.
    @param end One past the last step.
    @param digest As committed; not zero.
    @param salt As committed.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    now: uint256 = staticcall CLOCK.now()
    key: bytes32 = self._key(case.trial, msg.sender, start, end)
    proof: Proof = self.proofs[key]
    assert proof.committed_at != 0, "verification: not committed"
    assert proof.digest == empty(bytes32), "verification: already revealed"
    assert digest != empty(bytes32), "verification: no digest"
    assert now >= proof.committed_at + MINIMUM_REVEAL_DELAY, "verification: too early"
    assert (
        now <= case.committed_at + CHALLENGE_WINDOW + REVEAL_WINDOW
    ), "verification: too late"
    assert proof.commitment == keccak256(
        abi_encode(case.trial, msg.sender, start, end, digest, salt)
    ), "verification: not what was committed"
    self.proofs[key].digest = digest
    log DigestRevealed(
        job_id=job_id, verifier=msg.sender, start=start, end=end, digest=digest
    )


@internal
@pure
def _key(trial: bytes32, verifier: address, start: uint256, end: uint256) -> bytes32:
    """
    @notice One proof for each trial, verifier and segment.
    """
    return keccak256(abi_encode(trial, verifier, start, end))
