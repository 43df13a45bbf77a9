"""Addresses and keys of nodes: what is read, what is refused."""

import re
import secrets
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from node.errors import ConfigError, KeyFileError
from node.p2p.address import PeerAddress, parse_endpoint
from node.p2p.errors import AddressError
from node.p2p.identity import KEY_FILE, NodeKey, load_node_key
from node.p2p.interface import Channel
from node.p2p.settings import Settings

ID = "00112233445566778899aabbccddeeff00112233"


@pytest.mark.parametrize(
    "text",
    [
        f"{ID}@127.0.0.1:26656",
        f"{ID}@node-1.example.org:1",
        f"{ID}@[2001:db8::1]:65535",
    ],
)
def test_an_address_survives_reading_and_writing(text: str) -> None:
    assert str(PeerAddress.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID,
        "127.0.0.1:26656",
        f"{ID}@127.0.0.1",
        f"{ID}@127.0.0.1:0",
        f"{ID}@127.0.0.1:65536",
        f"{ID}@127.0.0.1:+1",
        f"{ID}@:26656",
        f"{ID}@host name:1",
        f"{ID}@-host:1",
        f"{ID}@[localhost]:1",
        f"{ID}@2001:db8::1:26656",
        f"{ID[:-1]}@127.0.0.1:26656",
        f"{ID[:-1]}G@127.0.0.1:26656",
        f"{ID}@{'a' * 254}:1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match=r"expected"):
        PeerAddress.parse(text)


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_a_clear_error(text: str) -> None:
    try:
        address = PeerAddress.parse(text)
    except AddressError:
        return
    assert PeerAddress.parse(str(address)) == address


def test_endpoint_to_listen_on_may_have_no_host_and_no_port() -> None:
    assert parse_endpoint(":0") == ("", 0)


def test_node_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    key = load_node_key(tmp_path, secrets.token_bytes)
    assert load_node_key(tmp_path, secrets.token_bytes) == key
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert len(key.id) == 20
    assert key.secret.hex() not in repr(key)


@pytest.mark.parametrize("content", ["", "00", "zz" * 32, "00" * 33, "é" * 64])
def test_damaged_node_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / KEY_FILE
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="damaged"):
        load_node_key(tmp_path, secrets.token_bytes)


def test_node_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_node_key(tmp_path, secrets.token_bytes)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(KeyFileError, match=re.escape("chmod 600")):
        NodeKey.read(tmp_path / KEY_FILE)


def test_node_key_of_another_size_is_refused() -> None:
    with pytest.raises(KeyFileError, match="32 bytes"):
        NodeKey(bytes(31))


@pytest.mark.parametrize(
    "change",
    [
        {"id": 0},
        {"id": 256},
        {"max_bytes": 0},
        {"max_bytes": 1 << 32},
        {"queue": 0},
        {"priority": 0},
        {"messages_per_second": 0},
        {"bytes_per_second": -1},
    ],
)
def test_impossible_channel_is_refused(change: dict[str, float]) -> None:
    good: dict[str, float] = {
        "id": 32,
        "max_bytes": 1,
        "messages_per_second": 1,
        "bytes_per_second": 1,
        "queue": 1,
        "priority": 1,
    }
    Channel(name="votes", **good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="votes"):
        Channel(name="votes", **good | change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("listen", "nowhere"),
        ("listen", "127.0.0.1:99999"),
        ("advertise", "node.example.org"),
        ("advertise", "node.example.org:0"),
        ("software", "x" * 65),
        ("software", "\u00e9"),
    ],
)
def test_settings_that_peers_would_refuse_are_refused(setting: str, value: str) -> None:
    Settings(listen=None, advertise="node.example.org:26656", software="x" * 64)
    with pytest.raises(ConfigError, match="peers: "):
        Settings(**{setting: value})  # type: ignore[arg-type]
