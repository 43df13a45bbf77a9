"""The chain as consensus sees it: who votes, blocks built, checked and committed.

Everything here works on one database and runs in worker threads; nothing knows of
peers, rounds or clocks but for the bound on the time that filling a block may take.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from chain.block import Block
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.header import Header
from chain.sidecar import CommitCertificate
from chain.transaction import Transaction, decode
from consensus.evidence import Evidence, Offence
from consensus.proposal import Epoch, Plan, check_block, findings, plan
from node.epochs import Epochs
from node.mempool import Selection
from runtime.block import (
    BlockAttributes,
    BlockBuilder,
    ExecutedBlock,
    import_block,
)
from runtime.errors import BlockFull, NonceTooHigh, TransactionInvalid
from runtime.rules import ForkSchedule

_log = structlog.get_logger("node.ledger")
_BUILD_SECONDS = 2.0
_MAX_MISFITS = 16


@dataclass(frozen=True, slots=True)
class Dropped:
    """A transaction that no block may hold, found while building."""

    transaction: Transaction
    reason: str


@dataclass(frozen=True, slots=True)
class Built:
    """A block of ours, executed, and what was found on the way."""

    executed: ExecutedBlock
    dropped: tuple[Dropped, ...]


def as_runtime(offence: Offence) -> tuple[bytes, bytes, int]:
    """An offence as the runtime takes it, which knows nothing of consensus."""
    return offence.offender, offence.evidence_hash, offence.height


class Ledger:
    """Builds, checks and commits blocks on one database."""

    def __init__(
        self, database: ChainDatabase, forks: ForkSchedule, epochs: Epochs
    ) -> None:
        """Wrap a database that holds at least the genesis block.

        Args:
            database: Where everything is.
            forks: Rules by height.
            epochs: Who votes when.
        """
        # `known`: transactions that were decoded already, by hash, from any thread.
        self.database = database
        self.forks = forks
        self.epochs = epochs
        self.genesis_hash = epochs.genesis_hash
        self.known: Callable[[bytes], Transaction | None] = _nothing

    @property
    def head(self) -> Header:
        """The last committed header."""
        return self.database.head()

    def certificate(self, header: Header) -> CommitCertificate | None:
        """The stored certificate of a committed block."""
        return self.database.certificate(header.hash)

    # -- building --------------------------------------------------------------

    def build(
        self,
        parent: Header,
        proposer: bytes,
        reveal: bytes,
        certificate: CommitCertificate | None,
        evidence: Sequence[Evidence],
        selection: Selection,
    ) -> Built:
        """A block on top of `parent` with the best transactions that fit.

        Args:
            parent: The head.
            proposer: Our address.
            reveal: Ours, for this height.
            certificate: Of the parent, None on top of genesis.
            evidence: To be punished.
            selection: Transactions in the order to try them.
        """
        epoch = self.epochs.epoch(parent)
        planned = plan(
            epoch,
            parent,
            proposer,
            reveal=reveal,
            parent_certificate=certificate,
            evidence=evidence,
        )
        included: list[Transaction] = []
        dropped: list[Dropped] = []
        builder = self._builder(epoch, parent, planned, included)
        deadline = time.monotonic() + _BUILD_SECONDS
        misfits = 0
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
                dropped.append(Dropped(best, str(error)))
                selection.skip()
            # A fault of ours in executing one transaction must not stop the chain:
            # it is logged in full, and the block is built again without it.
            except Exception as error:  # noqa: BLE001 - the boundary, see above
                _log.exception("transaction failed", hash="0x" + best.hash.hex())
                dropped.append(Dropped(best, f"internal error: {error!r}"))
                selection.skip()
                builder = self._builder(epoch, parent, planned, included)
            else:
                included.append(best)
                selection.accept()
        return Built(builder.seal(), tuple(dropped))

    def _builder(
        self,
        epoch: Epoch,
        parent: Header,
        planned: Plan,
        included: Sequence[Transaction],
    ) -> BlockBuilder:
        """A builder of the planned block that holds what was included so far."""
        found = findings(epoch, planned.sidecar)
        builder = BlockBuilder(
            self.forks.at(planned.height),
            self.database,
            parent,
            BlockAttributes(
                timestamp=planned.timestamp,
                coinbase=planned.coinbase,
                mix_hash=planned.mix_hash,
                extra_data=planned.extra_data,
                sidecar=planned.sidecar,
                offences=tuple(map(as_runtime, found.offences)),
                absent=found.absent,
            ),
        )
        for transaction in included:
            builder.apply(transaction)
        return builder

    # -- checking and committing -----------------------------------------------

    def check(self, parent: Header, block: Block) -> ExecutedBlock:
        """Hold a block against every rule of consensus and execution.

        Raises:
            InvalidProposal: a rule of consensus is broken.
            InvalidBlock: a rule of execution is broken.
        """
        found = check_block(self.epochs.epoch(parent), parent, block)
        return import_block(
            self.forks.at(parent.number + 1),
            self.database,
            parent,
            block,
            offences=tuple(map(as_runtime, found.offences)),
            absent=found.absent,
            read=self._read,
        )

    def commit(self, executed: ExecutedBlock, certificate: CommitCertificate) -> None:
        """Make an executed block the head, in one atomic batch.

        The validator set that it names is in the batch when it is not stored yet, for
        those who ask for it by its hash.
        """
        self.database.commit(
            executed.block,
            executed.receipts,
            executed.writes,
            certificate=certificate,
            validators=self.epochs.new_set(executed.block.header),
        )

    def transactions(self, block: Block) -> tuple[Transaction, ...]:
        """The decoded transactions of a checked block."""
        return tuple(map(self._read, block.transactions))

    def _read(self, raw: bytes) -> Transaction:
        """Decode a transaction, unless that was done when it entered the mempool.

        Raises:
            MalformedTransaction: it is none of this chain.
        """
        known = self.known(keccak(raw))
        return decode(raw, self.forks.chain_id) if known is None else known


def _nothing(_: bytes) -> None:
    """Nothing is known before a mempool is there."""
