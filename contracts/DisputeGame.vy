# pragma version 0.4.3
"""
@title DisputeGame
@license Apache-2.0
@notice Challenges to a solver's commitment, their clocks and their money.

        A *challenge* is a bond and a place in the trajectory. It is committed sealed,
        then revealed: either it names the step it holds to be wrong (in a sparse
        commitment, the first step of the segment), or it says that leaves are withheld
        and descends from the root. It waits for a *fact* of the Evidence (the solver is
        to move) or for its challenger, and it ends when the pair of adjacent states it
        has come to is judged: INVALID convicts the solver, VALID loses the bond.

        *Clocks* count ticks, for each side of each challenge; only the side to move
        burns time. A fact carries its tick, so one answer stops every clock that waits
        for it, without a loop.

        A wrong trajectory from the right h_0 has a wrong pair, and every move that
        leads to it is the challenger's or is forced within the solver's clock: one
        honest challenger convicts. A right trajectory has none, and every fact that can be
        asked about it can be given: an honest solver is never convicted.
"""

from contracts.interfaces import IClock
from contracts.interfaces import IDemands
from contracts.interfaces import IDisputeGame
from contracts.interfaces import IEvidence
from contracts.interfaces import IJobMarket
from contracts.modules import facts
from contracts.modules import merkle
from contracts.modules import purse
from contracts.modules import trajectory

implements: IDisputeGame
initializes: purse
exports: (purse.withdraw, purse.credit_of)

BASIS_POINTS: constant(uint256) = 10_000
# Part of the stake that pays the convicting challenger's gas, at most. With a share of
# at most MAX_SHARE_BPS of the rest, a cheater who convicts himself loses over a third.
MAX_COMPENSATION_BPS: constant(uint256) = 1_000
MAX_SHARE_BPS: constant(uint256) = 6_000

# Places that a challenge names instead of a step; DEMANDED stands for a silent demand.
WITHHELD: constant(uint256) = max_value(uint256)
DEMANDED: constant(uint256) = max_value(uint256) - 1

# States of a job (JobMarket) that matter here.
COMMITTED: constant(uint256) = 3
SLASHED: constant(uint256) = 5

# Statuses of a challenge; 0 is a challenge that does not exist.
SEALED: constant(uint256) = 1
PENDING: constant(uint256) = 2
WON: constant(uint256) = 3
LOST: constant(uint256) = 4
CLAIMED: constant(uint256) = 5

# Verdicts of the Evidence; 0 is a pair that is not judged.
VALID: constant(uint256) = 1
INVALID: constant(uint256) = 2

#   commitment  keccak256(trial, challenger, step, salt)
#   named       step, WITHHELD or DEMANDED
#   weight      its part in its share group; 0 if it does not belong to it
#   awaits      the fact that lets the challenger move; zero: it is to move anyway
#   level       > 0: it stands at node (level, index) of the commitment's tree
#   start, end  at level 0: it stands at the states start < end, the first of them
#               undisputed by the challenger, the second disputed
#   moved_at    when the challenger last moved
#   *_spent     ticks burned before `moved_at`
struct Challenge:
    job_id: uint256
    challenger: address
    bond: uint256
    commitment: bytes32
    committed_at: uint256
    committed_block: uint256
    status: uint256
    named: uint256
    weight: uint256
    awaits: bytes32
    level: uint256
    index: uint256
    start: uint256
    end: uint256
    moved_at: uint256
    challenger_spent: uint256
    solver_spent: uint256

#   sealed      challenges not revealed
#   pending     challenges revealed, without a result
#   contested   distinct steps named by pending challenges
#   quiet_at    by this tick every revealed challenge can be brought to its end
#   convicted   challenge whose conviction leads: the smallest step, the first of all
#   settled     whether the stake has been shared out
#   award       what the leading group shares
#   award_weight  by this sum of weights; 0: all of it goes to `convicted`
struct Docket:
    sealed: uint256
    pending: uint256
    contested: uint256
    quiet_at: uint256
    convicted: uint256
    settled: bool
    award: uint256
    award_weight: uint256

