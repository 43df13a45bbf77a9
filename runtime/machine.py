"""What a frame of the EVM works on: block, call, message, stack, state.

The last three carry the names by which py-evm's instructions ask for things; nothing
here imports py-evm.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime import steps
from runtime.instructions import STACK_LIMIT, StackOverflow, StackUnderflow
from runtime.precompiles.interface import Precompile
from runtime.world import Mark, World


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What instructions can ask about the block.

    Attributes:
        block_hash: Hash of an ancestor by number, None when there is none.
        precompiles: By address.
    """

    chain_id: int
    number: int
    timestamp: int
    coinbase: bytes
    gas_limit: int
    base_fee: int
    mix_hash: bytes
    block_hash: Callable[[int], bytes | None]
    precompiles: Mapping[bytes, Precompile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The first frame of a transaction or a system call.

    Attributes:
        to: Whose storage and code; for a creation, the new contract's address.
        code: What runs; None runs the code at `to`, through a delegation if any.
        is_create: Whether `code` is initcode whose output becomes the code at `to`.
    """

    origin: bytes
    gas_price: int
    to: bytes
    gas: int
    value: int = 0
    data: bytes = b""
    code: bytes | None = None
    is_create: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How the first frame ended.

    Attributes:
        succeeded: Neither reverted nor halted exceptionally.
        gas_left: Gas of the frame not used.
        output: Return or revert data.
        error: Why it failed, for people; empty on success.
    """

    succeeded: bool
    gas_left: int
    output: bytes
    error: str


class TransactionContext:
    """What instructions can ask about the transaction."""

    __slots__ = ("gas_price", "origin")

    blob_versioned_hashes: tuple[bytes, ...] = ()

    def __init__(self, gas_price: int, origin: bytes) -> None:
        self.gas_price = gas_price
        self.origin = origin


@dataclass(slots=True, kw_only=True)
class Message:
    """The arguments of a frame.

    Attributes:
        to: Whom the caller named; empty for a creation.
        storage_address: Whose account the code works on.
        code_address: Where the code, or the precompile, is.
        is_delegation: Whether the code came through an EIP-7702 designation.
    """

    gas: int
    to: bytes
    sender: bytes
    value: int
    data: bytes
    code: bytes
    depth: int
    storage_address: bytes
    code_address: bytes
    should_transfer_value: bool = True
    is_static: bool = False
    is_delegation: bool = False

    @property
    def is_create(self) -> bool:
        """Whether the code is initcode."""
        return not self.to

    @property
    def data_as_bytes(self) -> bytes:
        """The data, under its other name."""
        return self.data


class State:
    """A `World` and a block under the names that py-evm's instructions use."""

    def __init__(
        self, world: World, block: BlockContext, meter: steps.StepMeter
    ) -> None:
        self.world = world
        self.meter = meter
        self.execution_context = block
        self.precompiles = block.precompiles
        self.coinbase = block.coinbase
        self.timestamp = block.timestamp
        self.block_number = block.number
        self.gas_limit = block.gas_limit
        self.base_fee = block.base_fee
        self.mix_hash = block.mix_hash
        self.blob_base_fee = 1  # no blobs: the fee stays at its minimum (EIP-4844)
        self.get_balance = world.balance
        self.set_balance = world.set_balance
        self.get_nonce = world.nonce
        self.set_nonce = world.set_nonce
        self.get_code = world.code
        self.account_exists = world.exists
        self.has_code_or_nonce = world.is_occupied
        self.is_storage_warm = world.is_slot_warm
        self.snapshot = world.mark
        self.revert = world.revert

    def get_storage(
        self, address: bytes, slot: int, *, from_journal: bool = True
    ) -> int:
        """The value at a slot, now or when the transaction began."""
        if from_journal:
            return self.world.storage(address, slot)
        return self.world.original_storage(address, slot)

    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        """Set the value at a slot."""
        self.meter.charge(steps.STORE_STEPS)
        self.world.set_storage(address, slot, value)

    def delete_storage(self, address: bytes) -> None:
        """Do nothing: an account that may be created has no storage (EIP-7610)."""

    def delta_balance(self, address: bytes, delta: int) -> None:
        """Add to a balance."""
        self.world.set_balance(address, self.world.balance(address) + delta)

    def increment_nonce(self, address: bytes) -> None:
        """Add one to a nonce."""
        self.world.set_nonce(address, self.world.nonce(address) + 1)

    def get_code_hash(self, address: bytes) -> bytes:
        """Keccak of the code."""
        return self.world.code_hash(address)

    def account_is_empty(self, address: bytes) -> bool:
        """Whether there is no such account."""
        return not self.world.exists(address)

    def is_address_warm(self, address: bytes) -> bool:
        """Whether the account was accessed; precompiles always were."""
        return address in self.precompiles or self.world.is_warm(address)

    def mark_address_warm(self, address: bytes) -> None:
        """Note an access to the account."""
        if not self.world.is_warm(address):
            self.meter.charge(steps.COLD_STEPS)
            self.world.warm(address)

    def mark_storage_warm(self, address: bytes, slot: int) -> None:
        """Note an access to the slot."""
        if not self.world.is_slot_warm(address, slot):
            self.meter.charge(steps.COLD_STEPS)
            self.world.warm_slot(address, slot)

    def get_transient_storage(self, address: bytes, slot: int) -> bytes:
        """The word at a transient slot."""
        return self.world.transient(address, slot).to_bytes(32, "big")

    def set_transient_storage(self, address: bytes, slot: int, value: bytes) -> None:
        """Set the word at a transient slot."""
        self.world.set_transient(address, slot, int.from_bytes(value, "big"))

    def get_ancestor_hash(self, number: int) -> bytes:
        """Hash of one of the last 256 blocks, else nothing."""
        if not self.block_number - 256 <= number < self.block_number:
            return b""
        return self.execution_context.block_hash(number) or b""

    def commit(self, mark: Mark) -> None:
        """Do nothing: what is not reverted stays."""


class Stack:
    """A list of integers under the names of py-evm's stack."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[int] = []

    def push_int(self, value: int) -> None:
        """Push a number."""
        if len(self.values) >= STACK_LIMIT:
            raise StackOverflow
        self.values.append(value)

    def push_bytes(self, value: bytes) -> None:
        """Push a big-endian number."""
        self.push_int(int.from_bytes(value, "big"))

    def pop1_int(self) -> int:
        """Pop a number."""
        if not self.values:
            raise StackUnderflow
        return self.values.pop()

    pop1_any = pop1_int

    def pop1_bytes(self) -> bytes:
        """Pop a word of 32 bytes."""
        return self.pop1_int().to_bytes(32, "big")

    def pop_ints(self, count: int) -> tuple[int, ...]:
        """Pop `count` numbers, the top first."""
        values = self.values
        if len(values) < count:
            raise StackUnderflow
        taken = tuple(values[: -count - 1 : -1])
        del values[-count:]
        return taken
