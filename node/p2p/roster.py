"""The peers of a switch: who finds a place, and one connection for each node.

Two nodes that dial each other at once both keep the connection dialled by the smaller
id. A second connection in the same direction replaces the first, which its dialler has
given up. Unconditional peers find a place always; persistent peers do not take one.
"""

from collections.abc import Callable

import trio

from node.p2p.connection import Connection
from node.p2p.counters import Counters
from node.p2p.errors import PeerLostError, RefusedError
from node.p2p.interface import PeerStatus
from node.p2p.settings import Settings
from node.p2p.standing import Standings


class Roster:
    """Who is connected.

    Args:
        own: This node's id.
        settings: Places and privileges.
        standings: Bans and scores.
        counters: Told how many peers there are.
        wall: Seconds since the epoch.
    """

    def __init__(
        self,
        own: bytes,
        settings: Settings,
        standings: Standings,
        counters: Counters,
        wall: Callable[[], float],
    ) -> None:
        self._own = own
        self._places = settings.max_inbound
        self._standings = standings
        self._counters = counters
        self._wall = wall
        self._peers: dict[bytes, Connection] = {}
        self.privileged = settings.unconditional | {
            address.id for address in settings.persistent
        }

    def finished(self, ident: bytes) -> trio.Event | None:
        """Set when the connection with a node ends; None without one."""
        peer = self._peers.get(ident)
        return None if peer is None else peer.finished

    async def make_way(self, ident: bytes, *, outbound: bool) -> None:
        """Wait until a new connection with a node can `enter` at once.

        Raises:
            RefusedError: it can not.
        """
        while True:
            self._check_welcome(ident, outbound=outbound)
            old = self._peers.get(ident)
            if old is None:
                return
            if not supersedes(self._own, ident, old=old.outbound, new=outbound):
                raise RefusedError("connected already")
            old.close(PeerLostError("replaced by another connection"))
            await old.finished.wait()
            self.leave(old)

    def enter(self, peer: Connection) -> None:
        """Add a peer for which `make_way` made way."""
        self._peers[peer.id] = peer
        self._counters.p2p_peers = len(self._peers)

    def leave(self, peer: Connection) -> None:
        """Remove a peer, unless that happened already."""
        if self._peers.get(peer.id) is peer:
            del self._peers[peer.id]
        self._counters.p2p_peers = len(self._peers)

    def statuses(self) -> list[PeerStatus]:
        """The connected peers, longest first."""
        now = trio.current_time()
        return [
            PeerStatus(
                id=peer.id.hex(),
                address=peer.address,
                outbound=peer.outbound,
                seconds=now - peer.started,
                received=peer.stream.bytes.received,
                sent=peer.stream.bytes.sent,
                pending=peer.pending,
                score=self._standings.score(peer.id),
                software=peer.hello.software,
            )
            for peer in self._peers.values()
        ]

    def _check_welcome(self, ident: bytes, *, outbound: bool) -> None:
        banned = self._standings.banned_until(ident) - self._wall()
        if banned > 0:
            raise RefusedError(f"banned for another {banned:.0f} s")
        if outbound or ident in self.privileged:
            return
        inbound = [
            peer
            for peer in self._peers.values()
            if not peer.outbound and peer.id not in self.privileged | {ident}
        ]
        if len(inbound) >= self._places:
            raise RefusedError(f"{len(inbound)} inbound peers, no place is free")


def supersedes(own: bytes, peer: bytes, *, old: bool, new: bool) -> bool:
    """Whether a new connection with a node replaces the old; both sides agree.

    Args:
        own: This node's id.
        peer: The other's.
        old: Whether this node dialled the old connection.
        new: Whether it dialled the new one.
    """
    return new in {old, own < peer}