#   first_reveal  block in which the place was first named
#   pending       challenges that stand there without a result
#   weight        of the group: those committed before the first reveal, and not lost
struct Place:
    first_reveal: uint256
    pending: uint256
    weight: uint256

# Windows, delays and clocks are in ticks, the price is in wei; see the constructor.
struct Parameters:
    challenge_window: uint256
    reveal_window: uint256
    minimum_reveal_delay: uint256
    move_clock: uint256
    whistleblower_share_bps: uint256
    bond_gas_price: uint256
    opening_gas: uint256

event ChallengeCommitted:
    challenge_id: indexed(uint256)
    job_id: indexed(uint256)
    challenger: indexed(address)
    commitment: bytes32
    bond: uint256

event ChallengeRevealed:
    challenge_id: indexed(uint256)
    job_id: indexed(uint256)
    challenger: indexed(address)
    step: uint256
    weight: uint256

event NodeAwaited:
    challenge_id: indexed(uint256)
    job_id: indexed(uint256)
    level: uint256
    index: uint256

event SegmentAwaited:
    challenge_id: indexed(uint256)
    job_id: indexed(uint256)
    start: uint256
    end: uint256

event StepPinned:
    challenge_id: indexed(uint256)
    job_id: indexed(uint256)
    step: uint256

event ChallengeLost:
    challenge_id: indexed(uint256)
    job_id: indexed(uint256)
    challenger: indexed(address)
    compensation: uint256
    burned: uint256

event SolverConvicted:
    challenge_id: indexed(uint256)
    job_id: indexed(uint256)
    challenger: indexed(address)
    named: uint256

event Settled:
    job_id: indexed(uint256)
    challenge_id: indexed(uint256)
    compensation: uint256
    award: uint256
    award_weight: uint256
    burned: uint256

event ChallengeClaimed:
    challenge_id: indexed(uint256)
    job_id: indexed(uint256)
    challenger: indexed(address)
    bond: uint256
    share: uint256

CLOCK: immutable(IClock)
STAKING: immutable(address)
JOB_MARKET: immutable(IJobMarket)
EVIDENCE: immutable(IEvidence)
DEMANDS: immutable(IDemands)
CHALLENGE_WINDOW: immutable(uint256)
REVEAL_WINDOW: immutable(uint256)
MINIMUM_REVEAL_DELAY: immutable(uint256)
MOVE_CLOCK: immutable(uint256)
WHISTLEBLOWER_SHARE_BPS: immutable(uint256)
BOND_GAS_PRICE: immutable(uint256)
OPENING_GAS: immutable(uint256)

# @notice Number of challenges; their ids are 1, 2, ...
challenge_count: public(uint256)
challenges: HashMap[uint256, Challenge]
dockets: HashMap[bytes32, Docket]
places: HashMap[bytes32, HashMap[uint256, Place]]
# State roots between committed states, by trial and position.
pinned: HashMap[bytes32, HashMap[uint256, bytes32]]

@deploy
def __init__(
    clock: address,
    staking: address,
    job_market: address,
    evidence: address,
    demands: address,
    challenge_window: uint256,
    reveal_window: uint256,
    minimum_reveal_delay: uint256,
    move_clock: uint256,
    whistleblower_share_bps: uint256,
    bond_gas_price: uint256,
    opening_gas: uint256,
):
    """
    @param clock The Clock.
    @param staking Staking, from which slashed stakes arrive.
    @param job_market The JobMarket.
    @param evidence The Evidence.
    @param demands The Demands.
    @param challenge_window Ticks after a commitment during which challenges are taken.
    @param reveal_window Ticks after that during which challenges may be revealed.
    @param minimum_reveal_delay Ticks that a challenge stays sealed: one replay's time.
    @param move_clock Ticks that each side has for all its moves in one challenge.
    @param whistleblower_share_bps Part of a slashed stake for the whistleblowers.
    @param bond_gas_price Price, in wei, at which bonds count gas.
    @param opening_gas Gas of all openings of one challenge.
    """
    assert minimum_reveal_delay > 0, "game: reveals in the block of the commit"
    assert minimum_reveal_delay <= reveal_window, "game: no time to reveal"
    assert move_clock > 0, "game: no time to move"
    assert whistleblower_share_bps <= MAX_SHARE_BPS, "game: share above 60 %"
    CLOCK = IClock(clock)
    STAKING = staking
    JOB_MARKET = IJobMarket(job_market)
    EVIDENCE = IEvidence(evidence)
    DEMANDS = IDemands(demands)
    CHALLENGE_WINDOW = challenge_window
    REVEAL_WINDOW = reveal_window
    MINIMUM_REVEAL_DELAY = minimum_reveal_delay
    MOVE_CLOCK = move_clock
    WHISTLEBLOWER_SHARE_BPS = whistleblower_share_bps
    BOND_GAS_PRICE = bond_gas_price
    OPENING_GAS = opening_gas


