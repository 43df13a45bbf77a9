"""Interpreter steps: the deterministic measure of work that gas does not see.

One step is the time of one simple instruction, about a microsecond on the reference
machine (`benchmarks/worst_block.py`). Every instruction costs one; work that grows
with data costs more, by the divisors below, each measured so that a step is never
cheaper than what it stands for. Steps depend on the transaction and the state alone,
never on caches or the clock, so every node counts the same.
"""

from typing import Final

# What a transaction costs besides its instructions: decoding, recovering the sender,
# four accounts to hash into the trie, a receipt.
TRANSACTION_STEPS: Final = 200
AUTHORIZATION_STEPS: Final = 150
CALLDATA_BYTES_PER_STEP: Final = 256

# A call or a creation; analysing code for jump destinations reads all of it.
FRAME_STEPS: Final = 20
CODE_BYTES_PER_STEP: Final = 16

# First access to an account or slot: a walk down a trie, and its hashing at the end.
COLD_STEPS: Final = 80
STORE_STEPS: Final = 40

# Memory traffic: growth, CALL arguments, copies, return data.
MEMORY_BYTES_PER_STEP: Final = 2_048
KECCAK_BYTES_PER_STEP: Final = 128
LOG_STEPS: Final = 25
LOG_BYTES_PER_STEP: Final = 64

# EXP by squaring in Python, for each byte of the exponent.
EXPONENT_BYTE_STEPS: Final = 3

# A precompile that charges gas by a cost model of its own (the ML verifier).
GAS_PER_STEP: Final = 20


class OutOfSteps(Exception):
    """A transaction or a block has used its steps.

    No frame of the EVM can catch this: the whole transaction ends.
    """


class StepMeter:
    """Counts down the steps that a transaction may still take.

    Attributes:
        left: Steps left; the interpreter's loop decrements it directly.
    """

    __slots__ = ("left", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit

    def charge(self, steps: int) -> None:
        """Take `steps`.

        Raises:
            OutOfSteps: They were not there.
        """
        self.left -= steps
        if self.left < 0:
            raise OutOfSteps

    @property
    def used(self) -> int:
        """Steps taken so far, at most the limit."""
        return self.limit - max(self.left, 0)
