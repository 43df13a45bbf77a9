"""Instructions that only move words: the hot three quarters of any contract.

py-evm's versions of these spend most of their time on checking what cannot be wrong.
Here they are plain functions of a frame whose stack is a list of integers below
2**256; the interpreter's loop has already charged their gas (`GAS`). Semantics are
those of the yellow paper, appendix H; `tests/runtime/test_instructions.py` holds them
against py-evm's own.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, Protocol

WORD: Final = (1 << 256) - 1
STACK_LIMIT: Final = 1024
_SIGN: Final = 1 << 255

JUMPDEST: Final = 0x5B
PUSH1: Final = 0x60
PUSH32: Final = 0x7F


class FrameFailure(Exception):
    """An exceptional halt: the frame ends and loses its gas."""


class StackUnderflow(FrameFailure):
    """An instruction wants more words than the stack holds."""


class StackOverflow(FrameFailure):
    """More than 1024 words on the stack."""


class InvalidJump(FrameFailure):
    """A jump to something that is not a JUMPDEST instruction."""


class Frame(Protocol):
    """What an instruction sees of the frame that executes it.

    Attributes:
        words: The stack, top last.
        pc: Position behind the current instruction.
        padded: The code followed by 33 zero bytes, so that it ends in STOP.
        landing: The code as `landing` blanks it.
        call_data: Input of the call.
    """

    words: list[int]
    pc: int
    padded: bytes
    landing: bytes

    @property
    def call_data(self) -> bytes:
        """Input of the call."""
        ...

    def load_word(self, start: int) -> int:
        """Read 32 bytes of memory, growing and paying for it."""
        ...

    def store(self, start: int, data: bytes) -> None:
        """Write to memory, growing and paying for it."""
        ...


Instruction = Callable[[Frame], None]

# A run of PUSH instructions with their data.
_PUSHES: Final = re.compile(
    b"(?:(?=[\\x60-\\x7f])(?:"
    + b"|".join(
        re.escape(bytes((PUSH1 + size - 1,))) + b"[\\x00-\\xff]{0,%d}" % size
        for size in range(1, 33)
    )
    + b"))+"
)


def landing(code: bytes) -> bytes:
    """`code` with every PUSH and its data blanked.

    A jump may land exactly where this still says JUMPDEST.
    """
    return _PUSHES.sub(lambda run: bytes(run.end() - run.start()), code)


def _binary(operation: Callable[[int, int], int]) -> Instruction:
    def instruction(frame: Frame) -> None:
        words = frame.words
        try:
            left = words.pop()
            words[-1] = operation(left, words[-1])
        except IndexError:
            raise StackUnderflow from None

    return instruction


def _signed(word: int) -> int:
    return word - (1 << 256) if word & _SIGN else word


def _byte(position: int, word: int) -> int:
    return word >> 8 * (31 - position) & 0xFF if position < 32 else 0


def _add(frame: Frame) -> None:
    words = frame.words
    try:
        left = words.pop()
        words[-1] = left + words[-1] & WORD
    except IndexError:
        raise StackUnderflow from None


def _sub(frame: Frame) -> None:
    words = frame.words
    try:
        left = words.pop()
        words[-1] = left - words[-1] & WORD
    except IndexError:
        raise StackUnderflow from None


def _is_zero(frame: Frame) -> None:
    words = frame.words
    try:
        words[-1] = 0 if words[-1] else 1
    except IndexError:
        raise StackUnderflow from None


def _not(frame: Frame) -> None:
    words = frame.words
    try:
        words[-1] ^= WORD
    except IndexError:
        raise StackUnderflow from None


def _pop(frame: Frame) -> None:
    try:
        frame.words.pop()
    except IndexError:
        raise StackUnderflow from None


def _mload(frame: Frame) -> None:
    words = frame.words
    if not words:
        raise StackUnderflow
    words[-1] = frame.load_word(words[-1])


def _mstore(frame: Frame) -> None:
    words = frame.words
    if len(words) < 2:
        raise StackUnderflow
    start = words.pop()
    frame.store(start, words.pop().to_bytes(32, "big"))


def _mstore8(frame: Frame) -> None:
    words = frame.words
    if len(words) < 2:
        raise StackUnderflow
    start = words.pop()
    frame.store(start, bytes((words.pop() & 0xFF,)))


def _call_data_load(frame: Frame) -> None:
    words = frame.words
    if not words:
        raise StackUnderflow
    start = words[-1]
    found = frame.call_data[start : start + 32]
    words[-1] = int.from_bytes(found, "big") << 8 * (32 - len(found))


def _jump(frame: Frame) -> None:
    words = frame.words
    if not words:
        raise StackUnderflow
    destination = words.pop()
    places = frame.landing
    if destination >= len(places) or places[destination] != JUMPDEST:
        raise InvalidJump
    frame.pc = destination


def _jump_if(frame: Frame) -> None:
    words = frame.words
    if len(words) < 2:
        raise StackUnderflow
    destination = words.pop()
    if words.pop():
        places = frame.landing
        if destination >= len(places) or places[destination] != JUMPDEST:
            raise InvalidJump
        frame.pc = destination


def _jump_destination(frame: Frame) -> None:
    """Mark a place; nothing else."""


def _program_counter(frame: Frame) -> None:
    words = frame.words
    if len(words) >= STACK_LIMIT:
        raise StackOverflow
    words.append(frame.pc - 1)


def _push(size: int) -> Instruction:
    def instruction(frame: Frame) -> None:
        words = frame.words
        if len(words) >= STACK_LIMIT:
            raise StackOverflow
        start = frame.pc
        end = frame.pc = start + size
        words.append(int.from_bytes(frame.padded[start:end], "big"))

    return instruction


def _push0(frame: Frame) -> None:
    words = frame.words
    if len(words) >= STACK_LIMIT:
        raise StackOverflow
    words.append(0)


def _push1(frame: Frame) -> None:
    words = frame.words
    if len(words) >= STACK_LIMIT:
        raise StackOverflow
    words.append(frame.padded[frame.pc])
    frame.pc += 1


def _dup(depth: int) -> Instruction:
    def instruction(frame: Frame) -> None:
        words = frame.words
        if len(words) >= STACK_LIMIT:
            raise StackOverflow
        try:
            words.append(words[-depth])
        except IndexError:
            raise StackUnderflow from None

    return instruction


def _swap(depth: int) -> Instruction:
    other = -1 - depth

    def instruction(frame: Frame) -> None:
        words = frame.words
        try:
            words[-1], words[other] = words[other], words[-1]
        except IndexError:
            raise StackUnderflow from None

    return instruction


def _table() -> Iterator[tuple[int, int, Instruction]]:
    """(opcode, gas, instruction)."""
    yield 0x01, 3, _add
    yield 0x02, 5, _binary(lambda a, b: a * b & WORD)
    yield 0x03, 3, _sub
    yield 0x04, 5, _binary(lambda a, b: a // b if b else 0)
    yield 0x06, 5, _binary(lambda a, b: a % b if b else 0)
    yield 0x10, 3, _binary(lambda a, b: 1 if a < b else 0)
    yield 0x11, 3, _binary(lambda a, b: 1 if a > b else 0)
    yield 0x12, 3, _binary(lambda a, b: 1 if _signed(a) < _signed(b) else 0)
    yield 0x13, 3, _binary(lambda a, b: 1 if _signed(a) > _signed(b) else 0)
    yield 0x14, 3, _binary(lambda a, b: 1 if a == b else 0)
    yield 0x15, 3, _is_zero
    yield 0x16, 3, _binary(lambda a, b: a & b)
    yield 0x17, 3, _binary(lambda a, b: a | b)
    yield 0x18, 3, _binary(lambda a, b: a ^ b)
    yield 0x19, 3, _not
    yield 0x1A, 3, _binary(_byte)
    yield 0x1B, 3, _binary(lambda n, x: x << n & WORD if n < 256 else 0)
    yield 0x1C, 3, _binary(lambda n, x: x >> n if n < 256 else 0)
    yield 0x35, 3, _call_data_load
    yield 0x50, 2, _pop
    yield 0x51, 3, _mload
    yield 0x52, 3, _mstore
    yield 0x53, 3, _mstore8
    yield 0x56, 8, _jump
    yield 0x57, 10, _jump_if
    yield 0x58, 2, _program_counter
    yield JUMPDEST, 1, _jump_destination
    yield 0x5F, 2, _push0
    yield PUSH1, 3, _push1
    for size in range(2, 33):
        yield PUSH1 + size - 1, 3, _push(size)
    for depth in range(1, 17):
        yield 0x80 + depth - 1, 3, _dup(depth)
        yield 0x90 + depth - 1, 3, _swap(depth)


NATIVE: Final = {opcode: (gas, instruction) for opcode, gas, instruction in _table()}
