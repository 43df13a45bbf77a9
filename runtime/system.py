"""What happens at the start of every block, before its transactions.

Calls from the system address, each with 30 million gas that nobody pays:

1. EIP-4788: the sidecar root goes into the beacon roots contract;
2. EIP-2935: the parent's hash goes into the history contract;
3. the Clock contract ticks, unless the parent was more than nine tenths full, and in
   block 1 learns the genesis hash, which contracts cannot read otherwise;
4. the Validators contract punishes each offence that the block's evidence proves;
5. the Validators contract learns who proposed the block, whose reveal made its mixHash,
   and whose precommit the parent's certificate lacks.

The code of the first two is what every Ethereum chain has. A chain without one of the
contracts makes no calls to it. The contract refuses to punish anybody twice: then it is
the block that is wrong. No other call can fail on a sound state.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from chain import addresses
from chain.crypto import keccak
from runtime.errors import InvalidBlock, SystemCallFailed
from runtime.evm import execute
from runtime.machine import BlockContext, Call, Result
from runtime.steps import StepMeter
from runtime.world import World

SYSTEM_CALL_GAS: Final = 30_000_000
SYSTEM_CALL_STEPS: Final = 500_000

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
PUNISH: Final = keccak(b"punish(address,bytes32,uint256)")[:4]
ERROR: Final = keccak(b"Error(string)")[:4]
BEGIN_BLOCK: Final = keccak(b"begin_block(address,address[])")[:4]

# Consensus address of the offender, hash of the evidence, height of the offence.
Offence: TypeAlias = tuple[bytes, bytes, int]


def start_block(
    world: World,
    block: BlockContext,
    *,
    parent_beacon_root: bytes,
    parent_hash: bytes,
    genesis_hash: bytes,
    ticks: bool,
    offences: Sequence[Offence] = (),
    absent: Sequence[bytes] = (),
) -> None:
    """Make the system calls of a block.

    Raises:
        InvalidBlock: The staking contract refuses an offence.
        SystemCallFailed: Another one failed, which no block can cause.
    """
    _must(world, block, addresses.BEACON_ROOTS, parent_beacon_root)
    _must(world, block, addresses.HISTORY_STORAGE, parent_hash)
    tick = TICK + int(ticks).to_bytes(32, "big") + genesis_hash
    _must(world, block, addresses.CLOCK, tick)
    for index, offence in enumerate(offences):
        data = PUNISH + _word(offence[0]) + offence[1] + offence[2].to_bytes(32, "big")
        result = _system_call(world, block, addresses.VALIDATORS, data)
        if result is not None and not result.succeeded:
            raise InvalidBlock(
                f"offence {index}",
                "one that can be punished",
                f"0x{offence[0].hex()} at height {offence[2]}: "
                f"{revert_reason(result.output) or result.error}",
            )
    _must(world, block, addresses.VALIDATORS, _begin_block(block.coinbase, absent))


def revert_reason(output: bytes) -> str:
    """The text of an Error(string) in revert data, or nothing."""
    if output[:4] != ERROR or len(output) < 68:
        return ""
    size = int.from_bytes(output[36:68], "big")
    return output[68 : 68 + min(size, len(output))].decode("utf-8", "replace")


def _begin_block(proposer: bytes, absent: Sequence[bytes]) -> bytes:
    offset, count = (number.to_bytes(32, "big") for number in (64, len(absent)))
    return b"".join(
        (BEGIN_BLOCK, _word(proposer), offset, count, *(_word(each) for each in absent))
    )


def _word(address: bytes) -> bytes:
    return address.rjust(32, b"\0")


def _must(world: World, block: BlockContext, contract: bytes, data: bytes) -> None:
    result = _system_call(world, block, contract, data)
    if result is not None and not result.succeeded:
        raise SystemCallFailed(
            f"block {block.number}: the system call to {contract.hex()} failed: "
            f"{result.error} {result.output.hex()}"
        )


def _system_call(
    world: World, block: BlockContext, contract: bytes, data: bytes
) -> Result | None:
    """How the call went; None where there is no contract, hence no call (EIP-4788)."""
    if not world.code(contract):
        return None
    world.begin()
    call = Call(
        origin=addresses.SYSTEM,
        gas_price=0,
        to=contract,
        gas=SYSTEM_CALL_GAS,
        data=data,
    )
    result = execute(world, block, StepMeter(SYSTEM_CALL_STEPS), call)
    world.delete_doomed()
    return result
