"""Peer exchange: a reactor that asks for addresses and gives some.

    request   01
    answer    02 || rlp([[id, host, port], ...])     at most 64, hosts as IP addresses

Asked at most once in ten seconds (two at once), and only answers that were asked for,
or it is a fault.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from chain.rlp import as_bytes, as_list, as_uint, decode_list, encode, encode_uint
from node.p2p.address import ID_BYTES, PeerAddress, parse_ip
from node.p2p.book import AddressBook
from node.p2p.errors import PeerFaultError
from node.p2p.interface import EXCHANGE, Channel, Peer
from node.p2p.limits import TokenBucket

REQUEST: Final = b"\x01"
ANSWER: Final = 2
MAX_ADDRESSES: Final = 64
REQUEST_SECONDS: Final = 10.0
_MAX_IP_TEXT: Final = 45
_MAX_ADDRESS: Final = 1 + (1 + ID_BYTES) + (1 + _MAX_IP_TEXT) + 3 + 1
CHANNEL: Final = Channel(
    id=EXCHANGE,
    name="exchange",
    max_bytes=4 + MAX_ADDRESSES * _MAX_ADDRESS,
    messages_per_second=1.0,
    bytes_per_second=10_000.0,
    queue=4,
    priority=1,
)


@dataclass(slots=True)
class _Session:
    """What goes on with one peer."""

    asked: bool = False


class Exchange:
    """The reactor; `every` is the mean time between requests to one peer."""

    channels: Sequence[Channel] = (CHANNEL,)

    def __init__(self, book: AddressBook, rng: random.Random, every: float) -> None:
        if every < REQUEST_SECONDS:
            raise ValueError(f"peers allow one request in {REQUEST_SECONDS:g} s")
        self._book = book
        self._rng = rng
        self._every = every

    async def attend(
        self, peer: Peer, inbox: trio.MemoryReceiveChannel[tuple[int, bytes]]
    ) -> None:
        """Ask now and then; answer what is asked."""
        session = _Session()
        now = trio.current_time()
        allowed = TokenBucket(1 / REQUEST_SECONDS, 2.0, now)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask, peer, session)
            async for _, message in inbox:
                if message == REQUEST:
                    if not allowed.take(1, trio.current_time()):
                        raise PeerFaultError("addresses were asked for too often")
                    peer.try_send(EXCHANGE, self._answer())
                elif message[0] == ANSWER and session.asked:
                    session.asked = False
                    self._learn(message[1:], PeerAddress.parse(peer.address).host)
                else:
                    raise PeerFaultError("an answer that was not asked for")

    async def _ask(self, peer: Peer, session: _Session) -> None:
        while True:
            if not session.asked:
                session.asked = peer.try_send(EXCHANGE, REQUEST)
            await trio.sleep(self._every * self._rng.uniform(1.0, 1.5))

    def _answer(self) -> bytes:
        return encode_addresses(self._book.sample(MAX_ADDRESSES, self._rng))

    def _learn(self, payload: bytes, source: str) -> None:
        for address in decode_addresses(payload):
            self._book.add(address, source, self._rng)


def encode_addresses(addresses: Sequence[PeerAddress]) -> bytes:
    """The answer that gives these addresses."""
    rows = [[a.id, a.host.encode(), encode_uint(a.port)] for a in addresses]
    return bytes((ANSWER,)) + encode(rows)


def decode_addresses(payload: bytes) -> list[PeerAddress]:
    """The addresses of an answer, after its first byte.

    Raises:
        PeerFaultError: too many, or one that is no IP address and port.
        chain.errors.MalformedRLP: not of this shape.
    """
    rows = decode_list(payload, max_items=1 + 4 * MAX_ADDRESSES)
    if len(rows) > MAX_ADDRESSES:
        raise PeerFaultError(f"{len(rows)} addresses, {MAX_ADDRESSES} are allowed")
    found: list[PeerAddress] = []
    for row in rows:
        ident, text, number = as_list(row, 3)
        host, port = as_bytes(text), as_uint(number, 16)
        ip = parse_ip(host[:_MAX_IP_TEXT].decode("ascii", errors="replace"))
        if ip is None or len(host) > _MAX_IP_TEXT or not port:
            raise PeerFaultError(f"no address: {host[:_MAX_IP_TEXT]!r} port {port}")
        found.append(PeerAddress(as_bytes(ident, ID_BYTES), str(ip), port))
    return found
