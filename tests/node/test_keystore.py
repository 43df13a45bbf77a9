"""Encrypted keys: the standards' own vectors, wrong passwords, hostile files."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from chain.crypto import sha256
from node.errors import KeyFileError
from node.keydir import KeyDirectory, password_in, read_keystores
from node.keystore import Kind, seal, unseal
from node.signstate import STATE_FILE, mark_never_signed
from node.validatorkey import ValidatorKey

KEY = ValidatorKey.from_seed(sha256(b"1"), sha256(b"2") + sha256(b"3"))
OTHER = ValidatorKey.from_seed(sha256(b"4"), sha256(b"5") + sha256(b"6"))


@pytest.fixture(autouse=True, scope="module")
def cheap() -> Iterator[None]:
    """Keys that are quickly found by trying."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("node.keystore.SCRYPT_N", 2)
        yield


# The test vectors of EIP-2335.
EIP_PASSWORD = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"  # noqa: S105, RUF001 - the standard's
EIP_SECRET = bytes.fromhex(
    "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
)
EIP_PUBLIC = (
    "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27"
    "f4ae4040902382ae2910c15e2b420d07"
)
EIP_SCRYPT: dict[str, Any] = {
    "crypto": {
        "kdf": {
            "function": "scrypt",
            "params": {
                "dklen": 32,
                "n": 262144,
                "p": 1,
                "r": 8,
                "salt": "d4e56740f876aef8c010b86a40d5f567"
                "45a118d0906a34e69aec8c0db1cb8fa3",
            },
            "message": "",
        },
        "checksum": {
            "function": "sha256",
            "params": {},
            "message": "d2217fe5f3e9a1e34581ef8a78f7c992"
            "8e436d36dacc5e846690a5581e8ea484",
        },
        "cipher": {
            "function": "aes-128-ctr",
            "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
            "message": "06ae90d55fe0a6e9c5c3bc5b170827b2"
            "e5cce3929ed3f116c2811e6366dfe20f",
        },
    },
    "description": "This is a test keystore that uses scrypt to secure the secret.",
    "pubkey": EIP_PUBLIC,
    "path": "m/12381/60/3141592653/589793238",
    "uuid": "1d85ae20-35c5-4611-98e8-aa14a633906f",
    "version": 4,
}
EIP_PBKDF2: dict[str, Any] = {
    "crypto": {
        "kdf": {
            "function": "pbkdf2",
            "params": {
                "dklen": 32,
                "c": 262144,
                "prf": "hmac-sha256",
                "salt": "d4e56740f876aef8c010b86a40d5f567"
                "45a118d0906a34e69aec8c0db1cb8fa3",
            },
            "message": "",
        },
        "checksum": {
            "function": "sha256",
            "params": {},
            "message": "8a9f5d9912ed7e75ea794bc5a89bca5f"
            "193721d30868ade6f73043c6ea6febf1",
        },
        "cipher": {
            "function": "aes-128-ctr",
            "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
            "message": "cee03fde2af33149775b7223e7845e4f"
            "b2c8ae1792e5f99fe9ecf474cc8c16ad",
        },
    },
    "description": "This is a test keystore that uses PBKDF2 to secure the secret.",
    "pubkey": EIP_PUBLIC,
    "path": "m/12381/60/0/0",
    "uuid": "64625def-3331-4eea-ab6f-782f3ed16a83",
    "version": 4,
}
# The test vectors of the Web3 Secret Storage Definition.
WEB3_SECRET = bytes.fromhex(
    "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
)
WEB3_PBKDF2: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e1"
        "6f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
WEB3_SCRYPT: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926e"
        "f8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "r": 1,
            "p": 8,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


def opened(kind: Kind, document: dict[str, Any], password: str) -> bytes:
    return unseal(kind, json.dumps(document).encode(), password, "file")


@pytest.mark.parametrize("document", [EIP_SCRYPT, EIP_PBKDF2], ids=["scrypt", "pbkdf2"])
def test_vectors_of_eip_2335(document: dict[str, Any]) -> None:
    assert opened(4, document, EIP_PASSWORD) == EIP_SECRET
    assert opened(4, document, "test\x7fpassword\n🔑") == EIP_SECRET
    with pytest.raises(KeyFileError, match="another password"):
        opened(4, document, "testpassword")


