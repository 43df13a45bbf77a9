"""Peer exchange: what is asked, what is answered, what is a fault."""

import random
from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st

from chain.errors import MalformedRLP
from chain.rlp import encode
from node.p2p.address import PeerAddress
from node.p2p.book import PER_SOURCE, AddressBook
from node.p2p.errors import PeerFaultError
from node.p2p.exchange import (
    CHANNEL,
    MAX_ADDRESSES,
    REQUEST,
    Exchange,
    decode_addresses,
    encode_addresses,
)
from node.p2p.interface import EXCHANGE
from tests.node.p2p.test_book import address
from tests.node.p2p.world import address_of, node_key, run

ID = node_key(1).id


class FakePeer:
    """A peer that keeps what is sent to it."""

    id = node_key(2).id
    address = str(address_of(2))
    outbound = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def send(self, channel: int, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.try_send(channel, payload)

    def try_send(self, channel: int, payload: bytes) -> bool:
        assert channel == EXCHANGE
        assert len(payload) <= CHANNEL.max_bytes
        self.sent.append(payload)
        return True


def rng() -> random.Random:
    return random.Random(1)  # noqa: S311 - repeatable


async def converse(
    book: AddressBook, *said: tuple[float, bytes], patience: float = 0.0
) -> FakePeer:
    """A reactor that hears messages, each after a pause."""
    peer = FakePeer()
    sender, inbox = trio.open_memory_channel[tuple[int, bytes]](4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Exchange(book, rng(), 60.0).attend, peer, inbox)
        await trio.testing.wait_all_tasks_blocked()
        for pause, message in said:
            await trio.sleep(pause)
            await sender.send((EXCHANGE, message))
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(patience)
        nursery.cancel_scope.cancel()
    return peer


def test_it_asks_and_learns_from_the_answer() -> None:
    book = AddressBook(ID)
    answer = encode_addresses([address(1), address(2)])
    peer = run(lambda: converse(book, (1, answer)))
    assert peer.sent == [REQUEST]
    assert {e.address for e in book.entries()} == {address(1), address(2)}
    assert {e.source for e in book.entries()} == {"102.1.0.0/16"}


def test_it_asks_again_after_an_answer_only() -> None:
    quiet = run(lambda: converse(AddressBook(ID), patience=1_000))
    assert quiet.sent == [REQUEST]
    answered = run(
        lambda: converse(AddressBook(ID), (1, encode_addresses([])), patience=91)
    )
    assert answered.sent == [REQUEST] * 2


def test_it_answers_with_what_it_knows() -> None:
    book, dice = AddressBook(ID), rng()
    for number in range(PER_SOURCE):
        book.add(address(number), "10.0.0.1", dice)
    peer = run(lambda: converse(book, (0, REQUEST)))
    given_away = decode_addresses(peer.sent[1][1:])
    assert len(set(given_away)) == MAX_ADDRESSES
    assert set(given_away) <= {entry.address for entry in book.entries()}


def fault_of(*said: tuple[float, bytes]) -> str:
    with pytest.RaisesGroup(PeerFaultError, flatten_subgroups=True) as caught:
        run(lambda: converse(AddressBook(ID), *said))
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


def test_two_answers_to_one_request_are_a_fault() -> None:
    answer = encode_addresses([])
    assert "not asked for" in fault_of((0, answer), (0, answer))


@pytest.mark.parametrize("message", [b"\x03", b"\x01\x00", b"\x00"])
def test_an_unknown_message_is_a_fault(message: bytes) -> None:
    assert "not asked for" in fault_of((0, message))


def test_asking_too_often_is_a_fault() -> None:
    assert "too often" in fault_of((0, REQUEST), (0, REQUEST), (9, REQUEST))
    patient = [(0.0, REQUEST), (0.0, REQUEST), (10.0, REQUEST), (10.0, REQUEST)]
    peer = run(lambda: converse(AddressBook(ID), *patient))
    assert len(peer.sent) == 5


def row(
    ident: bytes = bytes(20), host: bytes = b"9.9.9.9", port: bytes = b"\1"
) -> list[bytes]:
    return [ident, host, port]


@pytest.mark.parametrize(
    "rows",
    [
        [row(ident=bytes(19))],
        [row(host=b"a.example")],
        [row(host=b"9" * 46)],
        [row(host=b"\xff")],
        [row(port=b"")],
        [row(port=b"\0\1")],
        [row(port=b"\1\0\0")],
        [[bytes(20), b"9.9.9.9"]],
        [bytes(20)],
        [row()] * (MAX_ADDRESSES + 1),
    ],
)
def test_a_malformed_answer_is_a_fault(rows: Sequence[list[bytes] | bytes]) -> None:
    with pytest.raises((PeerFaultError, MalformedRLP)):
        decode_addresses(encode(rows))


@given(st.binary(max_size=200))
def test_any_answer_decodes_or_is_a_fault(payload: bytes) -> None:
    try:
        decode_addresses(payload)
    except (PeerFaultError, MalformedRLP):
        return


def test_the_longest_answer_fits_its_channel() -> None:
    host = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    longest = [PeerAddress(bytes(20), host, 65_535)] * MAX_ADDRESSES
    assert len(encode_addresses(longest)) <= CHANNEL.max_bytes
    assert len(decode_addresses(encode_addresses(longest)[1:])) == MAX_ADDRESSES


def test_it_does_not_ask_more_often_than_peers_allow() -> None:
    with pytest.raises(ValueError, match="10 s"):
        Exchange(AddressBook(ID), rng(), 9.0)
