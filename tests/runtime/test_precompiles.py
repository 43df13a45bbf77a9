"""Refusals and known answers of precompiles; agreement is in the vectors."""

import hashlib

import pytest

from benchmarks.blocks import modexp
from chain.addresses import BLS_POSSESSION
from chain.crypto import bls_prove_possession, bls_public_key, bls_sign
from runtime.errors import PrecompileFailure
from runtime.precompile_table import precompiles
from runtime.precompiles.interface import Precompile
from runtime.rules import Rules
from tests.runtime.programs import initcode, returns_call
from tests.support.devchain import DevChain

TABLE = precompiles(Rules(chain_id=4242))
BN_FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583


def at(number: int) -> Precompile:
    return TABLE[number.to_bytes(20, "big")]


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(32, "big") for value in values)


def test_the_table() -> None:
    numbers = sorted(int.from_bytes(address, "big") for address in TABLE)
    assert numbers == [*range(1, 0x12), 0x100, 0x4D4C, 0x504F50]


@pytest.mark.parametrize(
    ("number", "data", "reason"),
    [
        (0x06, words(BN_FIELD, 0), "exceeds the field"),
        (0x06, words(1, 1), "not on the curve"),
        (0x07, words(1, 1, 1), "not on the curve"),
        (0x08, bytes(191), "whole pairs"),
        (0x08, words(1, 2, BN_FIELD, 0, 0, 0), "exceeds the field"),
        (0x08, words(1, 2, 1, 2, 3, 4), "not on the twist"),
        (0x09, bytes(212), "expected 213"),
        (0x09, bytes(212) + b"\2", "must be 0 or 1"),
        (0x0A, bytes(192), "no blobs"),
        (0x0B, bytes(255), "expected 256"),
        (0x0B, b"\1" + bytes(255), "exceeds the field"),
        (0x0B, bytes(63) + b"\1" + bytes(192), "BLS12-381"),
        (0x0C, b"", "positive multiple of 160"),
        (0x0D, bytes(511), "expected 512"),
        (0x0D, bytes(63) + b"\1" + bytes(448), "BLS12-381"),
        (0x0E, bytes(287), "positive multiple of 288"),
        (0x0F, b"", "positive multiple of 384"),
        (0x10, bytes(65), "expected 64"),
        (0x10, bytes(16) + b"\xff" * 48, "BLS12-381"),
        (0x11, bytes(127), "expected 128"),
        (0x11, bytes(16) + b"\xff" * 48 + bytes(64), "BLS12-381"),
    ],
)
def test_refusals(number: int, data: bytes, reason: str) -> None:
    with pytest.raises(PrecompileFailure, match=reason):
        at(number).run(data)


def test_points_at_infinity() -> None:
    assert at(0x06).run(b"") == bytes(64)
    assert at(0x07).run(words(1, 2, 0)) == bytes(64)
    assert at(0x08).run(b"") == words(1)
    assert at(0x08).run(words(0, 0) + bytes(128)) == words(1)
    assert at(0x0B).run(bytes(256)) == bytes(128)
    assert at(0x0F).run(bytes(384)) == words(1)


def test_known_answers() -> None:
    assert at(0x02).run(b"abc") == hashlib.sha256(b"abc").digest()
    assert at(0x03).run(b"abc").hex() == (
        "0000000000000000000000008eb208f7e05d987a9b044a8e98c6b087f15a0bfc"
    )
    assert at(0x04).run(b"abc") == b"abc"
    # RFC 7693, appendix A, as EIP-152 lists it: BLAKE2b-512 of "abc".
    blake = bytes.fromhex(
        "0000000c48c9bdf267e6096a3ba7ca8485ae67bb2bf894fe72f36e3cf1361d5f3af54fa5d182e6"
        "ad7f520e511f6c3e2b8c68059b6bbd41fbabd9831f79217e1319cde05b616263"
        + "00"
        * 125
        + "03000000000000000000000000000000"
        "01"
    )
    assert at(0x09).run(blake) == hashlib.blake2b(b"abc").digest()


def test_modexp() -> None:
    run = at(0x05).run
    assert run(words(1, 1, 1) + b"\3\5\7") == bytes((3**5 % 7,))
    assert run(words(0, 0, 1) + b"\5") == b"\1"  # 0**0, as the specification has it
    assert run(words(1, 1, 0) + b"\3\5") == b""
    assert run(words(1, 1, 2) + b"\3\5\0\0") == bytes(2)
    assert run(words(0, 2**255, 0)) == b""
    assert run(b"") == b""


@pytest.mark.parametrize(
    "data", [words(2**255, 1, 1), words(1, 2**255, 1), b"\xff" * 96]
)
def test_absurd_announcements_cost_their_call(data: bytes) -> None:
    """Out of gas in the call that made them; the caller goes on."""
    chain = DevChain()
    copies = bytes.fromhex("365f5f37") + returns_call(0xFA, 5, len(data))
    contract = chain.deploy(initcode(copies))
    sent = chain.send(to=contract, data=data, gas=1_000_000)
    assert sent.receipt.succeeded
    assert int.from_bytes(sent.outcome.output[:32], "big") == 0
    assert at(5).gas(data) > 10**9


def test_steps_cover_the_work() -> None:
    """More operand bits are never cheaper."""
    step = at(5).steps
    assert step(modexp(256, 256)) > 30 * step(modexp(64, 64))
    assert step(words(0, 2**255, 0)) == 20


def test_possession_of_a_bls_key() -> None:
    possession = TABLE[BLS_POSSESSION]
    key, proof = bls_public_key(77), bls_prove_possession(77)
    assert possession.run(key + proof) == words(1)
    assert possession.gas(key + proof) == 140_000
    for wrong in (
        b"",
        key,
        key + proof + b"\0",
        key + proof[:-1],
        bls_public_key(78) + proof,
        key + bls_prove_possession(78),
        key + bls_sign(key, 77),  # the tag of other signatures
        bytes(48) + proof,
        b"\xc0" + bytes(47) + b"\xc0" + bytes(95),  # infinity twice
    ):
        assert possession.run(wrong) == b""
