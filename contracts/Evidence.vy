# pragma version 0.4.3
"""
@title Evidence
@license Apache-2.0
@notice Permanent facts about commitments, shared by every challenge: verdicts on pairs
        of states, opened nodes of the commitment's tree, the states that the solver
        posted inside a segment. A fact is recorded once, with the tick, and holds no
        money. Anyone may record a truth; only the solver's key adds a claim of its own.
"""

from contracts.interfaces import IClock
from contracts.interfaces import IEvidence
from contracts.interfaces import IJobMarket
from contracts.modules import facts
from contracts.modules import merkle
from contracts.modules import trajectory

implements: IEvidence

# Verdicts, and what the precompile says for them.
VALID: constant(uint256) = 1
INVALID: constant(uint256) = 2
SAYS_VALID: constant(bytes32) = 0x56414c4944000000000000000000000000000000000000000000000000000000
SAYS_INVALID: constant(bytes32) = 0x494e56414c494400000000000000000000000000000000000000000000000000

# Call data of `replay`: the selector and eight static arguments, before the witness.
REPLAY_HEAD: constant(uint256) = 4 + 8 * 32

event VerdictRecorded:
    job_id: indexed(uint256)
    position: indexed(uint256)
    valid: bool
    pre_root: bytes32
    post_root: bytes32

event NodeOpened:
    job_id: indexed(uint256)
    level: indexed(uint256)
    index: indexed(uint256)
    node: bytes32
    children: DynArray[bytes32, merkle.FAN_OUT]

event InnerPosted:
    job_id: indexed(uint256)
    start: indexed(uint256)
    end: indexed(uint256)
    roots: DynArray[bytes32, merkle.FAN_OUT - 1]

CLOCK: immutable(IClock)
JOB_MARKET: immutable(IJobMarket)
ML_VERIFIER: immutable(address)

# @notice Tick at which a fact (`node_fact`, `segment_fact`) was recorded; 0: it is not.
recorded_at: public(HashMap[bytes32, uint256])
# @notice Hash of the inner roots of a segment, by `segment_fact`.
inner_roots: public(HashMap[bytes32, bytes32])
verdicts: HashMap[bytes32, uint256]


@deploy
def __init__(clock: address, job_market: address, ml_verifier: address):
    """
    @param clock The Clock.
    @param job_market The JobMarket.
    @param ml_verifier The precompile.
    """
    CLOCK = IClock(clock)
    JOB_MARKET = IJobMarket(job_market)
    ML_VERIFIER = ml_verifier


# ── views ────────────────────────────────────────────────────────────────────


@external
@view
def verdict(
    trial: bytes32, position: uint256, pre_root: bytes32, post_root: bytes32
) -> uint256:
    """
    @notice 1: the step is VALID, 2: INVALID, 0: not judged.
    """
    return self.verdicts[facts._verdict(trial, position, pre_root, post_root)]


@external
@pure
def node_fact(
    trial: bytes32, level: uint256, index: uint256, node: bytes32
) -> bytes32:
    """
    @notice Key of an opened node in `recorded_at`; the root names the topmost node.
    """
    return facts._node(trial, level, index, node)


@external
@pure
def segment_fact(trial: bytes32, start: uint256, end: uint256) -> bytes32:
    """
    @notice Key of a segment's inner roots in `recorded_at` and `inner_roots`.
    """
    return facts._segment(trial, start, end)


# ── facts ────────────────────────────────────────────────────────────────────


