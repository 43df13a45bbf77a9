"""Signed transactions of types 0, 1, 2 and 4, decoded strictly and within bounds.

| type | EIP | named |
|---|---|---|
| 0 | 155 | legacy; one without a chain id is refused, anyone could replay it |
| 1 | 2930 | access list |
| 2 | 1559 | dynamic fee |
| 4 | 7702 | set code |

Blob transactions (type 3, EIP-4844) are refused by name: this chain carries no blobs.
What decodes here is well formed and signed for this chain; whether it can pay is the
runtime's question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chain import rlp
from chain.crypto import (
    SECP256K1_HALF_ORDER,
    address_of,
    keccak,
    recover,
    sign,
)
from chain.errors import BadSignature, MalformedRLP, MalformedTransaction

MAX_TRANSACTION_BYTES: Final = 384 << 10
# An access list of 384 KiB holds at most 12k keys.
_MAX_ITEMS: Final = 16_384

LEGACY: Final = 0
ACCESS_LIST: Final = 1
DYNAMIC_FEE: Final = 2
BLOB: Final = 3
SET_CODE: Final = 4

_LENGTHS: Final = {LEGACY: 9, ACCESS_LIST: 11, DYNAMIC_FEE: 12, SET_CODE: 13}
_AUTHORIZATION_MAGIC: Final = b"\x05"

AccessList = tuple[tuple[bytes, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Authorization:
    """One EIP-7702 tuple: an account lends itself the code at `address`.

    The signature may be anything within its bit widths: a bad one makes the runtime
    skip the tuple, not refuse the transaction.
    """

    chain_id: int
    address: bytes
    nonce: int
    y_parity: int
    r: int
    s: int

    def authority(self) -> bytes:
        """The account that signed.

        Raises:
            BadSignature: High s, a value out of range, or no such key.
        """
        if self.s > SECP256K1_HALF_ORDER:
            raise BadSignature("authorization: s lies in the upper half (EIP-2)")
        digest = authorization_digest(self.chain_id, self.address, self.nonce)
        return address_of(recover(digest, self.r, self.s, self.y_parity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A decoded transaction with its sender.

    Attributes:
        type: 0, 1, 2 or 4.
        max_priority_fee_per_gas: wei; the gas price for types 0 and 1.
        max_fee_per_gas: wei; the gas price for types 0 and 1.
        to: 20 bytes, or None to create a contract.
        access_list: (address, slots) pairs.
        raw: The signed bytes.
        hash: Keccak of `raw`.
        sender: Recovered from the signature, 20 bytes.
    """

    type: int
    chain_id: int
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas: int
    to: bytes | None
    value: int
    data: bytes
    access_list: AccessList
    authorizations: tuple[Authorization, ...]
    y_parity: int
    r: int
    s: int
    raw: bytes
    hash: bytes
    sender: bytes

    def gas_price(self, base_fee: int) -> int:
        """What a unit of gas costs the sender in a block of this base fee, wei."""
        return min(self.max_fee_per_gas, base_fee + self.max_priority_fee_per_gas)


def decode(raw: bytes, chain_id: int) -> Transaction:
    """Decode a signed transaction for the chain `chain_id`, recovering its sender.

    Raises:
        MalformedTransaction: Too large, of an unknown type, not canonical, for
            another chain, or with a signature that names no sender.
    """
    if not raw:
        raise MalformedTransaction("empty transaction")
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise MalformedTransaction(
            f"transaction of {len(raw)} bytes, at most {MAX_TRANSACTION_BYTES}"
        )
    first = raw[0]
    if first >= 0xC0:
        kind, payload = LEGACY, raw
    elif first in (ACCESS_LIST, DYNAMIC_FEE, SET_CODE):
        kind, payload = first, raw[1:]
    elif first == BLOB:
        raise MalformedTransaction(
            "blob transactions (type 3) are not accepted: this chain carries no blobs"
        )
    else:
        raise MalformedTransaction(
            f"transaction type 0x{first:02x} is unknown; 0, 1, 2 and 4 are accepted"
        )
    try:
        fields = rlp.decode_list(payload, length=_LENGTHS[kind], max_items=_MAX_ITEMS)
        return _read(kind, fields, raw, chain_id)
    except MalformedRLP as error:
        raise MalformedTransaction(f"type {kind} transaction: {error}") from error
    except BadSignature as error:
        raise MalformedTransaction(
            f"type {kind} transaction: signature: {error}"
        ) from error


