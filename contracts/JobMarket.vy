# pragma version 0.4.3
"""
@title JobMarket
@license Apache-2.0
@notice Jobs from posting to payment.

        Open -> Assigned -> Committed -> Finalised | Diverged | Slashed
        Open -> Cancelled;  Assigned -> Expired | Open (reopened)

        The creator's escrow is the maximum price until the solver commits; from then on
        it is the price agreed. Disputes happen while a job is Committed, and only the
        DisputeGame says when a commitment is final or a solver convicted. Tokens owed
        are credited and withdrawn by their owners.
"""

from contracts.interfaces import IClock
from contracts.interfaces import IDisputeGame
from contracts.interfaces import IJobMarket
from contracts.interfaces import IStaking
from contracts.modules import merkle
from contracts.modules import purse
from contracts.modules import trajectory

implements: IJobMarket
initializes: purse
exports: (purse.withdraw, purse.credit_of)

MAX_PROGRAM_BYTES: constant(uint256) = 65_536
MAX_URL_BYTES: constant(uint256) = 200
MAX_WITNESS_BYTES: constant(uint256) = 262_144
# One leaf more than steps must fit a tree of `merkle.MAX_DEPTH` levels.
MAX_STEPS: constant(uint256) = 2**40 - 1
BASIS_POINTS: constant(uint256) = 10_000

# Gas of a transaction that replays a step: EIP-7623's floor for its call data, or
# ordinary call data and the verdict, and the work of the DisputeGame around them.
FLOOR_GAS_PER_BYTE: constant(uint256) = 40
GAS_PER_BYTE: constant(uint256) = 16
REPLAY_OVERHEAD: constant(uint256) = 300_000

# States of a job; 0 is a job that does not exist.
OPEN: constant(uint256) = 1
ASSIGNED: constant(uint256) = 2
COMMITTED: constant(uint256) = 3
FINALISED: constant(uint256) = 4
SLASHED: constant(uint256) = 5
CANCELLED: constant(uint256) = 6
EXPIRED: constant(uint256) = 7
DIVERGED: constant(uint256) = 8

# What a creator asks for.
#   data_root      root of the records' tree
#   records        number of records
#   seed           the job's randomness
#   initial_root   h_0
#   steps          T
#   commit_every   distance between committed states; 1 commits to every state
#   floor_price    price when the job opens
#   maximum_price  price after `auction_ticks`; the escrow
#   training_ticks time from assignment to commitment
#   stake          what the solver locks; at least the maximum price
#   reopen         whether a missed deadline reopens the job (else it refunds)
struct Terms:
    data_root: bytes32
    records: uint64
    seed: uint64
    initial_root: bytes32
    steps: uint64
    commit_every: uint64
    floor_price: uint256
    maximum_price: uint256
    auction_ticks: uint64
    training_ticks: uint64
    stake: uint256
    reopen: bool

#   price         agreed at assignment; 0 before
#   deadline      last tick at which the solver may commit
#   steps_done    steps paid for: `terms.steps` unless divergence is recorded
#   dispute_gas   gas of a transaction that replays one step, at most
struct Job:
    creator: address
    solver: address
    state: uint256
    program_root: bytes32
    terms: Terms
    opened_at: uint256
    price: uint256
    deadline: uint256
    root: bytes32
    final_root: bytes32
    committed_at: uint256
    trial: bytes32
    steps_done: uint256
    dispute_gas: uint256

event JobPosted:
    job_id: indexed(uint256)
    creator: indexed(address)
    program_root: indexed(bytes32)
    terms: Terms
    work_units: uint256
    peak_memory: uint256
    witness_bytes: uint256
    replay_gas: uint256
    url: String[MAX_URL_BYTES]

event JobAssigned:
    job_id: indexed(uint256)
    solver: indexed(address)
    price: uint256
    deadline: uint256
    url: String[MAX_URL_BYTES]

event JobCommitted:
    job_id: indexed(uint256)
    solver: indexed(address)
    trial: indexed(bytes32)
    root: bytes32
    final_root: bytes32
    committed_at: uint256

event DivergenceRecorded:
    job_id: indexed(uint256)
    steps_done: uint256
    state_root: bytes32

event JobFinalised:
    job_id: indexed(uint256)
    solver: indexed(address)
    state: uint256
    paid: uint256
    refunded: uint256

