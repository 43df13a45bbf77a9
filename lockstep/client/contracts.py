"""The system contracts as the client needs them: name, address, interface."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["ContractInfo"]


@dataclass(frozen=True, slots=True)
class ContractInfo:
    """One deployed contract.

    Attributes:
        name: the name of its source, such as `JobMarket`.
        address: 20 bytes.
        abi: its interface in Ethereum's JSON form.
    """

    name: str
    address: bytes
    abi: Sequence[Mapping[str, object]]
