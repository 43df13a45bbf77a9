# pragma version 0.4.3
# The smallest token: what `executor/tokens` transfers.
balance_of: public(HashMap[address, uint256])

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256

@deploy
def __init__(owners: DynArray[address, 10]):
    for owner: address in owners:
        self.balance_of[owner] = 10**24

@external
def transfer(receiver: address, amount: uint256) -> bool:
    self.balance_of[msg.sender] -= amount
    self.balance_of[receiver] += amount
    log Transfer(sender=msg.sender, receiver=receiver, amount=amount)
    return True
