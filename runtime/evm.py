"""The only door to py-evm's virtual machine.

From py-evm come the instructions of Prague: the opcode table of `PragueComputation`,
whose functions ask nothing of a computation but the methods that `_Frame` has. State,
gas across a transaction, precompiles, the interpreter's loop and the simplest
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

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

import eth_hash.auto
from eth.exceptions import Halt, Revert, VMError
from eth.vm.forks.prague.computation import PragueComputation

from chain import crypto
from chain.receipt import Log
from runtime import steps
from runtime.errors import PrecompileFailure, PrecompileRevert
from runtime.instructions import (
    NATIVE,
    WORD,
    FrameFailure,
    landing,
)
from runtime.machine import (
    BlockContext,
    Call,
    Message,
    Result,
    Stack,
    State,
    TransactionContext,
)
from runtime.precompiles.interface import Precompile
from runtime.world import World

__all__ = [
    "DELEGATION_PREFIX",
    "KECCAK",
    "MAX_CODE_BYTES",
    "MAX_INITCODE_BYTES",
    "MAX_MEMORY_BYTES",
    "BlockContext",
    "Call",
    "OutOfGas",
    "Result",
    "delegation_of",
    "execute",
    "forget_code",
]

MAX_MEMORY_BYTES: Final = 384 << 10
MAX_CODE_BYTES: Final = 24_576  # EIP-170
MAX_INITCODE_BYTES: Final = 2 * MAX_CODE_BYTES  # EIP-3860
CODE_DEPOSIT_GAS: Final = 200
DELEGATION_PREFIX: Final = b"\xef\x01\x00"  # EIP-7702

_CODE_CACHE_ENTRIES: Final = 1_024

# py-evm hashes through this object. Whichever library it found at import, it now uses
# the one that `chain.crypto` insists on.
KECCAK: Final[Any] = eth_hash.auto.keccak
KECCAK.hasher = crypto.keccak


# py-ecc, which py-evm imports, lifts Python's recursion limit to 100,000: from then on
# deeply nested JSON overflows the C stack and kills the process instead of raising
# RecursionError. Calls 1,024 deep take five Python frames each, and no C stack.
_RECURSION_LIMIT: Final = 8_192
sys.setrecursionlimit(_RECURSION_LIMIT)


class OutOfGas(FrameFailure):
    """An instruction costs more than is left, or asks for what no gas buys."""


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
    state = State(world, block, meter)
    code, source, delegated = call.code, call.to, False
    if code is None:
        code = world.code(call.to)
        delegation = delegation_of(code)
        if delegation is not None:
            source, delegated = delegation, True
            state.mark_address_warm(delegation)
            code = world.code(delegation)
    meter.charge(steps.FRAME_STEPS + len(code) // steps.CODE_BYTES_PER_STEP)
    message = Message(
        gas=call.gas,
        to=b"" if call.is_create else call.to,
        sender=call.origin,
        value=call.value,
        data=b"" if call.is_create else call.data,
        code=code,
        depth=0,
        storage_address=call.to,
        code_address=source,
        is_delegation=delegated,
    )
    context = TransactionContext(call.gas_price, call.origin)
    frame = _spawn(state, message, context)
    return Result(
        succeeded=not frame.failure,
        gas_left=frame.gas_left,
        output=frame.output,
        error=frame.failure,
    )


@lru_cache(maxsize=_CODE_CACHE_ENTRIES)
def _analysed(code: bytes) -> tuple[bytes, bytes]:
    """The code padded with STOP, and where it may be jumped to."""
    return code + bytes(33), landing(code)


def forget_code() -> None:
    """Drop analysed code, so that a benchmark starts like a node that starts."""
    _analysed.cache_clear()


class _SilentLog:
    """Takes py-evm's debug output, which costs more than what it describes."""

    show_debug2 = False

    def debug2(self, message: str) -> None:
        """Drop it."""


