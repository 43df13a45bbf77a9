"""A store that knows which state nodes were written while it is being pruned.

A node of the state that nothing kept holds may be written anew by the next block: its
key is its hash. So whoever removes nodes watches first; what is written from then on
is spared, and a removal and a write never overlap.
"""

import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager

from typing_extensions import override

from chain.database import ChainDatabase
from chain.errors import StoreError
from chain.store import PassThrough, Store


class WatchedStore(PassThrough):
    """Another store, with writes one after the other."""

    def __init__(self, inner: Store) -> None:
        """Wrap the store; closing this one closes it."""
        super().__init__(inner)
        self._lock = threading.Lock()
        self._written: set[bytes] | None = None  # while somebody watches

    @staticmethod
    def of(database: ChainDatabase) -> "WatchedStore":
        """The store of a database that can be pruned.

        Raises:
            StoreError: it is another kind of store.
        """
        store = database.store
        if not isinstance(store, WatchedStore):
            raise StoreError("this database cannot be pruned: nobody watches its store")
        return store

    @override
    def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        sync: bool = True,
    ) -> None:
        with self._lock:
            if self._written is not None:
                self._written.update(key for key in puts if key[:1] == b"s")
            self._inner.write(puts, deletes, sync=sync)

    @contextmanager
    def watched(self) -> Generator[None]:
        """While this lasts, `remove_nodes` spares what is written.

        Raises:
            StoreError: somebody watches already.
        """
        with self._lock:
            if self._written is not None:
                raise StoreError("this database is being pruned")
            self._written = set()
        try:
            yield
        finally:
            with self._lock:
                self._written = None

    def remove_nodes(self, keys: Iterable[bytes]) -> int:
        """Remove state nodes; returns how many.

        Raises:
            StoreError: nobody watches.
        """
        with self._lock:
            if self._written is None:
                raise StoreError("nodes are removed only while writes are watched")
            doomed = [key for key in keys if key not in self._written]
            self._inner.write({}, doomed, sync=False)
        return len(doomed)
