"""Data directories, their locks, and private files."""

import subprocess
import sys
from pathlib import Path

import pytest

from chain.crypto import SECP256K1_ORDER, sha256
from genesis import ChainSpec
from node.datadir import DataDirectory
from node.errors import DataDirectoryError, DataDirectoryLockedError, KeyFileError
from node.files import create_private, read_private, write_durably
from node.keydir import read_plain
from node.opening import initialise, opened_chain, opened_node
from node.validatorkey import ValidatorKey
from tests.node.tiny import config

KEY = ValidatorKey.from_seed(sha256(b"1"), sha256(b"2") + sha256(b"3"))
OTHER = ValidatorKey.from_seed(sha256(b"4"), sha256(b"5") + sha256(b"6"))


def test_key_is_stored_privately_and_read_back(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as directory:
        assert directory.validator_key() is None
        directory.store_validator_key(KEY)
        assert directory.validator_key() == KEY
        path = directory.validator / "key.json"
        assert path.stat().st_mode & 0o777 == 0o600
        assert directory.validator.stat().st_mode & 0o777 == 0o700
        with pytest.raises(KeyFileError, match="holds a key already"):
            directory.store_validator_key(OTHER)


def test_key_shows_no_secret() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert str(KEY.beacon_secret) not in repr(KEY)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"secp256k1": "00", "bls12_381": "01"}',
        '{"secp256k1": "' + "00" * 32 + '", "bls12_381": "01"}',
        '{"secp256k1": "' + "11" * 32 + '", "bls12_381": "00"}',
        '{"secp256k1": "' + "11" * 32 + '", "bls12_381": "' + "ff" * 32 + '"}',
        '{"secp256k1": "' + f"{SECP256K1_ORDER:x}" + '", "bls12_381": "01"}',
    ],
    ids=["empty", "list", "none", "short", "zero", "no beacon", "large", "order"],
)
def test_damaged_key_is_refused_without_quoting_it(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "key.json"
    create_private(path, content.encode())
    with pytest.raises(KeyFileError) as caught:
        read_plain(path)
    assert "11" * 32 not in str(caught.value)


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        directory.store_validator_key(KEY)
        (directory.validator / "key.json").chmod(0o640)
        with pytest.raises(KeyFileError, match="chmod 600"):
            directory.validator_key()


def test_private_reading_is_bounded(tmp_path: Path) -> None:
    create_private(tmp_path / "x", bytes(11))
    assert read_private(tmp_path / "x", limit=11) == bytes(11)
    with pytest.raises(KeyFileError, match="larger than 10"):
        read_private(tmp_path / "x", limit=10)


def test_durable_write_replaces_and_leaves_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


def test_second_process_is_refused_and_a_dead_one_is_not_in_the_way(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys, pathlib; from node.datadir import DataDirectory; "
        f"DataDirectory(pathlib.Path({str(tmp_path)!r})); print('locked'); os._exit(9)"
    )
    with (
        DataDirectory(tmp_path),
        pytest.raises(DataDirectoryLockedError, match="in use by process"),
    ):
        DataDirectory(tmp_path)
    child = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stdout) == (9, "locked\n"), child.stderr
    with DataDirectory(tmp_path):
        pass


def test_directory_belongs_to_one_chain(tmp_path: Path) -> None:
    spec = ChainSpec.load("devnet")
    with DataDirectory(tmp_path) as directory:
        initialise(directory, spec, None)
        initialise(directory, spec, None)
        with pytest.raises(DataDirectoryError, match="belongs to another chain"):
            initialise(directory, spec.with_parameters(challenge_window=1), None)


def test_directory_without_a_chain_says_what_to_do(tmp_path: Path) -> None:
    with (
        DataDirectory(tmp_path) as directory,
        pytest.raises(DataDirectoryError, match="lockstep init"),
        opened_chain(directory),
    ):
        pass


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError, match="no data directory"):
        DataDirectory.existing(tmp_path / "absent")


def test_changed_specification_does_not_open_the_old_database(tmp_path: Path) -> None:
    spec = ChainSpec.load("devnet")
    with DataDirectory(tmp_path) as directory:
        initialise(directory, spec, None)
        with opened_chain(directory):
            pass
        text = (tmp_path / "chain.json").read_text()
        changed = text.replace('"challenge_window": 20', '"challenge_window": 21')
        assert changed != text
        (tmp_path / "chain.json").write_text(changed)
        with (
            pytest.raises(DataDirectoryError, match="genesis"),
            opened_chain(directory),
        ):
            pass


def test_node_without_a_key_follows(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        initialise(directory, ChainSpec.load("devnet"), None)
        with opened_node(config(), directory) as node:
            assert node.engine.address is None
