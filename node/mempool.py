"""The mempool: transactions that wait for a block. Pure; it reads no clock.

Rules, in the order in which a newcomer meets them:

1. It can be paid for: the sender's balance covers value plus gas at the fee cap of
   *all* its queued transactions, this one among them.
2. Its nonce is not used up, and not further ahead than the queue of a sender is long.
3. At the nonce of a queued transaction it replaces that one only when both its fee
   cap and its tip are at least `price_bump` percent higher.
4. When the pool is full (by count or by bytes) the cheapest *last* transaction of some
   sender makes room, if it is worth less than the newcomer; else the newcomer is
   refused. Only last ones are evicted, so no queue gets a hole by eviction; those
   behind a nonce gap go first, so nobody fills the pool with what never runs.

After each block the queues of the accounts that it touched are held against their new
nonce and balance (`advance`): what is used up goes, and the last ones go until the
balance covers the rest, so rule 1 holds again and no queue gets a hole.

Blocks are filled by `Selection`: always the best-paying transaction among the first
executable one of each sender. The caller reports what became of each, so a
transaction that cannot be applied costs its sender its turn and no one else anything.
Refusals carry go-ethereum's wording, which client libraries recognise.
"""

import heapq
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from chain.transaction import Transaction
from node.errors import NodeError


class MempoolError(NodeError):
    """A transaction was not admitted; the message is what a client is told."""


class AlreadyKnownError(MempoolError):
    """This very transaction waits already."""


class NonceTooLowError(MempoolError):
    """The nonce was used by an earlier transaction."""


class NonceTooHighError(MempoolError):
    """The nonce is too far ahead to wait for."""


class InsufficientFundsError(MempoolError):
    """The balance does not cover everything queued."""


class ReplacementUnderpricedError(MempoolError):
    """The nonce is taken by a transaction that pays about as much."""


class UnderpricedError(MempoolError):
    """The pool is full of better-paying ones, or the tip is below the minimum."""


class SenderQueueFullError(MempoolError):
    """One sender has as many queued as it may."""


class OversizedError(MempoolError):
    """The transaction alone exceeds what a block or the pool may hold."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds. `price_bump` is in percent, `min_tip` in wei per gas."""

    transactions: int = 5_000
    size: int = 64 * 1024 * 1024
    per_sender: int = 64
    price_bump: int = 10
    min_tip: int = 0


@dataclass(frozen=True, slots=True)
class Expired:
    """A transaction that left the pool because of a new block."""

    transaction: Transaction
    reason: str


@dataclass(frozen=True, slots=True)
class Account:
    """What the pool needs to know about a sender at the head of the chain."""

    nonce: int
    balance: int


def cost_of(transaction: Transaction) -> int:
    """The most that a transaction can take from its sender, in wei."""
    return transaction.value + transaction.gas * transaction.max_fee_per_gas


def tip_at(transaction: Transaction, base_fee: int) -> int:
    """What the proposer earns per gas; negative when it cannot be included."""
    return min(
        transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - base_fee
    )


@dataclass(slots=True)
class _Queue:
    """One sender's transactions by nonce; every change gives it a new version."""

    account: Account
    by_nonce: dict[int, Transaction] = field(default_factory=dict[int, Transaction])
    version: int = 0

    def gap(self) -> int:
        """The first nonce, from the account's upwards, that nothing queued has."""
        nonce = self.account.nonce
        while nonce in self.by_nonce:
            nonce += 1
        return nonce

    def cost(self) -> int:
        """The most that what is not used up can take from the sender, in wei."""
        return sum(
            cost_of(transaction)
            for nonce, transaction in self.by_nonce.items()
            if nonce >= self.account.nonce
        )


# Executable, tip, minus the arrival; then whose and which; the queue's version.
_Tail = tuple[bool, int, int, bytes, int, int]
_STALE_TAILS = 1_024


