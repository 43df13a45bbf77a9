import pytest
from eth_keys.main import KeyAPI
from hypothesis import given, strategies as st

from chain import crypto
from chain.errors import BadSignature

KEYS = KeyAPI()
SECRETS = st.integers(1, crypto.SECP256K1_ORDER - 1).map(lambda n: n.to_bytes(32))


@given(SECRETS, st.binary(max_size=40))
def test_signatures_recover_their_signer(secret: bytes, message: bytes) -> None:
    digest = crypto.keccak(message)
    signature = crypto.sign(digest, secret)
    address = crypto.address_of(crypto.public_key(secret))
    assert crypto.recover_address(digest, signature) == address
    assert KEYS.PrivateKey(secret).public_key.to_canonical_address() == address
    assert KEYS.PrivateKey(secret).sign_msg_hash(digest).to_bytes() == signature


def test_refusals() -> None:
    digest = crypto.keccak(b"message")
    good = crypto.sign(digest, b"\1" * 32)
    s = int.from_bytes(good[32:64], "big")
    high = good[:32] + (crypto.SECP256K1_ORDER - s).to_bytes(32, "big")
    bad = {
        "65 bytes": good[:64],
        "upper half": high + bytes((1 - good[64],)),
        "y parity": good[:64] + b"\2",
        "group order": bytes(32) + good[32:],
        "no public key": (5).to_bytes(32, "big") + (7).to_bytes(32, "big") + b"\0",
    }
    for reason, signature in bad.items():
        with pytest.raises(BadSignature, match=reason):
            crypto.recover_address(digest, signature)


def test_known_hashes() -> None:
    assert crypto.keccak(b"").hex() == (
        "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )
    assert crypto.sha256(b"").hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_reveals() -> None:
    secret = 77
    public = crypto.bls_public_key(secret)
    message = crypto.reveal_message(b"\1" * 32, 3)
    signature = crypto.bls_sign(message, secret)
    assert crypto.bls_sign(message, secret) == signature
    assert crypto.bls_verify(message, signature, public)
    other = crypto.reveal_message(b"\1" * 32, 4)
    assert not crypto.bls_verify(other, signature, public)
    assert not crypto.bls_verify(message, signature, crypto.bls_public_key(78))
    for broken in (signature[:-1], b"\xff" * 96, bytes(96), b"\xc0" + bytes(95)):
        assert not crypto.bls_verify(message, broken, public)
    infinity = b"\xc0" + bytes(47)
    for broken in (public[:-1], b"\xff" * 48, bytes(48), infinity):
        assert not crypto.bls_verify(message, signature, broken)


def test_only_one_encoding_of_a_reveal_counts() -> None:
    """The library reads any bits behind the infinity flag; we must not."""
    public = crypto.bls_public_key(5)
    signature = crypto.bls_sign(b"m", 5)
    flipped = bytes((signature[0] ^ 0x20,)) + signature[1:]
    assert not crypto.bls_verify(b"m", flipped, public)
    assert not crypto.bls_verify(b"m", b"\xff" * 96, b"\xff" * 48)


def test_possession_is_proved_under_a_tag_of_its_own() -> None:
    key, proof = crypto.bls_public_key(77), crypto.bls_prove_possession(77)
    assert crypto.bls_verify_possession(key, proof)
    assert not crypto.bls_verify_possession(crypto.bls_public_key(78), proof)
    assert not crypto.bls_verify(key, proof, key)
    assert not crypto.bls_verify_possession(key, crypto.bls_sign(key, 77))


def test_a_consent_names_chain_operator_and_beacon_key() -> None:
    said = [
        crypto.consent_digest(chain * 32, operator * 20, key * 48)
        for chain in (b"\1", b"\2")
        for operator in (b"\1", b"\2")
        for key in (b"\1", b"\2")
    ]
    assert len(set(said)) == 8