event JobSlashed:
    job_id: indexed(uint256)
    solver: indexed(address)
    stake: uint256
    refunded: uint256

event JobCancelled:
    job_id: indexed(uint256)
    creator: indexed(address)
    refunded: uint256

event JobExpired:
    job_id: indexed(uint256)
    solver: indexed(address)
    penalty: uint256
    reopened: bool

CLOCK: immutable(IClock)
STAKING: immutable(IStaking)
DISPUTE_GAME: immutable(address)
ML_VERIFIER: immutable(address)
DISPUTE_GAS_BUDGET: immutable(uint256)
LATE_PENALTY_BPS: immutable(uint256)

# @notice Number of jobs posted; their ids are 1, 2, ...
job_count: public(uint256)
# @notice Job that a trial is about; 0 if none.
job_of: public(HashMap[bytes32, uint256])
jobs: HashMap[uint256, Job]


@deploy
def __init__(
    clock: address,
    staking: address,
    dispute_game: address,
    ml_verifier: address,
    dispute_gas_budget: uint256,
    late_penalty_bps: uint256,
):
    """
    @param clock The Clock.
    @param staking Staking.
    @param dispute_game The DisputeGame.
    @param ml_verifier The precompile.
    @param dispute_gas_budget Most gas that the precompile may charge for one verdict.
    @param late_penalty_bps Part of its stake that a late solver loses, in 1/10,000.
    """
    assert late_penalty_bps <= BASIS_POINTS, "market: penalty above the stake"
    CLOCK = IClock(clock)
    STAKING = IStaking(staking)
    DISPUTE_GAME = dispute_game
    ML_VERIFIER = ml_verifier
    DISPUTE_GAS_BUDGET = dispute_gas_budget
    LATE_PENALTY_BPS = late_penalty_bps


# ── views ────────────────────────────────────────────────────────────────────


@external
@view
def job(job_id: uint256) -> Job:
    """
    @notice Everything about a job; all zero if it does not exist.
    """
    return self.jobs[job_id]


@external
@view
def trial(job_id: uint256) -> bytes32:
    """
    @notice Key of everything about a job's commitment; zero before it.
    """
    return self.jobs[job_id].trial


@external
@view
def price(job_id: uint256) -> uint256:
    """
    @notice What a solver that takes the job now will earn.
    """
    assert self.jobs[job_id].state == OPEN, "market: not open"
    return self._price(job_id)


@external
@view
def parameters() -> (uint256, uint256):
    """
    @notice The dispute gas budget and the late penalty in 1/10,000.
    """
    return DISPUTE_GAS_BUDGET, LATE_PENALTY_BPS


@external
@view
def case_of(job_id: uint256) -> IJobMarket.Case:
    """
    @notice What a dispute needs to know about a job's commitment.
    """
    terms: Terms = self.jobs[job_id].terms
    return IJobMarket.Case(
        trial=self.jobs[job_id].trial,
        state=self.jobs[job_id].state,
        solver=self.jobs[job_id].solver,
        committed_at=self.jobs[job_id].committed_at,
        root=self.jobs[job_id].root,
        steps=convert(terms.steps, uint256),
        commit_every=convert(terms.commit_every, uint256),
        stake=terms.stake,
        dispute_gas=self.jobs[job_id].dispute_gas,
        initial_root=terms.initial_root,
        program_root=self.jobs[job_id].program_root,
        data_root=terms.data_root,
        seed=convert(terms.seed, uint256),
        records=convert(terms.records, uint256),
    )


# ── the creator ──────────────────────────────────────────────────────────────