class _Frame:
    """One call: what the instructions work on, and the loop that runs them.

    The methods without a docstring are named by py-evm, whose instructions call them.
    """

    logger = _SilentLog()

    def __init__(
        self, state: State, message: Message, context: TransactionContext
    ) -> None:
        self.state = state
        self.msg = message
        self.transaction_context = context
        self.call_data = message.data
        self.gas_left = message.gas
        # Words, not the exception: its traceback would keep this frame, and its
        # memory, until the garbage collector comes by.
        self.failure = ""
        self.reverted = False
        self.output = b""
        self.return_data = b""
        self.beneficiaries: list[bytes] = []  # SELFDESTRUCT appends; nothing reads it
        self.contracts_created = state.world.created
        self._memory = bytearray()
        stack = Stack()
        self.words = stack.values
        self.stack_pop_ints = stack.pop_ints
        self.stack_pop1_int = stack.pop1_int
        self.stack_pop1_bytes = stack.pop1_bytes
        self.stack_pop1_any = stack.pop1_int
        self.stack_push_int = stack.push_int
        self.stack_push_bytes = stack.push_bytes
        self.pc = 0
        self.padded, self.landing = _analysed(message.code)
        self.meter = state.meter

    # -- the interpreter ------------------------------------------------------

    def run(self) -> None:
        """Execute until the frame ends, successfully or not."""
        precompile = self.state.precompiles.get(self.msg.code_address)
        try:
            if precompile is None or self.msg.is_create:
                self._loop()
            elif not self.msg.is_delegation:
                self._run_precompile(precompile)
        except Halt:
            return
        except Revert:
            self.failure, self.reverted = "Revert", True
        except (VMError, FrameFailure) as failed:
            self.fail(failed)

    def fail(self, failure: VMError | FrameFailure) -> None:
        """End exceptionally: the gas is gone, nothing is returned."""
        self.failure = f"{type(failure).__name__}: {failure}"
        self.gas_left = 0
        self.return_data = self.output = b""

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
                raise OutOfGas(f"instruction 0x{opcode:02x} costs {gas[opcode]}")
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
            self.output = precompile.run(data)
        except PrecompileRevert as reverted:
            raise Revert(b"") from reverted
        except PrecompileFailure as failed:
            raise FrameFailure(str(failed)) from failed

    # -- gas ------------------------------------------------------------------

    def consume_gas(self, amount: int, reason: str) -> None:
        """Pay for something.

        Raises:
            OutOfGas: With less than `amount` left.
        """
        if amount > self.gas_left:
            raise OutOfGas(f"{reason} costs {amount}, {self.gas_left} is left")
        self.gas_left -= amount

    def return_gas(self, amount: int) -> None:
        self.gas_left += amount

    def refund_gas(self, amount: int) -> None:
        self.state.world.refund += amount

    def get_gas_remaining(self) -> int:
        return self.gas_left

    # -- memory ---------------------------------------------------------------

    def extend_memory(self, start_position: int, size: int) -> None:
        """Grow memory to hold a range, paying for it.

        Raises:
            OutOfGas: It costs too much, or the range ends beyond 384 KiB.
        """
        if size == 0:
            return
        memory = self._memory
        end = start_position + size
        old = len(memory)
        if end <= old:
            return
        if end > MAX_MEMORY_BYTES:
            raise OutOfGas(f"memory of {end} bytes, at most {MAX_MEMORY_BYTES}")
        new = (end + 31) & -32
        words, before = new >> 5, old >> 5
        cost = 3 * (words - before) + words * words // 512 - before * before // 512
        self.consume_gas(cost, "memory")
        self.meter.charge((new - old) // steps.MEMORY_BYTES_PER_STEP)
        memory.extend(bytes(new - old))

    def memory_write(self, start_position: int, size: int, value: bytes) -> None:
        if size:
            self.meter.charge(size // steps.MEMORY_BYTES_PER_STEP)
            self._memory[start_position : start_position + size] = value

    def memory_read_bytes(self, start_position: int, size: int) -> bytes:
        if size == 0:
            return b""
        self.meter.charge(size // steps.MEMORY_BYTES_PER_STEP)
        return bytes(self._memory[start_position : start_position + size])

    def memory_copy(self, destination: int, source: int, length: int) -> None:
        self.memory_write(destination, length, self.memory_read_bytes(source, length))

    def load_word(self, start: int) -> int:
        """Read 32 bytes, growing memory."""
        self.extend_memory(start, 32)
        return int.from_bytes(self._memory[start : start + 32], "big")

    def store(self, start: int, data: bytes) -> None:
        """Write a word or a byte, growing memory."""
        size = len(data)
        self.extend_memory(start, size)
        self._memory[start : start + size] = data

    # -- what a frame leaves behind -------------------------------------------

    def add_log_entry(
        self, account: bytes, topics: tuple[int, ...], data: bytes
    ) -> None:
        self.meter.charge(steps.LOG_STEPS + len(data) // steps.LOG_BYTES_PER_STEP)
        self.state.world.logs.append(
            Log(account, tuple(topic.to_bytes(32, "big") for topic in topics), data)
        )

    def register_account_for_deletion(self, beneficiary: bytes) -> None:
        del beneficiary
        self.state.world.doom(self.msg.storage_address)

    @property
    def is_error(self) -> bool:
        """Whether the frame reverted or halted."""
        return bool(self.failure)

    @property
    def should_erase_return_data(self) -> bool:
        """Whether it halted exceptionally."""
        return bool(self.failure) and not self.reverted

    @property
    def should_return_gas(self) -> bool:
        """Whether the caller gets back what is left."""
        return not self.should_erase_return_data

    # -- children -------------------------------------------------------------

    def prepare_child_message(  # noqa: PLR0913  (the names are py-evm's)
        self,
        *,
        gas: int,
        to: bytes,
        value: int,
        data: bytes,
        code: bytes,
        sender: bytes | None = None,
        create_address: bytes | None = None,
        code_address: bytes | None = None,
        should_transfer_value: bool = True,
        is_static: bool = False,
        is_delegation: bool = False,
    ) -> Message:
        storage_address = to if create_address is None else create_address
        return Message(
            gas=gas,
            to=to,
            sender=self.msg.storage_address if sender is None else sender,
            value=value,
            data=data,
            code=code,
            depth=self.msg.depth + 1,
            storage_address=storage_address,
            code_address=storage_address if code_address is None else code_address,
            should_transfer_value=should_transfer_value,
            is_static=is_static,
            is_delegation=is_delegation,
        )

    def apply_child_computation(self, child_msg: Message) -> "_Frame":
        self.meter.charge(
            steps.FRAME_STEPS + len(child_msg.code) // steps.CODE_BYTES_PER_STEP
        )
        child = _spawn(self.state, child_msg, self.transaction_context)
        # What a successful creation returns became code.
        keeps_output = not child_msg.is_create or child.is_error
        self.return_data = child.output if keeps_output else b""
        return child


def _spawn(state: State, message: Message, context: TransactionContext) -> _Frame:
    """Run a message in a frame of its own; undo everything if it fails."""
    world = state.world
    mark = world.mark()
    if message.is_create:
        world.set_nonce(message.storage_address, 1)
        world.note_creation(message.storage_address)
    if message.should_transfer_value and message.value:
        sender, recipient = message.sender, message.storage_address
        world.set_balance(sender, world.balance(sender) - message.value)
        world.set_balance(recipient, world.balance(recipient) + message.value)
    frame = _Frame(state, message, context)
    frame.run()
    if message.is_create and not frame.failure:
        try:
            _deposit(frame)
        except FrameFailure as failed:
            frame.fail(failed)
    if frame.failure:
        world.revert(mark)
    return frame


def _deposit(frame: _Frame) -> None:
    """Make the output of initcode the new contract's code."""
    code = frame.output
    if code[:1] == b"\xef":
        raise FrameFailure("contract code must not begin with 0xef (EIP-3541)")
    if len(code) > MAX_CODE_BYTES:
        raise FrameFailure(f"contract of {len(code)} bytes, at most {MAX_CODE_BYTES}")
    frame.consume_gas(CODE_DEPOSIT_GAS * len(code), "code deposit")
    frame.meter.charge(len(code) // steps.KECCAK_BYTES_PER_STEP)
    frame.state.world.set_code(frame.msg.storage_address, code)


# -- the instruction table --------------------------------------------------------


def _keccak(frame: _Frame) -> None:
    start, size = frame.stack_pop_ints(2)
    frame.consume_gas(6 * ((size + 31) // 32), "KECCAK256")
    frame.extend_memory(start, size)
    frame.meter.charge(size // steps.KECCAK_BYTES_PER_STEP)
    digest = crypto.keccak(frame.memory_read_bytes(start, size))
    frame.words.append(int.from_bytes(digest, "big"))


def _exp(frame: _Frame) -> None:
    base, exponent = frame.stack_pop_ints(2)
    size = (exponent.bit_length() + 7) // 8
    frame.consume_gas(50 * size, "EXP")  # EIP-160
    frame.meter.charge(steps.EXPONENT_BYTE_STEPS * size)
    frame.words.append(pow(base, exponent, WORD + 1))


def _code_size(frame: _Frame) -> None:
    frame.stack_push_int(len(frame.msg.code))


def _code_copy(frame: _Frame) -> None:
    destination, start, size = frame.stack_pop_ints(3)
    frame.consume_gas(3 * ((size + 31) // 32), "CODECOPY")
    frame.extend_memory(destination, size)
    piece = frame.msg.code[start : start + size]
    frame.memory_write(destination, size, piece.ljust(size, b"\0"))


def _checked_creation(inner: Callable[[Any], None]) -> Callable[[_Frame], None]:
    """CREATE and CREATE2 that look at the size of initcode first (EIP-3860)."""

    def instruction(frame: _Frame) -> None:
        words = frame.words
        if len(words) >= 3 and words[-3] > MAX_INITCODE_BYTES:
            raise OutOfGas(
                f"initcode of {words[-3]} bytes, at most {MAX_INITCODE_BYTES}"
            )
        inner(frame)

    return instruction


def _invalid(opcode: int) -> Callable[[_Frame], NoReturn]:
    def instruction(frame: _Frame) -> NoReturn:
        raise FrameFailure(f"invalid instruction 0x{opcode:02x} at {frame.pc - 1}")

    return instruction


_CREATE: Final = 0xF0
_CREATE2: Final = 0xF5
_OURS: Final[Mapping[int, tuple[int, Callable[[_Frame], None]]]] = {
    0x0A: (10, _exp),
    0x20: (30, _keccak),
    0x38: (2, _code_size),
    0x39: (3, _code_copy),
}


def _instructions() -> tuple[list[int], list[Callable[[Any], None]]]:
    """Gas that the loop charges, and what it calls, by opcode."""
    gas = [0] * 256
    table: list[Callable[[Any], None]] = [_invalid(opcode) for opcode in range(256)]
    theirs: Mapping[int, Any] = PragueComputation.opcodes
    for opcode, found in theirs.items():
        # SELFDESTRUCT is wrapped in a warning; the instruction is inside.
        table[opcode] = getattr(found, "__wrapped__", found).__call__
    for opcode in (_CREATE, _CREATE2):
        table[opcode] = _checked_creation(table[opcode])
    for opcode, (cost, instruction) in (*_OURS.items(), *NATIVE.items()):
        gas[opcode], table[opcode] = cost, instruction
    return gas, table


_GAS, _TABLE = _instructions()
