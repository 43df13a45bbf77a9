"""What every precompile is: gas, steps and a function of bytes."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Precompile:
    """One precompiled contract.

    Attributes:
        gas: Of an input, from little more than its size.
        steps: Interpreter steps of an input, as cheaply.
        run: The output; raises `PrecompileFailure` (the call loses its gas) or
            `PrecompileRevert` (it keeps the rest).
        surcharge: Gas that only reading the input tells, once `gas` is paid for
            the reading; `GAS_PER_STEP` of it make a step. May raise as `run` does.
        refuses_delegation: Whether DELEGATECALL and CALLCODE revert.
    """

    gas: Callable[[bytes], int]
    steps: Callable[[bytes], int]
    run: Callable[[bytes], bytes]
    surcharge: Callable[[bytes], int] | None = None
    refuses_delegation: bool = False


def words(data: bytes) -> int:
    """32-byte words that hold `data`, the unit in which the EVM prices size."""
    return (len(data) + 31) // 32
