"""Whether a node is well, and whether it can serve: GET /health and GET /ready. Pure.

*Healthy* is for whoever restarts processes: a node that commits nothing although it
should is not. *Ready* is for whoever routes requests: in sync and able to serve (200),
alive but behind (206), not able (503). A node that restores a snapshot has no chain to
serve from: it is healthy, for a restart brings nothing, and not ready.
"""

from dataclasses import dataclass
from enum import IntEnum


class Readiness(IntEnum):
    """The status of GET /ready."""

    READY = 200
    CATCHING_UP = 206
    NOT_READY = 503


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is known of a running node.

    Attributes:
        height: Of its head.
        best: The highest head that a peer tells; its own when none does.
        catching_up: Whether it fetches blocks that others have.
        peers: How many are connected; None when it needs none.
        silent: Seconds since it committed a block, or began to wait for one.
        limit: So many are too many.
        unsigned: Why a validator signs nothing at present; None when it may sign.
    """

    height: int
    best: int
    catching_up: bool
    peers: int | None
    silent: float
    limit: float
    unsigned: str | None = None


def health(vitals: Vitals) -> tuple[bool, dict[str, object]]:
    """Whether the node does its work, and details for people."""
    details: dict[str, object] = {"status": "ok", "height": vitals.height}
    if vitals.unsigned is not None:
        details["signing"] = vitals.unsigned
    if vitals.silent > vitals.limit:
        details["status"] = f"no block for {vitals.silent:.0f} s"
        return False, details
    return True, details


def readiness(vitals: Vitals) -> tuple[Readiness, dict[str, object]]:
    """Whether the node can serve, and details for people."""
    details: dict[str, object] = {
        "status": "ready",
        "height": vitals.height,
        "best": vitals.best,
        "peers": vitals.peers,
    }
    healthy, found = health(vitals)
    if not healthy:
        return Readiness.NOT_READY, details | {"status": found["status"]}
    if vitals.peers == 0:
        return Readiness.NOT_READY, details | {"status": "no peers"}
    if vitals.catching_up:
        behind = max(0, vitals.best - vitals.height)
        return Readiness.CATCHING_UP, details | {"status": f"{behind} blocks behind"}
    return Readiness.READY, details


@dataclass(frozen=True, slots=True)
class Restoration:
    """What is known of a node that begins at a snapshot.

    Attributes:
        height: Of the snapshot; 0 while there is none that can be used.
        chunks: How many were restored.
        of: How many there are.
        peers: How many are connected.
    """

    height: int
    chunks: int
    of: int
    peers: int

    def health(self) -> tuple[bool, dict[str, object]]:
        """As `health` of a node that has a chain."""
        return True, {"status": "ok", "height": 0, "restoring": self.height}

    def readiness(self) -> tuple[Readiness, dict[str, object]]:
        """As `readiness` of a node that has a chain."""
        if not self.peers:
            status = "no peers to restore a snapshot from"
        elif not self.height:
            status = "waiting for peers with a usable snapshot"
        else:
            status = f"restoring a snapshot: {self.chunks} of {self.of} chunks"
        return Readiness.NOT_READY, {
            "status": status,
            "height": 0,
            "best": self.height,
            "peers": self.peers,
        }
