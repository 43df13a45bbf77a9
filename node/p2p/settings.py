"""Bounds of the switch. Times are seconds, sizes are bytes."""

from dataclasses import dataclass

from node.errors import ConfigError
from node.p2p.address import PeerAddress, parse_endpoint
from node.p2p.errors import P2PError
from node.p2p.hello import Hello


@dataclass(frozen=True, slots=True)
class Network:
    """The chain; nodes of another one are refused before anything else is said."""

    chain_id: int
    genesis_hash: bytes


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take.

    Attributes:
        dial: To open a TCP connection.
        handshake: From the first byte to the end of the hello, all of it.
        ping: Silence after which a peer is pinged.
        idle: Silence, or refusal to take what is sent, after which it is dropped.
        retry_first: Wait before a persistent peer is dialled again; doubles.
        retry_most: Longest such wait; each is spread by +-25 % at random.
        steady: A connection that lasted so long sets the wait back to the first.
        ban: After the first provable fault; doubles with each further one.
        ban_most: Longest ban.
        exchange: Between requests for addresses to one peer.
        save: Between writes of the address book.
    """

    dial: float = 5.0
    handshake: float = 5.0
    ping: float = 10.0
    idle: float = 30.0
    retry_first: float = 0.5
    retry_most: float = 30.0
    steady: float = 60.0
    ban: float = 3_600.0
    ban_most: float = 7 * 86_400.0
    exchange: float = 60.0
    save: float = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set.

    Attributes:
        listen: `host:port` to listen on (port 0: any free one), or None.
        advertise: `host:port` where others reach this node; empty: the address they
            see, with the port listened on.
        software: Name and version, told to peers.
        persistent: Dialled again for ever.
        bootstrap: Dialled while there are too few outbound peers and the book knows
            no others.
        unconditional: Node ids that no limit refuses and no ban hits.
        max_inbound: Peers that dialled this node.
        max_outbound: Peers that this node found and dialled, besides persistent ones.
        max_handshakes: Inbound connections in their handshake, at once.
        accepts_per_second: From one IP address; ten times of it at once.
        public_only: Refuse private and loopback addresses from peer exchange.
    """

    listen: str | None = "0.0.0.0:26656"
    advertise: str = ""
    software: str = "lockstep"
    persistent: tuple[PeerAddress, ...] = ()
    bootstrap: tuple[PeerAddress, ...] = ()
    unconditional: frozenset[bytes] = frozenset()
    max_inbound: int = 40
    max_outbound: int = 10
    max_handshakes: int = 32
    accepts_per_second: float = 5.0
    public_only: bool = False
    timing: Timing = Timing()

    def __post_init__(self) -> None:
        """Refuse what peers would refuse.

        Raises:
            ConfigError: `listen`, `advertise` or `software` is malformed.
        """
        try:
            if self.listen is not None:
                parse_endpoint(self.listen)
            Hello.decode(Hello(self.software, self.advertise, frozenset()).encode())
        except P2PError as error:
            raise ConfigError(f"peers: {error}") from error
