# pragma version 0.4.3
"""
@title Demands
@license Apache-2.0
@notice Withheld data is a fault: whoever misses a record of the data or a tile of a
        committed state demands it, with a bond. The answer is an opening in call data,
        for all to read; it earns the bond, whoever gives it. Silence convicts.
"""

from contracts.interfaces import IClock
from contracts.interfaces import IDemands
from contracts.interfaces import IDisputeGame
from contracts.interfaces import IJobMarket
from contracts.modules import facts
from contracts.modules import merkle
from contracts.modules import purse
from contracts.modules import trajectory

implements: IDemands
initializes: purse
exports: (purse.withdraw, purse.credit_of)

MAX_OPENING_BYTES: constant(uint256) = 40_960
SAYS_VALID: constant(bytes32) = 0x56414c4944000000000000000000000000000000000000000000000000000000

# States of a job (JobMarket) that matter here.
COMMITTED: constant(uint256) = 3
SLASHED: constant(uint256) = 5

# Statuses of a demand; 0 is a demand that does not exist.
PENDING: constant(uint256) = 1
ANSWERED: constant(uint256) = 2
SILENT: constant(uint256) = 3
REFUNDED: constant(uint256) = 4

struct Demand:
    job_id: uint256
    demander: address
    bond: uint256
    fact: bytes32
    demanded_at: uint256
    status: uint256

event RecordDemanded:
    demand_id: indexed(uint256)
    job_id: indexed(uint256)
    demander: indexed(address)
    record: uint256
    bond: uint256

event TileDemanded:
    demand_id: indexed(uint256)
    job_id: indexed(uint256)
    demander: indexed(address)
    position: uint256
    slot: uint256
    tile: uint256
    bond: uint256

event DemandAnswered:
    demand_id: indexed(uint256)
    job_id: indexed(uint256)
    answerer: indexed(address)
    bond: uint256

event DemandSilent:
    demand_id: indexed(uint256)
    job_id: indexed(uint256)
    demander: indexed(address)
    challenge_id: uint256

event DemandRefunded:
    demand_id: indexed(uint256)
    job_id: indexed(uint256)
    demander: indexed(address)
    bond: uint256

CLOCK: immutable(IClock)
JOB_MARKET: immutable(IJobMarket)
DISPUTE_GAME: immutable(IDisputeGame)
ML_VERIFIER: immutable(address)
CHALLENGE_WINDOW: immutable(uint256)
DEMAND_CLOCK: immutable(uint256)
BOND_GAS_PRICE: immutable(uint256)
ANSWER_GAS: immutable(uint256)

# @notice Number of demands; their ids are 1, 2, ...
demand_count: public(uint256)
# @notice Demand by the fact that answers it; an object is demanded once.
demand_of: public(HashMap[bytes32, uint256])
# @notice Demands about a trial that wait for an answer.
unanswered: public(HashMap[bytes32, uint256])
demands: HashMap[uint256, Demand]


@deploy
def __init__(
    clock: address,
    job_market: address,
    dispute_game: address,
    ml_verifier: address,
    challenge_window: uint256,
    demand_clock: uint256,
    bond_gas_price: uint256,
    answer_gas: uint256,
):
    """
    @param clock The Clock.
    @param job_market The JobMarket.
    @param dispute_game The DisputeGame.
    @param ml_verifier The precompile.
    @param challenge_window Ticks after a commitment during which demands are accepted.
    @param demand_clock Ticks to answer a demand.
    @param bond_gas_price Price, in wei, at which bonds count gas.
    @param answer_gas Gas of answering one demand.
    """
    assert demand_clock > 0, "demands: no time to answer"
    CLOCK = IClock(clock)
    JOB_MARKET = IJobMarket(job_market)
    DISPUTE_GAME = IDisputeGame(dispute_game)
    ML_VERIFIER = ml_verifier
    CHALLENGE_WINDOW = challenge_window
    DEMAND_CLOCK = demand_clock
    BOND_GAS_PRICE = bond_gas_price
    ANSWER_GAS = answer_gas


# ── views ────────────────────────────────────────────────────────────────────


@external
@view
def demand(demand_id: uint256) -> Demand:
    """
    @notice A demand; all zero if it does not exist.
    """
    return self.demands[demand_id]


@external
@view
def minimum_bond() -> uint256:
    """
    @notice What a demand must put down: twice the gas of an answer.
    """
    return self._minimum_bond()


