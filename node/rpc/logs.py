"""Log queries: which logs match, and where to look for them.

A filter names a range of blocks, or one block, addresses, and topics by position: null
matches anything, a list matches any of its members. A block is opened only when its
bloom allows a match; the range and the number of results are bounded.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from chain.bloom import bloom_of
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.header import Header
from chain.receipt import Log
from node.rpc.errors import invalid_params, limit_exceeded
from node.rpc.objects import log_object
from node.rpc.values import read_address, read_hash, read_list

MAX_ADDRESSES = 1_000
MAX_TOPICS = 4
MAX_TOPIC_CHOICES = 1_000


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What to match. Empty `addresses` or an empty position matches everything.

    Attributes:
        addresses: Contracts whose logs are wanted.
        topics: Choices by position.
        masks: For each of these, the bloom bits of its choices.
    """

    addresses: frozenset[bytes]
    topics: tuple[frozenset[bytes], ...]
    masks: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls, addresses: Iterable[bytes] = (), topics: Iterable[Iterable[bytes]] = ()
    ) -> "LogFilter":
        """Prepare a filter."""
        wanted, positions = frozenset(addresses), tuple(map(frozenset, topics))
        masks = tuple(
            tuple(int.from_bytes(bloom_of((choice,))) for choice in choices)
            for choices in (wanted, *positions)
        )
        return cls(wanted, positions, masks)

    def may_match(self, bloom: bytes) -> bool:
        """Whether a block with that bloom can hold a match."""
        bits = int.from_bytes(bloom)
        return all(
            not masks or any(bits & mask == mask for mask in masks)
            for masks in self.masks
        )

    def matches(self, log: Log) -> bool:
        """Whether this very log matches."""
        if self.addresses and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        return all(
            not choices or topic in choices
            for choices, topic in zip(self.topics, log.topics, strict=False)
        )


def read_log_filter(fields: dict[str, Any]) -> LogFilter:
    """Read the `address` and `topics` members of a filter object.

    Raises:
        RpcError: a member is malformed or too long.
    """
    address = fields.get("address")
    if address is None:
        addresses: list[Any] = []
    elif isinstance(address, str):
        addresses = [address]
    else:
        addresses = read_list(address, "address", most=MAX_ADDRESSES)
    topics = fields.get("topics")
    positions = [] if topics is None else read_list(topics, "topics", most=MAX_TOPICS)
    return LogFilter.of(
        (read_address(each, "address") for each in addresses),
        [_read_position(each) for each in positions],
    )


def _read_position(value: object) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return frozenset((read_hash(value, "topics"),))
    choices = read_list(value, "topics", most=MAX_TOPIC_CHOICES)
    if any(choice is None for choice in choices):
        return frozenset()
    return frozenset(read_hash(choice, "topics") for choice in choices)


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Bounds of one query: blocks scanned, logs returned, bytes of their data."""

    blocks: int
    results: int
    size: int = 8 * 1024 * 1024


def find_logs(
    database: ChainDatabase,
    wanted: LogFilter,
    first: int,
    last: int,
    limits: LogLimits,
) -> list[dict[str, Any]]:
    """All matching logs of blocks `first`..`last`, in order.

    Raises:
        RpcError: the range is reversed or too long, or too many logs match.
    """
    if first > last:
        raise invalid_params("invalid block range params: fromBlock is after toBlock")
    if last - first >= limits.blocks:
        raise limit_exceeded(
            f"block range too large: {last - first + 1} blocks, max {limits.blocks}"
        )
    found: list[dict[str, Any]] = []
    size = 0
    for header in database.headers(first, last - first + 1):
        for each in block_logs(database, wanted, header):
            found.append(each)
            size += len(each["data"]) // 2
            if size > limits.size:
                raise limit_exceeded(
                    f"query returned more than {limits.size} bytes of data"
                )
            if len(found) > limits.results:
                raise limit_exceeded(
                    f"query returned more than {limits.results} results"
                )
    return found


def block_logs(
    database: ChainDatabase, wanted: LogFilter, header: Header
) -> Iterator[dict[str, Any]]:
    """The matching logs of one block."""
    if not wanted.may_match(header.logs_bloom):
        return
    block = database.block(header.hash)
    log_index = 0
    for index, (raw, receipt) in enumerate(
        zip(block.transactions, database.receipts(header.hash), strict=True)
    ):
        for log in receipt.logs:
            if wanted.matches(log):
                yield log_object(log, header, keccak(raw), index, log_index)
            log_index += 1
