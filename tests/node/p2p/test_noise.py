"""Noise XX: published vectors, and every way in which a message can be wrong."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from chain.crypto import sha256
from node.p2p.noise import MESSAGES, CipherState, Handshake, NoiseError
from tests.support.vectors import FOLDER

VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "noise.json").read_text())
A, B = sha256(b"a"), sha256(b"b")
SIZES = (32, 96, 64)


def pair(prologues: tuple[bytes, bytes] = (b"p", b"p")) -> list[Handshake]:
    return [
        Handshake(
            initiator=initiator,
            prologue=prologue,
            static=static,
            ephemeral=sha256(static),
        )
        for initiator, prologue, static in zip(
            (True, False), prologues, (A, B), strict=True
        )
    ]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["source"].split("/")[-1])
def test_published_vectors(vector: dict[str, Any]) -> None:
    sides = [
        Handshake(
            initiator=side == "init",
            prologue=bytes.fromhex(vector[f"{side}_prologue"]),
            static=bytes.fromhex(vector[f"{side}_static"]),
            ephemeral=bytes.fromhex(vector[f"{side}_ephemeral"]),
        )
        for side in ("init", "resp")
    ]
    messages = [
        (bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"]))
        for m in vector["messages"]
    ]
    for turn, (payload, ciphertext) in enumerate(messages[:MESSAGES]):
        assert sides[turn % 2].write(payload) == ciphertext
        assert sides[1 - turn % 2].read(ciphertext) == payload
    if "handshake_hash" in vector:
        assert {s.transcript.hex() for s in sides} == {vector["handshake_hash"]}
    ciphers = [side.split() for side in sides]
    for turn, (payload, ciphertext) in enumerate(messages[MESSAGES:], MESSAGES):
        assert ciphers[turn % 2][0].encrypt(payload) == ciphertext
        assert ciphers[1 - turn % 2][1].decrypt(ciphertext) == payload
    assert len(messages) > MESSAGES + 1


def test_each_side_learns_the_other_s_key() -> None:
    alice, bob = pair()
    bob.read(alice.write())
    alice.read(bob.write())
    bob.read(alice.write())
    assert (len(alice.remote_static), len(bob.remote_static)) == (32, 32)
    assert alice.remote_static != bob.remote_static
    assert alice.transcript == bob.transcript


def until(turn: int, sides: list[Handshake]) -> bytes:
    """Play the handshake up to message `turn`, which is returned unread."""
    for before in range(turn):
        sides[1 - before % 2].read(sides[before % 2].write())
    return sides[turn % 2].write()


@pytest.mark.parametrize("turn", range(MESSAGES))
def test_messages_have_the_documented_sizes(turn: int) -> None:
    assert len(until(turn, pair())) == SIZES[turn]


@pytest.mark.parametrize("turn", range(MESSAGES))
def test_a_message_cut_at_any_byte_is_refused(turn: int) -> None:
    for size in range(SIZES[turn]):
        sides = pair()
        message = until(turn, sides)
        with pytest.raises(NoiseError):
            sides[1 - turn % 2].read(message[:size])


@given(st.integers(1, MESSAGES - 1), st.data())
def test_a_flipped_bit_is_noticed(turn: int, data: st.DataObject) -> None:
    sides = pair()
    message = bytearray(until(turn, sides))
    bit = data.draw(st.integers(0, 8 * len(message) - 1))
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NoiseError):
        sides[1 - turn % 2].read(bytes(message))


def test_a_flipped_bit_of_the_first_message_is_noticed_by_the_second() -> None:
    for bit in range(256):
        alice, bob = pair()
        message = bytearray(alice.write())
        message[bit // 8] ^= 1 << bit % 8
        bob.read(bytes(message))
        with pytest.raises(NoiseError):
            alice.read(bob.write())


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    alice, _ = pair()
    alice.write()
    with pytest.raises(NoiseError):
        alice.read(garbage)


def test_another_prologue_is_noticed() -> None:
    alice, bob = pair((b"chain 1", b"chain 2"))
    bob.read(alice.write())
    with pytest.raises(NoiseError):
        alice.read(bob.write())


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_a_key_of_small_order_is_refused(point: bytes) -> None:
    _, bob = pair()
    bob.read(point)
    with pytest.raises(NoiseError, match="small order"):
        bob.write()


def test_turns_are_kept() -> None:
    alice, bob = pair()
    with pytest.raises(RuntimeError):
        bob.write()
    with pytest.raises(RuntimeError):
        alice.split()
    alice.write()
    with pytest.raises(RuntimeError):
        alice.write()


def test_a_cipher_refuses_replays_and_reordering() -> None:
    out = CipherState(A)
    first, second = out.encrypt(b"one"), out.encrypt(b"two")
    replayed = CipherState(A)
    replayed.decrypt(first)
    with pytest.raises(NoiseError):
        replayed.decrypt(first)
    with pytest.raises(NoiseError):
        CipherState(A).decrypt(second)


def test_a_key_is_not_used_beyond_its_last_nonce() -> None:
    cipher = CipherState(A)
    cipher._nonce = (1 << 64) - 2
    cipher.encrypt(b"last")
    with pytest.raises(NoiseError, match="connect again"):
        cipher.encrypt(b"one more")
