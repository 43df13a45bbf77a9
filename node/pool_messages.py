"""What nodes say to each other about waiting transactions, as bytes.

A message is one byte for its kind and an RLP list:

| kind | message | list |
|---|---|---|
| 1 | transactions | signed transactions |
| 2 | offer | hashes of transactions that the sender has |
| 3 | request | hashes of transactions that were offered |

None is empty and none holds anything twice. Transactions: at most `MAX_COUNT`, of
`BATCH_BYTES` together unless there is only one. Offers hold at most `MAX_HASHES`
hashes, requests at most `MAX_REQUEST`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chain import rlp
from chain.errors import Malformed
from chain.transaction import MAX_TRANSACTION_BYTES

MAX_COUNT: Final = 256
BATCH_BYTES: Final = 128 << 10
MAX_HASHES: Final = 1_024
MAX_REQUEST: Final = 64
MAX_MESSAGE_BYTES: Final = MAX_TRANSACTION_BYTES + 64
_HASH_BYTES: Final = 32


class MalformedMessage(Malformed):
    """A message about transactions breaks its format."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """Signed transactions, whole."""

    raws: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """Hashes of what the sender can send."""

    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """Hashes of what the sender wants."""

    hashes: tuple[bytes, ...]


Message = Transactions | Offer | Request
_KINDS: Final = {Transactions: 1, Offer: 2, Request: 3}


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    items = message.raws if isinstance(message, Transactions) else message.hashes
    return bytes((_KINDS[type(message)],)) + rlp.encode(list(items))


def decode(payload: bytes) -> Message:
    """Read a message.

    Raises:
        Malformed: unknown kind, not canonical, or out of bounds.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"a message of {len(payload)} bytes")
    kind, body = payload[:1], payload[1:]
    match kind:
        case b"\x01":
            raws = _items(body, MAX_COUNT)
            if len(raws) > 1 and sum(map(len, raws)) > BATCH_BYTES:
                raise MalformedMessage(
                    f"{len(raws)} transactions of more than {BATCH_BYTES} bytes"
                )
            return Transactions(raws)
        case b"\x02":
            return Offer(_items(body, MAX_HASHES, _HASH_BYTES))
        case b"\x03":
            return Request(_items(body, MAX_REQUEST, _HASH_BYTES))
        case _:
            raise MalformedMessage(f"no message is of kind 0x{kind.hex()}")


def _items(body: bytes, most: int, size: int | None = None) -> tuple[bytes, ...]:
    found = rlp.decode_list(body, max_items=most + 1)
    items = tuple(rlp.as_bytes(item, size) for item in found)
    if not items:
        raise MalformedMessage("a message about nothing")
    if len(set(items)) < len(items):
        raise MalformedMessage("a message holds something twice")
    return items


def batches(raws: Iterable[bytes]) -> Iterator[Transactions]:
    """Cut transactions into messages, in order."""
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if batch and (size + len(raw) > BATCH_BYTES or len(batch) == MAX_COUNT):
            yield Transactions(tuple(batch))
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield Transactions(tuple(batch))


def chunks(hashes: Sequence[bytes], most: int) -> Iterator[tuple[bytes, ...]]:
    """Cut hashes into runs of at most `most`."""
    for start in range(0, len(hashes), most):
        yield tuple(hashes[start : start + most])