@external
@view
def parameters() -> (uint256, uint256, uint256, uint256):
    """
    @notice challenge_window, demand_clock, bond_gas_price, answer_gas.
    """
    return CHALLENGE_WINDOW, DEMAND_CLOCK, BOND_GAS_PRICE, ANSWER_GAS


@external
@pure
def record_fact(trial: bytes32, record: uint256) -> bytes32:
    """
    @notice Key of a record in `demand_of`.
    """
    return facts._record(trial, record)


@external
@pure
def tile_fact(
    trial: bytes32, position: uint256, slot: uint256, tile: uint256
) -> bytes32:
    """
    @notice Key of a tile in `demand_of`.
    """
    return facts._tile(trial, position, slot, tile)


# ── demands ──────────────────────────────────────────────────────────────────


@external
@payable
@nonreentrant
def demand_record(job_id: uint256, record: uint256) -> uint256:
    """
    @notice Demand one record of the data; the value sent is the bond.
    @param job_id The job.
    @param record Index of the record.
    @return The demand's id.
    """
    case: IJobMarket.Case = self._open_case(job_id)
    assert record < case.records, "demands: no such record"
    demand_id: uint256 = self._demand(
        job_id, case.trial, facts._record(case.trial, record)
    )
    log RecordDemanded(
        demand_id=demand_id,
        job_id=job_id,
        demander=msg.sender,
        record=record,
        bond=msg.value,
    )
    return demand_id


@external
@payable
@nonreentrant
def demand_tile(
    job_id: uint256,
    position: uint256,
    slot: uint256,
    tile: uint256,
    opening: Bytes[MAX_OPENING_BYTES],
) -> uint256:
    """
    @notice Demand one tile of a committed state; the value sent is the bond.
    @param job_id The job.
    @param position Position of the state: a multiple of `commit_every`, or the last.
    @param slot Slot of the state.
    @param tile Tile of the slot.
    @param opening The same tile of h_0. It shows that the tile exists, since all states
           of a job have one layout: an honest solver can answer what can be asked.
    @return The demand's id.
    """
    case: IJobMarket.Case = self._open_case(job_id)
    assert trajectory._is_committed(
        position, case.steps, case.commit_every
    ), "demands: not a committed state"
    self._check_tile(case.initial_root, slot, tile, opening)
    demand_id: uint256 = self._demand(
        job_id, case.trial, facts._tile(case.trial, position, slot, tile)
    )
    log TileDemanded(
        demand_id=demand_id,
        job_id=job_id,
        demander=msg.sender,
        position=position,
        slot=slot,
        tile=tile,
        bond=msg.value,
    )
    return demand_id


@external
@nonreentrant
def answer_record(
    job_id: uint256,
    record: uint256,
    payload: Bytes[merkle.MAX_RECORD_BYTES],
    path: DynArray[bytes32, merkle.MAX_DEPTH],
):
    """
    @notice Answer a demand for a record and earn its bond. Anyone may call, in time.
    @param job_id The job.
    @param record Index of the record.
    @param payload Its bytes.
    @param path Its path under the data root.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    root: bytes32 = merkle._root(
        merkle.RECORD, merkle._record_leaf(payload), record, case.records, path
    )
    assert root == case.data_root, "demands: opening does not fit the root"
    self._answer(case, facts._record(case.trial, record))


@external
@nonreentrant
def answer_tile(
    job_id: uint256,
    position: uint256,
    slot: uint256,
    tile: uint256,
    state_root: bytes32,
    path: DynArray[bytes32, merkle.MAX_DEPTH],
    opening: Bytes[MAX_OPENING_BYTES],
):
    """
    @notice Answer a demand for a tile and earn its bond. Anyone may call, in time.
    @param job_id The job.
    @param position Position of the state.
    @param slot Slot of the state.
    @param tile Tile of the slot.
    @param state_root Root of the state.
    @param path Its path in the commitment's tree.
    @param opening The tile, opened under the state root. For the trap state, which
           holds no tensors: the 32 bytes of the last root before the trap.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    root: bytes32 = trajectory._root_at(
        state_root, position, case.steps, case.commit_every, path
    )
    assert root == case.root, "demands: opening does not fit the root"
    trapped: bool = False
    if len(opening) == 32:
        trapped = state_root == sha256(
            concat(b"lockstep/trap", extract32(opening, 0))
        )
    if not trapped:
        self._check_tile(state_root, slot, tile, opening)
    self._answer(case, facts._tile(case.trial, position, slot, tile))