@external
@payable
@nonreentrant
def post(
    program: Bytes[MAX_PROGRAM_BYTES], terms: Terms, url: String[MAX_URL_BYTES]
) -> uint256:
    """
    @notice Offer a job; the value sent is the escrow, exactly the maximum price.
    @param program Canonical bytes of one training step.
    @param terms See `Terms`.
    @param url Where the creator serves the data and the initial state.
    @return The job's id.
    """
    assert msg.value == terms.maximum_price, "market: escrow is not the maximum price"
    assert terms.maximum_price > 0, "market: no price"
    assert terms.floor_price <= terms.maximum_price, "market: floor above maximum"
    assert terms.stake >= terms.maximum_price, "market: stake below the price"
    assert terms.records > 0, "market: no records"
    steps: uint256 = convert(terms.steps, uint256)
    assert 0 < steps and steps <= MAX_STEPS, "market: steps out of range"
    assert (
        0 < terms.commit_every and terms.commit_every <= terms.steps
    ), "market: commit_every out of range"
    assert terms.training_ticks > 0, "market: no time to train"

    program_root: bytes32 = empty(bytes32)
    work_units: uint256 = 0
    peak_memory: uint256 = 0
    witness_bytes: uint256 = 0
    replay_gas: uint256 = 0
    program_root, work_units, peak_memory, witness_bytes, replay_gas = self._admit(
        convert(terms.records, uint256), program
    )
    assert witness_bytes <= MAX_WITNESS_BYTES, "market: witness too large"
    assert replay_gas <= DISPUTE_GAS_BUDGET, "market: dispute too costly"

    self.job_count += 1
    job_id: uint256 = self.job_count
    self.jobs[job_id].creator = msg.sender
    self.jobs[job_id].state = OPEN
    self.jobs[job_id].program_root = program_root
    self.jobs[job_id].terms = terms
    self.jobs[job_id].opened_at = staticcall CLOCK.now()
    self.jobs[job_id].dispute_gas = REPLAY_OVERHEAD + max(
        FLOOR_GAS_PER_BYTE * witness_bytes, GAS_PER_BYTE * witness_bytes + replay_gas
    )
    log JobPosted(
        job_id=job_id,
        creator=msg.sender,
        program_root=program_root,
        terms=terms,
        work_units=work_units,
        peak_memory=peak_memory,
        witness_bytes=witness_bytes,
        replay_gas=replay_gas,
        url=url,
    )
    return job_id


@external
@nonreentrant
def cancel(job_id: uint256):
    """
    @notice Withdraw a job that nobody has taken. Creator only.
    """
    assert self.jobs[job_id].state == OPEN, "market: not open"
    assert msg.sender == self.jobs[job_id].creator, "market: not the creator"
    self.jobs[job_id].state = CANCELLED
    refund: uint256 = self.jobs[job_id].terms.maximum_price
    log JobCancelled(job_id=job_id, creator=msg.sender, refunded=refund)
    purse._credit(msg.sender, refund)


# ── the solver ───────────────────────────────────────────────────────────────


@external
@nonreentrant
def take(job_id: uint256, url: String[MAX_URL_BYTES]):
    """
    @notice Take an open job at its present price and lock the stake that it asks for.
    @dev Fetch and verify the program, the data and the initial state first: from the
         commitment on, withholding them is the solver's fault.
    @param job_id The job.
    @param url Where the solver will serve the trajectory, the data and the states.
    """
    assert self.jobs[job_id].state == OPEN, "market: not open"
    agreed: uint256 = self._price(job_id)
    deadline: uint256 = staticcall CLOCK.now() + convert(
        self.jobs[job_id].terms.training_ticks, uint256
    )
    self.jobs[job_id].state = ASSIGNED
    self.jobs[job_id].solver = msg.sender
    self.jobs[job_id].price = agreed
    self.jobs[job_id].deadline = deadline
    log JobAssigned(
        job_id=job_id, solver=msg.sender, price=agreed, deadline=deadline, url=url
    )
    extcall STAKING.lock(msg.sender, self.jobs[job_id].terms.stake)


