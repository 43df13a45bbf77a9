"""The machine's own bounds: memory, frames, recursion, hashing."""

import gc
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.blocks import call, forever
from chain import addresses
from runtime.evm import (
    MAX_MEMORY_BYTES,
    BlockContext,
    Call,
    _Frame,
    execute,
)
from runtime.steps import StepMeter
from runtime.world import World
from tests.runtime.programs import LOGGER, REVERTS, initcode, push, returns_call
from tests.support.devchain import DevChain, Reverted


@pytest.fixture
def chain() -> DevChain:
    return DevChain()


def _answer(chain: DevChain, code: bytes) -> tuple[int, int, bytes]:
    """What `returns_call` returned: success, output size, output."""
    contract = chain.deploy(initcode(code))
    output = chain.call(contract, b"")
    return int.from_bytes(output[:32]), int.from_bytes(output[32:64]), output[64:]


@pytest.mark.parametrize("size", [MAX_MEMORY_BYTES, MAX_MEMORY_BYTES + 1])
def test_memory_ends_at_384_kib(chain: DevChain, size: int) -> None:
    """A frame that reaches beyond halts exceptionally; its caller goes on."""
    grower = chain.deploy(initcode(push(size - 32) + b"\x51\x00"))
    success, _, _ = _answer(chain, returns_call(0xFA, int.from_bytes(grower, "big"), 0))
    assert success == (size <= MAX_MEMORY_BYTES)


def test_call_arguments_end_there_too(chain: DevChain) -> None:
    fits = chain.deploy(initcode(call(0xFA, 4, MAX_MEMORY_BYTES)))
    chain.send(to=fits, gas=2_000_000)
    over = chain.deploy(initcode(call(0xFA, 4, MAX_MEMORY_BYTES + 1)))
    sent = chain.send(to=over, gas=2_000_000, check=False)
    assert "at most 393216" in sent.outcome.error
    assert sent.gas_used == 2_000_000


@pytest.mark.parametrize("child", [b"", b"\x00", b"\xfe", b"\x5f\x5f\xfd"])
def test_finished_frames_are_dropped(chain: DevChain, child: bytes) -> None:
    """However they end, thousands of calls with 384 KiB each hold that of two.

    The collector is off: reference counts alone must free a frame.
    """
    grow = push(MAX_MEMORY_BYTES - 32) + b"\x51\x50" + child
    callee = chain.deploy(initcode(grow)) if child else b"\x12" * 20
    attack = forever(
        push(0) * 2
        + push(MAX_MEMORY_BYTES)
        + push(0)
        + push(int.from_bytes(callee, "big"))
        + push(100_000)
        + b"\xfa\x50"
    )
    contract = chain.deploy(initcode(attack))
    chain.send(to=contract, gas=1_000_000, check=False)
    gc.collect()
    frames = _frames()
    gc.disable()
    tracemalloc.start()
    try:
        chain.send(to=contract, gas=4_000_000, check=False)
        _, peak = tracemalloc.get_traced_memory()
        assert _frames() == frames
    finally:
        tracemalloc.stop()
        gc.enable()
    assert peak < 6 << 20


def _frames() -> int:
    # type(), because isinstance() asks lazy modules of other libraries for __class__
    return sum(issubclass(type(each), _Frame) for each in gc.get_objects())


def test_calls_nest_as_deep_as_gas_reaches(chain: DevChain) -> None:
    """Depth 1024 is beyond 63/64 of any transaction; run it from a thread as well."""
    recursion = chain.deploy(initcode(push(0) * 5 + b"\x30\x5a\xf1\x00"))
    sent = chain.send(to=recursion, gas=1 << 24)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(chain.call, recursion, b"", gas=50_000_000)
        assert answer.result() == b""
    assert sent.outcome.succeeded


def test_1024_frames_fit_python(chain: DevChain) -> None:
    """No transaction has the gas to get there; the recursion limit must not care."""
    world = World(chain.database, chain.head.state_root)
    recursion = push(0) * 5 + b"\x30\x5a\xf1" + b"\x5f\x54\x60\x01\x01\x5f\x55\x00"
    world.set_code(b"\x99" * 20, recursion)
    block = BlockContext(1, 1, 1, bytes(20), 10**8, 7, bytes(32), lambda _: None, {})
    call = Call(origin=b"\2" * 20, gas_price=0, to=b"\x99" * 20, gas=10**15)
    result = execute(world, block, StepMeter(10**8), call)
    assert result.succeeded
    assert world.storage(b"\x99" * 20, 0) == 1_025
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000)


def test_jumps_over_long_runs_of_push(chain: DevChain) -> None:
    """py-evm recursed once for each PUSH1 here, until Python's stack ended."""
    for pads, lands in ((23_996, True), (23_995, False)):
        target = (4 + pads).to_bytes(2, "big")
        code = b"\x61" + target + b"\x56" + b"\x60" * pads + b"\x5b"
        contract = chain.deploy(initcode(code))
        sent = chain.send(to=contract, gas=100_000, check=False)
        assert sent.outcome.succeeded == lands


def test_logs_survive_only_success(chain: DevChain) -> None:
    logger = chain.deploy(initcode(LOGGER))
    sent = chain.send(to=logger)
    (log,) = sent.receipt.logs
    assert log.address == logger
    assert log.topics == ((7).to_bytes(32, "big"),)
    assert log.data == (42).to_bytes(32, "big")
    assert sent.executed.header.logs_bloom == sent.receipt.bloom()
    failing = chain.deploy(initcode(LOGGER + b"\xfe"))
    assert chain.send(to=failing, check=False).receipt.logs == ()


def test_reverts_return_data_and_gas(chain: DevChain) -> None:
    contract = chain.deploy(initcode(REVERTS))
    sent = chain.send(to=contract, data=b"why?", gas=500_000, check=False)
    assert sent.outcome.output == b"why?"
    assert sent.gas_used < 25_000
    with pytest.raises(Reverted) as caught:
        chain.call(contract, b"why?")
    assert caught.value.output == b"why?"


def test_history_and_beacon_contracts_answer(chain: DevChain) -> None:
    chain.mine(3)
    parent = chain.database.header_at(2)
    assert parent is not None
    history = chain.call(addresses.HISTORY_STORAGE, (2).to_bytes(32, "big"))
    assert history == parent.hash
    head = chain.head
    root = chain.call(addresses.BEACON_ROOTS, head.timestamp.to_bytes(32, "big"))
    assert root == head.parent_beacon_block_root


def test_blockhash_reaches_back_256_blocks(chain: DevChain) -> None:
    code = bytes.fromhex("5f35405f5260205ff3")
    contract = chain.deploy(initcode(code))
    chain.mine(3)
    for number in range(chain.head.number):
        found = chain.call(contract, number.to_bytes(32, "big"))
        assert found == chain.database.hash_at(number)
    beyond = (chain.head.number + 1).to_bytes(32, "big")
    assert chain.call(contract, beyond) == bytes(32)