@external
@nonreentrant
def timeout(demand_id: uint256):
    """
    @notice Convict a solver that has let a demand go unanswered. Anyone may call; the
            demander gets its bond back and leads the conviction.
    @param demand_id The demand.
    """
    d: Demand = self.demands[demand_id]
    assert d.status == PENDING, "demands: not pending"
    assert staticcall CLOCK.now() > d.demanded_at + DEMAND_CLOCK, (
        "demands: the clock still runs"
    )
    self.demands[demand_id].status = SILENT
    challenge_id: uint256 = extcall DISPUTE_GAME.convict_silent(d.job_id, d.demander)
    log DemandSilent(
        demand_id=demand_id,
        job_id=d.job_id,
        demander=d.demander,
        challenge_id=challenge_id,
    )
    purse._credit(d.demander, d.bond)


@external
@nonreentrant
def refund(demand_id: uint256):
    """
    @notice Credit a demander with the bond of a demand that a conviction has overtaken.
            Anyone may call.
    @param demand_id The demand.
    """
    d: Demand = self.demands[demand_id]
    assert d.status == PENDING, "demands: not pending"
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(d.job_id)
    assert case.state == SLASHED, "demands: not convicted"
    self.demands[demand_id].status = REFUNDED
    log DemandRefunded(
        demand_id=demand_id, job_id=d.job_id, demander=d.demander, bond=d.bond
    )
    purse._credit(d.demander, d.bond)


# ── internal ─────────────────────────────────────────────────────────────────


@internal
@view
def _open_case(job_id: uint256) -> IJobMarket.Case:
    """
    @notice A commitment about which data may still be demanded.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    assert case.state == COMMITTED, "demands: not committed"
    assert (
        staticcall CLOCK.now() <= case.committed_at + CHALLENGE_WINDOW
    ), "demands: the window has closed"
    return case


@internal
@view
def _minimum_bond() -> uint256:
    """
    @notice Twice the gas of an answer, at the parameters' price.
    """
    return 2 * ANSWER_GAS * BOND_GAS_PRICE


@internal
@payable
def _demand(job_id: uint256, trial: bytes32, fact: bytes32) -> uint256:
    """
    @notice Open a demand that `fact` will answer.
    """
    assert msg.value >= self._minimum_bond(), "demands: bond too small"
    assert self.demand_of[fact] == 0, "demands: already demanded"
    self.demand_count += 1
    demand_id: uint256 = self.demand_count
    self.demand_of[fact] = demand_id
    self.unanswered[trial] += 1
    self.demands[demand_id] = Demand(
        job_id=job_id,
        demander=msg.sender,
        bond=msg.value,
        fact=fact,
        demanded_at=staticcall CLOCK.now(),
        status=PENDING,
    )
    return demand_id


@internal
def _answer(case: IJobMarket.Case, fact: bytes32):
    """
    @notice Close a demand in time and credit its bond to the answerer.
    """
    demand_id: uint256 = self.demand_of[fact]
    d: Demand = self.demands[demand_id]
    assert d.status == PENDING, "demands: not pending"
    assert case.state == COMMITTED, "demands: not committed"
    assert (
        staticcall CLOCK.now() <= d.demanded_at + DEMAND_CLOCK
    ), "demands: too late"
    self.demands[demand_id].status = ANSWERED
    self.unanswered[case.trial] -= 1
    log DemandAnswered(
        demand_id=demand_id, job_id=d.job_id, answerer=msg.sender, bond=d.bond
    )
    purse._credit(msg.sender, d.bond)


@internal
@view
def _check_tile(
    state_root: bytes32, slot: uint256, tile: uint256, opening: Bytes[MAX_OPENING_BYTES]
):
    """
    @notice Refuse unless the precompile says that `opening` opens the tile; it reverts
            otherwise.
    @dev A call through an interface would send the whole of the opening's buffer, and
         the precompile accepts no trailing bytes.
    """
    answer: Bytes[33] = raw_call(
        ML_VERIFIER,
        abi_encode(
            state_root,
            slot,
            tile,
            opening,
            method_id=method_id("opening(bytes32,uint256,uint256,bytes)"),
        ),
        max_outsize=33,
        is_static_call=True,
    )
    assert len(answer) == 32 and extract32(answer, 0) == SAYS_VALID, (
        "demands: not an opening of the tile"
    )
