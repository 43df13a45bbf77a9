"""What can go wrong while a node catches up."""

from node.errors import NodeError


class SyncError(NodeError):
    """A node cannot catch up."""


class BadBlockError(SyncError):
    """A block is not the final one of its height; whoever sent it is at fault."""


class ForkError(SyncError):
    """More than two thirds of the stake made a block final that contradicts ours.

    Either a third of the stake is faulty or this database is of another history:
    stop, and let people look.
    """


class BadSnapshotError(SyncError):
    """A snapshot is not of the trusted block, or is malformed or cut off."""


class FalseSnapshotError(BadSnapshotError):
    """A snapshot says it is of a block that is another one; who offers it lies."""


class LightAttackError(SyncError):
    """Two headers of one height are certified, so one of them was made to deceive us.

    Stop, and let people look: which of the two is the chain's cannot be told from here.
    """
