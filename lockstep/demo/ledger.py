"""Where every token is: balances before and after, and what was burned between."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from chain.addresses import SYSTEM_CONTRACTS, ZERO
from lockstep.client.connection import Connection

__all__ = ["Ledger", "ledger"]


@dataclass(frozen=True, slots=True)
class Ledger:
    """All tokens at one block.

    Attributes:
        block: its number.
        balances: wei by address: people, contracts, proposers, the zero address.
        fees_burned: base fees of all blocks so far, wei.
    """

    block: int
    balances: Mapping[str, int]
    fees_burned: int

    @property
    def total(self) -> int:
        """Wei that exist or were burned as fees; the same at every block."""
        return sum(self.balances.values()) + self.fees_burned


def ledger(connection: Connection, people: Iterable[str], block: int) -> Ledger:
    """Add up a block's tokens."""
    fees, proposers = 0, set[str]()
    for number in range(1, block + 1):
        base, gas = connection.block_fees(number)
        fees += base * gas
        proposers.add(connection.block_proposer(number))
    contracts = (
        to_checksum_address(address) for address in (ZERO, *SYSTEM_CONTRACTS.values())
    )
    addresses = dict.fromkeys([*people, *contracts, *sorted(proposers)])
    balances = {address: connection.balance(address, block) for address in addresses}
    return Ledger(block, balances, fees)