def _read(
    kind: int, fields: list[rlp.Decoded], raw: bytes, chain_id: int
) -> Transaction:
    signature = [rlp.as_uint(item) for item in fields[-3:]]
    if kind == LEGACY:
        own_chain, y_parity = _legacy_chain(signature[0])
        body = fields[:6]
    else:
        own_chain, y_parity = rlp.as_uint(fields[0], 64), signature[0]
        body = fields[1:]
    if own_chain != chain_id:
        raise MalformedTransaction(
            f"transaction for chain {own_chain}, this chain is {chain_id}"
        )
    if y_parity > 1:
        raise MalformedTransaction(f"y parity must be 0 or 1, got {y_parity}")
    _, r, s = signature
    if s > SECP256K1_HALF_ORDER:
        raise MalformedTransaction("signature s lies in the upper half (EIP-2)")
    digest = _signing_digest(kind, fields, chain_id)
    fees = 2 if kind in (DYNAMIC_FEE, SET_CODE) else 1
    gas, to, value, data = body[1 + fees : 5 + fees]
    access_list = body[5 + fees] if kind != LEGACY else []
    transaction = Transaction(
        type=kind,
        chain_id=own_chain,
        nonce=rlp.as_uint(body[0], 64),
        max_priority_fee_per_gas=rlp.as_uint(body[1]),
        max_fee_per_gas=rlp.as_uint(body[fees]),
        gas=rlp.as_uint(gas, 64),
        to=_recipient(kind, to),
        value=rlp.as_uint(value),
        data=rlp.as_bytes(data),
        access_list=_access_list(access_list),
        authorizations=_authorizations(fields[9]) if kind == SET_CODE else (),
        y_parity=y_parity,
        r=r,
        s=s,
        raw=raw,
        hash=keccak(raw),
        sender=address_of(recover(digest, r, s, y_parity)),
    )
    if kind == SET_CODE and not transaction.authorizations:
        raise MalformedTransaction("set code transaction without authorizations")
    return transaction


def _legacy_chain(v: int) -> tuple[int, int]:
    """The chain id and y parity that a legacy `v` holds (EIP-155)."""
    if v in (27, 28):
        raise MalformedTransaction(
            "legacy transaction without a chain id (EIP-155): it could be replayed"
        )
    if v < 35:
        raise MalformedTransaction(f"legacy signature v must be 35 or more, got {v}")
    return (v - 35) // 2, (v - 35) % 2


def _recipient(kind: int, item: rlp.Decoded) -> bytes | None:
    to = rlp.as_bytes(item)
    if len(to) not in (0, 20):
        raise MalformedTransaction(f"recipient of {len(to)} bytes, expected 20 or none")
    if not to and kind == SET_CODE:
        raise MalformedTransaction("a set code transaction must name a recipient")
    return to or None


def _access_list(item: rlp.Decoded) -> AccessList:
    pairs = (rlp.as_list(entry, 2) for entry in rlp.as_list(item))
    return tuple(
        (
            rlp.as_bytes(address, 20),
            tuple(
                int.from_bytes(rlp.as_bytes(slot, 32), "big")
                for slot in rlp.as_list(slots)
            ),
        )
        for address, slots in pairs
    )


def _authorizations(item: rlp.Decoded) -> tuple[Authorization, ...]:
    tuples = (rlp.as_list(entry, 6) for entry in rlp.as_list(item))
    return tuple(
        Authorization(
            chain_id=rlp.as_uint(chain),
            address=rlp.as_bytes(address, 20),
            nonce=rlp.as_uint(nonce, 64),
            y_parity=rlp.as_uint(y_parity, 8),
            r=rlp.as_uint(r),
            s=rlp.as_uint(s),
        )
        for chain, address, nonce, y_parity, r, s in tuples
    )


