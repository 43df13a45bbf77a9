"""The only door to py-evm's virtual machine.

From py-evm come the instructions of Prague: `PragueComputation` and its opcode table.
State, gas across a transaction, precompiles, the interpreter's loop and the simplest
instructions are ours, because py-evm's fail where this chain cannot afford it:

- Its frames keep every finished child alive, with memory and call data; 100,000 gas
  of calls with 1 MiB of arguments held 0.8 GB. Here a child is dropped when it
  returns, and logs, refunds and deletions live in the journaled `World`.
- Nothing counts the bytes that calls move. Here every frame charges steps, and
  a frame's memory, hence its call arguments, ends at 384 KiB.
- Its search for jump destinations recurses once per byte of code and overflows
  Python's stack on a run of PUSH1. Here code is scanned once, linearly.
- It charges initcode twice when a delegated account (EIP-7702) creates, checks the
  size of initcode after the endowment, and warns on every SELFDESTRUCT.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import eth_hash.auto
from eth.constants import CREATE_CONTRACT_ADDRESS, STACK_DEPTH_LIMIT
from eth.exceptions import Halt, OutOfGas, Revert, VMError, WriteProtection
from eth.vm import opcode_values
from eth.vm.code_stream import CodeStream
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.message import Message
from typing_extensions import override

from chain import crypto
from chain.receipt import Log
from runtime import steps
from runtime.instructions import (
    NATIVE,
    STACK_LIMIT,
    WORD,
    FrameFailure,
    StackOverflow,
    StackUnderflow,
    landing,
)
from runtime.errors import PrecompileFailure, PrecompileRevert
from runtime.precompiles.interface import Precompile
from runtime.world import Mark, World

MAX_MEMORY_BYTES: Final = 384 << 10
MAX_CODE_BYTES: Final = 24_576  # EIP-170
MAX_INITCODE_BYTES: Final = 2 * MAX_CODE_BYTES  # EIP-3860
CODE_DEPOSIT_GAS: Final = 200
DELEGATION_PREFIX: Final = b"\xef\x01\x00"  # EIP-7702

_CODE_CACHE_ENTRIES: Final = 1_024

# py-evm hashes through this object; whatever it found at import, it now uses ours.
eth_hash.auto.keccak.hasher = crypto.keccak  # type: ignore[method-assign]


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


def delegation_of(code: bytes) -> bytes | None:
    """The address that an EIP-7702 designation points to, or None."""
    if len(code) == 23 and code.startswith(DELEGATION_PREFIX):
        return code[3:]
    return None


def execute(
    world: World, block: BlockContext, meter: steps.StepMeter, call: Call
) -> Result:
    """Run a first frame to its end, with everything that it calls.

    The world keeps the changes of a success; a failure changed nothing.

    Raises:
        OutOfSteps: The meter ran out; the caller must revert the world.
    """
    state = _State(world, block, meter)
    code, delegation = call.code, None
    if code is None:
        code = world.code(call.to)
        delegation = delegation_of(code)
        if delegation is not None:
            state.mark_address_warm(delegation)
            code = world.code(delegation)
    meter.charge(steps.FRAME_STEPS + len(code) // steps.CODE_BYTES_PER_STEP)
    message = Message(
        gas=call.gas,
        to=CREATE_CONTRACT_ADDRESS if call.is_create else call.to,
        sender=call.origin,
        value=call.value,
        data=b"" if call.is_create else call.data,
        code=code,
        create_address=call.to if call.is_create else None,
        code_address=delegation,
        is_delegation=delegation is not None,
    )
    context = _Context(call.gas_price, call.origin)
    frame = (
        _create(state, message, context)
        if call.is_create
        else _call(state, message, context)
    )
    error = frame.failure
    return Result(
        succeeded=error is None,
        gas_left=frame.get_gas_remaining(),
        output=frame.output,
        error="" if error is None else f"{type(error).__name__}: {error}",
    )


class _Context:
    """py-evm's transaction context."""

    __slots__ = ("gas_price", "origin")

    blob_versioned_hashes: tuple[bytes, ...] = ()

    def __init__(self, gas_price: int, origin: bytes) -> None:
        self.gas_price = gas_price
        self.origin = origin


