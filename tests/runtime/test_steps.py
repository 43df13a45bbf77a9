"""The second limit: interpreter steps."""

from contextlib import suppress
from dataclasses import replace

import pytest

from benchmarks.blocks import forever
from chain.block import Block
from chain.transaction import decode
from genesis import ChainSpec
from runtime.block import import_block
from runtime.errors import BlockFull, InvalidBlock, TransactionInvalid
from runtime.rules import (
    BLOCK_STEP_LIMIT,
    TRANSACTION_STEP_LIMIT,
    ForkSchedule,
    Rules,
)
from runtime.steps import OutOfSteps, StepMeter
from tests.runtime.programs import COUNTER, initcode, push
from tests.support.devchain import DevChain

SPIN = initcode(forever(b"\x5b"))


@pytest.fixture
def chain() -> DevChain:
    return DevChain()


def test_the_meter() -> None:
    meter = StepMeter(10)
    meter.charge(10)
    assert (meter.left, meter.used) == (0, 10)
    with pytest.raises(OutOfSteps):
        meter.charge(1)
    assert meter.used == 10


def test_running_out_fails_like_gas(chain: DevChain) -> None:
    """All gas is charged, the nonce moves, everything else is undone."""
    store_then_spin = b"\x60\x01\x5f\x55" + forever(b"\x5b", b"")[:-2]
    spin = chain.deploy(
        initcode(store_then_spin + push(4) + b"\x56"),
    )
    sent = chain.send(to=spin, gas=1 << 24, value=3, check=False)
    assert not sent.receipt.succeeded
    assert sent.gas_used == 1 << 24
    assert sent.outcome.steps == TRANSACTION_STEP_LIMIT
    assert f"{TRANSACTION_STEP_LIMIT} interpreter steps" in sent.outcome.error
    assert chain.view().storage(spin, 0) == 0
    assert chain.balance(spin) == 0


def test_a_block_has_steps_for_one_such(chain: DevChain) -> None:
    spin = chain.deploy(SPIN)
    counter = chain.deploy(initcode(COUNTER))
    builder = chain.builder()
    account = chain.accounts[0]
    nonce = chain.nonce(account.address)

    def spun(nonce: int) -> bytes:
        return chain.sign(account, to=spin, nonce=nonce, gas=10_000_000)

    builder.apply(decode(spun(nonce), 4242))
    used, left = builder.gas_used, builder.steps_left
    assert left == BLOCK_STEP_LIMIT - TRANSACTION_STEP_LIMIT
    with pytest.raises(BlockFull, match="steps"):
        builder.apply(decode(spun(nonce + 1), 4242))
    assert (builder.gas_used, builder.steps_left) == (used, left)
    raw = chain.sign(account, to=counter, nonce=nonce + 1)
    assert builder.apply(decode(raw, 4242)).succeeded
    executed = chain.commit(builder.seal())
    assert chain.view().storage(counter, 0) == 1
    assert chain.database.steps(executed.header.hash) == executed.steps


def test_steps_do_not_depend_on_what_was_tried_before(chain: DevChain) -> None:
    """The builder may have loaded accounts for dropped transactions; importers not."""
    spin = chain.deploy(SPIN)
    importer = DevChain(chain.spec)
    importer.extend(_need(chain, 1))
    builder = chain.builder()
    account = chain.accounts[1]
    for nonce in (0, 0, 1, 1, 2):
        raw = chain.sign(account, to=spin, nonce=nonce, gas=1_000_000)
        with suppress(BlockFull, TransactionInvalid):
            builder.apply(decode(raw, 4242))
    built = chain.commit(builder.seal())
    imported = importer.extend(built.block)
    assert imported.steps == built.steps
    assert imported.writes == built.writes


def _need(chain: DevChain, number: int) -> Block:
    block = chain.database.block_at(number)
    assert block is not None
    return block


def test_a_block_beyond_the_limit_is_invalid() -> None:
    """Built under looser rules, refused under these."""
    loose = DevChain()
    spin = loose.deploy(SPIN)
    rules = loose.spec.rules.at(1)
    wide = replace(rules, block_step_limit=10 * rules.block_step_limit)
    builder = loose.builder()
    builder._rules = wide
    account = loose.accounts[0]
    for nonce in (1, 2):
        raw = loose.sign(account, to=spin, nonce=nonce, gas=10_000_000)
        builder.apply(decode(raw, 4242))
    block = builder.seal().block
    with pytest.raises(InvalidBlock, match=r"transaction 1.*steps"):
        import_block(rules, loose.database, loose.head, block)
    assert import_block(wide, loose.database, loose.head, block).block == block


def test_rules_must_let_every_transaction_fit() -> None:
    with pytest.raises(ValueError, match="must fit"):
        Rules(chain_id=1, transaction_step_limit=BLOCK_STEP_LIMIT + 1)
    with pytest.raises(ValueError, match="must fit"):
        Rules(chain_id=1, transaction_gas_limit=30_000_001)
    with pytest.raises(ValueError, match="unknown fork"):
        Rules(chain_id=1, fork="shanghai")


def test_rules_are_chosen_by_height() -> None:
    early, late = Rules(chain_id=1), Rules(chain_id=1, block_gas_limit=40_000_000)
    schedule = ForkSchedule(((0, early), (10, late)))
    assert [schedule.at(height) for height in (0, 9, 10, 11)] == [
        early,
        early,
        late,
        late,
    ]
    assert schedule.chain_id == 1
    assert ForkSchedule.constant(early).at(10**9) == early
    for forks in ((), ((1, early),), ((0, early), (0, late))):
        with pytest.raises(ValueError, match="ascend"):
            ForkSchedule(forks)
    assert ChainSpec.load("devnet").rules.at(5).fork == "launch"
