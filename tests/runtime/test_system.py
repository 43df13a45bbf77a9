"""System calls to the staking contract, in whole blocks."""

from dataclasses import replace

import pytest

from chain.addresses import VALIDATORS, ZERO
from chain.crypto import bls_prove_possession, consent_digest, sha256, sign
from chain.database import steps_key
from genesis import ChainSpec
from genesis.accounts import (
    VALIDATOR_STAKE,
    account,
    validator,
    validator_entries,
)
from genesis.spec import Consensus
from runtime.block import BlockBuilder
from runtime.errors import InvalidBlock, SystemCallFailed
from runtime.system import Offence
from runtime.validators import read_validator_set
from runtime.world import World
from tests.runtime.programs import initcode
from tests.support.devchain import Contract, DevChain

# Returns PREVRANDAO.
BEACON = bytes.fromhex("445f5260205ff3")
FOUR = tuple(validator(index).address for index in range(4))


def network(epoch_blocks: int = 5) -> DevChain:
    """Four validators and short epochs."""
    spec = ChainSpec.load("devnet").with_validators(validator_entries(4))
    consensus = Consensus(epoch_blocks=epoch_blocks, evidence_age_blocks=20)
    return DevChain(spec.model_copy(update={"consensus": consensus}))


def offence(index: int, height: int) -> Offence:
    return FOUR[index], sha256(b"evidence %d" % index), height


def staking(chain: DevChain) -> Contract:
    return chain.contract("Validators")


def members(chain: DevChain) -> dict[bytes, int]:
    rules = chain.spec.rules.at(chain.head.number)
    found = read_validator_set(rules, chain.database, chain.head)
    return {public_key: stake for public_key, _, stake in found}


def test_an_offence_is_punished_and_imports_alike() -> None:
    chain, other = network(), network()
    chain.mine(2)
    for number in (1, 2):
        block = chain.database.block_at(number)
        assert block is not None
        other.extend(block)
    offences = (offence(1, 2), offence(2, 1))
    executed = chain.commit(chain.builder(FOUR[0], offences=offences).seal())
    assert chain.balance(ZERO) == 2 * VALIDATOR_STAKE // 10
    assert chain.balance(VALIDATORS) == 38 * VALIDATOR_STAKE // 10
    assert staking(chain).call("is_punished", FOUR[1])
    assert not staking(chain).call("is_punished", FOUR[3])
    for wrong in ((), offences[:1], (*offences[:1], offence(3, 1))):
        with pytest.raises(InvalidBlock, match="state_root"):
            other.extend(executed.block, offences=wrong)
    assert other.extend(executed.block, offences=offences).block == executed.block


@pytest.mark.parametrize(
    ("offences", "field", "reason"),
    [
        ((offence(0, 1), offence(0, 2)), "offence 1", "punished already"),
        (((b"\xee" * 20, bytes(32), 1),), "offence 0", "unknown"),
        ((offence(0, 3),), "offence 0", "evidence of another age"),
        (((FOUR[0], bytes(32), 1),), "offence 0", "no evidence"),
    ],
)
def test_what_cannot_be_punished_makes_the_block_invalid(
    offences: tuple[Offence, ...], field: str, reason: str
) -> None:
    chain = network()
    chain.mine(2)
    block = chain.builder().seal().block
    with pytest.raises(InvalidBlock, match=reason) as caught:
        chain.extend(block, offences=offences)
    assert caught.value.field == field
    with pytest.raises(InvalidBlock, match=reason):
        chain.builder(offences=offences)
    chain.extend(block)


def test_the_punished_are_out_at_the_next_border() -> None:
    chain = network()
    chain.mine(1)
    chain.commit(chain.builder(offences=(offence(1, 1),)).seal())
    assert len(members(chain)) == 4
    chain.mine(1)  # block 3, whose state tells who votes at height 5
    assert members(chain).keys() == {validator(i).public_key for i in (0, 2, 3)}


def test_absence_is_counted_and_jails() -> None:
    chain = network()
    chain.mine(5)
    for missed in range(1, 4):
        builder = chain.builder(FOUR[0], absent=(FOUR[3],))
        block = builder.seal().block
        if missed == 3:
            with pytest.raises(InvalidBlock, match="state_root"):
                chain.extend(block)
        chain.extend(block, absent=(FOUR[3],))
        seen = staking(chain).call("validator", FOUR[3])
        assert (seen["missed"], seen["seated"]) == (missed, missed < 3)
    assert chain.head.number == 8
    assert len(members(chain)) == 3


def test_who_registers_is_in_the_set_that_is_read() -> None:
    chain = network()
    chain.mine(1)
    keys, operator = validator(7), account(7)
    digest = consent_digest(chain.genesis_hash, operator.address, keys.beacon_key)
    staking(chain).send(
        "register",
        keys.public_key,
        keys.beacon_key,
        bls_prove_possession(keys.beacon_secret),
        sign(digest, keys.secret),
        sender=operator,
        value=5 * 10**18,
    )
    assert keys.public_key not in members(chain)
    chain.mine(1)
    assert chain.head.number == 3
    assert members(chain)[keys.public_key] == 5 * 10**18


def test_reveals_fix_seeds_block_by_block() -> None:
    chain = network()
    chain.mine(1)
    height = chain.head.number
    for index, fixed in ((0, False), (0, False), (1, True)):
        chain.commit(chain.builder(FOUR[index]).seal())
        known, seed = staking(chain).call("seed", height)
        assert known == fixed
        assert seed == (chain.head.mix_hash if fixed else bytes(32))


def test_prevrandao_is_the_beacon() -> None:
    chain = DevChain()
    contract = chain.deploy(initcode(BEACON))
    assert chain.call(contract, b"") == chain.head.mix_hash
    sent = chain.send(to=contract)
    assert sent.outcome.output == chain.head.mix_hash
    assert sent.executed.header.mix_hash == chain.head.mix_hash


def test_a_state_whose_contract_fails_stops_the_node() -> None:
    chain = network()
    world = World(chain.database, chain.head.state_root)
    world.set_code(VALIDATORS, bytes.fromhex("5f5ffd"))
    root, writes = world.commit()
    chain.database.store.write(writes)
    broken = replace(chain.head, state_root=root)
    chain.database.store.write({steps_key(broken.hash): bytes(8)})
    attributes = chain.builder()._attributes
    rules = chain.spec.rules.at(1)
    with pytest.raises(SystemCallFailed, match="block 1"):
        BlockBuilder(rules, chain.database, broken, attributes)
