"""How transactions enter the mempool: from clients, from peers, from the journal.

Senders are recovered in threads (`node.recovery`); admission, which needs the head and
changes the pool, happens in the event loop. What clients of this node sent is *local*:
it is written to the journal, and admitted again after a restart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from chain.database import ChainDatabase
from chain.transaction import Transaction
from node.admission import admit_decoded
from node.mempool import Mempool, MempoolError
from node.pool_journal import PoolJournal
from node.recovery import Recovery
from runtime.fees import next_base_fee
from runtime.rules import ForkSchedule, Rules

_log = structlog.get_logger("node.pool")
_MOST_LOCAL = 1 << 16


@dataclass(frozen=True, slots=True)
class NextBlock:
    """What admission needs to know of the block after the head."""

    rules: Rules
    base_fee: int


def next_block(database: ChainDatabase, forks: ForkSchedule) -> NextBlock:
    """The block after the head of a database."""
    head = database.head()
    rules = forks.at(head.number + 1)
    return NextBlock(rules, next_base_fee(rules, head, database.steps(head.hash)))


class Intake:
    """The one way into a mempool."""

    def __init__(
        self,
        mempool: Mempool,
        upcoming: Callable[[], NextBlock],
        chain_id: int,
        *,
        refused: Callable[[str], None],
        journal: PoolJournal | None = None,
    ) -> None:
        """Wire it.

        Args:
            mempool: Where transactions wait.
            upcoming: Of the block that they wait for.
            chain_id: Of every transaction.
            refused: Told the kind of each refusal.
            journal: Keeps local transactions; None forgets them at the end.
        """
        self._mempool = mempool
        self._upcoming = upcoming
        self._refused = refused
        self._journal = journal
        self._recovery = Recovery(chain_id)
        self._local: dict[bytes, None] = {}

    def admit(self, transaction: Transaction) -> None:
        """Put a decoded transaction into the mempool.

        Raises:
            MempoolError: which one says why.
        """
        upcoming = self._upcoming()
        try:
            admit_decoded(self._mempool, upcoming.rules, upcoming.base_fee, transaction)
        except MempoolError as error:
            self._refused(type(error).__name__.removesuffix("Error"))
            raise

    async def submit(self, raw: bytes) -> Transaction:
        """Take a transaction of a client.

        Raises:
            MempoolError: which one says why.
        """
        try:
            transaction = await self._recovery.one(raw)
        except MempoolError as error:
            self._refused(type(error).__name__.removesuffix("Error"))
            raise
        self.admit(transaction)
        self._keep(transaction)
        return transaction

    async def restore(self) -> int:
        """Admit again what the journal held; how many of it wait now."""
        if self._journal is None:
            return 0
        for raw in self._journal.recovered:
            try:
                transaction = await self._recovery.one(raw)
                self.admit(transaction)
            except MempoolError as error:
                _log.info("journalled transaction refused", reason=str(error))
                continue
            self._local[transaction.hash] = None
        self._rotate()
        if self._journal.recovered:
            _log.info(
                "journal of transactions read",
                read=len(self._journal.recovered),
                waiting=len(self._local),
            )
        return len(self._local)

    def _keep(self, transaction: Transaction) -> None:
        if self._journal is None:
            return
        self._local[transaction.hash] = None
        if self._journal.fits(transaction.raw) and len(self._local) < _MOST_LOCAL:
            self._journal.append(transaction.raw)
        else:
            self._rotate()

    def _rotate(self) -> None:
        """Write the journal anew with the local ones that still wait."""
        waiting = [self._mempool.get(each) for each in self._local]
        kept = [each for each in waiting if each is not None]
        self._local = dict.fromkeys(each.hash for each in kept)
        if self._journal is not None:
            self._journal.rotate(each.raw for each in kept)