# ── views ────────────────────────────────────────────────────────────────────


@external
@view
def parameters() -> Parameters:
    """
    @notice Windows and clocks in ticks, bond parameters.
    """
    return Parameters(
        challenge_window=CHALLENGE_WINDOW,
        reveal_window=REVEAL_WINDOW,
        minimum_reveal_delay=MINIMUM_REVEAL_DELAY,
        move_clock=MOVE_CLOCK,
        whistleblower_share_bps=WHISTLEBLOWER_SHARE_BPS,
        bond_gas_price=BOND_GAS_PRICE,
        opening_gas=OPENING_GAS,
    )


@external
@view
def challenge(challenge_id: uint256) -> Challenge:
    """
    @notice A challenge; all zero if it does not exist.
    """
    return self.challenges[challenge_id]


@external
@view
def docket(trial: bytes32) -> Docket:
    """
    @notice The sums over all challenges of a trial.
    """
    return self.dockets[trial]


@external
@view
def place(trial: bytes32, named: uint256) -> Place:
    """
    @notice The share group of a step, of WITHHELD or of DEMANDED.
    """
    return self.places[trial][named]


@external
@view
def clocks(challenge_id: uint256) -> (uint256, uint256, bool):
    """
    @notice Ticks burned by solver and challenger, and whether the solver is to move.
    """
    return self._clocks(self.challenges[challenge_id])


@external
@view
def minimum_bond(job_id: uint256) -> uint256:
    """
    @notice What a challenge must put down now; more buys a larger part of the share.
    """
    return self._minimum_bond(staticcall JOB_MARKET.case_of(job_id))


@external
@view
def is_final(trial: bytes32, committed_at: uint256) -> bool:
    """
    @notice Whether nothing can be held against a commitment any more.
    """
    docket: Docket = self.dockets[trial]
    now: uint256 = staticcall CLOCK.now()
    closes: uint256 = committed_at + CHALLENGE_WINDOW
    if docket.sealed > 0:
        closes += REVEAL_WINDOW
    return (
        now > closes
        and docket.pending == 0
        and staticcall DEMANDS.unanswered(trial) == 0
    )


# ── challenges ───────────────────────────────────────────────────────────────


@external
@payable
@nonreentrant
def challenge_commit(job_id: uint256, commitment: bytes32) -> uint256:
    """
    @notice Challenge a commitment without saying where; the value sent is the bond.
    @param job_id The job.
    @param commitment keccak256(abi.encode(trial, challenger, step, salt)). Copying it
           is useless: only the challenger hashed in can reveal it.
    @return The challenge's id.
    """
    case: IJobMarket.Case = self._open_case(job_id)
    assert msg.value >= self._minimum_bond(case), "game: bond too small"
    self.challenge_count += 1
    challenge_id: uint256 = self.challenge_count
    self.challenges[challenge_id].job_id = job_id
    self.challenges[challenge_id].challenger = msg.sender
    self.challenges[challenge_id].bond = msg.value
    self.challenges[challenge_id].commitment = commitment
    self.challenges[challenge_id].committed_at = staticcall CLOCK.now()
    self.challenges[challenge_id].committed_block = block.number
    self.challenges[challenge_id].status = SEALED
    self.dockets[case.trial].sealed += 1
    log ChallengeCommitted(
        challenge_id=challenge_id,
        job_id=job_id,
        challenger=msg.sender,
        commitment=commitment,
        bond=msg.value,
    )
    return challenge_id


