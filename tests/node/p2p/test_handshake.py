"""From two sockets to two peers, and every way in which it fails."""

import struct
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st

from chain.crypto import sha256
from chain.rlp import encode
from node.p2p.address import node_id
from node.p2p.errors import (
    GarbageError,
    HandshakeError,
    P2PError,
    WrongNetworkError,
)
from node.p2p.frames import ByteStream, FrameStream
from node.p2p.handshake import Introduction, Secured, initiate, respond
from node.p2p.hello import MAX_HELLO, Hello
from node.p2p.noise import Handshake
from node.p2p.preface import SIZE, VERSION, Preface, prologue
from node.p2p.settings import Network
from tests.node.p2p.world import NETWORK, handshakes, introduction, node_key, run

PREFACE = Preface(NETWORK).encode()
Play = Callable[[ByteStream], Awaitable[None]]


async def both(
    left: Introduction, right: Introduction, expected: bytes
) -> list[Secured | P2PError]:
    """The outcome on each side."""
    a, b = trio.testing.memory_stream_pair()
    outcomes: dict[int, Secured | P2PError] = {}

    async def side(index: int, shake: Awaitable[Secured], own: trio.abc.Stream) -> None:
        try:
            outcomes[index] = await shake
        except P2PError as error:
            outcomes[index] = error
            await trio.aclose_forcefully(own)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(side, 0, initiate(a, left, expected), a)
        nursery.start_soon(side, 1, respond(b, right), b)
    return [outcomes[0], outcomes[1]]


def test_both_sides_learn_who_the_other_is() -> None:
    async def main() -> None:
        left, right = await handshakes()
        assert (left.peer, right.peer) == (node_key(2).id, node_key(1).id)
        assert left.hello == introduction(2).hello
        assert right.hello == introduction(1).hello
        await left.frames.send(b"over the wire")
        assert await right.frames.receive() == b"over the wire"

    run(main)


@pytest.mark.parametrize(
    ("other", "messages"),
    [
        (Network(8, NETWORK.genesis_hash), ("peer is on chain 8, this is chain 7",)),
        (Network(7, sha256(b"reset")), ("begins with block 0x", "this one with 0x")),
    ],
)
def test_another_chain_is_a_clear_error_on_both_sides(
    other: Network, messages: tuple[str, ...]
) -> None:
    async def main() -> None:
        expected = node_key(2).id
        outcomes = await both(introduction(1), introduction(2, other), expected)
        assert all(isinstance(o, WrongNetworkError) for o in outcomes)
        for message in messages:
            assert message in str(outcomes[0])
        outcomes = await both(introduction(1, other), introduction(2), expected)
        assert all(isinstance(o, WrongNetworkError) for o in outcomes)
        for message in messages:
            assert message in str(outcomes[1])

    run(main)


async def against(play: Play, *, listening: bool = True) -> Secured:
    """A handshake with a stranger who does as `play` says and then hangs up."""
    mine, theirs = trio.testing.memory_stream_pair()

    async def stranger() -> None:
        await play(ByteStream(theirs))
        await theirs.send_eof()

    outcome: Secured | P2PError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stranger)
        try:
            if listening:
                outcome = await respond(mine, introduction(2))
            else:
                outcome = await initiate(mine, introduction(1), node_key(2).id)
        except P2PError as error:
            outcome = error
        nursery.cancel_scope.cancel()
    if isinstance(outcome, P2PError):
        raise outcome
    return outcome


def plays(*parts: bytes) -> Play:
    async def play(stream: ByteStream) -> None:
        for part in parts:
            await stream.send(part)

    return play


def test_another_version_is_a_clear_error() -> None:
    later = Preface(NETWORK, version=VERSION + 1).encode()
    with pytest.raises(WrongNetworkError, match="peer speaks version 2, this node"):
        run(lambda: against(plays(later)))


@pytest.mark.parametrize("listening", [True, False])
def test_another_protocol_is_garbage_from_its_first_bytes(*, listening: bool) -> None:
    with pytest.raises(GarbageError, match="expected a preface"):
        run(lambda: against(plays(b"GET / HT"), listening=listening))


