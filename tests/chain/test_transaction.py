from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, strategies as st

from chain import rlp
from chain.crypto import SECP256K1_ORDER, address_of, public_key
from chain.errors import BadSignature, Malformed, MalformedTransaction
from chain.transaction import (
    ACCESS_LIST,
    DYNAMIC_FEE,
    LEGACY,
    MAX_TRANSACTION_BYTES,
    SET_CODE,
    Authorization,
    Unsigned,
    contract_address,
    decode,
    sign_authorization,
)
from tests.support.vectors import Vectors

CHAIN = 4242
SECRET = b"\1" * 32
SENDER = address_of(public_key(SECRET))
TARGET = b"\x77" * 20


def signed(**fields: object) -> bytes:
    values: dict[str, Any] = {
        "chain_id": CHAIN,
        "nonce": 3,
        "gas": 50_000,
        "max_fee_per_gas": 2 * 10**9,
        "max_priority_fee_per_gas": 5,
        "to": TARGET,
        "value": 7,
        "data": b"\xab" * 100,
        **fields,
    }
    return Unsigned(**values).sign(SECRET)


def authorization() -> Authorization:
    return sign_authorization(b"\2" * 32, chain_id=CHAIN, address=TARGET, nonce=0)


def of_type(kind: int, **fields: object) -> bytes:
    if kind == SET_CODE:
        fields.setdefault("authorizations", (authorization(),))
    if kind != LEGACY:
        fields.setdefault("access_list", ((TARGET, (1, 2)), (SENDER, ())))
    return signed(type=kind, **fields)


KINDS = [LEGACY, ACCESS_LIST, DYNAMIC_FEE, SET_CODE]


@pytest.mark.parametrize("kind", KINDS)
def test_decodes_what_was_signed(kind: int) -> None:
    raw = of_type(kind)
    found = decode(raw, CHAIN)
    assert found.sender == SENDER
    assert (found.type, found.nonce, found.gas, found.to) == (kind, 3, 50_000, TARGET)
    assert (found.value, found.data, found.raw) == (7, b"\xab" * 100, raw)
    assert found.max_fee_per_gas == 2 * 10**9
    tip = 5 if kind in (DYNAMIC_FEE, SET_CODE) else 2 * 10**9
    assert found.max_priority_fee_per_gas == tip
    assert found.gas_price(10**9) == min(2 * 10**9, 10**9 + tip)
    if kind != LEGACY:
        assert found.access_list == ((TARGET, (1, 2)), (SENDER, ()))
    for each in found.authorizations:
        assert each.authority() == address_of(public_key(b"\2" * 32))


@pytest.mark.parametrize("kind", KINDS)
def test_eth_account_agrees(kind: int) -> None:
    raw = of_type(kind)
    assert Account.recover_transaction(raw).lower() == "0x" + SENDER.hex()


@given(st.data())
def test_a_flipped_bit_never_keeps_the_sender(data: st.DataObject) -> None:
    raw = bytearray(of_type(data.draw(st.sampled_from(KINDS))))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = decode(bytes(raw), CHAIN)
    except MalformedTransaction:
        return
    assert found.sender != SENDER


@given(st.binary(max_size=300))
def test_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data, CHAIN)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"\x03\xc0", "blob"),
        (b"\x05\xc0", "0x05 is unknown"),
        (b"\x7f", "unknown"),
        (bytes(1), "0x00 is unknown"),
        (b"\x02" + bytes(MAX_TRANSACTION_BYTES), "at most"),
        (b"\x02\xc0", "list of 12"),
        (signed(chain_id=1), "for chain 1"),
        (signed(type=LEGACY, chain_id=1), "for chain 1"),
        (of_type(SET_CODE, to=None), "name a recipient"),
        (of_type(SET_CODE, authorizations=()), "without authorizations"),
        (signed(to=b"\1" * 19), "19 bytes"),
        (signed(data=b"\1" * MAX_TRANSACTION_BYTES), "at most"),
        (
            signed(access_list=tuple((TARGET, ()) for _ in range(17_000))),
            "at most|more",
        ),
    ],
)
def test_refusals(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedTransaction, match=reason):
        decode(raw, CHAIN)


def _resigned(kind: int, **signature: int) -> bytes:
    raw = of_type(kind)
    fields = rlp.decode_list(raw if kind == LEGACY else raw[1:])
    for name, value in signature.items():
        fields["vrs".index(name) - 3] = rlp.encode_uint(value)
    body = rlp.encode(fields)
    return body if kind == LEGACY else bytes((kind,)) + body


def test_signature_rules() -> None:
    found = decode(of_type(DYNAMIC_FEE), CHAIN)
    high = _resigned(DYNAMIC_FEE, s=SECP256K1_ORDER - found.s, v=1 - found.y_parity)
    for raw, reason in (
        (high, "upper half"),
        (_resigned(DYNAMIC_FEE, v=2), "y parity"),
        (_resigned(DYNAMIC_FEE, r=0), "group order"),
        (_resigned(DYNAMIC_FEE, s=0), "group order"),
        (_resigned(DYNAMIC_FEE, r=5), "no public key"),
        (_resigned(LEGACY, v=27), "without a chain id"),
        (_resigned(LEGACY, v=30), "35 or more"),
    ):
        with pytest.raises(MalformedTransaction, match=reason):
            decode(raw, CHAIN)


def test_bad_authorizations_decode_but_name_nobody() -> None:
    good = authorization()
    for broken in (
        Authorization(good.chain_id, good.address, 0, 2, good.r, good.s),
        Authorization(good.chain_id, good.address, 0, 0, good.r, 2**256 - 1),
        Authorization(good.chain_id, good.address, 0, 0, 0, good.s),
    ):
        found = decode(of_type(SET_CODE, authorizations=(broken,)), CHAIN)
        with pytest.raises(BadSignature):
            found.authorizations[0].authority()


def test_vectors(vectors: Vectors) -> None:
    rows = []
    for kind in KINDS:
        found = decode(of_type(kind), CHAIN)
        rows.append(
            {
                "raw": found.raw.hex(),
                "hash": found.hash.hex(),
                "sender": found.sender.hex(),
                "type": kind,
            }
        )
    vectors.check("transactions", rows)


def test_contract_addresses() -> None:
    # The first contract of Hardhat's first account.
    deployer = bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")
    assert contract_address(deployer, 0).hex() == (
        "5fbdb2315678afecb367f032d93f642f64180aa3"
    )
