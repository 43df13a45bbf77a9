"""`lockstep keys validator`, and nodes that run with encrypted keys."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from node.keydir import KeyDirectory
from node.signstate import STATE_FILE
from tests.node.process import CommandLine

PASSWORD = "correct horse"  # noqa: S105 - a test's


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Run a command of `lockstep`."""
    monkeypatch.setattr("node.keystore.SCRYPT_N", 2)
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def word(tmp_path: Path) -> str:
    """A password file."""
    path = tmp_path / "word"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return str(path)


def made(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_new_and_show(tmp_path: Path, run: CommandLine, word: str) -> None:
    keys = str(tmp_path / "keys")
    command = ("keys", "validator")
    facts = made(run(*command, "new", keys, "--password-file", word, "--json"))
    assert facts["encrypted"]
    assert made(run(*command, "show", keys, "--json")) == facts
    found = KeyDirectory(Path(keys))
    key = found.read(lambda: PASSWORD)
    assert facts["public_key"] == "0x" + key.public_key.hex()
    assert facts["beacon_key"] == "0x" + key.beacon_key.hex()
    assert facts["address"].lower() == "0x" + key.address.hex()
    assert json.loads((found.path / STATE_FILE).read_text())["height"] == 0
    for path in found.path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = run(*command, "new", keys, "--password-file", word, code=1)
    assert "holds a key already" in told
    assert facts["address"] in run(*command, "show", keys)


def test_new_needs_a_password_or_says_plain(
    tmp_path: Path, run: CommandLine, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    keys = str(tmp_path / "keys")
    told = run("keys", "validator", "new", keys, code=1)
    assert "LOCKSTEP_PASSWORD_FILE" in told
    assert not Path(keys).exists()
    assert "not encrypted" in run("keys", "validator", "new", keys, "--plain")
    monkeypatch.setenv("LOCKSTEP_PASSWORD_FILE", word)
    other = str(tmp_path / "other")
    assert made(run("keys", "validator", "new", other, "--json"))["encrypted"]


def test_a_plain_key_is_imported_with_what_it_signed(
    tmp_path: Path, run: CommandLine, word: str
) -> None:
    plain, keys = str(tmp_path / "plain"), str(tmp_path / "keys")
    facts = made(run("keys", "validator", "new", plain, "--plain", "--json"))
    (Path(plain) / "proposal-7-0.rlp").touch(mode=0o600)
    importing = ("keys", "validator", "import", keys, "--password-file", word)
    found = made(run(*importing, "--from", plain + "/key.json", "--json"))
    assert found["address"] == facts["address"]
    assert found["encrypted"]
    assert (Path(keys) / STATE_FILE).exists()
    assert (Path(keys) / "proposal-7-0.rlp").exists()
    assert not (Path(keys) / "key.json").exists()


def test_keys_of_other_programs_are_imported(
    tmp_path: Path, run: CommandLine, word: str
) -> None:
    keys = tmp_path / "keys"
    facts = made(
        run("keys", "validator", "new", str(keys), "--password-file", word, "--json")
    )
    web3 = json.loads((keys / "consensus.json").read_text())
    del web3["public_key"]
    (tmp_path / "web3.json").write_text(json.dumps(web3))
    importing = ("keys", "validator", "import")
    options = (
        "--consensus",
        str(tmp_path / "web3.json"),
        "--beacon",
        str(keys / "beacon.json"),
        "--source-password-file",
        word,
        "--password-file",
        word,
        "--json",
    )
    for name, more in (("a", ()), ("b", ("--never-signed",))):
        found = made(run(*importing, str(tmp_path / name), *options, *more))
        assert found["public_key"] == facts["public_key"]
        assert (tmp_path / name / STATE_FILE).exists() == bool(more)
    told = run(*importing, str(tmp_path / "c"), *options[:2], code=1)
    assert "say what to import" in told


def test_a_node_with_an_encrypted_key(
    tmp_path: Path, run: CommandLine, word: str
) -> None:
    keys, home = str(tmp_path / "keys"), str(tmp_path / "home")
    facts = made(
        run("keys", "validator", "new", keys, "--password-file", word, "--json")
    )
    initialised = made(
        run("init", "--data-dir", home, "--validator-key", keys, "--json")
    )
    assert initialised["validator"] == facts["address"].lower()
    assert (Path(home) / "validator" / STATE_FILE).exists()
    running = ("node", "--data-dir", home, "--rpc-port", "0")
    assert "LOCKSTEP_PASSWORD_FILE" in run(*running, code=1)
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    told = run(*running, "--password-file", str(wrong), code=1)
    assert "another password" in told


def test_init_makes_an_encrypted_key(
    tmp_path: Path, run: CommandLine, word: str
) -> None:
    home = tmp_path / "home"
    making = ("init", "--data-dir", str(home), "--new-validator-key")
    run(*making, "--password-file", word)
    keys = KeyDirectory(home / "validator")
    assert keys.is_encrypted
    keys.read(lambda: PASSWORD)
    assert (keys.path / STATE_FILE).exists()
