"""Rules of execution, chosen by height.

Rules never change in place: a fork adds an entry to the schedule, and a node replays
every height under the rules of its time. A schedule may name forks that this program
does not know; from there on it knows no rules. There is one fork today, `launch`:
Prague, with P256VERIFY (EIP-7951), the ML verifier and proofs of possession among the
precompiles, the transaction gas cap of EIP-7825, and a second limit that counts
interpreter steps.

Gas prices what a node in C pays. This node interprets in Python, where a BN pairing
costs a thousand times an addition's share of gas, so a block is also bounded in
*steps*: deterministic units of work, about a microsecond each (`runtime.steps`).
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from runtime.errors import UnknownFork

LAUNCH: Final = "launch"
FORKS: Final = (LAUNCH,)

BLOCK_GAS_LIMIT: Final = 30_000_000
TRANSACTION_GAS_LIMIT: Final = 1 << 24  # EIP-7825
BLOCK_STEP_LIMIT: Final = 1_200_000
TRANSACTION_STEP_LIMIT: Final = 1_000_000
INITIAL_BASE_FEE: Final = 10**9


@dataclass(frozen=True, slots=True)
class Rules:
    """What execution may do at one height.

    Attributes:
        fork: Name of the fork, one of `FORKS`.
        chain_id: EIP-155 id that every transaction names.
        block_gas_limit: Gas of all transactions of a block.
        transaction_gas_limit: The most gas that one transaction may ask for.
        block_step_limit: Interpreter steps of all transactions of a block.
        transaction_step_limit: Steps after which a transaction fails as if out of
            gas; at most `block_step_limit`, so that every transaction fits a block.
    """

    chain_id: int
    fork: str = LAUNCH
    block_gas_limit: int = BLOCK_GAS_LIMIT
    transaction_gas_limit: int = TRANSACTION_GAS_LIMIT
    block_step_limit: int = BLOCK_STEP_LIMIT
    transaction_step_limit: int = TRANSACTION_STEP_LIMIT

    def __post_init__(self) -> None:
        """Raise ValueError when the limits contradict each other."""
        if self.fork not in FORKS:
            raise ValueError(f"unknown fork {self.fork!r}; known: {', '.join(FORKS)}")
        if not 0 < self.transaction_step_limit <= self.block_step_limit:
            raise ValueError(
                f"a transaction's steps ({self.transaction_step_limit}) must fit the "
                f"block's ({self.block_step_limit})"
            )
        if not 0 < self.transaction_gas_limit <= self.block_gas_limit:
            raise ValueError(
                f"a transaction's gas ({self.transaction_gas_limit}) must fit the "
                f"block's ({self.block_gas_limit})"
            )


@dataclass(frozen=True, slots=True)
class ForkSchedule:
    """The rules of every height.

    Attributes:
        forks: (first height, rules), ascending, the first at height 0.
        unknown: First height and name of the first fork, above all of these, that this
            program does not know.
    """

    forks: tuple[tuple[int, Rules], ...]
    unknown: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError when the heights do not ascend from 0."""
        heights = [height for height, _ in self.forks]
        if self.unknown is not None:
            heights.append(self.unknown[0])
        if not heights or heights[0] != 0 or heights != sorted(set(heights)):
            raise ValueError(
                f"fork heights must ascend from 0 without repetition, got {heights}"
            )

    @classmethod
    def constant(cls, rules: Rules) -> "ForkSchedule":
        """The same rules for ever."""
        return cls(((0, rules),))

    def supports(self, height: int) -> bool:
        """Whether this program knows the rules of the block at `height`."""
        return self.unknown is None or height < self.unknown[0]

    def at(self, height: int) -> Rules:
        """The rules of the block at `height`.

        Raises:
            UnknownFork: This program does not know them.
        """
        if self.unknown is not None and height >= self.unknown[0]:
            raise UnknownFork(self.unknown, height, FORKS)
        index = bisect_right(self.forks, height, key=lambda fork: fork[0])
        return self.forks[index - 1][1]

    @property
    def chain_id(self) -> int:
        """The chain id, which no fork changes."""
        return self.forks[0][1].chain_id
