"""`lockstep validator` against a devnet, from key file to unbonding."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from genesis.accounts import account, validator
from lockstep.cli import app
from lockstep.client.connection import Connection
from lockstep.client.contracts import deployed
from lockstep.client.validators import Validators
from lockstep.errors import LockstepError
from lockstep.localnet import Localnet
from node.datadir import DataDirectory
from node.validatorkey import ValidatorKey
from tests.lockstep.test_command_line import refusal

runner = CliRunner()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Localnet]:
    """A devnet with quick blocks."""
    with Localnet(tmp_path_factory.mktemp("net"), block_time=0.05) as running:
        yield running


def said(*arguments: str) -> Any:  # noqa: ANN401  (JSON)
    result = runner.invoke(app, ["validator", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def written(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.slow
@pytest.mark.network
def test_a_validator_joins_and_leaves(net: Localnet, tmp_path: Path) -> None:
    keys, operator = validator(5), account(5)
    with DataDirectory(tmp_path / "home") as home:
        home.store_validator_key(ValidatorKey.checked(keys.secret, keys.beacon_secret))
    key = written(tmp_path / "operator", operator.secret.hex())
    rpc, signed = ["--rpc", net.url], ["--key", str(key), "--json", "--rpc", net.url]
    prepared = said(
        *("prepare", str(tmp_path / "home" / "validator" / "key.json"), *rpc),
        *("--operator", "0x" + operator.address.hex()),
    )
    path = written(tmp_path / "prepared.json", json.dumps(prepared))
    done = said("register", str(path), "--stake", "2.5", *signed)
    name = done["validator"]
    assert bytes.fromhex(name[2:]) == keys.address
    assert (done["event"], done["stake"]) == ("Staked", "2.5")
    assert said("stake", name, "--stake", "1", *signed)["stake"] == "3.5"
    seen = said("show", name, "--json", *rpc)
    assert (seen["status"], seen["stake"], seen["power"]) == ("seated", "3.5", "0")
    assert bytes.fromhex(seen["operator"][2:]) == operator.address
    assert said("unbond", name, "--stake", "3", *signed)["amount"] == "3"
    assert said("show", name, "--json", *rpc)["status"] == "not seated"
    assert said("unbond", name, *signed)["amount"] == "0.5"
    assert "still unbonding" in refusal("validator", "withdraw", name, *signed)
    assert "not jailed" in refusal("validator", "unjail", name, *signed)
    again = refusal("validator", "register", str(path), "--stake", "1", *signed)
    assert "known already" in again
    assert said("show", "--json", *rpc) == {
        "validator": Validators(Connection(net.url, deployed())).elected().popitem()[0],
        "power": "1000",
    }


@pytest.mark.network
def test_seeds_of_one_validator_are_fixed_by_the_next_block(net: Localnet) -> None:
    contract = Validators(Connection(net.url, deployed()))
    assert contract.seed(0) is not None
    assert contract.seed(10**6) is None


@pytest.mark.network
def test_refusals_name_their_reason(net: Localnet, tmp_path: Path) -> None:
    rpc = ["--rpc", net.url]
    key = written(tmp_path / "operator", account(5).secret.hex())
    signed = ["--key", str(key), *rpc]
    nobody = "0x" + "ee" * 20
    assert "no validator" in refusal("validator", "show", nobody, *rpc)
    assert "not its operator" in refusal(
        *("validator", "stake", nobody, "--stake", "1", *signed)
    )
    assert "tokens with" in refusal(
        *("validator", "stake", nobody, "--stake", "-1", *signed)
    )
    assert "--stake much" in refusal(
        *("validator", "stake", nobody, "--stake", "much", *signed)
    )
    missing = str(tmp_path / "absent.json")
    assert "absent.json" in refusal("validator", "register", missing, "--stake", "1")
    short = {"public_key": "0x00", "beacon_key": "", "possession": "", "consent": ""}
    path = str(written(tmp_path / "short.json", json.dumps(short)))
    assert "public_key: expected 64 bytes" in refusal(
        *("validator", "register", path, "--stake", "1")
    )
    with pytest.raises(LockstepError):
        runner.invoke(
            app,
            ["validator", "prepare", missing, "--operator", nobody, *rpc],
            catch_exceptions=False,
        )