@pytest.mark.parametrize(
    "document", [WEB3_SCRYPT, WEB3_PBKDF2], ids=["scrypt", "pbkdf2"]
)
def test_vectors_of_web3_secret_storage(document: dict[str, Any]) -> None:
    assert opened(3, document, "testpassword") == WEB3_SECRET
    with pytest.raises(KeyFileError, match="another password"):
        opened(3, document, "testpassword ")


@settings(max_examples=15)
@given(
    kind=st.sampled_from((3, 4)),
    secret=st.integers(1, 2**250).map(lambda n: n.to_bytes(32)),
    password=st.text(min_size=1, max_size=20).filter(
        lambda text: all(not 0xD800 <= ord(each) < 0xE000 for each in text)
    ),
)
def test_what_was_sealed_is_unsealed(kind: Kind, secret: bytes, password: str) -> None:
    content = seal(kind, secret, password)
    assert unseal(kind, content, password, "file") == secret
    assert secret.hex() not in content.decode()
    with pytest.raises(KeyFileError, match="another password"):
        unseal(kind, content, password + "x", "file")


def test_two_files_of_one_key_differ() -> None:
    files = {seal(3, KEY.secret, "word") for _ in range(3)}
    assert len(files) == 3


def test_an_empty_password_is_refused() -> None:
    with pytest.raises(KeyFileError, match="password is empty"):
        seal(4, KEY.secret, "")


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    found = deepcopy(document)
    *way, last = path.split(".")
    place = found
    for each in way:
        place = place[each]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("version", 3, "version 3"),
        ("version", None, "version"),
        ("crypto", None, "rypto"),
        ("crypto.cipher.function", "aes-256-cbc", "aes-256-cbc"),
        ("crypto.checksum.function", "none", "checksum"),
        ("crypto.kdf.function", "argon2", "argon2"),
        ("crypto.kdf.params.dklen", 16, "dklen"),
        ("crypto.kdf.params.n", 1 << 30, "more memory"),
        ("crypto.kdf.params.n", 0, "more memory"),
        ("crypto.kdf.params.p", 1 << 20, "too long"),
        ("crypto.kdf.params.r", "x", "no key file"),
        ("crypto.kdf.params.salt", None, "salt"),
        ("crypto.cipher.message", "00", "another password"),
        ("crypto.cipher.message", 7, "another password"),
        ("crypto.checksum.message", "00", "another password"),
    ],
)
def test_hostile_and_damaged_files(path: str, value: object, said: str) -> None:
    with pytest.raises(KeyFileError, match=said):
        opened(4, changed(EIP_SCRYPT, path, value), EIP_PASSWORD)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("crypto.kdfparams.c", 10**9, "too long"),
        ("crypto.kdfparams.prf", "hmac-md5", "hmac-md5"),
        ("crypto.cipher", "none", "expected aes-128-ctr"),
        ("crypto.mac", "00", "another password"),
    ],
)
def test_hostile_and_damaged_web3_files(path: str, value: object, said: str) -> None:
    with pytest.raises(KeyFileError, match=said):
        opened(3, changed(WEB3_PBKDF2, path, value), "testpassword")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff", b"{}"])
def test_no_key_file_at_all(content: bytes) -> None:
    with pytest.raises(KeyFileError, match="file"):
        unseal(3, content, "word", "file")


# -- directories ---------------------------------------------------------------------


def word() -> str:
    return "a word"


def nobody() -> str:
    raise AssertionError("nobody should be asked")