@external
@nonreentrant
def challenge_reveal(challenge_id: uint256, step: uint256, salt: bytes32):
    """
    @notice Say where the commitment is wrong. Challenger only; not before
            `minimum_reveal_delay` and not after the reveal window. After a conviction
            only smaller steps matter, and the convicted one, to share.
    @param challenge_id The challenge.
    @param step The wrong step i: replay(h_i) != h_{i+1}. In a sparse commitment, the
           first step of the wrong segment. 2**256 - 1: leaves are withheld.
    @param salt As committed.
    """
    c: Challenge = self.challenges[challenge_id]
    assert c.status == SEALED, "game: not sealed"
    assert msg.sender == c.challenger, "game: not the challenger"
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(c.job_id)
    assert c.commitment == keccak256(
        abi_encode(case.trial, msg.sender, step, salt)
    ), "game: not what was committed"
    now: uint256 = staticcall CLOCK.now()
    assert now >= c.committed_at + MINIMUM_REVEAL_DELAY, "game: too early"
    assert now <= self._last_reveal(case), "game: too late"
    self._check_open(case, step, True)

    direct: bool = step != WITHHELD
    if direct:
        assert step < case.steps, "game: no such step"
        assert step % case.commit_every == 0, "game: not the start of a segment"
    place: Place = self.places[case.trial][step]
    if place.first_reveal == 0:
        place.first_reveal = block.number
    if c.committed_block < place.first_reveal:
        c.weight = min(c.bond, case.stake)
    place.weight += c.weight
    place.pending += 1
    self.places[case.trial][step] = place
    docket: Docket = self.dockets[case.trial]
    docket.sealed -= 1
    docket.pending += 1
    docket.quiet_at = now + 2 * MOVE_CLOCK
    if direct and place.pending == 1:
        docket.contested += 1
    self.dockets[case.trial] = docket
    c.status = PENDING
    c.named = step
    c.moved_at = now
    log ChallengeRevealed(
        challenge_id=challenge_id,
        job_id=c.job_id,
        challenger=msg.sender,
        step=step,
        weight=c.weight,
    )
    if direct:
        c = self._stand_at_segment(
            c, challenge_id, case, step, min(step + case.commit_every, case.steps)
        )
    else:
        count: uint256 = trajectory._leaf_count(case.steps, case.commit_every)
        c = self._stand_at_node(
            c, challenge_id, case, merkle._depth(count), 0, case.root
        )
    self.challenges[challenge_id] = c


@external
@nonreentrant
def descend(
    challenge_id: uint256,
    child_index: uint256,
    child: bytes32,
    siblings: DynArray[bytes32, merkle.LEVELS_PER_MOVE],
):
    """
    @notice Follow one child of the opened node at which a challenge stands: the first
            that differs from the challenger's own tree. Challenger only. A leaf k leads
            to the segment between the committed states k - 1 and k.
    @param challenge_id The challenge.
    @param child_index Which of the opened children.
    @param child Its hash; ignored for a leaf.
    @param siblings From it up to the node, bottom-up; empty for a leaf.
    """
    c: Challenge = self._moving(challenge_id)
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(c.job_id)
    assert c.level > 0, "game: not at a node"
    levels: uint256 = min(c.level, merkle.LEVELS_PER_MOVE)
    assert child_index < 1 << levels, "game: no such child"
    level: uint256 = c.level - levels
    index: uint256 = (c.index << levels) + child_index
    count: uint256 = trajectory._leaf_count(case.steps, case.commit_every)
    assert index << level < count, "game: padding"
    if level == 0:
        # h_0 is the job's: no pair ends there.
        assert index > 0, "game: the first leaf is right"
        c = self._stand_at_segment(
            c,
            challenge_id,
            case,
            (index - 1) * case.commit_every,
            min(index * case.commit_every, case.steps),
        )
    else:
        assert len(siblings) == levels, "game: wrong path length"
        path: DynArray[bytes32, merkle.MAX_DEPTH] = []
        for sibling: bytes32 in siblings:
            path.append(sibling)
        node: bytes32 = merkle._climb(merkle.TRAJECTORY, child, child_index, path)
        if c.level == merkle._depth(count):
            node = merkle._seal(merkle.TRAJECTORY, count, node)
        assert (
            facts._node(case.trial, c.level, c.index, node) == c.awaits
        ), "game: not a child of the node"
        c = self._stand_at_node(c, challenge_id, case, level, index, child)
    self.challenges[challenge_id] = c


