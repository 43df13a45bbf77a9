"""How full a block was, and what that makes of the base fee and the clock.

A block is bounded in gas and in interpreter steps, and either may be what kept a
transaction out. So fullness is the larger share of the two, written in gas. Measured
in gas alone, a flood of cheap slow instructions would keep disputes out of every block
while the base fee fell and the chess clocks ran.
"""

from typing import Final

from chain.header import Header
from runtime.rules import Rules

ELASTICITY: Final = 2  # EIP-1559
BASE_FEE_CHANGE_DENOMINATOR: Final = 8

# The system clock stands still after a block more than 9/10 full.
_TICK_NUMERATOR: Final = 9
_TICK_DENOMINATOR: Final = 10


def fullness(rules: Rules, parent: Header, parent_steps: int) -> int:
    """Gas that the block used, or the same share of the gas limit in steps."""
    share = parent_steps * parent.gas_limit // rules.block_step_limit
    return max(parent.gas_used, share)


def clock_ticks(rules: Rules, parent: Header, parent_steps: int) -> bool:
    """Whether the block after `parent` advances the system clock."""
    used = fullness(rules, parent, parent_steps)
    return used * _TICK_DENOMINATOR <= parent.gas_limit * _TICK_NUMERATOR


def next_base_fee(rules: Rules, parent: Header, parent_steps: int) -> int:
    """The base fee of the block after `parent`, wei (EIP-1559 over `fullness`).

    Args:
        rules: Of the block after it.
        parent: Its header.
        parent_steps: Its interpreter steps (`ChainDatabase.steps`).
    """
    target = parent.gas_limit // ELASTICITY
    used = fullness(rules, parent, parent_steps)
    fee = parent.base_fee_per_gas
    change = fee * abs(used - target) // target // BASE_FEE_CHANGE_DENOMINATOR
    if used > target:
        return fee + max(change, 1)
    return fee - change