@external
@nonreentrant
def commit(
    job_id: uint256,
    root: bytes32,
    final_root: bytes32,
    initial_proof: DynArray[bytes32, merkle.MAX_DEPTH],
    final_proof: DynArray[bytes32, merkle.MAX_DEPTH],
):
    """
    @notice Commit to the trajectory, opening h_0 and h_T. Solver only, once, in time.
    @param job_id The job.
    @param root Root of the tree over every `commit_every`-th state and the last.
    @param final_root h_T.
    @param initial_proof Path of the first leaf, which is h_0.
    @param final_proof Path of the last leaf, which is h_T.
    """
    assert self.jobs[job_id].state == ASSIGNED, "market: not assigned"
    assert msg.sender == self.jobs[job_id].solver, "market: not the solver"
    now: uint256 = staticcall CLOCK.now()
    assert now <= self.jobs[job_id].deadline, "market: too late"
    steps: uint256 = convert(self.jobs[job_id].terms.steps, uint256)
    count: uint256 = self._leaf_count(job_id)
    self._check_leaf(
        root, self.jobs[job_id].terms.initial_root, 0, count, initial_proof
    )
    self._check_leaf(root, final_root, count - 1, count, final_proof)
    trajectory._check_padding(count, final_proof)

    trial: bytes32 = keccak256(
        abi_encode(staticcall CLOCK.genesis_hash(), self, job_id, root)
    )
    self.jobs[job_id].state = COMMITTED
    self.jobs[job_id].root = root
    self.jobs[job_id].final_root = final_root
    self.jobs[job_id].committed_at = now
    self.jobs[job_id].trial = trial
    self.jobs[job_id].steps_done = steps
    self.job_of[trial] = job_id
    log JobCommitted(
        job_id=job_id,
        solver=msg.sender,
        trial=trial,
        root=root,
        final_root=final_root,
        committed_at=now,
    )
    # The job can no longer reopen, so the escrow above the price goes back.
    purse._credit(
        self.jobs[job_id].creator,
        self.jobs[job_id].terms.maximum_price - self.jobs[job_id].price,
    )


# ── the end of a job: anyone may bring it about ──────────────────────────────


@external
@nonreentrant
def diverge(
    job_id: uint256,
    leaf: uint256,
    state_root: bytes32,
    state_proof: DynArray[bytes32, merkle.MAX_DEPTH],
    trap_proof: DynArray[bytes32, merkle.MAX_DEPTH],
    last_root: bytes32,
):
    """
    @notice Record, before finality, that the trajectory ends in the trap state, so that
            only the steps up to `leaf` are paid. Trap roots repeat to the end.
    @param job_id The job.
    @param leaf Index of the last committed state that is not the trap.
    @param state_root That state's root.
    @param state_proof Its path.
    @param trap_proof Path of the next leaf, which is the trap.
    @param last_root Root of the last state before the trap: the trap is its hash. In a
           dense commitment it is `state_root`.
    """
    assert self.jobs[job_id].state == COMMITTED, "market: not committed"
    steps: uint256 = convert(self.jobs[job_id].terms.steps, uint256)
    assert self.jobs[job_id].steps_done == steps, "market: already recorded"
    trap: bytes32 = self.jobs[job_id].final_root
    assert trap == sha256(concat(b"lockstep/trap", last_root)), "market: not a trap"
    assert state_root != trap, "market: already the trap"
    root: bytes32 = self.jobs[job_id].root
    count: uint256 = self._leaf_count(job_id)
    self._check_leaf(root, state_root, leaf, count, state_proof)
    self._check_leaf(root, trap, leaf + 1, count, trap_proof)
    done: uint256 = leaf * convert(self.jobs[job_id].terms.commit_every, uint256)
    self.jobs[job_id].steps_done = done
    log DivergenceRecorded(job_id=job_id, steps_done=done, state_root=state_root)


@external
@nonreentrant
def finalise(job_id: uint256):
    """
    @notice Pay the solver and free its stake once nothing can be held against it: the
            window has closed and no challenge or demand is open.
    """
    assert self.jobs[job_id].state == COMMITTED, "market: not committed"
    assert staticcall IDisputeGame(DISPUTE_GAME).is_final(
        self.jobs[job_id].trial, self.jobs[job_id].committed_at
    ), "market: not final"
    steps: uint256 = convert(self.jobs[job_id].terms.steps, uint256)
    done: uint256 = self.jobs[job_id].steps_done
    agreed: uint256 = self.jobs[job_id].price
    paid: uint256 = agreed * done // steps
    state: uint256 = FINALISED if done == steps else DIVERGED
    solver: address = self.jobs[job_id].solver
    self.jobs[job_id].state = state
    log JobFinalised(
        job_id=job_id, solver=solver, state=state, paid=paid, refunded=agreed - paid
    )
    purse._credit(solver, paid)
    purse._credit(self.jobs[job_id].creator, agreed - paid)
    extcall STAKING.unlock(solver, self.jobs[job_id].terms.stake)


