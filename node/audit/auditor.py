"""Executes a chain from its specification and compares it with a source."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chain.block import Block
from chain.database import ChainDatabase, steps_key
from chain.errors import Malformed
from chain.header import Header
from chain.receipt import Receipt
from chain.sidecar import CommitCertificate
from chain.store import Store
from chain.transaction import decode
from chain.trie import ordered_root
from consensus.certificate import verify_certificate
from consensus.errors import InvalidCertificate, InvalidProposal
from consensus.proposal import Findings, check_block
from genesis import ChainSpec, build
from node.audit.comparison import (
    AuditMismatch,
    equal,
    event_name,
    event_names,
    same_header,
    same_receipt,
)
from node.audit.late import take_body, take_headers, take_set, take_state
from node.audit.listening import Listener, Recorder, listening_table
from node.audit.sources import Beginning, DatabaseSource, Source
from node.chainfile import Record
from node.epochs import Epochs
from node.ledger import as_runtime
from runtime.block import BlockAttributes, BlockBuilder, ExecutedBlock
from runtime.errors import BlockFull, TransactionInvalid


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer of the ML precompile that was computed again."""

    block: int
    transaction: int
    trial: bytes
    position: int
    valid: bool
    agreed_by_oracle: bool | None


@dataclass(slots=True)
class AuditReport:
    """What an audit has seen so far.

    Attributes:
        blocks: Counts genesis too.
        left_over: See `node.audit.sources.Source`.
        beginning: Where history begins, if not with block 1; the state there is taken
            on trust, and blocks up to it are checked without being executed.
    """

    chain: str
    chain_id: int
    genesis_hash: bytes
    head: int = 0
    head_hash: bytes = b""
    blocks: int = 0
    transactions: int = 0
    certificates: int = 0
    entries: int = 0
    left_over: int = 0
    beginning: Beginning | None = None
    events: Counter[str] = field(default_factory=Counter[str])
    verdicts: list[Verdict] = field(default_factory=list[Verdict])

    @property
    def jobs(self) -> int:
        """Jobs posted."""
        return self.events["JobMarket.JobPosted"]

    @property
    def disputes(self) -> int:
        """Challenges committed."""
        return self.events["DisputeGame.ChallengeCommitted"]


