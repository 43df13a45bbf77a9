"""What differs, and where: headers and receipts part by part."""

from collections.abc import Iterable, Mapping

from eth_utils.abi import event_abi_to_log_topic

from chain.addresses import SYSTEM_CONTRACTS
from chain.errors import Malformed
from chain.header import Header
from chain.receipt import Log, Receipt
from contracts import artifact
from node.errors import NodeError

EventNames = Mapping[tuple[bytes, bytes], str]

_SHOWN_BYTES = 96
_WORD = 32


def _shown(value: object, start: int = 0) -> str:
    """Print a value; of long bytes, a piece that begins at ``start``."""
    if not isinstance(value, bytes):
        return str(value)
    if len(value) <= _SHOWN_BYTES:
        return "0x" + value.hex()
    piece = value[start : start + _SHOWN_BYTES].hex()
    return f"0x{piece}... (from byte {start} of {len(value)})"


def _first_difference(a: object, b: object) -> int:
    """The word in which two long byte strings first differ; 0 if they are none."""
    if not (isinstance(a, bytes) and isinstance(b, bytes)):
        return 0
    pairs = zip(a, b, strict=False)
    same = next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
    return same - same % _WORD


class AuditMismatch(NodeError):
    """What is stored is not what comes out.

    Attributes:
        block: Height, or None when it concerns no single block.
        transaction: Index in the block, or None.
        field: What differs.
        expected: What re-execution yields, printable.
        got: What is stored, printable.
    """

    def __init__(
        self,
        block: int | None,
        field: str,
        expected: object,
        got: object,
        *,
        transaction: int | None = None,
    ) -> None:
        self.block = block
        self.transaction = transaction
        self.field = field
        start = _first_difference(expected, got)
        self.expected = _shown(expected, start)
        self.got = _shown(got, start)
        place = "database" if block is None else f"block {block}"
        if transaction is not None:
            place += f", transaction {transaction}"
        super().__init__(f"{place}, {field}: expected {self.expected}, got {self.got}")


def equal(
    number: int,
    name: str,
    expected: object,
    got: object,
    *,
    transaction: int | None = None,
) -> None:
    """Raise `AuditMismatch` unless both are the same."""
    if expected != got:
        raise AuditMismatch(number, name, expected, got, transaction=transaction)


def event_names() -> dict[tuple[bytes, bytes], str]:
    """(contract, first topic) of every event of the system contracts, to its name."""
    names: dict[tuple[bytes, bytes], str] = {}
    for contract, address in SYSTEM_CONTRACTS.items():
        for entry in artifact(contract).abi:
            if entry["type"] == "event":
                topic = event_abi_to_log_topic(entry)  # type: ignore[arg-type]  # its ABI shape
                names[address, bytes(topic)] = f"{contract}.{entry['name']}"
    return names


_JSON_NAMES = {
    "parent_hash": "parentHash",
    "state_root": "stateRoot",
    "transactions_root": "transactionsRoot",
    "receipts_root": "receiptsRoot",
    "logs_bloom": "logsBloom",
    "gas_limit": "gasLimit",
    "gas_used": "gasUsed",
    "extra_data": "extraData",
    "mix_hash": "mixHash",
    "coinbase": "miner",
    "base_fee_per_gas": "baseFeePerGas",
    "ommers_hash": "sha3Uncles",
    "withdrawals_root": "withdrawalsRoot",
    "blob_gas_used": "blobGasUsed",
    "excess_blob_gas": "excessBlobGas",
    "parent_beacon_block_root": "parentBeaconBlockRoot",
    "requests_hash": "requestsHash",
    "number": "number",
    "timestamp": "timestamp",
    "difficulty": "difficulty",
    "nonce": "nonce",
}


def same_header(number: int, expected: Header, got: Header) -> None:
    """Compare two headers field by field, under the names of JSON-RPC."""
    for name, shown in _JSON_NAMES.items():
        equal(number, shown, getattr(expected, name), getattr(got, name))
    equal(number, "hash", expected.hash, got.hash)


def event_name(log: Log, names: Mapping[tuple[bytes, bytes], str]) -> str | None:
    """The event that a log is, such as "JobMarket.JobPosted"; None for foreign ones."""
    return names.get((log.address, log.topics[0])) if log.topics else None


def same_receipt(
    number: int,
    index: int,
    expected: Receipt,
    stored: bytes,
    names: Mapping[tuple[bytes, bytes], str],
) -> None:
    """Compare a receipt with its stored bytes, and say which part differs."""
    if expected.encode() == stored:
        return

    def differ(field_: str, wanted: object, got: object) -> None:
        equal(number, field_, wanted, got, transaction=index)

    try:
        got = Receipt.decode(stored)
    except Malformed as error:
        raise AuditMismatch(
            number, "receipt", expected.encode(), error, transaction=index
        ) from error
    differ("receipt type", expected.type, got.type)
    differ("receipt status", expected.succeeded, got.succeeded)
    differ(
        "receipt cumulativeGasUsed",
        expected.cumulative_gas_used,
        got.cumulative_gas_used,
    )
    differ("receipt logs", len(expected.logs), len(got.logs))
    for position, (mine, theirs) in enumerate(
        zip(expected.logs, got.logs, strict=True)
    ):
        name = f"log {position} ({event_name(mine, names) or 'unknown event'})"
        differ(f"{name} address", mine.address, theirs.address)
        differ(f"{name} topics", _joined(mine.topics), _joined(theirs.topics))
        differ(f"{name} data", mine.data, theirs.data)
    differ("receipt", expected.encode(), stored)


def _joined(topics: Iterable[bytes]) -> bytes:
    return b"".join(topics)
