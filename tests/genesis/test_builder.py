from pathlib import Path

import pytest

import contracts
from chain import addresses
from chain.database import ChainDatabase
from chain.store import Store
from contracts import NAMES
from genesis import ChainSpec, SpecError, build, open_chain
from genesis.accounts import (
    VALIDATOR_STAKE,
    account,
    validator,
    validator_entries,
)
from genesis.builder import ADDRESS_PARAMETERS
from genesis.spec import Consensus
from runtime.call import StateView
from runtime.system import BEACON_ROOTS_CODE, HISTORY_STORAGE_CODE
from runtime.validators import read_validator_set
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
        {"consensus": Consensus(epoch_blocks=50, evidence_age_blocks=1_000)},
        {"validators": list(validator_entries(2))},
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


def test_validators_are_placed_with_their_stakes() -> None:
    spec = SPEC.with_validators(validator_entries(4))
    chain = DevChain(spec)
    contract = chain.contract("Validators")
    rules = spec.rules.at(0)
    expected = [
        (v.public_key, v.beacon_key, v.stake) for v in spec.validator_set.members
    ]
    assert read_validator_set(rules, chain.database, chain.head) == tuple(expected)
    assert chain.balance(addresses.VALIDATORS) == 4 * VALIDATOR_STAKE
    found = contract.call("validator", validator(2).address)
    assert found["operator"] == "0x" + account(2).address.hex()
    assert found["stake"] == VALIDATOR_STAKE
    assert contract.call("parameters")["epoch_blocks"] == spec.consensus.epoch_blocks


def test_a_chain_without_the_contract_keeps_its_validators() -> None:
    names = [name for name in SPEC.contracts if name != "Validators"]
    used = {n for name in names for n, _ in contracts.artifact(name).parameters}
    values = {n: v for n, v in SPEC.parameters.items() if n in used}
    spec = SPEC.model_copy(update={"contracts": names, "parameters": values})
    assert SPEC.elects
    assert not spec.elects
    chain = DevChain(spec)
    assert chain.balance(addresses.VALIDATORS) == 0
    chain.mine()


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
            {"validators": list(validator_entries(1, 10**18 - 1))},
            "validators.0 failed.*below the minimum stake",
        ),
        (
            {"parameters": {**SPEC.parameters, "epoch_blocks": 5}},
            "'epoch_blocks'.*name nothing",
        ),
        (
            {"consensus": Consensus(epoch_blocks=100, evidence_age_blocks=1_100)},
            "constructor of Validators failed.*unbonding ends before evidence",
        ),
        (
            {"parameters": {**SPEC.parameters, "whistleblower_share_bps": 6_001}},
            "constructor of DisputeGame failed",
        ),
    ],
)
def test_refusals(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        build(SPEC.model_copy(update=fields))
