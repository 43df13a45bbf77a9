"""Every attack of benchmarks/blocks.py ends inside the limits, and imports again.

The limits are a tenth of the chain's here, so that the tests are quick. Time is not
asserted; benchmarks/worst_block.py measures it under the real ones.
"""

from dataclasses import replace

import pytest

from benchmarks.blocks import Attack, attacks, initcode
from chain.crypto import keccak
from chain.sidecar import Sidecar
from chain.transaction import decode
from runtime.block import BlockAttributes, BlockBuilder, import_block
from runtime.errors import BlockFull, TransactionInvalid
from runtime.rules import Rules
from tests.support.devchain import DevChain

ATTACKS = list(attacks())
CHAIN_ID = 4242
RULES = Rules(chain_id=CHAIN_ID)
TIGHT = replace(
    RULES,
    block_step_limit=RULES.block_step_limit // 10,
    transaction_step_limit=RULES.transaction_step_limit // 10,
)


def deployed(attack: Attack) -> tuple[DevChain, bytes | None]:
    """A chain with the attack on it and a little money in the contract."""
    chain = DevChain()
    if not attack.code:
        return chain, None
    target = chain.deploy(initcode(attack.code))
    chain.send(to=target, value=10**15, gas=50_000, check=False)
    return chain, target


def filled(chain: DevChain, attack: Attack, target: bytes | None) -> BlockBuilder:
    """A block with as many of the attack's transactions as it takes."""
    parent = chain.head
    attributes = BlockAttributes(
        timestamp=parent.timestamp + 1,
        coinbase=b"\xcb" * 20,
        mix_hash=bytes(32),
        extra_data=bytes(32),
        sidecar=Sidecar(),
    )
    builder = BlockBuilder(TIGHT, chain.database, parent, attributes)
    for nonce in range(2_000):
        fresh = keccak(nonce.to_bytes(2, "big"))[:20]
        raw = chain.sign(
            chain.accounts[1],
            nonce=nonce,
            to=None if attack.creates else target or fresh,
            data=attack.data,
            gas=min(attack.gas, builder.gas_left),
        )
        try:
            builder.apply(decode(raw, CHAIN_ID))
        except (BlockFull, TransactionInvalid):  # the gas left is below any intrinsic
            assert nonce > 0
            return builder
    raise AssertionError("a block without end")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.name)
def test_ends_inside_the_limits(attack: Attack) -> None:
    chain, target = deployed(attack)
    executed = filled(chain, attack, target).seal()
    assert 0 < executed.steps <= TIGHT.block_step_limit
    assert executed.header.gas_used <= TIGHT.block_gas_limit
    again = import_block(TIGHT, chain.database, chain.head, executed.block)
    assert again.steps == executed.steps
    assert again.block == executed.block
