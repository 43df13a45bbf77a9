import json
from pathlib import Path

import pytest

from chain.addresses import CLOCK, ML_VERIFIER
from genesis import ChainSpec, SpecError
from genesis.accounts import account, validator, validator_entries
from runtime.errors import UnknownFork

DEVNET = json.loads((Path("genesis") / "specs" / "devnet.json").read_text())


def changed(**fields: object) -> bytes:
    return json.dumps({**DEVNET, **fields}).encode()


def without(name: str) -> bytes:
    return json.dumps({k: v for k, v in DEVNET.items() if k != name}).encode()


def test_the_bundled_devnet() -> None:
    spec = ChainSpec.load("devnet")
    assert spec.chain_id == 4242
    assert spec.base_fee == 10**9
    assert spec.rules.at(0).chain_id == 4242
    assert {account(index).address for index in range(10)} == spec.alloc.keys()
    (entry,) = spec.validators
    keys = validator(0)
    assert (entry.public_key, entry.beacon_key) == (keys.public_key, keys.beacon_key)
    assert spec.validator_set.members[0].public_key == keys.public_key


def test_a_file_reads_like_the_bundle(tmp_path: Path) -> None:
    path = tmp_path / "chain.json"
    path.write_text(json.dumps(DEVNET))
    assert ChainSpec.load(path) == ChainSpec.load(str(path)) == ChainSpec.load("devnet")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no bundled specification"):
        ChainSpec.load(tmp_path / "absent.json")
    with pytest.raises(SpecError, match="no bundled specification"):
        ChainSpec.load("devnte")


ADDRESS = "0x" + "11" * 20


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "specification"),
        (b'{"name": "a", "name": "b"}', "occur twice: .'name'"),
        (bytes(5 << 20), "more than"),
        (changed(color="red"), "color: Extra inputs"),
        (without("alloc"), "alloc: Field required"),
        (changed(chain_id="4242"), "chain_id"),
        (changed(chain_id=0), "chain_id"),
        (changed(chain_id=2**53), "chain_id"),
        (changed(chain_id=True), "chain_id"),
        (changed(genesis_time=-1), "genesis_time"),
        (changed(mix_hash="0x" + "00" * 31), "mix_hash.*32 bytes"),
        (changed(mix_hash="00" * 32), "mix_hash.*after 0x"),
        (changed(mix_hash="0x" + "zz" * 32), "mix_hash.*hexadecimal"),
        (changed(base_fee=1), "base_fee.*decimal string"),
        (changed(base_fee="0x10"), "base_fee.*decimal string"),
        (changed(base_fee="01"), "base_fee.*decimal string"),
        (changed(base_fee="\u0661"), "base_fee.*decimal string"),
        (changed(alloc={ADDRESS: str(2**256)}), "alloc.*2.*256"),
        (
            changed(alloc={ADDRESS: str(2**255), "0x" + "22" * 20: str(2**255)}),
            "sum to more",
        ),
        (changed(alloc={"0x11": "1"}), "alloc.*20 bytes"),
        (changed(forks={}), "forks"),
        (changed(forks={"launch": 1}), "forks.*height 0"),
        (changed(forks={"shanghai": 0}), "forks.*one of them at height 0"),
        (changed(forks={"shanghai": 0, "launch": 5}), "one of them at height 0"),
        (changed(forks={"launch": 0, "later": 0}), "forks.*ascending"),
        (changed(forks={"launch": 0, "b": 9, "a": 5}), "forks.*ascending"),
        (without("consensus"), "consensus: Field required"),
        (changed(consensus={}), "consensus.epoch_blocks: Field required"),
        (
            changed(consensus={"epoch_blocks": 0, "evidence_age_blocks": 1}),
            "epoch_blocks.*greater than or equal to 1",
        ),
        (changed(validators=[{**DEVNET["validators"][0], "operator": "0x"}]), "20 byt"),
        (changed(contracts=["Clock", "Clock"]), "contracts.*twice"),
        (changed(contracts=["Cloak"]), "contracts.*unknown.*Cloak"),
        (changed(parameters={"x": -1}), "parameters.*uint256"),
        (changed(parameters={"x": 2**256}), "parameters.*uint256"),
        (changed(parameters={"x": 1.5}), "parameters"),
        (changed(validators=[]), "validators"),
        (changed(validators=[{}]), "public_key: Field required"),
        (changed(name=""), "name"),
    ],
)
def test_refusals_name_the_place(content: bytes, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        ChainSpec.parse(content, "chain.json")


def test_two_validators_with_one_key() -> None:
    entry = DEVNET["validators"][0]
    spec = ChainSpec.parse(changed(validators=[entry, entry]), "x")
    with pytest.raises(SpecError, match="share a key"):
        _ = spec.validator_set


def test_an_operator_is_named_or_is_the_key_itself() -> None:
    entry = DEVNET["validators"][0]
    named = ChainSpec.parse(changed(validators=[{**entry, "operator": ADDRESS}]), "x")
    assert named.validators[0].operator_address == b"\x11" * 20
    alone = {name: value for name, value in entry.items() if name != "operator"}
    spec = ChainSpec.parse(changed(validators=[alone]), "x")
    assert spec.validators[0].operator_address == validator(0).address


def test_a_network_of_validators() -> None:
    spec = ChainSpec.load("devnet").with_validators(validator_entries(4, 10**18))
    addresses = {member.address for member in spec.validator_set.members}
    assert addresses == {validator(index).address for index in range(4)}
    assert spec.validators[3].operator_address == account(3).address
    with pytest.raises(SpecError, match="share a key"):
        spec.with_validators([*spec.validators, spec.validators[0]])
    with pytest.raises(SpecError, match="validators"):
        spec.with_validators([])


def test_an_unknown_fork_is_no_error_before_its_height() -> None:
    forks = {"launch": 0, "later": 100, "much-later": 200}
    spec = ChainSpec.parse(changed(forks=forks), "x")
    assert spec.rules.unknown == (100, "later")
    assert spec.rules.supports(99)
    assert spec.rules.at(99).fork == "launch"
    assert not spec.rules.supports(100)
    with pytest.raises(UnknownFork, match=r"'later'.*100.*knows launch.*block 99"):
        spec.rules.at(100)
    with pytest.raises(UnknownFork, match="block 250 needs the fork 'later'"):
        spec.rules.at(250)
    assert ChainSpec.load("devnet").rules.supports(10**12)


def test_parameters_can_be_changed_for_a_test() -> None:
    spec = ChainSpec.load("devnet")
    assert spec.with_parameters(move_clock=3).parameters["move_clock"] == 3
    assert spec.parameters["move_clock"] == 20
    with pytest.raises(SpecError, match="no parameters"):
        spec.with_parameters(moveclock=3)


def test_the_accounts_are_those_of_hardhat_and_anvil() -> None:
    assert account(0).address.hex() == "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    assert account(1).address.hex() == "70997970c51812dc3a010c7d01b50e0d17dc79c8"
    assert account(0).secret.hex() == (
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    )
    assert CLOCK != ML_VERIFIER
