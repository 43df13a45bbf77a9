# pragma version 0.4.3
"""
@title purse
@license Apache-2.0
@notice Pull payments. Money owed is written down as credit; its owner withdraws it, so
        no recipient can block another and no function pays in a loop.
"""

event Credited:
    account: indexed(address)
    amount: uint256

event Withdrawn:
    account: indexed(address)
    amount: uint256

event Burned:
    amount: uint256

# @notice What the contract owes to an account.
credit_of: public(HashMap[address, uint256])


@internal
def _credit(account: address, amount: uint256):
    """
    @notice Owe `amount` more to `account`.
    """
    if amount == 0:
        return
    self.credit_of[account] += amount
    log Credited(account=account, amount=amount)


@internal
def _burn(amount: uint256):
    """
    @notice Send `amount` to the zero address, from which nothing returns.
    """
    if amount == 0:
        return
    log Burned(amount=amount)
    raw_call(empty(address), b"", value=amount)


@external
@nonreentrant
def withdraw() -> uint256:
    """
    @notice Pay the caller everything that it is owed.
    @return The amount paid.
    """
    amount: uint256 = self.credit_of[msg.sender]
    assert amount > 0, "purse: nothing to withdraw"
    self.credit_of[msg.sender] = 0
    log Withdrawn(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)
    return amount
