"""Decoding of transactions and recovery of their senders, in threads of their own.

Recovering one sender takes longer than anything else that admission does. It never
happens in the event loop, and never on the threads that consensus uses.
"""

from collections.abc import Sequence
from functools import partial

import trio

from chain.errors import Malformed
from chain.transaction import Transaction, decode
from node.admission import MalformedTransactionError
from node.mempool import MempoolError

_THREADS = 1
_WAITING = 256


class BusyError(MempoolError):
    """Too many transactions wait for their senders to be recovered."""


class Recovery:
    """Decodes what one kind of source brings; sources do not wait for each other."""

    def __init__(
        self, chain_id: int, *, threads: int = _THREADS, waiting: int = _WAITING
    ) -> None:
        """Own `threads` threads.

        Args:
            chain_id: Of every transaction.
            threads: At work at once.
            waiting: Calls that may wait for them; more are refused.
        """
        self._chain_id = chain_id
        self._limiter = trio.CapacityLimiter(threads)
        self._waiting = waiting

    async def batch(self, raws: Sequence[bytes]) -> list[Transaction]:
        """Decode all.

        Raises:
            Malformed: one of them is no transaction of this chain.
        """
        return await trio.to_thread.run_sync(
            _decode_all, raws, self._chain_id, limiter=self._limiter
        )

    async def one(self, raw: bytes) -> Transaction:
        """Decode one that a client sent.

        Raises:
            MalformedTransactionError: it is no transaction of this chain.
            BusyError: too many wait.
        """
        if self._limiter.statistics().tasks_waiting >= self._waiting:
            raise BusyError("server busy: too many transactions are waiting")
        try:
            return await trio.to_thread.run_sync(
                partial(decode, raw, self._chain_id), limiter=self._limiter
            )
        except Malformed as error:
            raise MalformedTransactionError(f"invalid transaction: {error}") from error


def _decode_all(raws: Sequence[bytes], chain_id: int) -> list[Transaction]:
    return [decode(raw, chain_id) for raw in raws]