class Auditor:
    """Executes a chain from its specification and compares it with a source."""

    def __init__(
        self, spec: ChainSpec, source: Source, scratch: Store, *, use_oracle: bool
    ) -> None:
        """Prepare an audit.

        Args:
            spec: What the chain is; the only thing that is trusted.
            source: What was stored.
            scratch: Empty; the audit's own database.
            use_oracle: Ask the numpy oracle about each verdict as well.

        Raises:
            SpecError: the specification cannot make a genesis.
        """
        self._spec = spec
        self._source = source
        self._recorder = Recorder(scratch)
        self._database = ChainDatabase(self._recorder)
        self._use_oracle = use_oracle
        self._genesis = build(spec)
        self._events = event_names()
        self.report = AuditReport(spec.name, spec.chain_id, self._genesis.block.hash)

    def run(self, progress: Callable[[int], None] = lambda _: None) -> AuditReport:
        """Audit everything.

        Args:
            progress: Told each height that was found right.

        Raises:
            AuditMismatch: the first difference.
        """
        beginning = self.report.beginning = self._source.beginning
        trusted = 0 if beginning is None else beginning.state
        number = -1
        for record in self._source.records():
            number = record.block.number
            if number == 0:
                self._check_genesis(record)
                self._begin_late()
            elif number <= trusted:
                self._check_unexecuted(record)
            else:
                self._check_block(record)
            if number and number == trusted:
                self._copy_state(number)
            progress(number)
        if number < 0:
            raise AuditMismatch(0, "genesis", self._genesis.block.hash, "nothing")
        self.report.entries += self._source.finish(self._recorder)
        self.report.left_over = self._source.left_over
        return self.report

    def _check_genesis(self, record: Record) -> None:
        genesis = self._genesis
        same_header(0, genesis.block.header, record.block.header)
        equal(0, "body", genesis.block.encode_body(), record.block.encode_body())
        equal(0, "receipts", 0, len(record.receipts))
        equal(0, "certificate", None, record.certificate)
        self._database.commit(genesis.block, (), genesis.writes)
        self._epochs = Epochs(
            self._database,
            self._spec.rules,
            self._spec.validator_set,
            epoch_blocks=self._spec.consensus.epoch_blocks if self._spec.elects else 0,
            evidence_age=self._spec.consensus.evidence_age_blocks,
        )
        self._count(record.block, (), None)

    def _begin_late(self) -> None:
        """Take the headers before the first whole block, and perhaps the state."""
        beginning, source = self.report.beginning, self._source
        if beginning is None or not isinstance(source, DatabaseSource):
            return
        self.report.entries += take_headers(source, self._database, beginning)
        if beginning.state < beginning.block and beginning.state:
            self._copy_state(beginning.state)

    def _copy_state(self, number: int) -> None:
        source = self._source
        if isinstance(source, DatabaseSource):
            self.report.entries += take_state(source, self._database, number)

    def _check_unexecuted(self, record: Record) -> None:
        """Hold a block against its header, its parent and its certificate."""
        block, parent = record.block, self._database.head()
        number = block.number
        equal(number, "parentHash", parent.hash, block.header.parent_hash)
        receipts = take_body(record)
        self._check_certificate(record)
        self._database.commit(
            block,
            receipts,
            {steps_key(block.hash): record.steps.to_bytes(8)},
            certificate=record.certificate,
            validators=take_set(self._source, number, block.header.extra_data),
        )
        self._count(block, receipts, record.certificate)

    def _check_block(self, record: Record) -> None:
        block, parent = record.block, self._database.head()
        number = block.number
        try:
            found = check_block(self._epochs.epoch(parent), parent, block)
        except InvalidProposal as error:
            raise AuditMismatch(
                number, error.field, error.expected, error.got
            ) from error
        equal(
            number,
            "transactionsRoot",
            block.header.transactions_root,
            ordered_root(block.transactions),
        )
        executed = self._execute(parent, record, found)
        same_header(number, executed.header, block.header)
        equal(number, "steps", executed.steps, record.steps)
        self._check_certificate(record)
        self._database.commit(
            block,
            executed.receipts,
            executed.writes,
            certificate=record.certificate,
            validators=self._epochs.new_set(block.header),
        )
        self._count(block, executed.receipts, record.certificate)

    def _execute(
        self, parent: Header, record: Record, found: Findings
    ) -> ExecutedBlock:
        """Run the transactions, comparing each receipt as it comes."""
        block, number = record.block, record.block.number
        rules = self._spec.rules.at(number)
        equal(number, "receipts", len(block.transactions), len(record.receipts))
        listener = Listener(self._use_oracle, [])
        header = block.header
        builder = BlockBuilder(
            rules,
            self._database,
            parent,
            BlockAttributes(
                timestamp=header.timestamp,
                coinbase=header.coinbase,
                mix_hash=header.mix_hash,
                extra_data=header.extra_data,
                sidecar=block.sidecar,
                offences=tuple(map(as_runtime, found.offences)),
                absent=found.absent,
            ),
            table=listening_table(rules, listener),
        )
        for index, (raw, stored) in enumerate(
            zip(block.transactions, record.receipts, strict=True)
        ):
            try:
                receipt = builder.apply(decode(raw, rules.chain_id))
            except (Malformed, TransactionInvalid, BlockFull) as error:
                raise AuditMismatch(
                    number, "transaction", "a valid one", error, transaction=index
                ) from error
            self._check_verdicts(number, index, listener)
            same_receipt(number, index, receipt, stored, self._events)
        return builder.seal()

    def _check_verdicts(self, number: int, index: int, listener: Listener) -> None:
        for call, valid, second in listener.heard:
            if second is not None and second != valid:
                raise AuditMismatch(
                    number,
                    f"verdict of position {call.position} in trial {call.trial.hex()}",
                    f"{second} (numpy oracle)",
                    f"{valid} (C kernels)",
                    transaction=index,
                )
            agreed = None if second is None else second == valid
            verdict = Verdict(number, index, call.trial, call.position, valid, agreed)
            self.report.verdicts.append(verdict)
        listener.heard.clear()

    def _check_certificate(self, record: Record) -> None:
        number, certificate = record.block.number, record.certificate
        if certificate is None:
            raise AuditMismatch(number, "certificate", "one", "none")
        try:
            verify_certificate(
                self._epochs.genesis_hash,
                certificate,
                self._epochs.voters(number),
                height=number,
                block_hash=record.block.hash,
            )
        except InvalidCertificate as error:
            raise AuditMismatch(
                number, "certificate", error, certificate.encode()
            ) from error

    def _count(
        self,
        block: Block,
        receipts: Iterable[Receipt],
        certificate: CommitCertificate | None,
    ) -> None:
        report = self.report
        report.entries += self._source.compare(block.number, self._recorder.written)
        report.blocks += 1
        report.head, report.head_hash = block.number, block.hash
        report.transactions += len(block.transactions)
        report.certificates += certificate is not None
        for receipt in receipts:
            for log in receipt.logs:
                name = event_name(log, self._events)
                if name is not None:
                    report.events[name] += 1
