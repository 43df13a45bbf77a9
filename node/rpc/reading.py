"""What a block parameter means: tags, numbers, hashes and EIP-1898 objects.

One block is final as soon as it is committed, so `latest`, `safe`, `finalized` and
`pending` all name the head. (A pending block would be a guess; `pending` matters for
the nonce of an account, which `eth_getTransactionCount` answers from the mempool.)
"""

from dataclasses import dataclass
from typing import Any, cast

from chain.block import Block
from chain.database import ChainDatabase, Location
from chain.errors import NotFound
from chain.header import Header
from node.rpc.errors import server_error
from node.rpc.values import read_hash, read_quantity
from runtime.fees import next_base_fee
from runtime.rules import ForkSchedule

_HEAD_TAGS = frozenset({"latest", "pending", "safe", "finalized"})


def _names_head(parameter: object) -> bool:
    if isinstance(parameter, str):
        return parameter in _HEAD_TAGS
    return parameter is None


@dataclass(frozen=True, slots=True)
class ChainReader:
    """Committed blocks by the names that clients give them."""

    database: ChainDatabase
    forks: ForkSchedule

    @property
    def chain_id(self) -> int:
        """The EIP-155 id of the chain."""
        return self.forks.chain_id

    def base_fee_after(self, header: Header) -> int:
        """The base fee of the block that follows `header`, wei per gas."""
        rules = self.forks.at(header.number + 1)
        return next_base_fee(rules, header, self.database.steps(header.hash))

    def head(self) -> Header:
        """The last committed header."""
        return self.database.head()

    def number(self, parameter: object, name: str = "block") -> int:
        """A block number, perhaps above the head, from a tag or a quantity.

        Raises:
            RpcError: neither of them.
        """
        if _names_head(parameter):
            return self.head().number
        if parameter == "earliest":
            return 0
        return read_quantity(parameter, name, bits=64)

    def find(self, parameter: object, name: str = "block") -> Header | None:
        """The header that a tag, number, hash or EIP-1898 object names, if any.

        Raises:
            RpcError: the parameter is malformed.
        """
        if isinstance(parameter, dict):
            fields = cast("dict[str, Any]", parameter)
            if fields.get("blockHash") is not None:
                return self.by_hash(read_hash(fields["blockHash"], name))
            return self.database.header_at(self.number(fields.get("blockNumber"), name))
        if isinstance(parameter, str) and len(parameter) == 66:
            return self.by_hash(read_hash(parameter, name))
        if _names_head(parameter):
            return self.head()
        return self.database.header_at(self.number(parameter, name))

    def need(self, parameter: object, name: str = "block") -> Header:
        """As `find`, for methods that have nothing to say about an absent block.

        Raises:
            RpcError: malformed, or "header not found".
        """
        header = self.find(parameter, name)
        if header is None:
            raise server_error("header not found")
        return header

    def by_hash(self, block_hash: bytes) -> Header | None:
        """The header with that hash, if this chain has it."""
        try:
            return self.database.header(block_hash)
        except NotFound:
            return None

    def block(self, header: Header | None) -> Block | None:
        """The whole block of a header."""
        return None if header is None else self.database.block(header.hash)

    def located(self, transaction_hash: bytes) -> tuple[Block, Location] | None:
        """The block that holds a transaction, and where in it."""
        location = self.database.location(transaction_hash)
        if location is None:
            return None
        return self.database.block(location.block_hash), location
