"""The engine: performs the effects of `consensus.machine`, height after height.

One height, in order, each step durable before the next:

1. build a block from the mempool, or find the one that was signed before a crash;
2. store and sign it as our proposal, then sign prevote and precommit (`node.signer`);
3. commit block, receipts, state, certificate and the new head in one atomic batch.

A process killed between any two of these steps starts again at the last committed
head. If it had signed a proposal for the next height, it proposes that very block
again, so whatever signature already left stays true.

Building, signing and committing run in one worker thread, so the event loop keeps
answering; the mempool belongs to the event loop and is only read through a snapshot.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
import trio

from chain.block import Block
from chain.database import ChainDatabase
from chain.errors import BadSignature
from chain.header import Header
from chain.sidecar import CommitCertificate
from chain.transaction import Transaction, decode
from consensus.beacon import make_reveal
from consensus.certificate import certify
from consensus.machine import (
    BlockChecked,
    Build,
    Decide,
    Equivocation,
    Fetch,
    Input,
    ProposalSeen,
    Propose,
    Schedule,
    Sign,
    Start,
    State,
    VoteSeen,
    apply,
)
from consensus.proposal import Epoch, Plan, check_block, plan
from node.datadir import ValidatorKey
from node.errors import LedgerError
from node.mempool import Mempool, Selection
from node.metrics import Metrics
from node.signer import Signer
from runtime.block import (
    BlockAttributes,
    BlockBuilder,
    ExecutedBlock,
    import_block,
)
from runtime.errors import BlockFull, NonceTooHigh, TransactionInvalid
from runtime.fees import next_base_fee
from runtime.rules import ForkSchedule

_log = structlog.get_logger("node.engine")
_BUILD_SECONDS = 2.0
_MAX_MISFITS = 16


@dataclass(frozen=True, slots=True)
class Validator:
    """What a node needs in order to propose and vote."""

    key: ValidatorKey
    signer: Signer


@dataclass(frozen=True, slots=True)
class Dropped:
    """A transaction that no block may hold, found while building."""

    transaction: Transaction
    reason: str


@dataclass(frozen=True, slots=True)
class Produced:
    """A height that was decided and committed."""

    block: Block
    transactions: tuple[Transaction, ...]
    dropped: tuple[Dropped, ...]


@dataclass(slots=True)
class _Height:
    """What one height gathers on its way."""

    parent: Header
    selection: Selection
    executed: ExecutedBlock | None = None
    included: list[Transaction] = field(default_factory=list[Transaction])
    dropped: list[Dropped] = field(default_factory=list[Dropped])


class Engine:
    """Makes blocks on one database."""

    def __init__(
        self,
        database: ChainDatabase,
        forks: ForkSchedule,
        epoch: Epoch,
        validator: Validator,
        mempool: Mempool,
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Wire an engine.

        Args:
            database: Holds at least the genesis block.
            forks: Rules by height.
            epoch: Who votes.
            validator: Our keys and signer.
            mempool: Owned by the task that calls `run`.
            metrics: Told about every block.
            now: The wall clock, seconds since 1970.

        Raises:
            LedgerError: our key is not in the validator set.
        """
        self._database = database
        self._forks = forks
        self._epoch = epoch
        self._validator = validator
        self._mempool = mempool
        self._metrics = metrics
        self._now = now
        self.last_commit = math.inf
        index = epoch.current.index_of(validator.key.address)
        if index is None:
            raise LedgerError(
                f"0x{validator.key.address.hex()} is not in the validator set of "
                "this chain"
            )
        self._index = index

    async def run(self, block_time: float) -> None:
        """Make a block every `block_time` seconds until cancelled.

        A block that takes longer delays those after it; beats that were missed are
        not made up for. Cancellation waits for a block that is under way.
        """
        beat = self.last_commit = trio.current_time()
        while True:
            beat = max(beat + block_time, trio.current_time())
            await trio.sleep_until(beat)
            await self.step()

    async def step(self) -> Header:
        """Make and commit one block."""
        started = trio.current_time()
        head = self._database.head()
        rules = self._forks.at(head.number + 1)
        base_fee = next_base_fee(rules, head, self._database.steps(head.hash))
        selection = self._mempool.select(base_fee)
        produced = await trio.to_thread.run_sync(self.produce, selection)
        self._note(produced, trio.current_time() - started)
        return produced.block.header

    def produce(self, selection: Selection) -> Produced:
        """One height, from `Start` to the committed batch. Runs in a worker thread."""
        parent = self._database.head()
        state = State(self._epoch.current, parent.number + 1, self._index)
        work = _Height(parent, selection)
        inputs: deque[Input] = deque([Start()])
        while inputs:
            state, effects = apply(state, inputs.popleft())
            for effect in effects:
                match effect:
                    case Build():
                        inputs.extend(self._propose(work, effect.round))
                    case Sign():
                        vote = self._validator.signer.vote(effect.subject, self._index)
                        inputs.append(VoteSeen(vote))
                    case Decide():
                        certificate = certify(effect, self._epoch.current)
                        return self._commit(work, certificate)
                    case Schedule():
                        pass  # one validator alone never waits for a vote
                    case Equivocation() | Propose() | Fetch():
                        raise LedgerError(
                            f"height {state.height}: one validator alone cannot "
                            f"come to {type(effect).__name__}"
                        )
        raise LedgerError(
            f"height {state.height} stopped in step {state.step.name}: this node "
            "is not the only validator of its chain, and cannot reach others yet"
        )

    def _propose(self, work: _Height, round_: int) -> tuple[Input, ...]:
        """Our block for this height, executed, stored and signed."""
        signer = self._validator.signer
        height = work.parent.number + 1
        signed = signer.pending_proposal(height)
        if signed is None:
            executed = self._fill(work, self._plan(work.parent, round_))
        else:
            _log.info("proposing again what was signed before", height=height)
            check_block(self._epoch, work.parent, signed)
            rules = self._forks.at(height)
            executed = import_block(rules, self._database, work.parent, signed)
            work.included = [decode(raw, rules.chain_id) for raw in signed.transactions]
        work.executed = executed
        signer.sign_proposal(round_, executed.block)
        block_hash = executed.block.hash
        return ProposalSeen(round_, block_hash), BlockChecked(block_hash, valid=True)

    def _plan(self, parent: Header, round_: int) -> Plan:
        certificate = None
        if parent.number:
            certificate = self._database.certificate(parent.hash)
            if certificate is None:
                raise LedgerError(
                    f"block {parent.number} has no commit certificate in the database"
                )
        reveal = make_reveal(
            self._epoch.genesis_hash,
            parent.number + 1,
            self._validator.key.beacon_secret,
        )
        return plan(
            self._epoch,
            parent,
            round_,
            now=int(self._now()),
            reveal=reveal,
            parent_certificate=certificate,
        )

    def _fill(self, work: _Height, planned: Plan) -> ExecutedBlock:
        """Build the planned block from the mempool's best transactions."""
        builder = self._builder(work, planned)
        deadline = time.monotonic() + _BUILD_SECONDS
        misfits = 0
        selection = work.selection
        while (best := selection.best()) is not None:
            if misfits >= _MAX_MISFITS or time.monotonic() > deadline:
                break
            try:
                builder.apply(best)
            except BlockFull:
                misfits += 1
                selection.skip()
            except NonceTooHigh:
                selection.skip()
            except TransactionInvalid as error:
                work.dropped.append(Dropped(best, str(error)))
                selection.skip()
            # A fault of ours in executing one transaction must not stop the chain:
            # it is logged in full, and the block is built again without it.
            except Exception as error:  # noqa: BLE001 - the boundary, see above
                _log.exception("transaction failed", hash="0x" + best.hash.hex())
                work.dropped.append(Dropped(best, f"internal error: {error!r}"))
                selection.skip()
                builder = self._builder(work, planned)
            else:
                work.included.append(best)
                selection.accept()
        return builder.seal()

    def _builder(self, work: _Height, planned: Plan) -> BlockBuilder:
        """A builder of the planned block that holds what was included so far."""
        builder = BlockBuilder(
            self._forks.at(planned.height),
            self._database,
            work.parent,
            BlockAttributes(
                timestamp=planned.timestamp,
                coinbase=planned.coinbase,
                mix_hash=planned.mix_hash,
                extra_data=planned.extra_data,
                sidecar=planned.sidecar,
            ),
        )
        for transaction in work.included:
            builder.apply(transaction)
        return builder

    def _commit(self, work: _Height, certificate: CommitCertificate) -> Produced:
        executed = work.executed
        if executed is None or executed.block.hash != certificate.block_hash:
            raise LedgerError("decided on a block that was not executed here")
        self._database.commit(
            executed.block,
            executed.receipts,
            executed.writes,
            certificate=certificate,
        )
        return Produced(executed.block, tuple(work.included), tuple(work.dropped))

    def _note(self, produced: Produced, seconds: float) -> None:
        """Bring mempool, metrics and log up to the new head."""
        self.last_commit = trio.current_time()
        for each in produced.dropped:
            self._mempool.discard(each.transaction.hash)
            self._metrics.count_refusal("Invalid")
            _log.info(
                "transaction dropped",
                hash="0x" + each.transaction.hash.hex(),
                reason=each.reason,
            )
        self._mempool.advance(_touched(produced.transactions))
        header = produced.block.header
        metrics = self._metrics
        metrics.height.set(header.number)
        metrics.timestamp.set(header.timestamp)
        metrics.base_fee.set(header.base_fee_per_gas)
        metrics.gas.inc(header.gas_used)
        metrics.transactions.inc(len(produced.transactions))
        metrics.block_seconds.observe(seconds)
        metrics.mempool_transactions.set(len(self._mempool))
        metrics.mempool_bytes.set(self._mempool.size)
        event = _log.info if produced.transactions else _log.debug
        event(
            "block committed",
            height=header.number,
            hash="0x" + header.hash.hex(),
            transactions=len(produced.transactions),
            gas_used=header.gas_used,
            seconds=round(seconds, 4),
        )


def _touched(transactions: Iterable[Transaction]) -> set[bytes]:
    """Accounts whose nonce the transactions may have moved."""
    touched: set[bytes] = set()
    for transaction in transactions:
        touched.add(transaction.sender)
        for authorization in transaction.authorizations:
            with suppress(BadSignature):  # the runtime skipped it too
                touched.add(authorization.authority())
    return touched