@external
@nonreentrant
def descend_inner(
    challenge_id: uint256,
    roots: DynArray[bytes32, merkle.FAN_OUT - 1],
    part: uint256,
):
    """
    @notice Follow one part of a segment whose inner roots are posted: the first that
            ends in a wrong state. Challenger only.
    @param challenge_id The challenge.
    @param roots The inner roots as posted.
    @param part Which of the len(roots) + 1 parts.
    """
    c: Challenge = self._moving(challenge_id)
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(c.job_id)
    assert c.level == 0 and c.awaits != empty(bytes32), "game: not at a segment"
    assert (
        keccak256(abi_encode(roots)) == staticcall EVIDENCE.inner_roots(c.awaits)
    ), "game: not the roots posted"
    parts: uint256 = len(roots) + 1
    assert part < parts, "game: no such part"
    length: uint256 = c.end - c.start
    start: uint256 = c.start + length * part // parts
    end: uint256 = c.start + length * (part + 1) // parts
    if part > 0:
        self.pinned[case.trial][start] = roots[part - 1]
    if part + 1 < parts:
        self.pinned[case.trial][end] = roots[part]
    c = self._stand_at_segment(c, challenge_id, case, start, end)
    self.challenges[challenge_id] = c


@external
@nonreentrant
def convict(
    challenge_id: uint256,
    pre_root: bytes32,
    pre_proof: DynArray[bytes32, merkle.MAX_DEPTH],
    post_root: bytes32,
    post_proof: DynArray[bytes32, merkle.MAX_DEPTH],
):
    """
    @notice Bring a challenge that stands at one step to its end, by the verdict that
            `replay` recorded: INVALID convicts the solver, VALID loses the bond. Anyone
            may call, so an honest solver need not wait.
    @param challenge_id The challenge.
    @param pre_root h_i.
    @param pre_proof Its path in the commitment's tree; empty if it was posted between
           two committed states.
    @param post_root h_{i+1}.
    @param post_proof Likewise.
    """
    c: Challenge = self.challenges[challenge_id]
    assert c.status == PENDING, "game: not pending"
    assert (
        c.awaits == empty(bytes32) and c.end == c.start + 1
    ), "game: not at a single step"
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(c.job_id)
    self._check_bound(case, c.start, pre_root, pre_proof)
    self._check_bound(case, c.end, post_root, post_proof)
    verdict: uint256 = staticcall EVIDENCE.verdict(
        case.trial, c.start, pre_root, post_root
    )
    assert verdict != 0, "game: not judged"
    if verdict == INVALID:
        self._check_open(case, c.named, False)
        self._win(challenge_id, case)
    else:
        assert case.state == COMMITTED, "game: already convicted"
        self._lose(challenge_id, case)


