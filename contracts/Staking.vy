# pragma version 0.4.3
"""
@title Staking
@license Apache-2.0
@notice Stakes of solvers and verifiers. A token is free, locked or unbonding, never two
        of them: what one job locks cannot stand for another. Free stake leaves through
        `unbond` and, some ticks later, `withdraw`; locked stake only through its job.
"""

from contracts.interfaces import IClock
from contracts.interfaces import IStaking

implements: IStaking

event Deposited:
    account: indexed(address)
    amount: uint256

event Unbonding:
    account: indexed(address)
    amount: uint256
    release_at: uint256

event Withdrawn:
    account: indexed(address)
    amount: uint256

event Locked:
    account: indexed(address)
    amount: uint256

event Unlocked:
    account: indexed(address)
    amount: uint256

event Slashed:
    account: indexed(address)
    amount: uint256
    recipient: address

CLOCK: immutable(IClock)
JOB_MARKET: immutable(address)
UNBONDING_TICKS: immutable(uint256)

# @notice Stake that its owner may lock for a job or unbond.
free_of: public(HashMap[address, uint256])
# @notice Stake that answers for jobs.
locked_of: public(HashMap[address, uint256])
# @notice Stake on its way out.
unbonding_of: public(HashMap[address, uint256])
# @notice Tick from which unbonding stake may be withdrawn.
release_at: public(HashMap[address, uint256])


@deploy
def __init__(clock: address, job_market: address, unbonding_ticks: uint256):
    """
    @param clock The Clock.
    @param job_market The only contract that locks, unlocks and slashes.
    @param unbonding_ticks Ticks between `unbond` and `withdraw`.
    """
    CLOCK = IClock(clock)
    JOB_MARKET = job_market
    UNBONDING_TICKS = unbonding_ticks


@external
@view
def unbonding_ticks() -> uint256:
    """
    @notice Ticks between `unbond` and `withdraw`.
    """
    return UNBONDING_TICKS


@external
@payable
@nonreentrant
def deposit():
    """
    @notice Add the value sent to the caller's free stake.
    """
    assert msg.value > 0, "staking: nothing sent"
    self.free_of[msg.sender] += msg.value
    log Deposited(account=msg.sender, amount=msg.value)


@external
@nonreentrant
def unbond(amount: uint256):
    """
    @notice Take free stake out of service. A second call delays what the first began.
    @param amount Part of the caller's free stake.
    """
    assert amount > 0, "staking: nothing to unbond"
    assert self.free_of[msg.sender] >= amount, "staking: not enough free stake"
    release: uint256 = staticcall CLOCK.now() + UNBONDING_TICKS
    self.free_of[msg.sender] -= amount
    self.unbonding_of[msg.sender] += amount
    self.release_at[msg.sender] = release
    log Unbonding(account=msg.sender, amount=amount, release_at=release)


@external
@nonreentrant
def withdraw() -> uint256:
    """
    @notice Pay out the caller's unbonding stake once its time has come.
    @return The amount paid.
    """
    amount: uint256 = self.unbonding_of[msg.sender]
    assert amount > 0, "staking: nothing to withdraw"
    assert (
        staticcall CLOCK.now() >= self.release_at[msg.sender]
    ), "staking: still unbonding"
    self.unbonding_of[msg.sender] = 0
    log Withdrawn(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)
    return amount


@external
@nonreentrant
def lock(account: address, amount: uint256):
    """
    @notice Bind free stake of a solver to a job. JobMarket only.
    """
    assert msg.sender == JOB_MARKET, "staking: only the job market"
    assert self.free_of[account] >= amount, "staking: not enough free stake"
    self.free_of[account] -= amount
    self.locked_of[account] += amount
    log Locked(account=account, amount=amount)


@external
@nonreentrant
def unlock(account: address, amount: uint256):
    """
    @notice Free stake whose job has ended. JobMarket only.
    """
    assert msg.sender == JOB_MARKET, "staking: only the job market"
    self.locked_of[account] -= amount
    self.free_of[account] += amount
    log Unlocked(account=account, amount=amount)


@external
@nonreentrant
def slash(account: address, amount: uint256, recipient: address):
    """
    @notice Take locked stake away. JobMarket only.
    @param account The solver at fault.
    @param amount Part of its locked stake.
    @param recipient Where it goes: the zero address burns it.
    """
    assert msg.sender == JOB_MARKET, "staking: only the job market"
    self.locked_of[account] -= amount
    log Slashed(account=account, amount=amount, recipient=recipient)
    raw_call(recipient, b"", value=amount)
