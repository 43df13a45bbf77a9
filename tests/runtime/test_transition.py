"""What py-evm lets through or charges wrongly, refused or charged right.

The same cases stand in tests/vectors/execution.json with the specification's answers;
here each is one rule, and the block under construction must not notice a refusal.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from chain.transaction import Transaction, Unsigned, decode
from runtime.block import BlockBuilder
from runtime.errors import BlockFull, NonceTooHigh, TransactionInvalid
from runtime.transition import (
    CREATION_GAS,
    TRANSACTION_GAS,
    calldata_tokens,
    check_static,
    intrinsic_gas,
)
from tests.runtime.programs import COUNTER, initcode
from tests.support.devchain import DevChain

TARGET = b"\x77" * 20
GWEI = 10**9


@pytest.fixture
def chain() -> DevChain:
    return DevChain()


@pytest.fixture
def builder(chain: DevChain) -> Iterator[BlockBuilder]:
    """A builder; what a refusal leaves behind would change the sealed block."""
    clean = chain.builder().seal()
    found = chain.builder()
    yield found
    assert found.seal().block == clean.block


def signed(chain: DevChain, **fields: object) -> Transaction:
    values: dict[str, Any] = {"to": TARGET, "gas": 100_000, "nonce": 0, **fields}
    return decode(chain.sign(chain.accounts[0], **values), 4242)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"data": b"\xff" * 1_000, "gas": 60_999}, "floor 61000"),
        ({"data": b"\xff" * 1_000, "gas": 37_000}, "intrinsic 37000"),
        ({"gas": 20_999}, "intrinsic 21000"),
        ({"max_priority_fee_per_gas": 9 * GWEI}, "priority fee"),
        ({"gas": (1 << 24) + 1}, "7825"),
        ({"to": None, "data": bytes(49_153), "gas": 3_000_000}, "3860"),
        ({"nonce": 2**64 - 1}, "2681"),
        ({"max_fee_per_gas": 1}, "below the base fee"),
        ({"value": 10**30}, "does not cover"),
    ],
)
def test_refused_before_anything_moves(
    chain: DevChain, builder: BlockBuilder, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TransactionInvalid, match=reason):
        builder.apply(signed(chain, **fields))


def test_the_bounds_themselves_are_allowed(chain: DevChain) -> None:
    data = b"\xff" * 1_000
    assert chain.send(to=TARGET, data=data, gas=61_000).gas_used == 61_000
    assert chain.send(to=TARGET, gas=1 << 24).gas_used == 21_000
    assert chain.send(data=bytes(49_152), gas=3_000_000).created


def test_gas_is_paid_for_before_execution(chain: DevChain) -> None:
    """The whole gas limit at the fee cap, and the value, must be there."""
    poor = chain.accounts[1]
    balance = chain.balance(poor.address)
    price = 4 * GWEI
    gas = 50_000
    spare = balance - gas * price
    fits = chain.sign(poor, to=TARGET, gas=gas, max_fee_per_gas=price, value=spare)
    over = chain.sign(poor, to=TARGET, gas=gas, max_fee_per_gas=price, value=spare + 1)
    with pytest.raises(TransactionInvalid, match="does not cover"):
        chain.builder().apply(decode(over, 4242))
    assert chain.builder().apply(decode(fits, 4242)).succeeded


def test_another_chain_is_refused(chain: DevChain) -> None:
    raw = Unsigned(
        chain_id=1, nonce=0, gas=21_000, max_fee_per_gas=GWEI, to=TARGET
    ).sign(chain.accounts[0].secret)
    rules = chain.spec.rules.at(1)
    with pytest.raises(TransactionInvalid, match="chain id 1"):
        check_static(rules, decode(raw, 1))


def test_nonces(chain: DevChain, builder: BlockBuilder) -> None:
    with pytest.raises(NonceTooHigh, match="nonce 5"):
        builder.apply(signed(chain, nonce=5))


def test_a_used_nonce_is_refused(chain: DevChain) -> None:
    builder = chain.builder()
    builder.apply(signed(chain))
    with pytest.raises(TransactionInvalid, match="was used"):
        builder.apply(signed(chain))


def test_contracts_cannot_send(chain: DevChain) -> None:
    """EIP-3607, with the state made to hold code where a key is known."""
    world = chain.builder()._world
    world.set_code(chain.accounts[0].address, b"\xfe")
    builder = chain.builder()
    builder._world = world
    with pytest.raises(TransactionInvalid, match="3607"):
        builder.apply(signed(chain))


def test_the_block_gas_limit(chain: DevChain) -> None:
    builder = chain.builder()
    builder.apply(signed(chain, to=None, data=b"\xfe", gas=1 << 24))
    left = builder.gas_left
    with pytest.raises(BlockFull, match="gas"):
        builder.apply(signed(chain, nonce=1, gas=left + 1))
    builder.apply(signed(chain, nonce=1, to=None, data=b"\xfe", gas=left))
    assert builder.gas_left == 0
    assert builder.seal().header.gas_used == 30_000_000


def test_receipts_charge_refunds_and_floor_together(chain: DevChain) -> None:
    """Refund first, then the floor: EIP-7623 says max(used - refund, floor)."""
    clear = b"".join(bytes((0x60, slot, 0x35, 0x60, slot, 0x55)) for slot in range(10))
    contract = chain.deploy(initcode(clear))
    chain.send(to=contract, data=b"\1" * 64, gas=1_000_000)
    free = chain.call(contract, b"")
    assert free == b""
    sent = chain.send(to=contract, data=bytes(6_000), gas=1_000_000)
    _, floor = intrinsic_gas(sent.transaction)
    assert sent.gas_used == floor == TRANSACTION_GAS + 10 * 6_000
    assert sent.receipt.cumulative_gas_used == floor
    assert sent.executed.header.gas_used == floor


def test_who_pays_and_who_earns(chain: DevChain) -> None:
    payer, proposer = chain.accounts[0].address, b"\xcb" * 20
    before = chain.balance(payer)
    base = chain.builder().base_fee
    sent = chain.send(
        to=TARGET, value=5, max_fee_per_gas=2 * base, max_priority_fee_per_gas=3
    )
    assert chain.balance(payer) == before - 5 - sent.gas_used * (base + 3)
    assert chain.balance(proposer) == sent.gas_used * 3
    assert chain.balance(TARGET) == 5


def test_intrinsic_gas(chain: DevChain) -> None:
    assert calldata_tokens(b"\0\1\0") == 6
    create = signed(chain, to=None, data=b"\1" * 33)
    assert intrinsic_gas(create) == (
        TRANSACTION_GAS + CREATION_GAS + 16 * 33 + 2 * 2,
        TRANSACTION_GAS + 40 * 33,
    )


def test_a_failed_creation_moves_nothing_but_the_fee(chain: DevChain) -> None:
    sent = chain.send(data=b"\xfe", gas=100_000, value=9, check=False)
    assert not sent.receipt.succeeded
    assert sent.gas_used == 100_000
    assert chain.balance(sent.created) == 0
    assert chain.nonce(chain.accounts[0].address) == 1


def test_contracts_keep_state_over_blocks(chain: DevChain) -> None:
    counter = chain.deploy(initcode(COUNTER))
    for expected in (1, 2, 3):
        sent = chain.send(to=counter)
        assert int.from_bytes(sent.outcome.output, "big") == expected
    assert chain.view().storage(counter, 0) == 3