@external
@nonreentrant
def timeout(challenge_id: uint256):
    """
    @notice End a challenge in which one side has used up its time: the solver is
            convicted, or the challenger, which may not even have revealed, loses its
            bond. Anyone may call. After a conviction no challenger loses.
    @param challenge_id The challenge.
    """
    c: Challenge = self.challenges[challenge_id]
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(c.job_id)
    if c.status == SEALED:
        assert case.state != SLASHED, "game: already convicted"
        assert (
            staticcall CLOCK.now() > self._last_reveal(case)
        ), "game: the clocks still run"
        self._lose(challenge_id, case)
        return
    assert c.status == PENDING, "game: not pending"
    solver_spent: uint256 = 0
    challenger_spent: uint256 = 0
    solver_moves: bool = False
    solver_spent, challenger_spent, solver_moves = self._clocks(c)
    # The solver first: its time ran before the challenger's latest.
    if solver_spent > MOVE_CLOCK:
        self._check_open(case, c.named, False)
        self._win(challenge_id, case)
    else:
        assert challenger_spent > MOVE_CLOCK, "game: the clocks still run"
        assert case.state == COMMITTED, "game: already convicted"
        self._lose(challenge_id, case)


@external
@nonreentrant
def convict_silent(job_id: uint256, demander: address) -> uint256:
    """
    @notice Convict a solver that did not answer a demand. Demands only.
    @param job_id The job.
    @param demander Who demanded in vain.
    @return The challenge, without a bond, by which the demander claims its share.
    """
    assert msg.sender == DEMANDS.address, "game: only the demands"
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    assert case.state == COMMITTED, "game: not committed"
    self.challenge_count += 1
    challenge_id: uint256 = self.challenge_count
    self.challenges[challenge_id].job_id = job_id
    self.challenges[challenge_id].challenger = demander
    self.challenges[challenge_id].named = DEMANDED
    self._win(challenge_id, case)
    return challenge_id


# ── money ────────────────────────────────────────────────────────────────────


@external
@payable
def __default__():
    """
    @notice Accept the slashed stake of a convicted solver. Staking only.
    """
    assert msg.sender == STAKING, "game: only slashed stakes"


