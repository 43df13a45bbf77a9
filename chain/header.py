"""The 21-field header of Prague (EIP-7685 and before), as every tool reads it.

Fields that this chain does not use keep the value that Ethereum gives them since the
merge: no ommers, difficulty 0, nonce 0, no withdrawals, no blobs, no requests.
"""

from dataclasses import dataclass, field
from typing import Final

from chain import rlp
from chain.crypto import keccak, sha256
from chain.errors import MalformedHeader, MalformedRLP

EMPTY_TRIE_ROOT: Final = keccak(rlp.encode(b""))
EMPTY_OMMERS_HASH: Final = keccak(rlp.encode([]))
EMPTY_REQUESTS_HASH: Final = sha256(b"")
ZERO_NONCE: Final = bytes(8)
EXTRA_DATA_BYTES: Final = 32
MAX_HEADER_BYTES: Final = 1024

# Sizes of the byte fields, in bytes; None marks an unsigned integer of 64 bits
# (256 for the two that are amounts).
_FIELDS: Final[tuple[tuple[str, int | None], ...]] = (
    ("parent_hash", 32),
    ("ommers_hash", 32),
    ("coinbase", 20),
    ("state_root", 32),
    ("transactions_root", 32),
    ("receipts_root", 32),
    ("logs_bloom", 256),
    ("difficulty", None),
    ("number", None),
    ("gas_limit", None),
    ("gas_used", None),
    ("timestamp", None),
    ("extra_data", EXTRA_DATA_BYTES),
    ("mix_hash", 32),
    ("nonce", 8),
    ("base_fee_per_gas", None),
    ("withdrawals_root", 32),
    ("blob_gas_used", None),
    ("excess_blob_gas", None),
    ("parent_beacon_block_root", 32),
    ("requests_hash", 32),
)
_WIDE: Final = frozenset({"difficulty", "base_fee_per_gas"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A block header.

    Attributes:
        extra_data: Exactly 32 bytes: the hash of the next validator set.
        mix_hash: The randomness beacon (PREVRANDAO).
        parent_beacon_block_root: Root of the block's sidecar (`chain.sidecar`).
        hash: Keccak of the encoding.
    """

    parent_hash: bytes
    coinbase: bytes
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    logs_bloom: bytes
    number: int
    gas_limit: int
    gas_used: int
    timestamp: int
    extra_data: bytes
    mix_hash: bytes
    base_fee_per_gas: int
    parent_beacon_block_root: bytes
    ommers_hash: bytes = EMPTY_OMMERS_HASH
    difficulty: int = 0
    nonce: bytes = ZERO_NONCE
    withdrawals_root: bytes = EMPTY_TRIE_ROOT
    blob_gas_used: int = 0
    excess_blob_gas: int = 0
    requests_hash: bytes = EMPTY_REQUESTS_HASH
    hash: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check sizes and take the hash; raise `MalformedHeader`."""
        for name, size in _FIELDS:
            value: bytes | int = getattr(self, name)
            if isinstance(value, int):
                if value < 0 or value >> (256 if name in _WIDE else 64):
                    raise MalformedHeader(f"header {name} out of range: {value}")
            elif len(value) != size:
                raise MalformedHeader(
                    f"header {name}: expected {size} bytes, got {len(value)}"
                )
        object.__setattr__(self, "hash", keccak(self.encode()))

    def encode(self) -> bytes:
        """The RLP whose keccak is the block's hash."""
        return rlp.encode(self.fields())

    def fields(self) -> list[bytes]:
        """The 21 fields in order, integers as RLP holds them."""
        values = (getattr(self, name) for name, _ in _FIELDS)
        return [
            rlp.encode_uint(value) if isinstance(value, int) else value
            for value in values
        ]

    @classmethod
    def decode(cls, data: bytes) -> "Header":
        """Read `encode`'s output.

        Raises:
            MalformedHeader: Anything else.
        """
        if len(data) > MAX_HEADER_BYTES:
            raise MalformedHeader(
                f"header of {len(data)} bytes, at most {MAX_HEADER_BYTES} are possible"
            )
        try:
            return cls.from_items(rlp.decode_list(data, max_items=64))
        except MalformedRLP as error:
            raise MalformedHeader(f"header: {error}") from error

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Header":
        """Read the decoded fields.

        Raises:
            MalformedHeader: A wrong number of fields, or one of a wrong size.
        """
        if len(items) != len(_FIELDS):
            raise MalformedHeader(
                f"header of {len(items)} fields, expected {len(_FIELDS)} (Prague)"
            )
        values: dict[str, bytes | int] = {}
        for (name, size), item in zip(_FIELDS, items, strict=True):
            try:
                values[name] = (
                    rlp.as_uint(item, 256 if name in _WIDE else 64)
                    if size is None
                    else rlp.as_bytes(item, size)
                )
            except MalformedRLP as error:
                raise MalformedHeader(f"header {name}: {error}") from error
        return cls(**values)  # type: ignore[arg-type]  # names and types pair above