class Mempool:
    """All waiting transactions. Not thread-safe: one task owns it."""

    def __init__(
        self, limits: PoolLimits, accounts: Callable[[bytes], Account]
    ) -> None:
        """Create an empty pool.

        Args:
            limits: The bounds that hold after every call.
            accounts: Nonce and balance of an address at the head of the chain.
        """
        self._limits = limits
        self._accounts = accounts
        self._queues: dict[bytes, _Queue] = {}
        self._by_hash: dict[bytes, Transaction] = {}
        self._arrival: dict[bytes, int] = {}
        self._arrivals = 0
        self._size = 0
        self._versions = 0
        self._tails: list[_Tail] | None = None
        self._tails_fee = 0
        self._latest: deque[tuple[int, bytes]] = deque(maxlen=limits.transactions)
        self.listeners: list[Callable[[], None]] = []
        """Called after each admission."""

    def __len__(self) -> int:
        """How many transactions wait."""
        return len(self._by_hash)

    @property
    def size(self) -> int:
        """Bytes of all waiting transactions together."""
        return self._size

    def get(self, transaction_hash: bytes) -> Transaction | None:
        """The waiting transaction of that hash."""
        return self._by_hash.get(transaction_hash)

    def transactions(self) -> Iterator[Transaction]:
        """All of them, oldest first."""
        yield from self._by_hash.values()

    def pending_nonce(self, sender: bytes) -> int:
        """The nonce that the sender should use next, given what waits."""
        account = self._accounts(sender)
        queue = self._queues.get(sender)
        if queue is None:
            return account.nonce
        queue.account = account
        return queue.gap()

    def add(self, transaction: Transaction, base_fee: int) -> None:
        """Admit a transaction, or change nothing.

        Args:
            transaction: The newcomer.
            base_fee: Of the next block; it ranks the newcomer against the cheapest.

        Raises:
            MempoolError: which one says why.
        """
        if transaction.hash in self._by_hash:
            raise AlreadyKnownError("already known")
        if len(transaction.raw) > self._limits.size:
            raise OversizedError(
                f"oversized data: transaction size {len(transaction.raw)}, "
                f"limit {self._limits.size}"
            )
        if transaction.max_priority_fee_per_gas < self._limits.min_tip:
            raise UnderpricedError(
                "transaction underpriced: gas tip cap "
                f"{transaction.max_priority_fee_per_gas}, "
                f"minimum needed {self._limits.min_tip}"
            )
        account = self._accounts(transaction.sender)
        queue = self._queues.get(transaction.sender) or _Queue(account)
        queue.account = account
        self._check_nonce(transaction, queue)
        replaced = self._check_replacement(transaction, queue)
        self._check_funds(transaction, queue, replaced)
        gapless = transaction.nonce <= queue.gap()
        victims = self._room_for(transaction, replaced, base_fee, gapless=gapless)

        for victim in victims:
            self._remove(victim)
        if replaced is not None:
            self._remove(replaced)
        self._queues.setdefault(transaction.sender, queue)
        queue.by_nonce[transaction.nonce] = transaction
        self._by_hash[transaction.hash] = transaction
        self._arrivals += 1
        self._arrival[transaction.hash] = self._arrivals
        self._latest.append((self._arrivals, transaction.hash))
        self._note(transaction.sender, queue)
        self._size += len(transaction.raw)
        for listener in self.listeners:
            listener()

    def since(self, arrival: int) -> tuple[list[Transaction], int]:
        """What was admitted after that arrival and still waits, and the last arrival.

        Begin with 0, then go on from what was returned.
        """
        found: list[Transaction] = []
        for number, digest in reversed(self._latest):
            if number <= arrival:
                break
            waiting = self._by_hash.get(digest)
            if waiting is not None and self._arrival[digest] == number:
                found.append(waiting)
        return found[::-1], self._arrivals

    def _check_nonce(self, transaction: Transaction, queue: _Queue) -> None:
        nonce, account = transaction.nonce, queue.account
        if nonce < account.nonce:
            raise NonceTooLowError(
                f"nonce too low: next nonce {account.nonce}, tx nonce {nonce}"
            )
        if nonce >= account.nonce + self._limits.per_sender:
            raise NonceTooHighError(
                f"nonce too high: next nonce {account.nonce}, tx nonce {nonce}, "
                f"at most {self._limits.per_sender} are queued per sender"
            )
        taken = nonce in queue.by_nonce
        if not taken and len(queue.by_nonce) >= self._limits.per_sender:
            raise SenderQueueFullError(
                f"account queue full: {len(queue.by_nonce)} transactions wait"
            )

    def _check_replacement(
        self, transaction: Transaction, queue: _Queue
    ) -> Transaction | None:
        old = queue.by_nonce.get(transaction.nonce)
        if old is None:
            return None
        bump = 100 + self._limits.price_bump
        fees = (transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas)
        queued = (old.max_fee_per_gas, old.max_priority_fee_per_gas)
        if any(
            new * 100 < waiting * bump
            for new, waiting in zip(fees, queued, strict=True)
        ):
            raise ReplacementUnderpricedError(
                "replacement transaction underpriced: both fees must rise by "
                f"{self._limits.price_bump} %, queued fee cap {queued[0]} "
                f"tip cap {queued[1]}, new fee cap {fees[0]} tip cap {fees[1]}"
            )
        return old

    def _check_funds(
        self, transaction: Transaction, queue: _Queue, replaced: Transaction | None
    ) -> None:
        others = queue.cost() - (0 if replaced is None else cost_of(replaced))
        wanted, balance = others + cost_of(transaction), queue.account.balance
        if wanted > balance:
            address = "0x" + transaction.sender.hex()
            raise InsufficientFundsError(
                f"insufficient funds for gas * price + value: address {address} "
                f"have {balance} want {wanted}"
            )

    def _room_for(
        self,
        newcomer: Transaction,
        replaced: Transaction | None,
        base_fee: int,
        *,
        gapless: bool,
    ) -> list[Transaction]:
        """The transactions to evict so that the newcomer fits."""
        freed = 0 if replaced is None else len(replaced.raw)
        count = len(self) + 1 - (replaced is not None)
        size = self._size + len(newcomer.raw) - freed
        if count <= self._limits.transactions and size <= self._limits.size:
            return []
        victims: list[Transaction] = []
        cheapest = self._cheapest_first(newcomer, base_fee, gapless=gapless)
        with closing(cheapest):
            for victim in cheapest:
                victims.append(victim)
                count, size = count - 1, size - len(victim.raw)
                if count <= self._limits.transactions and size <= self._limits.size:
                    return victims
        raise UnderpricedError(
            f"transaction underpriced: the pool is full ({len(self)} transactions, "
            f"{self._size} bytes) of better-paying transactions"
        )

    def _cheapest_first(
        self, newcomer: Transaction, base_fee: int, *, gapless: bool
    ) -> Generator[Transaction]:
        """Last ones of other senders' queues that are worth less than the newcomer.

        One behind a nonce gap, which no block can take, is worth less than any that
        can be taken; then the tip decides; ties go against the latest arrival.
        """
        worth = (gapless, tip_at(newcomer, base_fee))
        tails = self._tails_at(base_fee)
        looked_at: list[_Tail] = []
        behind: list[_Tail] = []  # what is last once those before it are gone
        try:
            while True:
                while tails and not self._is_current(tails[0]):
                    heapq.heappop(tails)
                if tails and (not behind or tails[0] < behind[0]):
                    tail = heapq.heappop(tails)
                    looked_at.append(tail)
                elif behind:
                    tail = heapq.heappop(behind)
                else:
                    return
                if tail[:2] >= worth:
                    return
                sender, nonce = tail[3], tail[4]
                if sender == newcomer.sender:
                    continue
                queue = self._queues[sender]
                yield queue.by_nonce[nonce]
                following = self._tail(sender, queue, base_fee, below=nonce)
                if following is not None:
                    heapq.heappush(behind, following)
        finally:
            for tail in looked_at:
                heapq.heappush(tails, tail)

    def _tails_at(self, base_fee: int) -> list[_Tail]:
        """A heap of the last ones of all queues; some are stale (`_is_current`)."""
        tails = self._tails
        most = 2 * len(self._queues) + _STALE_TAILS
        if tails is None or self._tails_fee != base_fee or len(tails) > most:
            found = (self._tail(*each, base_fee) for each in self._queues.items())
            tails = [tail for tail in found if tail is not None]
            heapq.heapify(tails)
            self._tails, self._tails_fee = tails, base_fee
        return tails

    def _tail(
        self, sender: bytes, queue: _Queue, base_fee: int, *, below: int = 2**64
    ) -> _Tail | None:
        """The rank of a queue's last transaction below a nonce."""
        nonce = max((each for each in queue.by_nonce if each < below), default=None)
        if nonce is None:
            return None
        last = queue.by_nonce[nonce]
        rank = (nonce < queue.gap(), tip_at(last, base_fee), -self._arrival[last.hash])
        return (*rank, sender, nonce, queue.version)

    def _is_current(self, tail: _Tail) -> bool:
        queue = self._queues.get(tail[3])
        return queue is not None and queue.version == tail[5]

    def _note(self, sender: bytes, queue: _Queue) -> None:
        """A queue changed: what the heap holds of it is stale."""
        self._versions += 1
        queue.version = self._versions
        if self._tails is not None:
            tail = self._tail(sender, queue, self._tails_fee)
            if tail is not None:
                heapq.heappush(self._tails, tail)

    def _remove(self, transaction: Transaction) -> None:
        queue = self._queues[transaction.sender]
        del queue.by_nonce[transaction.nonce]
        del self._by_hash[transaction.hash]
        del self._arrival[transaction.hash]
        if queue.by_nonce:
            self._note(transaction.sender, queue)
        else:
            del self._queues[transaction.sender]
        self._size -= len(transaction.raw)

    def discard(self, transaction_hash: bytes) -> None:
        """Drop a transaction that can never be applied, if it still waits."""
        transaction = self._by_hash.get(transaction_hash)
        if transaction is not None:
            self._remove(transaction)

    def advance(self, senders: Iterable[bytes]) -> tuple[Expired, ...]:
        """Bring queues up to a new head of the chain.

        Args:
            senders: Addresses whose nonce or balance may have changed. Queues of
                others are left as they are: a balance that fell otherwise is found
                when the transaction's turn comes.

        Returns:
            What had to go, and why.
        """
        self._tails = None  # what is behind a gap may have changed
        expired: list[Expired] = []
        for sender in senders:
            queue = self._queues.get(sender)
            if queue is None:
                continue
            queue.account = self._accounts(sender)
            expired += _expired(queue)
        for each in expired:
            self._remove(each.transaction)
        return tuple(expired)

    def select(self, base_fee: int) -> "Selection":
        """Begin to fill a block with that base fee."""
        return Selection(self._executable(base_fee), base_fee, self._arrival)

    def _executable(self, base_fee: int) -> list[list[Transaction]]:
        """Per sender, the run of nonces that starts at its account's nonce."""
        runs: list[list[Transaction]] = []
        for queue in self._queues.values():
            run: list[Transaction] = []
            for nonce in range(queue.account.nonce, queue.gap()):
                transaction = queue.by_nonce[nonce]
                if tip_at(transaction, base_fee) < 0:
                    break
                run.append(transaction)
            if run:
                runs.append(run)
        return runs