@external
@nonreentrant
def settle(job_id: uint256):
    """
    @notice Share out a convicted solver's stake, once no smaller step can be convicted:
            gas for the leading challenger, the whistleblowers' share for its group, the
            rest burned. The creator was refunded at the conviction. Anyone may call.
    @param job_id The job.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    assert case.state == SLASHED, "game: not convicted"
    docket: Docket = self.dockets[case.trial]
    assert not docket.settled, "game: already settled"
    now: uint256 = staticcall CLOCK.now()
    assert (
        docket.sealed == 0 or now > self._last_reveal(case)
    ), "game: challenges may still be revealed"
    assert (
        docket.contested == 0 or now > docket.quiet_at
    ), "game: a smaller step may still be convicted"
    leader: Challenge = self.challenges[docket.convicted]
    compensation: uint256 = min(
        self._dispute_cost(case), case.stake * MAX_COMPENSATION_BPS // BASIS_POINTS
    )
    rest: uint256 = case.stake - compensation
    docket.settled = True
    docket.award = rest * WHISTLEBLOWER_SHARE_BPS // BASIS_POINTS
    burned: uint256 = rest - docket.award
    docket.award_weight = self.places[case.trial][leader.named].weight
    if leader.weight == 0 and docket.award_weight > 0:
        # Whoever leads by copying a name gets no gas for it; the group does.
        docket.award += compensation
        compensation = 0
    self.dockets[case.trial] = docket
    log Settled(
        job_id=job_id,
        challenge_id=docket.convicted,
        compensation=compensation,
        award=docket.award,
        award_weight=docket.award_weight,
        burned=burned,
    )
    purse._credit(leader.challenger, compensation)
    purse._burn(burned)


@external
@nonreentrant
def claim(challenge_id: uint256):
    """
    @notice After `settle`, credit a challenger with its bond, which every challenge
            that had not lost gets back, and its part of the share. Anyone may call.
    @param challenge_id The challenge.
    """
    c: Challenge = self.challenges[challenge_id]
    assert (
        c.status == SEALED or c.status == PENDING or c.status == WON
    ), "game: nothing to claim"
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(c.job_id)
    docket: Docket = self.dockets[case.trial]
    assert docket.settled, "game: not settled"
    share: uint256 = 0
    if docket.award_weight == 0:
        if challenge_id == docket.convicted:
            share = docket.award
    elif c.weight > 0 and c.named == self.challenges[docket.convicted].named:
        share = docket.award * c.weight // docket.award_weight
    self.challenges[challenge_id].status = CLAIMED
    log ChallengeClaimed(
        challenge_id=challenge_id,
        job_id=c.job_id,
        challenger=c.challenger,
        bond=c.bond,
        share=share,
    )
    purse._credit(c.challenger, c.bond + share)


# ── internal: the course of a challenge ──────────────────────────────────────


@internal
@view
def _open_case(job_id: uint256) -> IJobMarket.Case:
    """
    @notice A commitment that may still be challenged.
    """
    case: IJobMarket.Case = staticcall JOB_MARKET.case_of(job_id)
    assert case.state == COMMITTED, "game: not committed"
    assert (
        staticcall CLOCK.now() <= case.committed_at + CHALLENGE_WINDOW
    ), "game: the window has closed"
    return case


@internal
@view
def _moving(challenge_id: uint256) -> Challenge:
    """
    @notice A challenge about to be moved by its challenger, with its clocks advanced.
    """
    c: Challenge = self.challenges[challenge_id]
    assert c.status == PENDING, "game: not pending"
    assert msg.sender == c.challenger, "game: not the challenger"
    solver_moves: bool = False
    c.solver_spent, c.challenger_spent, solver_moves = self._clocks(c)
    assert not solver_moves, "game: the solver is to move"
    assert c.challenger_spent <= MOVE_CLOCK, "game: out of time"
    c.moved_at = staticcall CLOCK.now()
    return c


@internal
def _stand_at_node(
    c: Challenge,
    challenge_id: uint256,
    case: IJobMarket.Case,
    level: uint256,
    index: uint256,
    node: bytes32,
) -> Challenge:
    """
    @notice Place a challenge at a node of the commitment's tree; the solver opens it.
    """
    moved: Challenge = c
    moved.level = level
    moved.index = index
    moved.awaits = facts._node(case.trial, level, index, node)
    log NodeAwaited(
        challenge_id=challenge_id, job_id=c.job_id, level=level, index=index
    )
    return moved


@internal
def _stand_at_segment(
    c: Challenge,
    challenge_id: uint256,
    case: IJobMarket.Case,
    start: uint256,
    end: uint256,
) -> Challenge:
    """
    @notice Place a challenge between two bound states: at one step it can be judged,
            else the solver is to post the states between.
    """
    moved: Challenge = c
    moved.level = 0
    moved.index = 0
    moved.start = start
    moved.end = end
    if end == start + 1:
        moved.awaits = empty(bytes32)
        log StepPinned(challenge_id=challenge_id, job_id=c.job_id, step=start)
    else:
        moved.awaits = facts._segment(case.trial, start, end)
        log SegmentAwaited(
            challenge_id=challenge_id, job_id=c.job_id, start=start, end=end
        )
    return moved


@internal
@view
def _clocks(c: Challenge) -> (uint256, uint256, bool):
    """
    @notice Ticks burned by solver and challenger, and whether the solver is to move: it
            burns from the challenger's move to the fact that answers it.
    """
    now: uint256 = staticcall CLOCK.now()
    answered_at: uint256 = c.moved_at
    solver_moves: bool = False
    if c.awaits != empty(bytes32):
        recorded_at: uint256 = staticcall EVIDENCE.recorded_at(c.awaits)
        solver_moves = recorded_at == 0
        answered_at = max(answered_at, now if solver_moves else recorded_at)
    return (
        c.solver_spent + answered_at - c.moved_at,
        c.challenger_spent + now - answered_at,
        solver_moves,
    )


@internal
def _win(challenge_id: uint256, case: IJobMarket.Case):
    """
    @notice Convict the solver by a pending challenge, which leads from now on.
    """
    trial: bytes32 = case.trial
    named: uint256 = self.challenges[challenge_id].named
    self.challenges[challenge_id].status = WON
    self.dockets[trial].convicted = challenge_id
    if named < DEMANDED:
        # The place stays occupied, so that later reveals there contest nothing.
        self.dockets[trial].contested -= 1
    log SolverConvicted(
        challenge_id=challenge_id,
        job_id=self.challenges[challenge_id].job_id,
        challenger=self.challenges[challenge_id].challenger,
        named=named,
    )
    if case.state == COMMITTED:
        extcall JOB_MARKET.convict(self.challenges[challenge_id].job_id)


@internal
def _lose(challenge_id: uint256, case: IJobMarket.Case):
    """
    @notice Take a challenger's bond: the solver's costs are paid, the rest is burned.
    """
    trial: bytes32 = case.trial
    if self.challenges[challenge_id].status == SEALED:
        self.dockets[trial].sealed -= 1
    else:
        self._vacate(challenge_id, trial)
    self.challenges[challenge_id].status = LOST
    bond: uint256 = self.challenges[challenge_id].bond
    compensation: uint256 = min(bond, self._dispute_cost(case))
    log ChallengeLost(
        challenge_id=challenge_id,
        job_id=self.challenges[challenge_id].job_id,
        challenger=self.challenges[challenge_id].challenger,
        compensation=compensation,
        burned=bond - compensation,
    )
    purse._credit(case.solver, compensation)
    purse._burn(bond - compensation)


@internal
def _vacate(challenge_id: uint256, trial: bytes32):
    """
    @notice Take a pending challenge out of its place and of the docket.
    """
    named: uint256 = self.challenges[challenge_id].named
    place: Place = self.places[trial][named]
    place.pending -= 1
    place.weight -= self.challenges[challenge_id].weight
    self.places[trial][named] = place
    self.dockets[trial].pending -= 1
    if named < DEMANDED and place.pending == 0:
        self.dockets[trial].contested -= 1


@internal
@view
def _check_open(case: IJobMarket.Case, named: uint256, joins: bool):
    """
    @notice Refuse what can no longer matter: after a conviction only smaller steps do,
            and reveals (`joins`) at the convicted place, until the stake is shared out.
    """
    if case.state == SLASHED:
        assert not self.dockets[case.trial].settled, "game: already settled"
        leading: uint256 = self.challenges[
            self.dockets[case.trial].convicted
        ].named
        assert named < leading or (
            joins and named == leading
        ), "game: already convicted"
    else:
        assert case.state == COMMITTED, "game: not committed"


# ── internal: what follows from a case ───────────────────────────────────────


@internal
@view
def _last_reveal(case: IJobMarket.Case) -> uint256:
    """
    @notice Last tick at which a challenge may be revealed.
    """
    return case.committed_at + CHALLENGE_WINDOW + REVEAL_WINDOW


@internal
@view
def _dispute_cost(case: IJobMarket.Case) -> uint256:
    """
    @notice What one challenge costs the solver, or its challenger, at most.
    """
    return (OPENING_GAS + case.dispute_gas) * BOND_GAS_PRICE


@internal
@view
def _minimum_bond(case: IJobMarket.Case) -> uint256:
    """
    @notice Twice the cost of a dispute for each distinct step under challenge, this one
            included; but never more than the stake, so that no flood of challenges can
            price an honest challenger out.
    """
    least: uint256 = 2 * self._dispute_cost(case)
    escalated: uint256 = least * (1 + self.dockets[case.trial].contested)
    return min(escalated, max(least, case.stake))


@internal
@view
def _check_bound(
    case: IJobMarket.Case,
    position: uint256,
    state_root: bytes32,
    path: DynArray[bytes32, merkle.MAX_DEPTH],
):
    """
    @notice Refuse unless the solver is bound to `state_root` at `position`: as a leaf
            of its commitment, or by inner roots that a challenge has followed.
    """
    if trajectory._is_committed(position, case.steps, case.commit_every):
        root: bytes32 = trajectory._root_at(
            state_root, position, case.steps, case.commit_every, path
        )
        assert root == case.root, "game: opening does not fit the root"
    else:
        assert len(path) == 0, "game: not a committed state"
        assert (
            state_root != empty(bytes32)
            and self.pinned[case.trial][position] == state_root
        ), "game: not the root posted"
