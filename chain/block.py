"""A block: header, transactions as they were signed, sidecar.

On the wire and in the store a block is

    rlp([header fields, [transaction bytes, ...], [certificate, reveal, evidence]])

where every transaction is a byte string: type || payload, or the bytes of the legacy
list. Ommers and withdrawals do not exist here.
"""

from dataclasses import dataclass, field
from typing import Final

from chain import rlp
from chain.errors import MalformedBlock, MalformedRLP
from chain.header import Header
from chain.sidecar import Sidecar

# 30M gas of calldata at EIP-7623's 10 gas for a zero byte, with room to spare.
MAX_BLOCK_BYTES: Final = 8 << 20
MAX_TRANSACTIONS: Final = 4_096


@dataclass(frozen=True, slots=True)
class Block:
    """Everything a peer sends to let another execute the block.

    Attributes:
        header: The sealed header.
        transactions: Signed bytes of each transaction, in order.
        sidecar: What `header.parent_beacon_block_root` commits to.
    """

    header: Header
    transactions: tuple[bytes, ...] = ()
    sidecar: Sidecar = field(default_factory=Sidecar)

    @property
    def hash(self) -> bytes:
        """The header's hash."""
        return self.header.hash

    @property
    def number(self) -> int:
        """The height."""
        return self.header.number

    def encode(self) -> bytes:
        """Canonical bytes."""
        return rlp.encode(
            [self.header.fields(), list(self.transactions), self.sidecar.items()]
        )

    def encode_body(self) -> bytes:
        """The block without its header, as the store keeps it."""
        return rlp.encode([list(self.transactions), self.sidecar.items()])

    @classmethod
    def decode(cls, data: bytes) -> "Block":
        """Read `encode`'s output.

        Raises:
            Malformed: Anything else.
        """
        try:
            header, transactions, sidecar = rlp.decode_list(
                _bounded(data), length=3, max_items=4 * MAX_TRANSACTIONS
            )
            return cls(
                header=Header.from_items(rlp.as_list(header)),
                transactions=_transactions(transactions),
                sidecar=Sidecar.from_items(sidecar),
            )
        except MalformedRLP as error:
            raise MalformedBlock(f"block: {error}") from error

    @classmethod
    def with_body(cls, header: Header, body: bytes) -> "Block":
        """Join a header and `encode_body`'s output.

        Raises:
            Malformed: The body does not decode.
        """
        try:
            transactions, sidecar = rlp.decode_list(
                _bounded(body), length=2, max_items=4 * MAX_TRANSACTIONS
            )
            return cls(header, _transactions(transactions), Sidecar.from_items(sidecar))
        except MalformedRLP as error:
            raise MalformedBlock(f"block body: {error}") from error


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_BLOCK_BYTES:
        raise MalformedBlock(f"block of {len(data)} bytes, at most {MAX_BLOCK_BYTES}")
    return data


def _transactions(item: rlp.Decoded) -> tuple[bytes, ...]:
    items = rlp.as_list(item)
    if len(items) > MAX_TRANSACTIONS:
        raise MalformedBlock(
            f"block of {len(items)} transactions, at most {MAX_TRANSACTIONS}"
        )
    return tuple(rlp.as_bytes(each) for each in items)
