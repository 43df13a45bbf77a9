"""P256VERIFY against RFC 6979, go-ethereum's first vector and textbook arithmetic."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings, strategies as st

from chain.addresses import P256VERIFY
from runtime.precompiles.p256 import VERIFY
from tests.support.devchain import DevChain
from tests.support.vectors import Vectors

VALID = (1).to_bytes(32, "big")
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

RFC6979 = (
    hashlib.sha256(b"sample").hexdigest()
    + "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    + "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    + "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    + "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
GO_ETHEREUM = (
    "4cee90eb86eaa050036147a12d49004b6b9c72bd725d39d4785011fe190f0b4d"
    "a73bd4903f0ce3b639bbbf6e8e80d16931ff4bcf5993d58468e8fb19086e8cac"
    "36dbcd03009df8c59286b162af3bd7fcc0450c9aa81be5d10d312af6c66b1d60"
    "4aebd3099c618202fcfe16ae7770b0c49ab5eadf74b754204a3bb6060e44eff3"
    "7618b065f9832de4ca6ca971a7a1adc826d0f7c00181a5fb2ddf79ae00b4e10e"
)


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 32], "big") for at in range(0, 160, 32)]


def _join(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(32, "big") for word in words)


Point = tuple[int, int] | None


def _add(left: Point, right: Point) -> Point:
    if left is None or right is None:
        return left or right
    if left[0] == right[0]:
        if (left[1] + right[1]) % P == 0:
            return None
        slope = (3 * left[0] ** 2 - 3) * pow(2 * left[1], -1, P)
    else:
        slope = (right[1] - left[1]) * pow(right[0] - left[0], -1, P)
    x = (slope**2 - left[0] - right[0]) % P
    return x, (slope * (left[0] - x) - left[1]) % P


def _multiply(point: Point, scalar: int) -> Point:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    return total


def textbook(data: bytes) -> bytes:
    """ECDSA as in SEC 1, section 4.1.4."""
    if len(data) != 160:
        return b""
    digest, r, s, x, y = _words(data)
    if not (0 < r < N and 0 < s < N and x < P and y < P):
        return b""
    if (y * y - x**3 + 3 * x - B) % P:
        return b""
    inverse = pow(s, -1, N)
    point = _add(_multiply(G, digest * inverse % N), _multiply((x, y), r * inverse % N))
    return VALID if point is not None and point[0] % N == r else b""


def signed(secret: int, digest: bytes) -> bytes:
    key = ec.derive_private_key(secret, ec.SECP256R1())
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(SHA256()))))
    public = key.public_key().public_numbers()
    return digest + _join([r, s, public.x, public.y])


@pytest.mark.parametrize("vector", [RFC6979, GO_ETHEREUM], ids=["rfc", "geth"])
def test_known_signatures(vector: str) -> None:
    assert VERIFY.run(bytes.fromhex(vector)) == VALID


def test_both_halves_of_s_count() -> None:
    words = _words(bytes.fromhex(RFC6979))
    words[2] = N - words[2]
    assert VERIFY.run(_join(words)) == VALID


@settings(max_examples=15)
@given(
    secret=st.integers(1, N - 1),
    digest=st.binary(min_size=32, max_size=32),
    place=st.integers(0, 4),
    change=st.sampled_from([0, 1, N, P, 2**256 - 1, "flip", "keep"]),
)
def test_agrees_with_the_textbook(
    secret: int, digest: bytes, place: int, change: int | str
) -> None:
    words = _words(signed(secret, digest))
    if change == "flip":
        words[place] ^= 1
    elif isinstance(change, int):
        words[place] = change
    data = _join(words)
    assert VERIFY.run(data) == textbook(data)
    assert change != "keep" or VERIFY.run(data) == VALID


def _refused() -> dict[str, bytes]:
    good = _words(bytes.fromhex(RFC6979))

    def changed(place: int, value: int) -> bytes:
        return _join([*good[:place], value, *good[place + 1 :]])

    return {
        "empty": b"",
        "short": _join(good)[:-1],
        "long": _join(good) + b"\0",
        "r zero": changed(1, 0),
        "r order": changed(1, N),
        "s zero": changed(2, 0),
        "s order": changed(2, N),
        "x beyond the field": changed(3, good[3] + P) if good[3] + P < 2**256 else b"",
        "off the curve": changed(4, good[4] ^ 1),
        "infinity": _join([*good[:3], 0, 0]),
        "another message": changed(0, good[0] ^ 1),
    }


@pytest.mark.parametrize("name", list(_refused()))
def test_refusals_return_nothing(name: str) -> None:
    assert VERIFY.run(_refused()[name]) == b""


def test_through_the_chain() -> None:
    chain = DevChain()
    good = bytes.fromhex(RFC6979)
    assert chain.call(P256VERIFY, good) == VALID
    assert chain.call(P256VERIFY, good[:-1]) == b""
    sent = chain.send(to=P256VERIFY, data=good)
    zeros = good.count(0)
    assert sent.gas_used == 21_000 + 16 * (160 - zeros) + 4 * zeros + 6_900


def test_vectors(vectors: Vectors) -> None:
    rows = [
        {"input": RFC6979, "output": VALID.hex()},
        {"input": GO_ETHEREUM, "output": VALID.hex()},
        *({"input": data.hex(), "output": ""} for data in _refused().values()),
    ]
    for row in rows:
        assert VERIFY.run(bytes.fromhex(row["input"])).hex() == row["output"]
    vectors.check("p256verify", rows)