def test_an_encrypted_key_is_read_with_its_password(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    keys.store(KEY, "a word")
    assert keys.read(word) == KEY
    assert keys.public() == KEY.public
    assert keys.is_encrypted
    assert not keys.is_plain
    assert keys.path.stat().st_mode & 0o777 == 0o700
    for path in keys.path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert KEY.secret.hex() not in path.read_text()
        assert f"{KEY.beacon_secret:x}" not in path.read_text()
    with pytest.raises(KeyFileError, match="another password"):
        keys.read(lambda: "another word")


def test_a_plain_key_asks_nobody(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.store(KEY, None)
    assert keys.read(nobody) == KEY
    assert keys.public() == KEY.public
    assert KeyDirectory.at(tmp_path / "key.json").read(nobody) == KEY


@pytest.mark.parametrize("password", [None, "a word"])
def test_keys_are_never_overwritten(tmp_path: Path, password: str | None) -> None:
    keys = KeyDirectory(tmp_path)
    keys.store(KEY, password)
    for other in (None, "x"):
        with pytest.raises(KeyFileError, match="holds a key already"):
            keys.store(OTHER, other)
    assert keys.public() == KEY.public


def test_two_keys_in_one_directory_are_refused(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path)
    keys.store(KEY, "a word")
    KeyDirectory(tmp_path / "plain").store(OTHER, None)
    (tmp_path / "plain" / "key.json").rename(tmp_path / "key.json")
    for use in (keys.public, lambda: keys.read(word)):
        with pytest.raises(KeyFileError, match="keep one"):
            use()


def test_files_of_two_keys_are_refused(tmp_path: Path) -> None:
    keys, others = KeyDirectory(tmp_path / "a"), KeyDirectory(tmp_path / "b")
    keys.store(KEY, "a word")
    others.store(OTHER, "a word")
    document = json.loads((others.path / "consensus.json").read_text())
    document["public_key"] = KEY.public_key.hex()
    path = keys.path / "consensus.json"
    path.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match="are not those of the keys"):
        keys.read(word)
    del document["public_key"]
    path.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match="lockstep keys validator import"):
        keys.public()


def test_a_directory_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no validator's key at"):
        KeyDirectory.at(tmp_path / "absent")
    for use in (
        KeyDirectory(tmp_path).public,
        lambda: KeyDirectory(tmp_path).read(word),
    ):
        with pytest.raises(KeyFileError, match="holds no validator's key"):
            use()


def test_a_key_moves_with_what_it_signed(tmp_path: Path) -> None:
    source, target = KeyDirectory(tmp_path / "a"), KeyDirectory(tmp_path / "b")
    source.store(KEY, "a word")
    mark_never_signed(source.path)
    (source.path / "proposal-3-0.rlp").touch(mode=0o600)
    (source.path / "unrelated").touch()
    target.carry(source)
    names = {each.name for each in target.path.iterdir()}
    assert names == {
        "consensus.json",
        "beacon.json",
        STATE_FILE,
        "proposal-3-0.rlp",
    }
    assert target.read(word) == KEY
    # A second time must not bring an older state.
    (target.path / STATE_FILE).write_text("newer")
    target.carry(source)
    target.carry(target)
    assert (target.path / STATE_FILE).read_text() == "newer"
    third = KeyDirectory(tmp_path / "c")
    third.store(OTHER, None)
    with pytest.raises(KeyFileError, match="another key"):
        third.carry(source)


def test_keys_of_other_programs(tmp_path: Path) -> None:
    web3, beacon = tmp_path / "web3", tmp_path / "beacon"
    web3.write_bytes(seal(3, KEY.secret, "a word"))
    beacon.write_bytes(seal(4, KEY.beacon_secret.to_bytes(32), "a word"))
    assert read_keystores(web3, beacon, "a word") == KEY
    with pytest.raises(KeyFileError, match="version 3"):
        read_keystores(beacon, web3, "a word")
    with pytest.raises(KeyFileError, match="cannot read"):
        read_keystores(web3, tmp_path / "absent", "a word")
    beacon.write_bytes(bytes(1 << 20))
    with pytest.raises(KeyFileError, match="larger"):
        read_keystores(web3, beacon, "a word")


def test_a_password_file_is_private_text(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.write_bytes(b"first line \r\nsecond\n")
    path.chmod(0o600)
    assert password_in(path) == "first line "
    path.write_bytes(b"")
    assert password_in(path) == ""
    path.write_bytes(b"\xff")
    with pytest.raises(KeyFileError, match="UTF-8"):
        password_in(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        password_in(path)
