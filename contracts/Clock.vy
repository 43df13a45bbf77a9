# pragma version 0.4.3
"""
@title Clock
@license Apache-2.0
@notice The chain's time for disputes: a counter that ticks only in blocks whose parent
        was at most 90 % full, so that stuffing blocks buys nobody time. It also holds
        the genesis hash, which keys every commitment to this chain.
"""

from contracts.interfaces import IClock

implements: IClock

# EIP-4788's system address, the only one that may tick.
SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE

event GenesisRecorded:
    genesis_hash: indexed(bytes32)

# @notice Ticks since genesis.
now: public(uint256)
# @notice Hash of block 0, known from block 1 on.
genesis_hash: public(bytes32)


@external
def tick(ticks: bool, genesis_hash: bytes32):
    """
    @notice Start a block: advance time if the parent left room.
    @param ticks Whether the parent block was at most 90 % full.
    @param genesis_hash Hash of block 0; stored the first time, ignored afterwards.
    """
    assert msg.sender == SYSTEM, "clock: only the system ticks"
    if ticks:
        self.now += 1
    if self.genesis_hash == empty(bytes32):
        self.genesis_hash = genesis_hash
        log GenesisRecorded(genesis_hash=genesis_hash)
