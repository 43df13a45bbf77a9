"""What can go wrong between two nodes, and whose fault it is."""

from node.errors import NodeError


class P2PError(NodeError):
    """Root of every error between peers."""


class PeerFaultError(P2PError):
    """The peer did what no correct node does. It is dropped and banned for a time."""


class HandshakeError(P2PError):
    """The other side is no peer of this node; nobody need be at fault."""


class GarbageError(HandshakeError):
    """The other side does not speak this protocol; counts against its IP address."""


class WrongNetworkError(HandshakeError):
    """The other side is on another chain or speaks another version."""


class PeerLostError(P2PError):
    """The connection ended or stalled; that happens."""


class PeerStalledError(PeerLostError):
    """The peer went silent, or took nothing of what was sent."""


class RefusedError(HandshakeError):
    """This node wants no connection with the peer now."""


class AddressError(P2PError):
    """An address that is not `id@host:port`."""


class AddressBookFileError(P2PError):
    """The stored address book is damaged."""