class _State:
    """A `World` and a block under the names by which py-evm's instructions know them."""

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
        if from_journal:
            return self.world.storage(address, slot)
        return self.world.original_storage(address, slot)

    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        self.meter.charge(steps.STORE_STEPS)
        self.world.set_storage(address, slot, value)

    def delete_storage(self, address: bytes) -> None:
        """Do nothing: an account that may be created has no storage (EIP-7610)."""

    def delta_balance(self, address: bytes, delta: int) -> None:
        self.world.set_balance(address, self.world.balance(address) + delta)

    def increment_nonce(self, address: bytes) -> None:
        self.world.set_nonce(address, self.world.nonce(address) + 1)

    def get_code_hash(self, address: bytes) -> bytes:
        return self.world.code_hash(address)

    def account_is_empty(self, address: bytes) -> bool:
        return not self.world.exists(address)

    def is_address_warm(self, address: bytes) -> bool:
        return address in self.precompiles or self.world.is_warm(address)

    def mark_address_warm(self, address: bytes) -> None:
        if not self.world.is_warm(address):
            self.meter.charge(steps.COLD_STEPS)
            self.world.warm(address)

    def mark_storage_warm(self, address: bytes, slot: int) -> None:
        if not self.world.is_slot_warm(address, slot):
            self.meter.charge(steps.COLD_STEPS)
            self.world.warm_slot(address, slot)

    def get_transient_storage(self, address: bytes, slot: int) -> bytes:
        return self.world.transient(address, slot).to_bytes(32, "big")

    def set_transient_storage(self, address: bytes, slot: int, value: bytes) -> None:
        self.world.set_transient(address, slot, int.from_bytes(value, "big"))

    def get_ancestor_hash(self, number: int) -> bytes:
        if not self.block_number - 256 <= number < self.block_number:
            return b""
        return self.execution_context.block_hash(number) or b""

    def commit(self, mark: Mark) -> None:
        """Do nothing: what is not reverted stays."""


