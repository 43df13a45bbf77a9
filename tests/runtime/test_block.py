"""Building and importing blocks."""

from dataclasses import replace
from typing import Any

import pytest

from chain.addresses import CLOCK
from chain.block import Block
from chain.database import steps_key
from chain.header import Header
from chain.sidecar import CommitCertificate, Sidecar
from chain.transaction import LEGACY, decode
from genesis import ChainSpec
from runtime.block import BlockAttributes, BlockBuilder, import_block
from runtime.errors import InvalidBlock, SystemCallFailed
from runtime.fees import clock_ticks, fullness, next_base_fee
from runtime.world import World
from tests.runtime.programs import COUNTER, LOGGER, initcode
from tests.support.devchain import BURN, DevChain

TARGET = b"\x77" * 20


def lively() -> tuple[DevChain, Block]:
    """A chain and a sealed, uncommitted block with something of everything in it."""
    chain = DevChain()
    counter = chain.deploy(initcode(COUNTER))
    logger = chain.deploy(initcode(LOGGER))
    account = chain.accounts[0]
    nonce = chain.nonce(account.address)
    builder = chain.builder()
    kinds: list[dict[str, object]] = [
        {"to": TARGET, "value": 5, "type": LEGACY},
        {"to": counter},
        {"to": logger},
        {"data": initcode(LOGGER)},
        {"data": BURN, "gas": 60_000},
    ]
    for offset, fields in enumerate(kinds):
        raw = chain.sign(account, nonce=nonce + offset, **fields)
        builder.apply(decode(raw, 4242))
    return chain, builder.seal().block


def test_what_is_built_imports_to_the_same() -> None:
    chain, block = lively()
    executed = chain.extend(block)
    assert executed.block == block
    assert [each.succeeded for each in executed.receipts] == [True] * 4 + [False]
    assert chain.head == block.header
    # The wire form imports as well.
    chain2, _ = lively()
    assert chain2.extend(Block.decode(block.encode())).block == block


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parent_hash", b"\xee" * 32),
        ("ommers_hash", b"\xee" * 32),
        ("coinbase", b"\xee" * 20),
        ("state_root", b"\xee" * 32),
        ("transactions_root", b"\xee" * 32),
        ("receipts_root", b"\xee" * 32),
        ("logs_bloom", b"\xee" * 256),
        ("difficulty", 1),
        ("number", 9),
        ("gas_limit", 30_000_001),
        ("gas_used", 1),
        ("gas_used", 30_000_001),
        ("timestamp", 1),
        ("nonce", b"\xee" * 8),
        ("base_fee_per_gas", 7),
        ("withdrawals_root", b"\xee" * 32),
        ("blob_gas_used", 1),
        ("excess_blob_gas", 1),
        ("parent_beacon_block_root", b"\xee" * 32),
        ("requests_hash", b"\xee" * 32),
    ],
)
def test_every_field_is_checked(field: str, value: bytes | int) -> None:
    chain, block = lively()
    changes: dict[str, Any] = {field: value}
    changed = replace(block, header=replace(block.header, **changes))
    with pytest.raises(InvalidBlock) as caught:
        chain.extend(changed)
    # The proposer's address shows in the state: it earns the tips.
    blamed = {"coinbase": "state_root"}.get(field, field)
    assert caught.value.field == blamed


def at_time(timestamp: int) -> BlockAttributes:
    return BlockAttributes(
        timestamp=timestamp,
        coinbase=bytes(20),
        mix_hash=bytes(32),
        extra_data=bytes(32),
        sidecar=Sidecar(),
    )


def test_blocks_may_share_a_second() -> None:
    chain, _ = lively()
    rules, parent = chain.spec.rules.at(1), chain.head
    builder = BlockBuilder(rules, chain.database, parent, at_time(parent.timestamp))
    executed = chain.extend(builder.seal().block)
    assert executed.header.timestamp == parent.timestamp
    assert chain.head.number == parent.number + 1


def test_time_does_not_run_backwards() -> None:
    chain, block = lively()
    earlier = chain.head.timestamp - 1
    header = replace(block.header, timestamp=earlier)
    with pytest.raises(InvalidBlock, match="timestamp: expected at least"):
        chain.extend(replace(block, header=header))
    with pytest.raises(ValueError, match="lies before"):
        BlockBuilder(
            chain.spec.rules.at(1), chain.database, chain.head, at_time(earlier)
        )


