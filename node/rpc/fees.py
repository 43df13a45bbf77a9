"""eth_gasPrice, eth_maxPriorityFeePerGas and eth_feeHistory."""

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from chain.block import Block
from chain.transaction import decode
from node.mempool import tip_at
from node.rpc.dispatch import Method, Params, WorkBench
from node.rpc.errors import invalid_params
from node.rpc.reading import ChainReader
from node.rpc.values import quantity, read_list, read_quantity

DEFAULT_TIP = 10**9
MAX_HISTORY = 1_024
MAX_PERCENTILES = 100
_SAMPLED_BLOCKS = 20


class FeeMethods:
    """What to pay, from what was paid."""

    def __init__(self, reader: ChainReader, min_tip: int) -> None:
        self._reader = reader
        self._min_tip = min_tip
        self._lowest_tip = lru_cache(2 * _SAMPLED_BLOCKS)(self._lowest_in)

    def table(self, bench: WorkBench) -> Mapping[str, Method]:
        """The methods by name."""
        return {
            "eth_gasPrice": bench.threaded(self.gas_price),
            "eth_maxPriorityFeePerGas": bench.threaded(self.tip),
            "eth_feeHistory": bench.threaded(self.history, 2, 3),
        }

    def gas_price(self, _: Params) -> object:
        """eth_gasPrice: the next base fee and a usual tip."""
        return quantity(
            self._reader.base_fee_after(self._reader.head()) + self._usual_tip()
        )

    def tip(self, _: Params) -> object:
        """eth_maxPriorityFeePerGas."""
        return quantity(self._usual_tip())

    def _usual_tip(self) -> int:
        """The median of the lowest tips that recent crowded blocks took.

        A block with room left takes any tip, so what it took says nothing.
        """
        head = self._reader.head()
        first = max(0, head.number - _SAMPLED_BLOCKS + 1)
        lowest = [
            self._lowest_tip(header.hash)
            for header in self._reader.database.headers(first, _SAMPLED_BLOCKS)
            if 2 * header.gas_used > header.gas_limit
        ]
        usual = sorted(lowest)[len(lowest) // 2] if lowest else DEFAULT_TIP
        return max(usual, self._min_tip)

    def _lowest_in(self, block_hash: bytes) -> int:
        block = self._reader.database.block(block_hash)
        return min(tip for tip, _ in self._tips(block))

    def _tips(self, block: Block) -> list[tuple[int, int]]:
        """(tip per gas, gas used) of each transaction, cheapest first."""
        receipts = self._reader.database.receipts(block.hash)
        totals = [0, *(receipt.cumulative_gas_used for receipt in receipts)]
        used = [after - before for before, after in itertools.pairwise(totals)]
        base_fee, chain_id = block.header.base_fee_per_gas, self._reader.chain_id
        tips = (tip_at(decode(raw, chain_id), base_fee) for raw in block.transactions)
        return sorted(zip(tips, used, strict=True))

    def history(self, params: Params) -> object:
        """eth_feeHistory(number of blocks, newest block, percentiles)."""
        count = params[0] if isinstance(params[0], int) else None
        if count is None or isinstance(params[0], bool):
            count = read_quantity(params[0], "block count", bits=64)
        percentiles = _read_percentiles(params[2])
        newest = self._reader.need(params[1], "newest block")
        count = min(count, MAX_HISTORY, newest.number + 1)
        if count < 1:
            return {"oldestBlock": "0x0", "gasUsedRatio": []}
        oldest = newest.number - count + 1
        headers = list(self._reader.database.headers(oldest, count))
        base_fees = [header.base_fee_per_gas for header in headers]
        base_fees.append(self._reader.base_fee_after(newest))
        answer: dict[str, Any] = {
            "oldestBlock": quantity(oldest),
            "baseFeePerGas": [quantity(fee) for fee in base_fees],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
            "baseFeePerBlobGas": [quantity(1)] * (count + 1),
            "blobGasUsedRatio": [0] * count,
        }
        if percentiles is not None:
            answer["reward"] = [
                self._rewards(self._reader.database.block(header.hash), percentiles)
                for header in headers
            ]
        return answer

    def _rewards(self, block: Block, percentiles: Sequence[float]) -> list[str]:
        """The tip at each percentile of the block's gas."""
        tips = self._tips(block)
        if not tips:
            return [quantity(0)] * len(percentiles)
        answer: list[str] = []
        for percentile in percentiles:
            threshold = block.header.gas_used * percentile / 100
            total, chosen = 0, tips[-1][0]
            for tip, used in tips:
                total += used
                if total >= threshold:
                    chosen = tip
                    break
            answer.append(quantity(chosen))
        return answer


def _read_percentiles(value: object) -> list[float] | None:
    if value is None:
        return None
    percentiles = read_list(value, "percentiles", most=MAX_PERCENTILES)
    previous = 0.0
    for each in percentiles:
        if isinstance(each, bool) or not isinstance(each, int | float):
            raise invalid_params("percentiles: expected numbers")
        if not previous <= each <= 100:
            raise invalid_params("percentiles must ascend from 0 to 100")
        previous = float(each)
    return [float(each) for each in percentiles]
