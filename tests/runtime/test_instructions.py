"""Our instructions against py-evm's own, on random stacks."""

from typing import Any

import pytest
from eth.exceptions import VMError
from eth.vm.forks.prague.computation import PragueComputation
from hypothesis import given, strategies as st

from chain.database import ChainDatabase
from chain.header import EMPTY_TRIE_ROOT
from chain.store import Store
from runtime.evm import _OURS, _Frame
from runtime.instructions import (
    NATIVE,
    STACK_LIMIT,
    WORD,
    FrameFailure,
    landing,
)
from runtime.machine import BlockContext, Message, State, TransactionContext
from runtime.steps import StepMeter
from runtime.world import World

EDGES = [0, 1, 2, 31, 32, 255, 256, 257, WORD, WORD - 1, 1 << 255, (1 << 255) - 1]
WORDS = st.one_of(st.sampled_from(EDGES), st.integers(0, 300), st.integers(0, WORD))
CODE = bytes.fromhex("5b") * 10 + b"\x7f" + bytes(range(32)) + b"\x5b\x60\x5b\x5b"
TABLE = {**_OURS, **NATIVE}


def frame(words: list[int], pc: int) -> _Frame:
    world = World(ChainDatabase(Store.memory()), EMPTY_TRIE_ROOT)
    block = BlockContext(1, 1, 1, bytes(20), 10**8, 7, bytes(32), lambda _: None, {})
    message = Message(
        gas=10**7,
        to=b"\1" * 20,
        sender=b"\2" * 20,
        value=0,
        data=bytes(range(200)),
        code=CODE,
        depth=0,
        storage_address=b"\1" * 20,
        code_address=b"\1" * 20,
    )
    state = State(world, block, StepMeter(10**9))
    found = _Frame(state, message, TransactionContext(1, b"\2" * 20))
    found.words.extend(words)
    found.pc = pc
    return found


class _Code:
    """The code as py-evm's instructions read and move through it."""

    def __init__(self, frame: _Frame) -> None:
        from eth.vm.code_stream import CodeStream  # noqa: PLC0415  (test oracle)

        self.stream = CodeStream(frame.msg.code)
        self.stream.program_counter = frame.pc


Outcome = tuple[list[int], bytes, int, int] | str


def outcome(found: _Frame, pc: int) -> Outcome:
    return found.words, bytes(found._memory), found.gas_left, pc


def theirs(opcode: int, words: list[int], pc: int) -> Outcome:
    found: Any = frame(words, pc)
    code = _Code(found).stream
    found.code = code
    found.stack_dup = lambda depth: found.stack_push_int(
        found.words[-depth] if depth <= len(found.words) else _underflow()
    )
    found.stack_swap = lambda depth: _swap(found.words, depth)
    try:
        PragueComputation.opcodes[opcode](found)
    except (VMError, FrameFailure):
        return "halt"
    return outcome(found, code.program_counter)


def _underflow() -> int:
    raise FrameFailure


def _swap(words: list[int], depth: int) -> None:
    if len(words) <= depth:
        _underflow()
    words[-1], words[-1 - depth] = words[-1 - depth], words[-1]


def ours(opcode: int, words: list[int], pc: int) -> Outcome:
    found = frame(words, pc)
    gas, instruction = TABLE[opcode]
    found.gas_left -= gas
    try:
        instruction(found)
    except FrameFailure:
        return "halt"
    return outcome(found, found.pc)


@pytest.mark.parametrize("opcode", sorted(TABLE), ids=hex)
@given(words=st.lists(WORDS, max_size=20), pc=st.integers(1, len(CODE)))
def test_agrees_with_py_evm(opcode: int, words: list[int], pc: int) -> None:
    assert ours(opcode, words, pc) == theirs(opcode, words, pc)


@pytest.mark.parametrize("opcode", sorted(TABLE), ids=hex)
def test_agrees_at_the_stack_limit(opcode: int) -> None:
    words = [3] * STACK_LIMIT
    assert ours(opcode, words, 1) == theirs(opcode, words, 1)


def _places(code: bytes) -> set[int]:
    places, at = set(), 0
    while at < len(code):
        if code[at] == 0x5B:
            places.add(at)
        at += 1 + (code[at] - 0x5F if 0x60 <= code[at] <= 0x7F else 0)
    return places


@given(
    st.lists(
        st.sampled_from([0x5B, 0x5B, 0x60, 0x61, 0x7F, 0x00, 0x0A, 0x5F, 0x80]),
        max_size=120,
    ).map(bytes)
    | st.binary(max_size=200)
)
def test_landing_places(code: bytes) -> None:
    found = landing(code)
    assert len(found) == len(code)
    assert {at for at, byte in enumerate(found) if byte == 0x5B} == _places(code)
