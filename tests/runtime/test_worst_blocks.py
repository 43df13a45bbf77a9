"""Every attack of benchmarks/blocks.py ends inside the limits, and imports again.

Time is not asserted here; benchmarks/worst_block.py measures it.
"""

import pytest

from benchmarks.blocks import Attack, attacks, initcode
from chain.crypto import keccak
from chain.transaction import decode
from genesis import ChainSpec
from runtime.block import BlockBuilder, ExecutedBlock
from runtime.errors import BlockFull, TransactionInvalid
from tests.support.devchain import DevChain

ATTACKS = list(attacks())
SPEC = ChainSpec.load("devnet")


def fill(chain: DevChain, attack: Attack) -> ExecutedBlock:
    """The block after one that deploys the attack, as full as it gets."""
    target = chain.deploy(initcode(attack.code)) if attack.code else None
    if target is not None:
        chain.send(to=target, value=10**15, gas=50_000, check=False)
    builder = chain.builder()
    nonce = 0
    while _add(chain, builder, attack, target, nonce):
        nonce += 1
    assert nonce > 0
    return builder.seal()


def _add(
    chain: DevChain,
    builder: BlockBuilder,
    attack: Attack,
    target: bytes | None,
    nonce: int,
) -> bool:
    to = None if attack.creates else target or keccak(bytes((nonce % 256, nonce >> 8)))[:20]
    raw = chain.sign(
        chain.accounts[1],
        nonce=nonce,
        to=to,
        data=attack.data,
        gas=min(attack.gas, builder.gas_left),
    )
    try:
        builder.apply(decode(raw, SPEC.chain_id))
    except BlockFull:
        return False
    except TransactionInvalid:  # what is left of the block's gas is too little
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.name)
def test_ends_inside_the_limits(attack: Attack) -> None:
    chain, other = DevChain(), DevChain()
    executed = fill(chain, attack)
    rules = chain.spec.rules.at(executed.header.number)
    assert executed.steps <= rules.block_step_limit
    assert executed.header.gas_used <= rules.block_gas_limit
    for number in range(1, executed.header.number):
        block = chain.database.block_at(number)
        assert block is not None
        other.extend(block)
    assert other.extend(executed.block).steps == executed.steps
