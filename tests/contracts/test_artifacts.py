import json
from pathlib import Path

import pytest

import contracts
from chain import addresses
from contracts import NAMES, Argument, ConstructorMismatch, UnknownContract, artifact
from contracts.compile import ARTIFACTS, built, main
from tests.contracts.chain import PARAMETERS

EIP_170_LIMIT = 24_576


@pytest.mark.parametrize("name", NAMES)
def test_committed_artifact_is_what_the_source_compiles_to(name: str) -> None:
    assert (ARTIFACTS / f"{name}.json").read_text(encoding="utf-8") == built(name)


def test_check_names_the_artifact_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {n: (ARTIFACTS / f"{n}.json").read_text(encoding="utf-8") for n in NAMES}
    monkeypatch.setattr("contracts.compile.built", texts.__getitem__)
    monkeypatch.setattr("contracts.compile.ARTIFACTS", tmp_path)
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "Clock.json").write_text("{}", encoding="utf-8")
    assert main(["--check"]) == 1
    assert "differ from their sources: Clock\n" in capsys.readouterr().err


def test_every_contract_has_an_address_and_fits_it() -> None:
    assert set(NAMES) == set(addresses.SYSTEM_CONTRACTS)
    for name in NAMES:
        assert len(artifact(name).bytecode) < EIP_170_LIMIT


def test_every_contract_names_its_parameters_alike() -> None:
    for name in NAMES:
        for parameter, _ in artifact(name).parameters:
            assert parameter in PARAMETERS, f"{name}: {parameter}"


def test_every_function_and_event_says_what_it_is() -> None:
    for source in Path(contracts.__file__).parent.rglob("*.vy"):
        lines = source.read_text(encoding="utf-8").splitlines()
        ends = [i for i, line in enumerate(lines) if line.startswith(("def ", ")"))]
        for end in ends:
            if lines[end].rstrip().endswith(":"):
                assert lines[end + 1].strip() == '"""', f"{source.name}:{end + 1}"


def test_unknown_contract_is_refused() -> None:
    with pytest.raises(UnknownContract, match=r"expected one of Clock, .*'Clocks'"):
        artifact("Clocks")


def test_constructor_arguments_go_by_name() -> None:
    staking = artifact("Staking")
    given: dict[str, Argument] = {
        "clock": bytes(20),
        "job_market": bytes(20),
        "unbonding_ticks": 7,
    }
    code = staking.deployment(given)
    assert code == staking.bytecode + bytes(64) + (7).to_bytes(32, "big")
    assert artifact("Clock").deployment({}) == artifact("Clock").bytecode


def test_wrong_constructor_arguments_are_refused() -> None:
    with pytest.raises(
        ConstructorMismatch, match=r"missing \['clock', .*unknown \['rate'\]"
    ):
        artifact("Staking").deployment({"rate": 1, "job_market": bytes(20)})


def test_the_raw_call_is_in_the_interface() -> None:
    entries = [e for e in artifact("Evidence").abi if e.get("name") == "replay"]
    assert len(entries) == 1
    assert entries[0]["stateMutability"] == "nonpayable"
    assert json.dumps(entries[0]["inputs"]).count('"name"') == 9
