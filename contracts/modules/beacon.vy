# pragma version 0.4.3
"""
@title beacon
@license Apache-2.0
@notice When a random value is nobody's choice. The proposer of each block mixes its
        reveal into mixHash. The seed of height h is the mixHash of the first later block
        by which distinct proposers with more than a third of the stake have revealed
        since h: then an honest one is among them, whose reveal nobody knew at h.

        Heights are fixed in order. `fixed` is the first height whose seed is open, and
        `revealed` the stake of those who proposed after it; each block adds its proposer
        and drops heights from the front, so every block comes and goes once.
"""

# Heights whose seed can be asked for, the current one among them.
WINDOW: constant(uint256) = 8_192
# Heights that one block may fix; the rest are fixed by the next one.
MAX_FIXED: constant(uint256) = 256
LOW: constant(uint256) = 2**64 - 1

# @notice Height of the first seed that is not fixed yet.
fixed: public(uint256)
# Stake of members whose last block is above `fixed`.
revealed: uint256
# @notice Stake of the whole set.
total_power: public(uint256)
# @notice Number of sets so far, the present one included.
set_number: public(uint256)
# Stake << 128 | height of the last block << 64 | number of the set it is a member of.
duty_of: HashMap[address, uint256]
# By height modulo WINDOW: proposer << 64 | `fixed` after the block.
log_of: HashMap[uint256, uint256]
mix_of: HashMap[uint256, bytes32]


@internal
@view
def _power(who: address) -> uint256:
    """
    @notice Stake with which `who` is a member of the present set.
    """
    duty: uint256 = self.duty_of[who]
    if duty & LOW != self.set_number:
        return 0
    return duty >> 128


@internal
def _begin_set():
    """
    @notice Start a new, empty set.
    """
    self.set_number += 1
    self.total_power = 0
    self.revealed = 0


@internal
def _add_member(who: address, power: uint256, number: uint256, opened: uint256) -> uint256:
    """
    @notice Give `who` its stake in the set that begins.
    @param who The member.
    @param power Its stake, below 2**128.
    @param number The set's.
    @param opened The value of `fixed`.
    @return Its stake if it has revealed for the seed of that height, else nothing.
    """
    last: uint256 = (self.duty_of[who] >> 64) & LOW
    self.duty_of[who] = (power << 128) | (last << 64) | number
    if last > opened:
        return power
    return 0


@internal
def _dropped(who: address, height: uint256, number: uint256) -> uint256:
    """
    @notice Stake that `who`, proposer of the block at `height`, loses when the window
            begins after it: none if it has proposed again, or is no member.
    """
    duty: uint256 = self.duty_of[who]
    if (duty >> 64) & LOW != height or duty & LOW != number:
        return 0
    return duty >> 128


@internal
def _reveal(proposer: address):
    """
    @notice Count the reveal in the present block and fix the seeds that it fixes.
    """
    number: uint256 = self.set_number
    height: uint256 = block.number
    opened: uint256 = self.fixed
    total: uint256 = self.total_power
    duty: uint256 = self.duty_of[proposer]
    revealed: uint256 = self.revealed
    if opened + WINDOW <= height:
        # Nobody can ask for it any more, and its block leaves the log.
        opened += 1
        gone: address = convert(self.log_of[opened % WINDOW] >> 64, address)
        revealed -= self._dropped(gone, opened, number)
    if (duty >> 64) & LOW <= opened and duty & LOW == number:
        revealed += duty >> 128
    self.duty_of[proposer] = ((duty >> 128) << 128) | (height << 64) | (duty & LOW)
    for _: uint256 in range(MAX_FIXED):
        if 3 * revealed <= total:
            break
        opened += 1
        who: address = proposer
        if opened < height:
            who = convert(self.log_of[opened % WINDOW] >> 64, address)
        revealed -= self._dropped(who, opened, number)
    self.fixed = opened
    self.revealed = revealed
    self.log_of[height % WINDOW] = (convert(proposer, uint256) << 64) | opened
    self.mix_of[height % WINDOW] = block.prevrandao


@external
@view
def seed(height: uint256) -> (bool, bytes32):
    """
    @notice The random value that nobody could know at a height.
    @param height Of the last block that may not depend on it.
    @return Whether it is fixed yet, and the value: mixHash of the first later block by
            which proposers with more than a third of the stake have revealed.
    """
    assert height + WINDOW > block.number, "beacon: seed forgotten"
    if height >= self.fixed:
        return False, empty(bytes32)
    low: uint256 = height + 1
    high: uint256 = block.number
    for _: uint256 in range(14):
        if low >= high:
            break
        middle: uint256 = (low + high) // 2
        if self.log_of[middle % WINDOW] & LOW > height:
            high = middle
        else:
            low = middle + 1
    return True, self.mix_of[low % WINDOW]