@external
@nonreentrant
def expire(job_id: uint256):
    """
    @notice End an assignment whose deadline has passed without a commitment. The solver
            loses the late penalty, which is burned so that nobody gains by making it
            late; the job reopens at its floor price or refunds, as its terms say.
    """
    assert self.jobs[job_id].state == ASSIGNED, "market: not assigned"
    now: uint256 = staticcall CLOCK.now()
    assert now > self.jobs[job_id].deadline, "market: not late"
    solver: address = self.jobs[job_id].solver
    stake: uint256 = self.jobs[job_id].terms.stake
    penalty: uint256 = stake * LATE_PENALTY_BPS // BASIS_POINTS
    reopened: bool = self.jobs[job_id].terms.reopen
    self.jobs[job_id].solver = empty(address)
    self.jobs[job_id].price = 0
    self.jobs[job_id].deadline = 0
    if reopened:
        self.jobs[job_id].state = OPEN
        self.jobs[job_id].opened_at = now
    else:
        self.jobs[job_id].state = EXPIRED
        purse._credit(
            self.jobs[job_id].creator, self.jobs[job_id].terms.maximum_price
        )
    log JobExpired(job_id=job_id, solver=solver, penalty=penalty, reopened=reopened)
    extcall STAKING.slash(solver, penalty, empty(address))
    extcall STAKING.unlock(solver, stake - penalty)


@external
@nonreentrant
def convict(job_id: uint256):
    """
    @notice Refund the creator and hand the solver's whole stake for the job to the
            DisputeGame, which shares it out. DisputeGame only.
    """
    assert msg.sender == DISPUTE_GAME, "market: only the dispute game"
    assert self.jobs[job_id].state == COMMITTED, "market: not committed"
    self.jobs[job_id].state = SLASHED
    solver: address = self.jobs[job_id].solver
    stake: uint256 = self.jobs[job_id].terms.stake
    refund: uint256 = self.jobs[job_id].price
    log JobSlashed(job_id=job_id, solver=solver, stake=stake, refunded=refund)
    purse._credit(self.jobs[job_id].creator, refund)
    extcall STAKING.slash(solver, stake, DISPUTE_GAME)


# ── internal ─────────────────────────────────────────────────────────────────


@internal
@view
def _admit(
    records: uint256, program: Bytes[MAX_PROGRAM_BYTES]
) -> (bytes32, uint256, uint256, uint256, uint256):
    """
    @notice Ask the precompile what a program costs; it refuses by reverting.
    @dev A call through an interface would send the whole of the program's buffer, and
         the precompile accepts no trailing bytes.
    """
    answer: Bytes[5 * 32] = raw_call(
        ML_VERIFIER,
        abi_encode(records, program, method_id=method_id("admit(uint256,bytes)")),
        max_outsize=5 * 32,
        is_static_call=True,
    )
    assert len(answer) == 5 * 32, "market: not admitted"
    return abi_decode(answer, (bytes32, uint256, uint256, uint256, uint256))


@internal
@view
def _price(job_id: uint256) -> uint256:
    """
    @notice Dutch price: linear from the floor to the maximum, then constant.
    """
    floor_price: uint256 = self.jobs[job_id].terms.floor_price
    maximum: uint256 = self.jobs[job_id].terms.maximum_price
    duration: uint256 = convert(self.jobs[job_id].terms.auction_ticks, uint256)
    elapsed: uint256 = staticcall CLOCK.now() - self.jobs[job_id].opened_at
    if elapsed >= duration:
        return maximum
    return floor_price + (maximum - floor_price) * elapsed // duration


@internal
@view
def _leaf_count(job_id: uint256) -> uint256:
    """
    @notice Number of committed states: every `commit_every`-th and the last.
    """
    steps: uint256 = convert(self.jobs[job_id].terms.steps, uint256)
    every: uint256 = convert(self.jobs[job_id].terms.commit_every, uint256)
    return trajectory._leaf_count(steps, every)


@internal
@pure
def _check_leaf(
    root: bytes32,
    state_root: bytes32,
    index: uint256,
    count: uint256,
    path: DynArray[bytes32, merkle.MAX_DEPTH],
):
    """
    @notice Refuse unless `state_root` is leaf `index` of the trajectory `root`.
    """
    assert trajectory._root(state_root, index, count, path) == root, (
        "market: opening does not fit the root"
    )
