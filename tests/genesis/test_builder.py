from pathlib import Path

import pytest

from chain import addresses
from chain.database import ChainDatabase
from chain.store import Store
from contracts import NAMES
from genesis import ChainSpec, SpecError, build, open_chain
from genesis.builder import ADDRESS_PARAMETERS
from runtime.call import StateView
from runtime.system import BEACON_ROOTS_CODE, HISTORY_STORAGE_CODE
from tests.support.devchain import DevChain
from tests.support.vectors import Vectors

SPEC = ChainSpec.load("devnet")


def view() -> StateView:
    genesis = build(SPEC)
    database = ChainDatabase(Store.memory())
    database.commit(genesis.block, (), genesis.writes)
    return StateView(database, genesis.block.header.state_root)


def test_the_hash_is_the_specifications_alone(vectors: Vectors) -> None:
    one, two = build(SPEC), build(ChainSpec.load("devnet"))
    assert one == two
    header = one.block.header
    vectors.check(
        "genesis",
        {
            "devnet": {
                "hash": header.hash.hex(),
                "state_root": header.state_root.hex(),
                "rlp": header.encode().hex(),
            }
        },
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"genesis_time": SPEC.genesis_time + 1},
        {"alloc": {**SPEC.alloc, b"\x11" * 20: 1}},
        {"parameters": {**SPEC.parameters, "move_clock": 21}},
        {"mix_hash": bytes(32)},
    ],
)
def test_every_part_is_in_the_hash(fields: dict[str, object]) -> None:
    assert build(SPEC.model_copy(update=fields)).block.hash != build(SPEC).block.hash


def test_the_header() -> None:
    header = build(SPEC).block.header
    assert (header.number, header.gas_used, header.parent_hash) == (0, 0, bytes(32))
    assert header.extra_data == SPEC.validator_set.hash
    assert header.mix_hash == SPEC.mix_hash
    assert header.base_fee_per_gas == SPEC.base_fee


def test_accounts_and_code() -> None:
    state = view()
    assert all(state.balance(who) == amount for who, amount in SPEC.alloc.items())
    assert state.code(addresses.BEACON_ROOTS) == BEACON_ROOTS_CODE
    assert state.code(addresses.HISTORY_STORAGE) == HISTORY_STORAGE_CODE
    assert state.code(addresses.ML_VERIFIER) == b"\xfe"
    for name in NAMES:
        address = addresses.SYSTEM_CONTRACTS[name]
        assert len(state.code(address)) > 100
        assert state.nonce(address) == 1


def test_constructors_ran_in_place() -> None:
    """Immutables are in the code, where getters find them."""
    chain = DevChain()
    staking = chain.contract("Staking")
    assert staking.call("unbonding_ticks") == SPEC.parameters["unbonding_ticks"]
    longer = DevChain(SPEC.with_parameters(unbonding_ticks=77))
    assert longer.contract("Staking").call("unbonding_ticks") == 77


def test_every_contract_has_an_address() -> None:
    assert set(NAMES) == addresses.SYSTEM_CONTRACTS.keys()
    assert len(set(ADDRESS_PARAMETERS.values())) == len(ADDRESS_PARAMETERS)


def test_a_chain_opens_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    first = open_chain(SPEC, store).genesis_hash()
    store.close()
    store = Store.open(tmp_path)
    assert open_chain(SPEC, store).genesis_hash() == first
    with pytest.raises(SpecError, match="holds a chain with genesis"):
        open_chain(SPEC.with_parameters(move_clock=3), store)
    store.close()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"parameters": {}}, "missing"),
        ({"parameters": {**SPEC.parameters, "spare": 1}}, "'spare'.* name nothing"),
        ({"alloc": {addresses.CLOCK: 1}}, "belongs to the system"),
        (
            {"parameters": {**SPEC.parameters, "whistleblower_share_bps": 6_001}},
            "constructor of DisputeGame failed",
        ),
    ],
)
def test_refusals(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        build(SPEC.model_copy(update=fields))
