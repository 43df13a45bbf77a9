"""The directory of a validator's keys and of what it signed.

key.json          both secrets as they are, mode 0600: for devnets and tests
consensus.json    or encrypted (`node.keystore`): the secp256k1 key that signs votes,
beacon.json       and the BLS key of the beacon, under one password
last-sign.json    see node.signstate
proposal-*.rlp    see node.proposals

Keys are never overwritten.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from node.disk import PRIVATE_DIRECTORY
from node.errors import KeyFileError
from node.files import create_private, read_private, write_durably
from node.keystore import MAX_KEYSTORE_BYTES, read_document, seal, unseal
from node.signstate import STATE_FILE
from node.validatorkey import PublicKeys, ValidatorKey

PLAIN = "key.json"
CONSENSUS = "consensus.json"
BEACON = "beacon.json"
_MAX_PLAIN_BYTES = 4_096
_MAX_CARRIED_BYTES = 64 << 20

_MAX_PASSWORD_BYTES = 1_024

Password = Callable[[], str]


class KeyDirectory:
    """Reads and writes the keys of one directory, which may not exist yet."""

    def __init__(self, path: Path) -> None:
        """Nothing is touched."""
        self.path = path

    @classmethod
    def at(cls, path: Path) -> "KeyDirectory":
        """Of a directory, or of the directory of a key.json.

        Raises:
            KeyFileError: there is no validator's key at `path`.
        """
        found = cls(path.parent if path.name == PLAIN else path)
        if not found.holds_key:
            raise KeyFileError(
                f"there is no validator's key at {path}: expected {PLAIN}, or a "
                f"directory with {CONSENSUS} and {BEACON}"
            )
        return found

    @property
    def is_plain(self) -> bool:
        """Whether the key is here without a password."""
        return (self.path / PLAIN).exists()

    @property
    def is_encrypted(self) -> bool:
        """Whether the key is here, under a password."""
        return (self.path / CONSENSUS).exists()

    @property
    def holds_key(self) -> bool:
        """Whether there is a key."""
        return self.is_plain or self.is_encrypted

    def read(self, password: Password) -> ValidatorKey:
        """The key; `password` is asked only if it is encrypted.

        Raises:
            KeyFileError: missing, damaged, readable by others, another password, or
                the two files do not belong together.
        """
        self._check_one()
        if self.is_plain:
            return read_plain(self.path / PLAIN)
        public = self.public()
        word = password()
        paths = self.path / CONSENSUS, self.path / BEACON
        contents = [read_private(each, limit=MAX_KEYSTORE_BYTES) for each in paths]
        secret = unseal(3, contents[0], word, str(paths[0]))
        beacon_secret = unseal(4, contents[1], word, str(paths[1]))
        key = ValidatorKey.checked(secret, int.from_bytes(beacon_secret))
        if key.public != public:
            raise KeyFileError(
                f"{self.path}: the public keys that are written in {CONSENSUS} and "
                f"{BEACON} are not those of the keys in them"
            )
        return key

    def public(self) -> PublicKeys:
        """The public keys, without a password; believed until the key is read.

        Raises:
            KeyFileError: missing or damaged.
        """
        self._check_one()
        if self.is_plain:
            return read_plain(self.path / PLAIN).public
        return PublicKeys(
            self._field(CONSENSUS, "public_key", 64), self._field(BEACON, "pubkey", 48)
        )

    def store(self, key: ValidatorKey, password: str | None) -> None:
        """Write a key, encrypted unless `password` is None.

        Raises:
            KeyFileError: there is a key already, or the password is empty.
        """
        if self.holds_key:
            raise KeyFileError(f"{self.path} holds a key already; move it away first")
        files = {PLAIN: _plain(key)} if password is None else {}
        if password is not None:
            files = _encrypted(key, password)
        self.path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        for name, content in files.items():
            create_private(self.path / name, content)

    def carry(self, source: "KeyDirectory") -> None:
        """Copy key and signing state from another directory.

        A state that is here already stays: it must never become older.

        Raises:
            KeyFileError: there is another key here, or a file cannot be read.
        """
        if source.path.resolve() == self.path.resolve():
            return
        if self.holds_key:
            if self.public() != source.public():
                raise KeyFileError(f"{self.path} holds another key; move it away first")
            return
        source.public()  # not a damaged one
        # The state first: a key without it would have to listen before it signs.
        self.carry_state(source)
        self._copy(source, [BEACON, CONSENSUS, PLAIN])

    def carry_state(self, source: "KeyDirectory") -> None:
        """Copy what was signed, unless there is a state here.

        Raises:
            KeyFileError: a file cannot be read.
        """
        if (self.path / STATE_FILE).exists():
            return
        proposals = sorted(each.name for each in source.path.glob("proposal-*.rlp"))
        self._copy(source, [*proposals, STATE_FILE])

    def _copy(self, source: "KeyDirectory", names: Sequence[str]) -> None:
        self.path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        for name in names:
            path = source.path / name
            if path.exists():
                content = read_private(path, limit=_MAX_CARRIED_BYTES)
                write_durably(self.path / name, content)

    def _check_one(self) -> None:
        if self.is_plain and self.is_encrypted:
            raise KeyFileError(
                f"{self.path} holds {PLAIN} and {CONSENSUS}; keep one of them"
            )
        if not self.holds_key:
            raise KeyFileError(f"{self.path} holds no validator's key")

    def _field(self, file: str, field: str, size: int) -> bytes:
        path = self.path / file
        content = read_private(path, limit=MAX_KEYSTORE_BYTES)
        try:
            value = bytes.fromhex(str(read_document(content, str(path))[field]))
        except (LookupError, ValueError):
            value = b""
        if len(value) != size:
            raise KeyFileError(
                f"{path} has no {field} of {size} bytes; bring a key file of another "
                "program here with `lockstep keys validator import`"
            )
        return value


def password_in(path: Path) -> str:
    """The first line of a file that only its owner can read.

    Raises:
        KeyFileError: unreadable, readable by others, or no text.
    """
    content = read_private(path, limit=_MAX_PASSWORD_BYTES)
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is no text in UTF-8") from None
    return lines[0] if lines else ""


def read_plain(path: Path) -> ValidatorKey:
    """The key in a key.json.

    Raises:
        KeyFileError: damaged, out of range or readable by others.
    """
    content = read_private(path, limit=_MAX_PLAIN_BYTES)
    try:
        document: dict[str, Any] = dict(json.loads(content))
        secret = bytes.fromhex(str(document["secp256k1"]))
        beacon_secret = int(str(document["bls12_381"]), 16)
    except (ValueError, KeyError, TypeError) as error:
        # The error may quote the file; only its kind is told.
        raise KeyFileError(f"{path} is damaged ({type(error).__name__})") from None
    return ValidatorKey.checked(secret, beacon_secret)


def read_keystores(consensus: Path, beacon: Path, password: str) -> ValidatorKey:
    """A key from two encrypted files, whichever program wrote them.

    Raises:
        KeyFileError: unreadable, another password, or no keys.
    """
    contents: list[bytes] = []
    for path in (consensus, beacon):
        try:
            with path.open("rb") as stream:
                contents.append(stream.read(MAX_KEYSTORE_BYTES + 1))
        except OSError as error:
            raise KeyFileError(f"cannot read {path}: {error}") from error
        if len(contents[-1]) > MAX_KEYSTORE_BYTES:
            raise KeyFileError(f"{path} is larger than {MAX_KEYSTORE_BYTES} bytes")
    secret = unseal(3, contents[0], password, str(consensus))
    beacon_secret = unseal(4, contents[1], password, str(beacon))
    return ValidatorKey.checked(secret, int.from_bytes(beacon_secret))


def _plain(key: ValidatorKey) -> bytes:
    document = {
        "address": "0x" + key.address.hex(),
        "secp256k1": key.secret.hex(),
        "bls12_381": f"{key.beacon_secret:064x}",
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _encrypted(key: ValidatorKey, password: str) -> dict[str, bytes]:
    """The two files, with the public keys in clear; the one that counts last."""
    consensus = json.loads(seal(3, key.secret, password))
    consensus["public_key"] = key.public_key.hex()
    beacon = seal(4, key.beacon_secret.to_bytes(32), password)
    return {BEACON: beacon, CONSENSUS: json.dumps(consensus, indent=1).encode() + b"\n"}