def honest_dialler(cut: int) -> Play:
    """Sends the first `cut` bytes of a right handshake."""

    async def play(stream: ByteStream) -> None:
        left = cut

        async def say(data: bytes) -> None:
            nonlocal left
            await stream.send(data[:left])
            left = max(0, left - len(data))

        own = introduction(1)
        await say(PREFACE)
        noise = Handshake(
            initiator=True,
            prologue=prologue(PREFACE, bytes(await stream.exactly(SIZE))),
            static=own.key.secret,
            ephemeral=own.ephemeral,
        )
        for turn in range(2):
            message = noise.write()
            await say(len(message).to_bytes(2, "big") + message)
            if not left:
                return
            if not turn:
                noise.read(bytes(await stream.exactly(98))[2:])
        ciphertext = noise.split()[0].encrypt(own.hello.encode())
        await say(len(ciphertext).to_bytes(2, "big") + ciphertext)

    return play


def whole() -> int:
    return SIZE + (2 + 32) + (2 + 64) + (2 + len(introduction(1).hello.encode()) + 16)


def test_a_handshake_cut_at_any_byte_is_refused_with_its_step() -> None:
    secured = run(lambda: against(honest_dialler(whole())))
    assert secured.peer == node_key(1).id
    steps: set[str] = set()
    for cut in range(whole()):
        with pytest.raises(HandshakeError, match="closed the connection") as caught:
            run(partial(against, honest_dialler(cut)))
        steps.add(str(caught.value).split("during the ")[1])
    assert steps == {"preface", "Noise handshake", "hello"}


@pytest.mark.parametrize("listening", [True, False])
@given(garbage=st.binary(max_size=300), after=st.sampled_from([b"", PREFACE]))
def test_garbage_never_gets_through(
    garbage: bytes, after: bytes, *, listening: bool
) -> None:
    parts = (after, garbage)
    with pytest.raises(HandshakeError):
        run(lambda: against(plays(*parts), listening=listening))


def test_a_noise_message_of_another_size_is_refused_before_it_is_read() -> None:
    with pytest.raises(GarbageError, match="32 bytes, got 65535 announced"):
        run(lambda: against(plays(PREFACE, b"\xff\xff")))


def test_a_dialler_that_meets_another_node_does_not_say_who_it_is() -> None:
    async def main() -> None:
        outcomes = await both(introduction(1), introduction(2), node_key(3).id)
        assert "expected node" in str(outcomes[0])
        assert node_key(2).id.hex() in str(outcomes[0])
        assert "during the Noise handshake" in str(outcomes[1])

    run(main)


def test_a_node_does_not_connect_to_itself() -> None:
    async def main() -> None:
        outcomes = await both(introduction(1), introduction(1), node_key(1).id)
        assert {str(o) for o in outcomes} == {"this node met itself"}

    run(main)


async def hello_of(data: bytes) -> Secured:
    """The responder's view of a dialler whose first frame is `data`."""

    async def play(stream: ByteStream) -> None:
        own = introduction(1)
        await stream.send(PREFACE)
        noise = Handshake(
            initiator=True,
            prologue=prologue(PREFACE, bytes(await stream.exactly(SIZE))),
            static=own.key.secret,
            ephemeral=own.ephemeral,
        )
        await stream.send_message(noise.write())
        noise.read(bytes(await stream.exactly(98))[2:])
        await stream.send_message(noise.write())
        await FrameStream(stream, *noise.split()).send(data)

    return await against(play)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        encode([]),
        encode([b"x", b"", b"", b""]),
        encode([b"x" * 65, b"", b""]),
        encode([b"new\nline", b"", b""]),
        encode([b"x", b"nowhere", b""]),
        encode([b"x", b"h\xff:1", b""]),
        encode([b"x", b":0", b""]),
        encode([b"x", b"", bytes(range(1, 34))]),
        encode([b"x", b"", b"\x00"]),
        encode([b"x", b"", b"\x02\x01"]),
        encode([b"x", b"", b"\x01\x01"]),
        encode([b"x", [b""], b""]),
        encode([b"x", b"", b""]) + b"\x80",
        bytes(MAX_HELLO + 1),
    ],
)
def test_a_malformed_hello_is_refused(data: bytes) -> None:
    with pytest.raises(GarbageError, match="hello"):
        run(lambda: hello_of(data))


def test_the_shortest_hello_is_accepted() -> None:
    secured = run(lambda: hello_of(encode([b"", b"", b""])))
    assert secured.hello == Hello("", "", frozenset())


@given(st.binary(max_size=MAX_HELLO + 8))
def test_any_hello_decodes_or_is_garbage(data: bytes) -> None:
    try:
        hello = Hello.decode(data)
    except GarbageError:
        return
    assert hello.encode() == data


def test_the_preface_is_as_the_page_says() -> None:
    numbers = struct.pack(">HQ", 1, 7)
    assert b"lockstep" + numbers + NETWORK.genesis_hash == PREFACE
    assert len(node_id(node_key(1).public_key)) == 20
