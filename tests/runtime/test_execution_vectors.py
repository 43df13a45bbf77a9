"""Execution equals Ethereum's executable specification (ethereum-execution 2.20.0).

`tests/runtime/oracle` makes the cases and asks the specification.
"""

import json
from typing import Any

import pytest

from chain.database import ChainDatabase
from chain.errors import Malformed
from chain.header import EMPTY_TRIE_ROOT
from chain.store import Store
from chain.transaction import decode
from runtime.errors import TransactionInvalid
from runtime.machine import BlockContext
from runtime.precompile_table import precompiles
from runtime.rules import Rules
from runtime.steps import StepMeter
from runtime.transition import apply, check_payable, check_static
from runtime.world import World
from tests.runtime.oracle.cases import CHAIN_ID, committed
from tests.support.vectors import FOLDER

RULES = Rules(chain_id=CHAIN_ID)
CASES: list[dict[str, Any]] = json.loads((FOLDER / "execution.json").read_text())
BLOCK = BlockContext(
    chain_id=CHAIN_ID,
    number=1,
    timestamp=1000,
    coinbase=b"\xcb" * 20,
    gas_limit=10**12,
    base_fee=10**9,
    mix_hash=b"\x05" * 32,
    block_hash=lambda number: b"\x07" * 32 if number == 0 else None,
    precompiles=precompiles(RULES),
)


def world_of(alloc: dict[str, Any]) -> World:
    world = World(ChainDatabase(Store.memory()), EMPTY_TRIE_ROOT)
    for where, (balance, nonce, code, storage) in alloc.items():
        address = bytes.fromhex(where)
        world.set_balance(address, int(balance))
        world.set_nonce(address, nonce)
        if code:
            world.set_code(address, bytes.fromhex(code))
        for slot, value in storage.items():
            world.set_storage(address, int(slot), value)
    return world


def run(world: World, raw: bytes) -> object:
    try:
        transaction = decode(raw, CHAIN_ID)
        check_static(RULES, transaction)
        check_payable(world, BLOCK.base_fee, transaction)
    except (Malformed, TransactionInvalid):
        return "invalid"
    world.begin()
    outcome = apply(world, BLOCK, transaction, StepMeter(1 << 30))
    return [outcome.succeeded, outcome.gas_used, len(outcome.logs)]


@pytest.mark.parametrize("vector", CASES, ids=lambda each: each["name"])
def test_agrees_with_the_specification(vector: dict[str, Any]) -> None:
    world = world_of(vector["alloc"])
    found = [run(world, bytes.fromhex(raw)) for raw in vector["transactions"]]
    assert found == vector["expected"]["transactions"]
    assert world.commit()[0].hex() == vector["expected"]["root"]


def test_the_vectors_are_the_cases() -> None:
    bare = [{k: v for k, v in each.items() if k != "expected"} for each in CASES]
    assert bare == json.loads(json.dumps(committed()))