def _signing_digest(kind: int, fields: Sequence[rlp.Item], chain_id: int) -> bytes:
    """What the sender signed; `fields` may lack or hold the three of a signature."""
    if kind == LEGACY:
        tail: list[rlp.Item] = [rlp.encode_uint(chain_id), b"", b""]
        return keccak(rlp.encode([*fields[:6], *tail]))
    unsigned = fields[: _LENGTHS[kind] - 3]
    return keccak(bytes((kind,)) + rlp.encode(list(unsigned)))


def authorization_digest(chain_id: int, address: bytes, nonce: int) -> bytes:
    """What an EIP-7702 authority signs."""
    message: list[rlp.Item] = [
        rlp.encode_uint(chain_id),
        address,
        rlp.encode_uint(nonce),
    ]
    return keccak(_AUTHORIZATION_MAGIC + rlp.encode(message))


def sign_authorization(
    secret: bytes, *, chain_id: int, address: bytes, nonce: int
) -> Authorization:
    """Authorise, with a 32-byte secret, the code at `address` (EIP-7702)."""
    signature = sign(authorization_digest(chain_id, address, nonce), secret)
    return Authorization(
        chain_id=chain_id,
        address=address,
        nonce=nonce,
        y_parity=signature[64],
        r=int.from_bytes(signature[:32], "big"),
        s=int.from_bytes(signature[32:64], "big"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """The fields of a transaction before its signature; defaults make a transfer."""

    chain_id: int
    nonce: int
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int = 0
    to: bytes | None = None
    value: int = 0
    data: bytes = b""
    access_list: AccessList = ()
    authorizations: tuple[Authorization, ...] = ()
    type: int = DYNAMIC_FEE

    def sign(self, secret: bytes) -> bytes:
        """The signed bytes, ready for `decode` or eth_sendRawTransaction."""
        fields = self._fields()
        signature = sign(_signing_digest(self.type, fields, self.chain_id), secret)
        y_parity = signature[64]
        v = 35 + 2 * self.chain_id + y_parity if self.type == LEGACY else y_parity
        fields += [
            rlp.encode_uint(v),
            rlp.encode_uint(int.from_bytes(signature[:32], "big")),
            rlp.encode_uint(int.from_bytes(signature[32:64], "big")),
        ]
        payload = rlp.encode(fields)
        return payload if self.type == LEGACY else bytes((self.type,)) + payload

    def _fields(self) -> list[rlp.Item]:
        fees = [rlp.encode_uint(self.max_fee_per_gas)]
        if self.type in (DYNAMIC_FEE, SET_CODE):
            fees.insert(0, rlp.encode_uint(self.max_priority_fee_per_gas))
        body: list[rlp.Item] = [
            rlp.encode_uint(self.nonce),
            *fees,
            rlp.encode_uint(self.gas),
            self.to or b"",
            rlp.encode_uint(self.value),
            self.data,
        ]
        if self.type == LEGACY:
            return body
        slots: list[rlp.Item] = [
            [address, [slot.to_bytes(32, "big") for slot in keys]]
            for address, keys in self.access_list
        ]
        body = [rlp.encode_uint(self.chain_id), *body, slots]
        if self.type == SET_CODE:
            body.append([_authorization_items(each) for each in self.authorizations])
        return body


def _authorization_items(each: Authorization) -> list[rlp.Item]:
    return [
        rlp.encode_uint(each.chain_id),
        each.address,
        *(rlp.encode_uint(n) for n in (each.nonce, each.y_parity, each.r, each.s)),
    ]


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Where a creation by `sender` at `nonce` puts its contract."""
    return keccak(rlp.encode([sender, rlp.encode_uint(nonce)]))[12:]