@pytest.mark.parametrize("extra", ["drop", "swap", "garbage", "repeat"])
def test_the_body_is_checked(extra: str) -> None:
    chain, block = lively()
    body = list(block.transactions)
    changed = {
        "drop": body[:-1],
        "swap": [*body[1:], body[0]],
        "garbage": [*body, b"\x02\xc0"],
        "repeat": [*body, body[0]],
    }[extra]
    with pytest.raises(InvalidBlock) as caught:
        chain.extend(replace(block, transactions=tuple(changed)))
    assert caught.value.field in {"gas_used", "transaction 0", "transaction 5"}


def test_the_sidecar_is_bound() -> None:
    chain, block = lively()
    other = Sidecar(CommitCertificate(1, 0, b"\1" * 32, ()))
    with pytest.raises(InvalidBlock, match="parent_beacon_block_root"):
        chain.extend(replace(block, sidecar=other))


def test_import_writes_nothing() -> None:
    chain, block = lively()
    before = dict(chain.database.store.scan(b""))
    rules = chain.spec.rules.at(block.number)
    import_block(rules, chain.database, chain.head, block)
    assert dict(chain.database.store.scan(b"")) == before


def _header(chain: DevChain, **fields: int) -> Header:
    changes: dict[str, Any] = {**fields}
    return replace(chain.head, **changes)


def test_base_fee_follows_fullness() -> None:
    chain = DevChain()
    rules = chain.spec.rules.at(1)
    fee = 10**9
    for gas, steps, expected in (
        (15_000_000, 0, fee),
        (30_000_000, 0, fee + fee // 8),
        (0, 0, fee - fee // 8),
        (0, rules.block_step_limit, fee + fee // 8),
        (30_000_000, rules.block_step_limit // 2, fee + fee // 8),
        (15_000_000, rules.block_step_limit // 2, fee),
    ):
        parent = _header(chain, gas_used=gas, base_fee_per_gas=fee)
        assert next_base_fee(rules, parent, steps) == expected
    tiny = _header(chain, gas_used=15_000_001, base_fee_per_gas=1)
    assert next_base_fee(rules, tiny, 0) == 2


def test_the_clock_stands_behind_nine_tenths() -> None:
    chain = DevChain()
    rules = chain.spec.rules.at(1)
    for gas, steps, ticks in (
        (27_000_000, 0, True),
        (27_000_001, 0, False),
        (0, rules.block_step_limit * 9 // 10, True),
        (0, rules.block_step_limit * 9 // 10 + 1, False),
    ):
        parent = _header(chain, gas_used=gas)
        assert clock_ticks(rules, parent, steps) == ticks
    assert fullness(rules, _header(chain, gas_used=5), 0) == 5


def test_the_clock_contract_ticks_with_blocks() -> None:
    chain = DevChain()
    clock = chain.contract("Clock")
    chain.mine(3)
    assert clock.call("now") == 3
    assert clock.call("genesis_hash") == chain.genesis_hash
    chain.mine(2, ticks=False)
    assert clock.call("now") == 4
    chain.mine(2)
    assert clock.call("now") == 5


def test_blocks_follow_from_the_parent_alone() -> None:
    """Two nodes that execute the same blocks hold the same bytes."""
    one, two = DevChain(), DevChain()
    _, block = lively()
    source, _ = lively()
    for number in (1, 2):
        each = source.database.block_at(number)
        assert each is not None
        one.extend(each)
        two.extend(Block.decode(each.encode()))
    one.extend(block)
    two.extend(block)
    assert dict(one.database.store.scan(b"")) == dict(two.database.store.scan(b""))


def test_a_failing_system_call_stops_the_node() -> None:
    """No block can cause it; a state where it fails is not this chain's."""
    chain = DevChain()
    rules = chain.spec.rules.at(1)
    world = World(chain.database, chain.head.state_root)
    world.set_code(CLOCK, b"\xfe")
    root, writes = world.commit()
    chain.database.store.write(writes)
    broken = replace(chain.head, state_root=root)
    chain.database.store.write({steps_key(broken.hash): bytes(8)})
    with pytest.raises(SystemCallFailed, match="block 1"):
        BlockBuilder(rules, chain.database, broken, at_time(broken.timestamp + 1))


def test_without_system_contracts_nothing_is_called() -> None:
    """A chain may be specified without the contracts of this one."""
    bare = ChainSpec.load("devnet").model_copy(
        update={"contracts": [], "parameters": {}}
    )
    chain = DevChain(bare)
    chain.mine(2)
    assert chain.head.number == 2
