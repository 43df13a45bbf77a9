"""The chain's history as a stream that is read once, in bounded pieces.

A block that is there is final, so what was read never changes; `next_block` is all that
has to be remembered to go on later.
"""

from collections.abc import Collection, Iterator

from lockstep.client.connection import Connection, Event
from lockstep.errors import ChainError, NodeUnreachable

__all__ = ["EventStream"]

_BLOCKS_PER_REQUEST = 2_000


class EventStream:
    """Events of the system contracts, each exactly once, in order."""

    def __init__(
        self,
        connection: Connection,
        first_block: int = 0,
        names: Collection[str] = (),
    ) -> None:
        """Start before a block.

        Args:
            connection: where to ask.
            first_block: the first block to read.
            names: of the events wanted; empty wants all.
        """
        self._connection = connection
        self._names = frozenset(names)
        self.next_block = first_block

    def read(self) -> Iterator[Event]:
        """Everything that happened since the last call."""
        head = self._connection.block_number()
        width = _BLOCKS_PER_REQUEST
        while self.next_block <= head:
            last = min(head, self.next_block + width - 1)
            try:
                events = self._connection.logs(self.next_block, last)
            except NodeUnreachable:
                raise
            except ChainError:
                # Nodes bound the number of results; a smaller piece has fewer.
                if width == 1:
                    raise
                width = max(1, width // 4)
                continue
            self.next_block = last + 1
            for event in events:
                if not self._names or event.name in self._names:
                    yield event
