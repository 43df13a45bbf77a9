"""Filters that a client polls: new logs, new blocks, waiting transactions.

A filter remembers the next block to report. It is forgotten when it was not polled for
five minutes, or when too many newer ones exist; polling it then says "filter not
found", and web3 libraries make a new one.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from node.rpc.errors import server_error
from node.rpc.logs import LogFilter
from node.rpc.values import quantity

MAX_FILTERS = 1_000
IDLE_SECONDS = 300.0


@dataclass(slots=True)
class BlockFilter:
    """Reports hashes of new blocks."""

    next_block: int


@dataclass(slots=True)
class LogPoll:
    """Reports new matching logs; `first` and `last` are its own bounds."""

    next_block: int
    wanted: LogFilter
    first: int
    last: int | None


@dataclass(slots=True)
class PendingFilter:
    """Reports hashes of transactions that came into the mempool.

    `seen` counts the arrivals that were reported (`Mempool.since`): it remembers no
    hashes, which would be those of the whole pool for each filter.
    """

    seen: int


Filter = BlockFilter | LogPoll | PendingFilter


class Filters:
    """All filters of a node, newest last."""

    def __init__(
        self,
        now: Callable[[], float],
        new_id: Callable[[], int],
        most: int = MAX_FILTERS,
    ) -> None:
        """Create an empty table.

        Args:
            now: A clock in seconds that never goes back.
            new_id: Unguessable 128-bit numbers, so that clients cannot poll or
                remove each other's filters.
            most: How many are kept.
        """
        self._now = now
        self._new_id = new_id
        self._most = most
        self._filters: OrderedDict[str, tuple[Filter, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._filters)

    def install(self, wanted: Filter) -> str:
        """Remember a filter; returns its id."""
        self._expire()
        while len(self._filters) >= self._most:
            self._filters.popitem(last=False)
        filter_id = quantity(self._new_id())
        self._filters[filter_id] = (wanted, self._now())
        return filter_id

    def poll(self, filter_id: object) -> Filter:
        """The filter of that id, its idle time starting anew.

        Raises:
            RpcError: there is none.
        """
        self._expire()
        entry = self._filters.get(filter_id) if isinstance(filter_id, str) else None
        if entry is None or not isinstance(filter_id, str):
            raise server_error("filter not found")
        self._filters[filter_id] = (entry[0], self._now())
        self._filters.move_to_end(filter_id)
        return entry[0]

    def remove(self, filter_id: object) -> bool:
        """Forget a filter; whether it was there."""
        if not isinstance(filter_id, str):
            return False
        return self._filters.pop(filter_id, None) is not None

    def _expire(self) -> None:
        oldest = self._now() - IDLE_SECONDS
        while self._filters:
            filter_id, (_, used) = next(iter(self._filters.items()))
            if used > oldest:
                return
            del self._filters[filter_id]
