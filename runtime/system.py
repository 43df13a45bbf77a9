"""What happens at the start of every block, before its transactions.

Three calls from the system address, each with 30 million gas that nobody pays:

1. EIP-4788: the sidecar root goes into the beacon roots contract;
2. EIP-2935: the parent's hash goes into the history contract;
3. the Clock contract ticks, unless the parent was more than nine tenths full, and in
   block 1 learns the genesis hash, which contracts cannot read otherwise.

The code of the first two is what every Ethereum chain has.
"""

from typing import Final

from chain import addresses
from chain.crypto import keccak
from runtime.errors import SystemCallFailed
from runtime.evm import execute
from runtime.machine import BlockContext, Call
from runtime.steps import StepMeter
from runtime.world import World

SYSTEM_CALL_GAS: Final = 30_000_000
SYSTEM_CALL_STEPS: Final = 100_000

BEACON_ROOTS_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f3580"
    "1560495762001fff810690815414603c575f5ffd5b62001fff01545f5260205ff35b5f5ffd5b6200"
    "1fff42064281555f359062001fff015500"
)
HISTORY_STORAGE_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111"
    "604257611fff81430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff600143030655"
    "00"
)

TICK: Final = keccak(b"tick(bool,bytes32)")[:4]


def start_block(
    world: World,
    block: BlockContext,
    *,
    parent_beacon_root: bytes,
    parent_hash: bytes,
    genesis_hash: bytes,
    ticks: bool,
) -> None:
    """Make the system calls of a block.

    Raises:
        SystemCallFailed: One failed, which no block can cause.
    """
    tick = TICK + int(ticks).to_bytes(32, "big") + genesis_hash
    for contract, data in (
        (addresses.BEACON_ROOTS, parent_beacon_root),
        (addresses.HISTORY_STORAGE, parent_hash),
        (addresses.CLOCK, tick),
    ):
        _system_call(world, block, contract, data)


def _system_call(
    world: World, block: BlockContext, contract: bytes, data: bytes
) -> None:
    if not world.code(contract):
        return  # EIP-4788: where there is no contract, there is no call
    world.begin()
    call = Call(
        origin=addresses.SYSTEM,
        gas_price=0,
        to=contract,
        gas=SYSTEM_CALL_GAS,
        data=data,
    )
    result = execute(world, block, StepMeter(SYSTEM_CALL_STEPS), call)
    if not result.succeeded:
        raise SystemCallFailed(
            f"block {block.number}: the system call to {contract.hex()} failed: "
            f"{result.error} {result.output.hex()}"
        )
    world.delete_doomed()
