"""eth_* methods about blocks, transactions, receipts and logs; and debug_getRaw*."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from chain.block import Block
from chain.transaction import decode
from node.mempool import Mempool
from node.rpc.dispatch import Method, Params, WorkBench, inline
from node.rpc.errors import invalid_params
from node.rpc.filters import BlockFilter, Filters, LogPoll, PendingFilter
from node.rpc.logs import LogLimits, block_logs, find_logs, read_log_filter
from node.rpc.objects import (
    block_object,
    ethereum_encoding,
    receipt_object,
    receipt_objects,
    transaction_object,
)
from node.rpc.reading import ChainReader
from node.rpc.values import (
    data,
    quantity,
    read_bool,
    read_hash,
    read_object,
    read_quantity,
)

_ALL = 2**64  # arrivals, more than there can be


class BlockMethods:
    """Reads of what is committed, and polling for what is new."""

    def __init__(
        self,
        reader: ChainReader,
        mempool: Mempool,
        filters: Filters,
        log_limits: LogLimits,
    ) -> None:
        self._reader = reader
        self._mempool = mempool
        self._filters = filters
        self._log_limits = log_limits

    def table(self, bench: WorkBench) -> Mapping[str, Method]:
        """The methods by name."""
        by_number, by_hash = self._count(by_hash=False), self._count(by_hash=True)
        return {
            "eth_blockNumber": inline(self.block_number),
            "eth_getBlockByNumber": bench.threaded(self.block_by_number, 1, 2),
            "eth_getBlockByHash": bench.threaded(self.block_by_hash, 1, 2),
            "eth_getBlockReceipts": bench.threaded(self.block_receipts, 1, 1),
            "eth_getBlockTransactionCountByNumber": by_number,
            "eth_getBlockTransactionCountByHash": by_hash,
            "eth_getUncleCountByBlockNumber": self._uncles(),
            "eth_getUncleCountByBlockHash": self._uncles(),
            "eth_getTransactionByHash": inline(self.transaction, 1, 1),
            "eth_getTransactionByBlockNumberAndIndex": inline(self.indexed, 2, 2),
            "eth_getTransactionByBlockHashAndIndex": inline(self.indexed, 2, 2),
            "eth_getTransactionReceipt": bench.threaded(self.receipt, 1, 1),
            "eth_getRawTransactionByHash": inline(self.raw_transaction, 1, 1),
            "eth_getLogs": bench.threaded(self.logs, 1, 1),
            "eth_newFilter": inline(self.new_log_filter, 1, 1),
            "eth_newBlockFilter": inline(self.new_block_filter),
            "eth_newPendingTransactionFilter": inline(self.new_pending_filter, 0, 1),
            "eth_getFilterChanges": self._filter_changes(bench),
            "eth_getFilterLogs": self._filter_logs(bench),
            "eth_uninstallFilter": inline(self.uninstall, 1, 1),
            "debug_getRawBlock": inline(self.raw_block, 1, 1),
            "debug_getRawHeader": inline(self.raw_header, 1, 1),
            "debug_getRawReceipts": bench.threaded(self.raw_receipts, 1, 1),
            "debug_getRawTransaction": inline(self.raw_transaction, 1, 1),
        }

    def block_number(self, _: Params) -> object:
        """eth_blockNumber."""
        return quantity(self._reader.head().number)

    def block_by_number(self, params: Params) -> object:
        """eth_getBlockByNumber(block, full transactions)."""
        header = self._reader.find(params[0])
        return self._block_object(self._reader.block(header), params[1])

    def block_by_hash(self, params: Params) -> object:
        """eth_getBlockByHash(hash, full transactions)."""
        header = self._reader.by_hash(read_hash(params[0], "block hash"))
        return self._block_object(self._reader.block(header), params[1])

    def _block_object(self, block: Block | None, full: object) -> object:
        wanted = full is not None and read_bool(full, "full transactions")
        if block is None:
            return None
        return block_object(block, self._reader.chain_id, full=wanted)

    def _count(self, *, by_hash: bool) -> Method:
        def count(params: Params) -> object:
            header = (
                self._reader.by_hash(read_hash(params[0], "block hash"))
                if by_hash
                else self._reader.find(params[0])
            )
            block = self._reader.block(header)
            return None if block is None else quantity(len(block.transactions))

        return inline(count, 1, 1)

    def _uncles(self) -> Method:
        def count(params: Params) -> object:
            return None if self._reader.find(params[0]) is None else quantity(0)

        return inline(count, 1, 1)

    def transaction(self, params: Params) -> object:
        """eth_getTransactionByHash: committed, or waiting in the mempool."""
        transaction_hash = read_hash(params[0], "transaction hash")
        chain_id = self._reader.chain_id
        located = self._reader.located(transaction_hash)
        if located is None:
            waiting = self._mempool.get(transaction_hash)
            return None if waiting is None else transaction_object(waiting)
        block, location = located
        transaction = decode(block.transactions[location.index], chain_id)
        return transaction_object(transaction, block.header, location.index)

    def indexed(self, params: Params) -> object:
        """eth_getTransactionByBlock{Number,Hash}AndIndex."""
        block = self._reader.block(self._reader.find(params[0]))
        index = read_quantity(params[1], "index", bits=64)
        if block is None or index >= len(block.transactions):
            return None
        transaction = decode(block.transactions[index], self._reader.chain_id)
        return transaction_object(transaction, block.header, index)

    def raw_transaction(self, params: Params) -> object:
        """eth_getRawTransactionByHash: the signed bytes."""
        transaction_hash = read_hash(params[0], "transaction hash")
        located = self._reader.located(transaction_hash)
        if located is None:
            waiting = self._mempool.get(transaction_hash)
            return None if waiting is None else data(waiting.raw)
        block, location = located
        return data(block.transactions[location.index])

    def receipt(self, params: Params) -> object:
        """eth_getTransactionReceipt; null until the transaction is final."""
        located = self._reader.located(read_hash(params[0], "transaction hash"))
        if located is None:
            return None
        block, location = located
        receipts, index = self._reader.database.receipts(block.hash), location.index
        before = sum(len(each.logs) for each in receipts[:index])
        return receipt_object(block, receipts, index, before, self._reader.chain_id)

    def block_receipts(self, params: Params) -> object:
        """eth_getBlockReceipts."""
        block = self._reader.block(self._reader.find(params[0]))
        return None if block is None else self._receipts(block)

    def _receipts(self, block: Block) -> list[dict[str, Any]]:
        receipts = self._reader.database.receipts(block.hash)
        return receipt_objects(block, receipts, self._reader.chain_id)

    def logs(self, params: Params) -> object:
        """eth_getLogs."""
        fields = read_object(params[0], "filter")
        wanted = read_log_filter(fields)
        if fields.get("blockHash") is not None:
            if fields.get("fromBlock") is not None or fields.get("toBlock") is not None:
                raise invalid_params(
                    "cannot specify both blockHash and fromBlock/toBlock"
                )
            header = self._reader.need(fields["blockHash"], "blockHash")
            return list(block_logs(self._reader.database, wanted, header))
        first = self._reader.number(fields.get("fromBlock"), "fromBlock")
        last = self._reader.number(fields.get("toBlock"), "toBlock")
        head = self._reader.head().number
        if first > head:
            return []
        last = last if last < first else min(last, head)
        return find_logs(self._reader.database, wanted, first, last, self._log_limits)

    def new_log_filter(self, params: Params) -> object:
        """eth_newFilter: logs of blocks after the present head."""
        fields = read_object(params[0], "filter")
        if fields.get("blockHash") is not None:
            raise invalid_params(
                "a filter cannot be made for one block; use eth_getLogs"
            )
        head = self._reader.head().number
        first = self._reader.number(fields.get("fromBlock"), "fromBlock")
        to_block = fields.get("toBlock")
        last = (
            None
            if to_block is None or (isinstance(to_block, str) and to_block[:2] != "0x")
            else self._reader.number(to_block, "toBlock")
        )
        wanted = read_log_filter(fields)
        return self._filters.install(LogPoll(head + 1, wanted, first, last))

    def new_block_filter(self, _: Params) -> object:
        """eth_newBlockFilter."""
        return self._filters.install(BlockFilter(self._reader.head().number + 1))

    def new_pending_filter(self, _: Params) -> object:
        """eth_newPendingTransactionFilter."""
        _, seen = self._mempool.since(_ALL)
        return self._filters.install(PendingFilter(seen))

    def _filter_changes(self, bench: WorkBench) -> Method:
        """eth_getFilterChanges: what is new since the last poll."""

        async def handler(params: Params) -> object:
            wanted = self._filters.poll(params[0])
            if isinstance(wanted, PendingFilter):
                fresh, wanted.seen = self._mempool.since(wanted.seen)
                return [data(each.hash) for each in fresh]
            head = self._reader.head().number
            first = wanted.next_block
            # A filter polled late reports at most one query's worth of blocks.
            last = min(head, first + self._log_limits.blocks - 1)
            wanted.next_block = max(first, last + 1)
            if first > last:
                return []
            return await bench.run(partial(self._new_in, wanted, first, last))

        return Method(handler, 1, 1)

    def _new_in(self, wanted: BlockFilter | LogPoll, first: int, last: int) -> object:
        """What a filter reports of blocks `first`..`last`."""
        database = self._reader.database
        if isinstance(wanted, BlockFilter):
            headers = database.headers(first, last - first + 1)
            return [data(header.hash) for header in headers]
        first = max(first, wanted.first)
        last = last if wanted.last is None else min(last, wanted.last)
        if first > last:
            return []
        return find_logs(database, wanted.wanted, first, last, self._log_limits)

    def _filter_logs(self, bench: WorkBench) -> Method:
        """eth_getFilterLogs: everything that a log filter matches."""

        async def handler(params: Params) -> object:
            wanted = self._filters.poll(params[0])
            if not isinstance(wanted, LogPoll):
                raise invalid_params("not a log filter")
            head = self._reader.head().number
            first = wanted.first
            last = head if wanted.last is None else min(head, wanted.last)
            if first > last:
                return []
            database, limits = self._reader.database, self._log_limits
            return await bench.run(
                lambda: find_logs(database, wanted.wanted, first, last, limits)
            )

        return Method(handler, 1, 1)

    def uninstall(self, params: Params) -> object:
        """eth_uninstallFilter."""
        return self._filters.remove(params[0])

    def raw_header(self, params: Params) -> object:
        """debug_getRawHeader: RLP."""
        return data(self._reader.need(params[0]).encode())

    def raw_block(self, params: Params) -> object:
        """debug_getRawBlock: RLP as Ethereum's tools read it, without the sidecar."""
        block = self._reader.database.block(self._reader.need(params[0]).hash)
        return data(ethereum_encoding(block))

    def raw_receipts(self, params: Params) -> object:
        """debug_getRawReceipts: the bytes under the receipts root."""
        header = self._reader.need(params[0])
        receipts = self._reader.database.receipts(header.hash)
        return [data(receipt.encode()) for receipt in receipts]
