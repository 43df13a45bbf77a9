"""Who a node is and where: `id@host:port`.

A node id is the first 20 bytes of SHA-256 of its X25519 public key, in lower-case hex.
An IPv6 host stands in brackets.
"""

import ipaddress
import re
from dataclasses import dataclass

from typing_extensions import override

from chain.crypto import sha256
from node.p2p.errors import AddressError

ID_BYTES = 20
MAX_HOST = 253
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_ID = re.compile(r"[0-9a-f]{40}")
_PORT = re.compile(r"[1-9][0-9]{0,4}|0")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def node_id(public_key: bytes) -> bytes:
    """The id of the node with this X25519 key."""
    return sha256(public_key)[:ID_BYTES]


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`; the host may be empty.

    Raises:
        AddressError: anything else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65_535:
        raise AddressError(f"expected host:port with a port up to 65535, got {text!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not isinstance(parse_ip(host), ipaddress.IPv6Address):
            raise AddressError(f"expected an IPv6 address in brackets, got {text!r}")
    elif host and (len(host) > MAX_HOST or not _HOST.fullmatch(host)):
        raise AddressError(f"expected a host name or IP address, got {host!r}")
    return host, int(port)


def parse_ip(host: str) -> IPAddress | None:
    """The IP address that `host` is written as, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def endpoint(host: str, port: int) -> str:
    """The text that `parse_endpoint` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a node listens.

    Attributes:
        id: 20 bytes.
        host: A name or an IP address, without brackets.
        port: From 1 to 65,535.
    """

    id: bytes
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "PeerAddress":
        """Read `id@host:port`.

        Raises:
            AddressError: anything else.
        """
        ident, _, rest = text.partition("@")
        if not _ID.fullmatch(ident):
            raise AddressError(
                f"expected id@host:port with an id of 40 hex digits, got {text!r}"
            )
        host, port = parse_endpoint(rest)
        if not host or not port:
            raise AddressError(f"expected a host and a port in {text!r}")
        return cls(bytes.fromhex(ident), host, port)

    @override
    def __str__(self) -> str:
        return f"{self.id.hex()}@{endpoint(self.host, self.port)}"
