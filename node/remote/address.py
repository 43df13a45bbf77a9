"""Where a signer is: `unix:PATH`, or `tcp:ID@HOST:PORT` with the id of its node key."""

from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from node.errors import ConfigError
from node.p2p.address import PeerAddress, endpoint, parse_endpoint
from node.p2p.errors import AddressError


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system; who may open it may sign."""

    path: Path

    @override
    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class NoiseAddress:
    """A port behind Noise XX; each side knows the other's id."""

    peer: PeerAddress

    @override
    def __str__(self) -> str:
        return f"tcp:{self.peer}"


@dataclass(frozen=True, slots=True)
class TcpListen:
    """Where a signer accepts connections; port 0 takes any."""

    host: str
    port: int

    @override
    def __str__(self) -> str:
        return f"tcp:{endpoint(self.host, self.port)}"


def parse_address(text: str) -> UnixAddress | NoiseAddress:
    """Where a node finds its signer.

    Raises:
        ConfigError: neither form.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "unix" and rest:
        return UnixAddress(Path(rest).expanduser())
    if scheme == "tcp":
        try:
            return NoiseAddress(PeerAddress.parse(rest))
        except AddressError as error:
            raise ConfigError(f"signer {text!r}: {error}") from error
    raise ConfigError(f"signer: expected unix:PATH or tcp:ID@HOST:PORT, got {text!r}")


def parse_listen(text: str) -> UnixAddress | TcpListen:
    """Where a signer listens.

    Raises:
        ConfigError: neither form.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "unix" and rest:
        return UnixAddress(Path(rest).expanduser())
    if scheme == "tcp":
        try:
            return TcpListen(*parse_endpoint(rest))
        except AddressError as error:
            raise ConfigError(f"listen {text!r}: {error}") from error
    raise ConfigError(f"listen: expected unix:PATH or tcp:HOST:PORT, got {text!r}")
