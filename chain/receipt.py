"""Transaction receipts and logs, typed as EIP-2718 asks."""

from dataclasses import dataclass
from typing import Final

from chain import rlp
from chain.bloom import bloom_of
from chain.errors import Malformed

LEGACY_TYPE: Final = 0
MAX_TYPE: Final = 0x7F


@dataclass(frozen=True, slots=True)
class Log:
    """One LOG instruction.

    Attributes:
        address: The contract that logged, 20 bytes.
        topics: At most four, 32 bytes each.
        data: Any bytes.
    """

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a transaction did.

    Attributes:
        type: The transaction's type.
        succeeded: False when execution reverted, halted or ran out.
        cumulative_gas_used: Gas of the block up to and with this transaction.
        logs: In order; empty when not succeeded.
    """

    type: int
    succeeded: bool
    cumulative_gas_used: int
    logs: tuple[Log, ...]

    def bloom(self) -> bytes:
        """The bloom of this receipt's log addresses and topics."""
        return bloom_of(
            value for log in self.logs for value in (log.address, *log.topics)
        )

    def encode(self) -> bytes:
        """The bytes that go into the receipts trie."""
        payload = rlp.encode(
            [
                b"\x01" if self.succeeded else b"",
                rlp.encode_uint(self.cumulative_gas_used),
                self.bloom() if self.logs else bytes(256),
                [[log.address, list(log.topics), log.data] for log in self.logs],
            ]
        )
        return payload if self.type == LEGACY_TYPE else bytes((self.type,)) + payload

    @classmethod
    def decode(cls, data: bytes) -> "Receipt":
        """Read `encode`'s output.

        Raises:
            Malformed: Anything else, a wrong bloom included.
        """
        kind = LEGACY_TYPE
        body = data
        if data[:1] and data[0] <= MAX_TYPE:
            kind, body = data[0], data[1:]
        status, cumulative, bloom, logs = rlp.decode_list(
            body, length=4, max_items=1_000_000
        )
        receipt = cls(
            type=kind,
            succeeded=rlp.as_uint(status, 1) == 1,
            cumulative_gas_used=rlp.as_uint(cumulative, 64),
            logs=tuple(_log(item) for item in rlp.as_list(logs)),
        )
        if rlp.as_bytes(bloom, 256) != receipt.bloom():
            raise Malformed("receipt with a bloom that its logs do not make")
        return receipt


def _log(item: rlp.Decoded) -> Log:
    address, topics, data = rlp.as_list(item, 3)
    return Log(
        address=rlp.as_bytes(address, 20),
        topics=tuple(rlp.as_bytes(topic, 32) for topic in rlp.as_list(topics)),
        data=rlp.as_bytes(data),
    )