class _Stack:
    """A list of integers under the names of py-evm's stack."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[int] = []

    def push_int(self, value: int) -> None:
        if len(self.values) >= STACK_LIMIT:
            raise StackOverflow
        self.values.append(value)

    def push_bytes(self, value: bytes) -> None:
        self.push_int(int.from_bytes(value, "big"))

    def pop1_int(self) -> int:
        if not self.values:
            raise StackUnderflow
        return self.values.pop()

    pop1_any = pop1_int

    def pop1_bytes(self) -> bytes:
        return self.pop1_int().to_bytes(32, "big")

    def pop_ints(self, count: int) -> tuple[int, ...]:
        values = self.values
        if len(values) < count:
            raise StackUnderflow
        taken = tuple(values[: -count - 1 : -1])
        del values[-count:]
        return taken


@lru_cache(maxsize=_CODE_CACHE_ENTRIES)
def _analysed(code: bytes) -> tuple[bytes, bytes]:
    """The code padded with STOP, and where it may be jumped to."""
    return code + bytes(33), landing(code)


class _Frame(PragueComputation):
    """One call: py-evm's computation with our stack, memory, gas and loop.

    The base class' constructor is not called; everything it would set is set here or
    is overridden.
    """

    def __init__(self, state: _State, message: Any, context: _Context) -> None:
        self.state: Any = state
        self.msg = message
        self.transaction_context: Any = context
        self.code = CodeStream(message.code)  # for CODECOPY and CODESIZE
        self.call_data: bytes = message.data
        self.gas_left: int = message.gas
        self.failure: VMError | FrameFailure | None = None
        self.return_data = b""
        self.beneficiaries = []  # SELFDESTRUCT appends to it; nothing reads it
        self._output = b""
        self._memory: Any = bytearray()
        self._stack: Any = _Stack()
        self.words: list[int] = self._stack.values
        self.stack_pop_ints = self._stack.pop_ints
        self.stack_pop1_int = self._stack.pop1_int
        self.stack_pop1_bytes = self._stack.pop1_bytes
        self.stack_pop1_any = self._stack.pop1_any
        self.stack_push_int = self._stack.push_int
        self.stack_push_bytes = self._stack.push_bytes
        self.pc = 0
        self.padded, self.landing = _analysed(message.code)
        self.meter = state.meter

    # -- the interpreter ------------------------------------------------------

    def run(self) -> None:
        """Execute until the frame ends, successfully or not."""
        precompile = self.state.precompiles.get(self.msg.code_address)
        try:
            if precompile is None:
                self._loop()
            elif not self.msg.is_delegation:
                self._run_precompile(precompile)
        except Halt:
            return
        except Revert as reverted:
            self.failure = reverted
        except (VMError, FrameFailure) as failed:
            self.failure = failed
            self.gas_left = 0
            self.return_data = self._output = b""

    def _loop(self) -> None:
        padded = self.padded
        meter = self.meter
        gas = _GAS
        table = _TABLE
        while True:
            meter.left -= 1
            if meter.left < 0:
                raise steps.OutOfSteps
            opcode = padded[self.pc]
            self.pc += 1
            self.gas_left -= gas[opcode]
            if self.gas_left < 0:
                raise OutOfGas(f"opcode 0x{opcode:02x} costs {gas[opcode]}")
            table[opcode](self)

    def _run_precompile(self, precompile: Precompile) -> None:
        data = self.call_data
        message = self.msg
        if (
            precompile.refuses_delegation
            and message.storage_address != message.code_address
        ):
            raise Revert(b"")  # DELEGATECALL or CALLCODE
        try:
            # Gas first: input that announces absurd work fails this call, as Ethereum
            # has it, and not the whole transaction.
            self.consume_gas(precompile.gas(data), "precompile")
            self.meter.charge(precompile.steps(data))
            if precompile.surcharge is not None:
                extra = precompile.surcharge(data)
                self.consume_gas(extra, "precompile")
                self.meter.charge(extra // steps.GAS_PER_STEP)
            self._output = precompile.run(data)
        except PrecompileRevert as reverted:
            raise Revert(b"") from reverted
        except PrecompileFailure as failed:
            raise VMError(str(failed)) from failed

    # -- gas ------------------------------------------------------------------

    @override
    def consume_gas(self, amount: int, reason: str) -> None:
        if amount > self.gas_left:
            raise OutOfGas(f"{reason} costs {amount}, {self.gas_left} is left")
        self.gas_left -= amount

    @override
    def return_gas(self, amount: int) -> None:
        self.gas_left += amount

    @override
    def refund_gas(self, amount: int) -> None:
        self.state.world.refund += amount

    @override
    def get_gas_remaining(self) -> int:
        return self.gas_left

    # -- memory ---------------------------------------------------------------

    @override
    def extend_memory(self, start_position: int, size: int) -> None:
        if size == 0:
            return
        memory = self._memory
        end = start_position + size
        old = len(memory)
        if end <= old:
            return
        if end > MAX_MEMORY_BYTES:
            raise OutOfGas(f"memory of {end} bytes, at most {MAX_MEMORY_BYTES}")
        new = end + 31 & -32
        words, before = new >> 5, old >> 5
        cost = 3 * (words - before) + words * words // 512 - before * before // 512
        self.consume_gas(cost, "memory")
        self.meter.charge((new - old) // steps.MEMORY_BYTES_PER_STEP)
        memory.extend(bytes(new - old))

    @override
    def memory_write(self, start_position: int, size: int, value: bytes) -> None:
        if size:
            self.meter.charge(size // steps.MEMORY_BYTES_PER_STEP)
            self._memory[start_position : start_position + size] = value

    @override
    def memory_read_bytes(self, start_position: int, size: int) -> bytes:
        if size == 0:
            return b""
        self.meter.charge(size // steps.MEMORY_BYTES_PER_STEP)
        return bytes(self._memory[start_position : start_position + size])

    @override
    def memory_copy(self, destination: int, source: int, length: int) -> None:
        self.memory_write(destination, length, self.memory_read_bytes(source, length))

    def load_word(self, start: int) -> int:
        """MLOAD."""
        self.extend_memory(start, 32)
        return int.from_bytes(self._memory[start : start + 32], "big")

    def store(self, start: int, data: bytes) -> None:
        """MSTORE and MSTORE8."""
        size = len(data)
        self.extend_memory(start, size)
        self._memory[start : start + size] = data

    # -- what a frame leaves behind -------------------------------------------

    @override
    def add_log_entry(
        self, account: bytes, topics: tuple[int, ...], data: bytes
    ) -> None:
        self.meter.charge(steps.LOG_STEPS + len(data) // steps.LOG_BYTES_PER_STEP)
        self.state.world.logs.append(
            Log(account, tuple(topic.to_bytes(32, "big") for topic in topics), data)
        )

    @override
    def register_account_for_deletion(self, beneficiary: bytes) -> None:
        self.state.world.doom(self.msg.storage_address)

    @property
    def contracts_created(self) -> Mapping[bytes, bool]:
        """Who may delete itself (EIP-6780)."""
        return self.state.world.created

    @property
    @override
    def is_error(self) -> bool:
        return self.failure is not None

    @property
    @override
    def should_erase_return_data(self) -> bool:
        return self.failure is not None and not isinstance(self.failure, Revert)

    @property
    @override
    def should_burn_gas(self) -> bool:
        return self.should_erase_return_data

    # -- children -------------------------------------------------------------

    @override
    def apply_child_computation(self, child_msg: Any) -> "_Frame":  # type: ignore[override]
        meter = self.meter
        meter.charge(
            steps.FRAME_STEPS + len(child_msg.code) // steps.CODE_BYTES_PER_STEP
        )
        if child_msg.is_create:
            child = _create(self.state, child_msg, self.transaction_context)
            # The output of a successful creation became code.
            self.return_data = child.output if child.is_error else b""
        else:
            child = _call(self.state, child_msg, self.transaction_context)
            self.return_data = child.output
        return child


def _call(state: _State, message: Any, context: _Context) -> _Frame:
    world = state.world
    mark = world.mark()
    if message.should_transfer_value and message.value:
        sender, recipient = message.sender, message.storage_address
        world.set_balance(sender, world.balance(sender) - message.value)
        world.set_balance(recipient, world.balance(recipient) + message.value)
    frame = _Frame(state, message, context)
    frame.run()
    if frame.failure is not None:
        world.revert(mark)
    return frame


def _create(state: _State, message: Any, context: _Context) -> _Frame:
    world = state.world
    mark = world.mark()
    address = message.storage_address
    world.set_nonce(address, 1)
    world.note_creation(address)
    frame = _call(state, message, context)
    if frame.failure is None:
        try:
            _deposit(frame)
        except VMError as failed:
            frame.failure = failed
            frame.gas_left = 0
    if frame.failure is not None:
        world.revert(mark)
    return frame


def _deposit(frame: _Frame) -> None:
    """Make the output of initcode the new contract's code."""
    code = frame.output
    if code[:1] == b"\xef":
        raise OutOfGas("contract code must not begin with 0xef (EIP-3541)")
    if len(code) > MAX_CODE_BYTES:
        raise OutOfGas(f"contract of {len(code)} bytes, at most {MAX_CODE_BYTES}")
    frame.consume_gas(CODE_DEPOSIT_GAS * len(code), "code deposit")
    frame.meter.charge(len(code) // steps.KECCAK_BYTES_PER_STEP)
    frame.state.world.set_code(frame.msg.storage_address, code)


# -- the instruction table --------------------------------------------------------


def _keccak(frame: _Frame) -> None:
    start, size = frame.stack_pop_ints(2)
    frame.consume_gas(6 * ((size + 31) // 32), "KECCAK256")
    frame.extend_memory(start, size)
    frame.meter.charge(size // steps.KECCAK_BYTES_PER_STEP)
    frame.words.append(
        int.from_bytes(crypto.keccak(frame.memory_read_bytes(start, size)), "big")
    )


def _exp(frame: _Frame) -> None:
    base, exponent = frame.stack_pop_ints(2)
    size = (exponent.bit_length() + 7) // 8
    frame.consume_gas(50 * size, "EXP")  # EIP-160
    frame.meter.charge(steps.EXPONENT_BYTE_STEPS * size)
    frame.words.append(pow(base, exponent, WORD + 1))


def _checked_creation(inner: Callable[..., None]) -> Callable[[_Frame], None]:
    """CREATE and CREATE2 that look at the size of initcode first (EIP-3860)."""

    def instruction(frame: _Frame) -> None:
        words = frame.words
        if len(words) >= 3 and words[-3] > MAX_INITCODE_BYTES:
            raise OutOfGas(
                f"initcode of {words[-3]} bytes, at most {MAX_INITCODE_BYTES}"
            )
        inner(frame)

    return instruction


def _invalid(opcode: int) -> Callable[[_Frame], None]:
    def instruction(frame: _Frame) -> None:
        raise FrameFailure(f"invalid instruction 0x{opcode:02x}")

    return instruction


def _instructions() -> tuple[list[int], list[Callable[[Any], None]]]:
    """Gas that the loop charges, and what it calls, by opcode."""
    gas = [0] * 256
    table: list[Callable[[Any], None]] = [_invalid(opcode) for opcode in range(256)]
    for opcode, found in PragueComputation.opcodes.items():
        # SELFDESTRUCT is wrapped in a warning; the instruction is inside.
        inner: Any = getattr(found, "__wrapped__", found)
        table[opcode] = inner.__call__
    for opcode in (opcode_values.CREATE, opcode_values.CREATE2):
        table[opcode] = _checked_creation(table[opcode])
    gas[opcode_values.SHA3], table[opcode_values.SHA3] = 30, _keccak
    gas[opcode_values.EXP], table[opcode_values.EXP] = 10, _exp
    for opcode, (cost, native) in NATIVE.items():
        gas[opcode], table[opcode] = cost, native
    return gas, table


_GAS, _TABLE = _instructions()
