"""The block transition: build one, or check one that somebody else built.

Both run the same machine: open the parent's state, make the system calls, apply the
transactions in order, commit. The builder chooses transactions and seals a header; the
importer takes header and transactions and compares every field with its own.

Nothing is written here: an `ExecutedBlock` carries what must be, and
`ChainDatabase.commit` writes it in one batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from chain.block import Block
from chain.bloom import union
from chain.database import ChainDatabase, steps_key
from chain.errors import MalformedTransaction
from chain.header import (
    EMPTY_OMMERS_HASH,
    EMPTY_REQUESTS_HASH,
    EMPTY_TRIE_ROOT,
    ZERO_NONCE,
    Header,
)
from chain.receipt import Receipt
from chain.sidecar import Sidecar
from chain.transaction import Transaction, decode
from chain.trie import ordered_root
from runtime.errors import BlockFull, InvalidBlock, TransactionInvalid
from runtime.fees import clock_ticks, next_base_fee
from runtime.machine import BlockContext
from runtime.precompile_table import precompiles
from runtime.precompiles.interface import Precompile
from runtime.rules import Rules
from runtime.steps import OutOfSteps, StepMeter
from runtime.system import Offence, start_block
from runtime.transition import Outcome, apply, check_payable, check_static
from runtime.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAttributes:
    """What consensus decides about a block.

    Attributes:
        timestamp: Seconds, not before the parent's.
        coinbase: Who earns the tips: the proposer.
        mix_hash: The beacon's value, 32 bytes.
        extra_data: Hash of the next validator set, 32 bytes.
        sidecar: Travels with the block; the header holds its root.
        offences: What the evidence in the sidecar proves, in its order.
        absent: Addresses of the validators of the parent's set whose precommit is not
            in the parent's certificate.
    """

    timestamp: int
    coinbase: bytes
    mix_hash: bytes
    extra_data: bytes
    sidecar: Sidecar
    offences: tuple[Offence, ...] = ()
    absent: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """A block and everything that its execution made.

    Attributes:
        block: Sealed.
        receipts: One for each transaction.
        writes: State, code and step count, keyed as `chain.database` says; to be
            written in one batch with the block.
        steps: Interpreter steps of all transactions.
        outcomes: One for each transaction: gas, output, reason of a failure.
    """

    block: Block
    receipts: tuple[Receipt, ...]
    writes: Mapping[bytes, bytes]
    steps: int
    outcomes: tuple[Outcome, ...]

    @property
    def header(self) -> Header:
        """The sealed header."""
        return self.block.header


class BlockBuilder:
    """A block under construction.

    Args:
        rules: Those of the new block's height.
        database: Holds the parent's state.
        parent: The header to build on.
        attributes: What consensus decided.
        table: Precompiles by address; None takes those of the rules. An audit passes
            the same ones with a listener in front.

    Raises:
        ValueError: The timestamp lies before the parent's.
        InvalidBlock: The staking contract refuses an offence.
    """

    def __init__(
        self,
        rules: Rules,
        database: ChainDatabase,
        parent: Header,
        attributes: BlockAttributes,
        *,
        table: Mapping[bytes, Precompile] | None = None,
    ) -> None:
        if attributes.timestamp < parent.timestamp:
            raise ValueError(
                f"timestamp {attributes.timestamp} lies before the parent's "
                f"{parent.timestamp}"
            )
        self._rules = rules
        self._parent = parent
        self._attributes = attributes
        parent_steps = database.steps(parent.hash)
        self.base_fee = next_base_fee(rules, parent, parent_steps)
        self._context = block_context(
            rules, database, parent, attributes, self.base_fee, table
        )
        self._world = World(database, parent.state_root)
        self._transactions: list[bytes] = []
        self._receipts: list[Receipt] = []
        self._outcomes: list[Outcome] = []
        self.gas_used = 0
        self.steps_used = 0
        start_block(
            self._world,
            self._context,
            parent_beacon_root=attributes.sidecar.root(),
            parent_hash=parent.hash,
            genesis_hash=database.genesis_hash(),
            ticks=clock_ticks(rules, parent, parent_steps),
            offences=attributes.offences,
            absent=attributes.absent,
        )

    @property
    def gas_left(self) -> int:
        """Gas that transactions may still ask for."""
        return self._rules.block_gas_limit - self.gas_used

    @property
    def steps_left(self) -> int:
        """Interpreter steps that transactions may still take."""
        return self._rules.block_step_limit - self.steps_used

    def apply(self, transaction: Transaction) -> Receipt:
        """Execute one more transaction and include it.

        On any error the block is as it was.

        Raises:
            TransactionInvalid: It can never, or cannot now, be in this block.
            BlockFull: It may fit a later block.
        """
        check_static(self._rules, transaction)
        world = self._world
        check_payable(world, self.base_fee, transaction)
        if transaction.gas > self.gas_left:
            raise BlockFull(
                f"the transaction asks for {transaction.gas} gas, the block has "
                f"{self.gas_left} left"
            )
        limit = self._rules.transaction_step_limit
        meter = StepMeter(min(limit, self.steps_left))
        world.begin()
        mark = world.mark()
        try:
            outcome = apply(
                world,
                self._context,
                transaction,
                meter,
                steps_end_block=self.steps_left < limit,
            )
        except OutOfSteps:
            world.revert(mark)
            raise BlockFull(
                f"the transaction takes more steps than the {self.steps_left} left"
            ) from None
        self.gas_used += outcome.gas_used
        self.steps_used += outcome.steps
        receipt = Receipt(
            transaction.type, outcome.succeeded, self.gas_used, outcome.logs
        )
        self._transactions.append(transaction.raw)
        self._receipts.append(receipt)
        self._outcomes.append(outcome)
        return receipt

    @property
    def last_outcome(self) -> Outcome:
        """What the last included transaction did."""
        return self._outcomes[-1]

    def seal(self) -> ExecutedBlock:
        """Finish the block; the builder must not be used afterwards."""
        state_root, writes = self._world.commit()
        attributes = self._attributes
        header = Header(
            parent_hash=self._parent.hash,
            coinbase=attributes.coinbase,
            state_root=state_root,
            transactions_root=ordered_root(self._transactions),
            receipts_root=ordered_root(each.encode() for each in self._receipts),
            logs_bloom=union(each.bloom() for each in self._receipts if each.logs),
            number=self._parent.number + 1,
            gas_limit=self._rules.block_gas_limit,
            gas_used=self.gas_used,
            timestamp=attributes.timestamp,
            extra_data=attributes.extra_data,
            mix_hash=attributes.mix_hash,
            base_fee_per_gas=self.base_fee,
            parent_beacon_block_root=attributes.sidecar.root(),
        )
        writes[steps_key(header.hash)] = self.steps_used.to_bytes(8, "big")
        return ExecutedBlock(
            block=Block(header, tuple(self._transactions), attributes.sidecar),
            receipts=tuple(self._receipts),
            writes=writes,
            steps=self.steps_used,
            outcomes=tuple(self._outcomes),
        )


def block_context(
    rules: Rules,
    database: ChainDatabase,
    parent: Header,
    attributes: BlockAttributes,
    base_fee: int,
    table: Mapping[bytes, Precompile] | None = None,
) -> BlockContext:
    """What instructions see of the block after `parent`."""

    def block_hash(number: int) -> bytes | None:
        return parent.hash if number == parent.number else database.hash_at(number)

    return BlockContext(
        chain_id=rules.chain_id,
        number=parent.number + 1,
        timestamp=attributes.timestamp,
        coinbase=attributes.coinbase,
        gas_limit=rules.block_gas_limit,
        base_fee=base_fee,
        mix_hash=attributes.mix_hash,
        block_hash=block_hash,
        precompiles=precompiles(rules) if table is None else table,
    )


def import_block(
    rules: Rules,
    database: ChainDatabase,
    parent: Header,
    block: Block,
    *,
    offences: tuple[Offence, ...] = (),
    absent: tuple[bytes, ...] = (),
    table: Mapping[bytes, Precompile] | None = None,
    read: Callable[[bytes], Transaction] | None = None,
) -> ExecutedBlock:
    """Execute somebody else's block and hold every field against the result.

    What consensus decides (who proposes, the beacon, signatures, the validator set)
    is consensus' to check; `offences` and `absent` it reads from the sidecar, and they
    are as in `BlockAttributes`. `table` is as for `BlockBuilder`. `read` decodes a
    transaction, for callers who have decoded most of them before.

    Raises:
        InvalidBlock: Some field or transaction breaks a rule.
    """
    header = block.header
    _check_before(rules, database, parent, block)
    builder = BlockBuilder(
        rules,
        database,
        parent,
        BlockAttributes(
            timestamp=header.timestamp,
            coinbase=header.coinbase,
            mix_hash=header.mix_hash,
            extra_data=header.extra_data,
            sidecar=block.sidecar,
            offences=offences,
            absent=absent,
        ),
        table=table,
    )
    read = partial(decode, chain_id=rules.chain_id) if read is None else read
    for index, raw in enumerate(block.transactions):
        try:
            builder.apply(read(raw))
        except (MalformedTransaction, TransactionInvalid, BlockFull) as error:
            raise InvalidBlock(
                f"transaction {index}", "a valid transaction", str(error)
            ) from error
    executed = builder.seal()
    for name in (
        "gas_used",
        "logs_bloom",
        "transactions_root",
        "receipts_root",
        "state_root",
    ):
        _expect(name, getattr(executed.header, name), getattr(header, name))
    _expect("hash", executed.header.hash, header.hash)
    return executed


def _check_before(
    rules: Rules, database: ChainDatabase, parent: Header, block: Block
) -> None:
    """Everything about a header that needs no execution."""
    header = block.header
    _expect("parent_hash", parent.hash, header.parent_hash)
    _expect("number", parent.number + 1, header.number)
    if header.timestamp < parent.timestamp:
        raise InvalidBlock(
            "timestamp", f"at least {parent.timestamp}", header.timestamp
        )
    base_fee = next_base_fee(rules, parent, database.steps(parent.hash))
    for name, expected in (
        ("gas_limit", rules.block_gas_limit),
        ("base_fee_per_gas", base_fee),
        ("ommers_hash", EMPTY_OMMERS_HASH),
        ("difficulty", 0),
        ("nonce", ZERO_NONCE),
        ("withdrawals_root", EMPTY_TRIE_ROOT),
        ("blob_gas_used", 0),
        ("excess_blob_gas", 0),
        ("requests_hash", EMPTY_REQUESTS_HASH),
        ("parent_beacon_block_root", block.sidecar.root()),
    ):
        _expect(name, expected, getattr(header, name))
    if header.gas_used > rules.block_gas_limit:
        raise InvalidBlock(
            "gas_used", f"at most {rules.block_gas_limit}", header.gas_used
        )


def _expect(field: str, expected: object, got: object) -> None:
    if expected != got:
        raise InvalidBlock(field, expected, got)
