"""The system contracts as the client needs them: name, address, interface."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chain.addresses import SYSTEM_CONTRACTS
from contracts import artifact

__all__ = ["ContractInfo", "deployed"]


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


def deployed() -> list[ContractInfo]:
    """Every system contract of this chain."""
    return [
        ContractInfo(name, address, artifact(name).abi)
        for name, address in SYSTEM_CONTRACTS.items()
    ]
