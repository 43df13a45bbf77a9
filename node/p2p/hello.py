"""The first encrypted message of each side: `rlp([software, listen, channels])`."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from chain.errors import MalformedRLP
from chain.rlp import as_bytes, decode_list, encode
from node.p2p.address import MAX_HOST, parse_endpoint
from node.p2p.errors import AddressError, GarbageError
from node.p2p.interface import MAX_CHANNELS

MAX_SOFTWARE: Final = 64
_PRINTABLE: Final = re.compile(rb"[ -~]*")
MAX_HELLO: Final = 512
assert MAX_SOFTWARE + MAX_HOST + 8 + MAX_CHANNELS + 12 < MAX_HELLO  # noqa: S101


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node tells about itself.

    Attributes:
        software: Name and version, printable ASCII, at most 64 bytes.
        listen: `host:port` that it accepts connections at; no host: the one it is
            seen at; empty: none.
        channels: Ids of the channels it knows.
    """

    software: str
    listen: str
    channels: frozenset[int]

    def encode(self) -> bytes:
        """The message."""
        channels = bytes(sorted(self.channels))
        return encode([self.software.encode(), self.listen.encode(), channels])

    @classmethod
    def decode(cls, data: bytes) -> "Hello":
        """Read the other side's.

        Raises:
            GarbageError: too long or malformed.
        """
        if len(data) > MAX_HELLO:
            raise GarbageError(f"hello of {len(data)} bytes, {MAX_HELLO} are allowed")
        try:
            fields = decode_list(data, length=3, max_items=4)
            software, listen, channels = (as_bytes(field) for field in fields)
        except MalformedRLP as error:
            raise GarbageError(f"malformed hello: {error}") from error
        if len(software) > MAX_SOFTWARE or not _PRINTABLE.fullmatch(software):
            raise GarbageError(f"hello: software is {software[:MAX_SOFTWARE]!r}")
        return cls(software.decode(), _endpoint(listen), _channels(channels))


def _endpoint(listen: bytes) -> str:
    if not listen:
        return ""
    try:
        text = listen.decode("ascii")
        _, port = parse_endpoint(text)
    except (UnicodeDecodeError, AddressError) as error:
        raise GarbageError(f"hello: listen address: {error}") from error
    if not port:
        raise GarbageError("hello: listen address with port 0")
    return text


def _channels(channels: Collection[int]) -> frozenset[int]:
    ids = list(channels)
    if len(ids) > MAX_CHANNELS or ids != sorted(set(ids)) or 0 in ids:
        raise GarbageError(
            f"hello: expected at most {MAX_CHANNELS} ascending channels above 0"
        )
    return frozenset(ids)