def _expired(queue: _Queue) -> list[Expired]:
    """What of a queue is used up, or can no longer be paid."""
    account = queue.account
    cost = queue.cost()
    found: list[Expired] = []
    for nonce in sorted(queue.by_nonce, reverse=True):
        transaction = queue.by_nonce[nonce]
        if nonce < account.nonce:
            reason = f"nonce too low: next nonce {account.nonce}, tx nonce {nonce}"
        elif cost > account.balance:
            reason = (
                "insufficient funds for gas * price + value: "
                f"have {account.balance} want {cost}"
            )
            cost -= cost_of(transaction)
        else:
            continue
        found.append(Expired(transaction, reason))
    return found


class Selection:
    """The order in which to try transactions for one block.

    Call `best`, try it, then `accept` (it went in, its sender's next one may follow)
    or `skip` (it did not; nothing later from that sender can).
    """

    def __init__(
        self,
        runs: Iterable[list[Transaction]],
        base_fee: int,
        arrival: dict[bytes, int],
    ) -> None:
        self._base_fee = base_fee
        self._arrival = dict(arrival)
        self._heap: list[tuple[int, int, int, list[Transaction]]] = []
        for run in runs:
            self._push(run, 0)

    def _push(self, run: list[Transaction], index: int) -> None:
        transaction = run[index]
        rank = (-tip_at(transaction, self._base_fee), self._arrival[transaction.hash])
        heapq.heappush(self._heap, (*rank, index, run))

    def best(self) -> Transaction | None:
        """The best-paying candidate, or None when none is left."""
        if not self._heap:
            return None
        _, _, index, run = self._heap[0]
        return run[index]

    def accept(self) -> None:
        """The best one was included."""
        _, _, index, run = heapq.heappop(self._heap)
        if index + 1 < len(run):
            self._push(run, index + 1)

    def skip(self) -> None:
        """The best one was not included; leave its sender out of this block."""
        heapq.heappop(self._heap)