@external
@raw_return
def __default__() -> Bytes[32]:
    """
    @notice `replay(bytes32 trial, uint256 position, bytes32 pre_root,
            bytes32 post_root, bytes32 program_root, bytes32 data_root, uint256 seed,
            uint256 records, bytes witness) -> bytes32`, the very call of the
            precompile: check that it is about the trial's job, forward it unchanged
            and record the verdict, once. Anyone may call. Whatever fails, or answers
            anything but VALID or INVALID in exactly 32 bytes, reverts.
    @dev The call is taken raw because a decoded witness would stand in memory twice.
    """
    assert len(msg.data) > REPLAY_HEAD, "evidence: unknown call"
    head: Bytes[REPLAY_HEAD] = slice(msg.data, 0, REPLAY_HEAD)
    assert slice(head, 0, 4) == method_id(
        "replay(bytes32,uint256,bytes32,bytes32,bytes32,bytes32,uint256,uint256,bytes)"
    ), "evidence: unknown call"
    trial: bytes32 = empty(bytes32)
    position: uint256 = 0
    pre_root: bytes32 = empty(bytes32)
    post_root: bytes32 = empty(bytes32)
    program_root: bytes32 = empty(bytes32)
    data_root: bytes32 = empty(bytes32)
    seed: uint256 = 0
    records: uint256 = 0
    trial, position, pre_root, post_root, program_root, data_root, seed, records = (
        abi_decode(
            slice(head, 4, 8 * 32),
            (bytes32, uint256, bytes32, bytes32, bytes32, bytes32, uint256, uint256),
        )
    )
    job_id: uint256 = staticcall JOB_MARKET.job_of(trial)
    assert job_id != 0, "evidence: unknown trial"
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    assert position < case.steps, "evidence: no such step"
    assert program_root == case.program_root, "evidence: another program"
    assert data_root == case.data_root, "evidence: other data"
    assert seed == case.seed, "evidence: another seed"
    assert records == case.records, "evidence: another number of records"
    fact: bytes32 = facts._verdict(trial, position, pre_root, post_root)
    assert self.verdicts[fact] == 0, "evidence: already judged"
    # One byte of room more than an answer has, so that a longer one is seen.
    answer: Bytes[33] = raw_call(
        ML_VERIFIER, msg.data, max_outsize=33, is_static_call=True
    )
    assert len(answer) == 32, "evidence: no verdict"
    said: bytes32 = extract32(answer, 0)
    assert said == SAYS_VALID or said == SAYS_INVALID, "evidence: no verdict"
    self.verdicts[fact] = VALID if said == SAYS_VALID else INVALID
    log VerdictRecorded(
        job_id=job_id,
        position=position,
        valid=said == SAYS_VALID,
        pre_root=pre_root,
        post_root=post_root,
    )
    return slice(answer, 0, 32)


@external
def open_node(
    job_id: uint256,
    level: uint256,
    index: uint256,
    children: DynArray[bytes32, merkle.FAN_OUT],
):
    """
    @notice Open a node of the commitment's tree by its descendants six levels below, or
            at the leaves. Anyone may call: whatever hashes to the node is the truth,
            and whatever does not opens a node at which no challenge can stand.
    @param job_id The job.
    @param level The node's level; 0 is the leaves.
    @param index Its index in that level.
    @param children Node hashes; at the leaves the state roots themselves, and zero for
           padding.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    assert case.trial != empty(bytes32), "evidence: no commitment"
    count: uint256 = trajectory._leaf_count(case.steps, case.commit_every)
    depth: uint256 = merkle._depth(count)
    assert 0 < level and level <= depth, "evidence: no such level"
    assert index < 1 << (depth - level), "evidence: no such node"
    levels: uint256 = min(level, merkle.LEVELS_PER_MOVE)
    assert len(children) == 1 << levels, "evidence: wrong number of children"
    nodes: DynArray[bytes32, merkle.FAN_OUT] = children
    if level == levels:
        first: uint256 = index << levels
        for i: uint256 in range(len(children), bound=merkle.FAN_OUT):
            if first + i < count:
                nodes[i] = merkle._trajectory_leaf(children[i])
            else:
                assert children[i] == empty(bytes32), "evidence: padding"
    node: bytes32 = merkle._fold(nodes)
    if level == depth:
        node = merkle._seal(merkle.TRAJECTORY, count, node)
    self._record(facts._node(case.trial, level, index, node))
    log NodeOpened(
        job_id=job_id, level=level, index=index, node=node, children=children
    )


@external
def post_inner(
    job_id: uint256,
    start: uint256,
    end: uint256,
    roots: DynArray[bytes32, merkle.FAN_OUT - 1],
):
    """
    @notice Commit to states inside a segment. Solver only, once for each segment; it
            binds every challenge there.
    @param job_id The job.
    @param start First state of the segment.
    @param end Last state of it.
    @param roots State roots that cut it into min(64, end - start) parts, the p-th of
           which begins at start + (end - start) * p // parts.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    assert case.trial != empty(bytes32), "evidence: no commitment"
    assert msg.sender == case.solver, "evidence: not the solver"
    assert start < end and end <= case.steps, "evidence: no such segment"
    assert (
        len(roots) == min(end - start, merkle.FAN_OUT) - 1
    ), "evidence: wrong number of roots"
    for root: bytes32 in roots:
        # Zero stands for "not posted" in the DisputeGame: it would bind nobody.
        assert root != empty(bytes32), "evidence: no root"
    fact: bytes32 = facts._segment(case.trial, start, end)
    self._record(fact)
    self.inner_roots[fact] = keccak256(abi_encode(roots))
    log InnerPosted(job_id=job_id, start=start, end=end, roots=roots)


@internal
def _record(fact: bytes32):
    """
    @notice Record a fact, once, with the tick.
    """
    assert self.recorded_at[fact] == 0, "evidence: already recorded"
    self.recorded_at[fact] = staticcall CLOCK.now()
