"""The node's own key: X25519, in the file `node-key` of the data directory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from typing_extensions import override

from node.errors import KeyFileError
from node.files import create_private, read_private
from node.p2p.address import node_id

KEY_FILE = "node-key"
KEY_BYTES = 32
_MAX_FILE_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class NodeKey:
    """The secret that proves who this node is. Not shown by `repr`."""

    secret: bytes

    def __post_init__(self) -> None:
        """Refuse what is no X25519 secret."""
        if len(self.secret) != KEY_BYTES:
            raise KeyFileError(f"a node key has {KEY_BYTES} bytes")

    @override
    def __repr__(self) -> str:
        return f"NodeKey({self.id.hex()})"

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        secret = X25519PrivateKey.from_private_bytes(self.secret)
        return secret.public_key().public_bytes_raw()

    @property
    def id(self) -> bytes:
        """20 bytes, see `node.p2p.address`."""
        return node_id(self.public_key)

    @classmethod
    def read(cls, path: Path) -> "NodeKey":
        """The key in a file that `store` wrote: 64 hex digits.

        Raises:
            KeyFileError: missing, damaged or readable by others.
        """
        content = read_private(path, limit=_MAX_FILE_BYTES)
        try:
            secret = bytes.fromhex(content.decode("ascii"))
        except ValueError:
            raise KeyFileError(f"{path} is damaged: expected 64 hex digits") from None
        if len(secret) != KEY_BYTES:
            raise KeyFileError(f"{path} is damaged: expected 64 hex digits")
        return cls(secret)

    def store(self, path: Path) -> None:
        """Write the key; it is never overwritten.

        Raises:
            KeyFileError: there is one already.
        """
        create_private(path, self.secret.hex().encode() + b"\n")


def load_node_key(directory: Path, entropy: Callable[[int], bytes]) -> NodeKey:
    """The key of a data directory, made on first use.

    Args:
        directory: The data directory.
        entropy: Gives that many unpredictable bytes (`secrets.token_bytes`).

    Raises:
        KeyFileError: damaged or readable by others.
    """
    path = directory / KEY_FILE
    if not path.exists():
        NodeKey(entropy(KEY_BYTES)).store(path)
    return NodeKey.read(path)
