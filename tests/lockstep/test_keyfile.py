import json
from pathlib import Path

import pytest
from eth_account import Account

from lockstep.errors import ConfigurationError
from lockstep.keyfile import PASSWORD_VARIABLE, account, load

SECRET = "0x" + "11" * 32
ADDRESS = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"


def test_a_plain_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    assert load(path).address == ADDRESS


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load(path)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="lockstep keys new"):
        load(tmp_path / "key")


@pytest.mark.parametrize("text", ["", "0x12", "zz" * 32, "00" * 32, "ff" * 32])
def test_what_is_no_key_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        account(text)
    assert not text or text not in str(caught.value)


def test_a_key_store_needs_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    store = Account.encrypt(
        bytes.fromhex(SECRET[2:]), "right", kdf="pbkdf2", iterations=2
    )
    path.write_text(json.dumps(store))
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(ConfigurationError, match=PASSWORD_VARIABLE):
        load(path)
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(ConfigurationError, match="cannot decrypt"):
        load(path)
    monkeypatch.setenv(PASSWORD_VARIABLE, "right")
    assert load(path).address == ADDRESS


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(bytes(1 << 17))
    with pytest.raises(ConfigurationError, match="too large"):
        load(path)
