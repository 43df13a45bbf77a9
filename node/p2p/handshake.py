"""From a fresh connection to an authenticated peer: preface, Noise XX, hello.

    initiator                       responder
    preface              ->  <-     preface          both at once, 50 bytes
    e                    ->
                             <-     e, ee, s, es     Noise messages with empty
    s, se                ->                          payloads, length-prefixed
    hello                ->  <-     hello            the first frame of each side

A dialler that expects a certain node parts before it reveals its own identity. The
responder parts after the third message. No part is longer than its fixed bound, so a
handshake costs at most a few hundred bytes of memory; its time is bounded by the
caller.
"""

from dataclasses import dataclass
from typing import Final

import trio

from node.p2p.address import node_id
from node.p2p.errors import GarbageError, HandshakeError, PeerLostError
from node.p2p.frames import LENGTH, ByteStream, FrameStream
from node.p2p.hello import MAX_HELLO, Hello
from node.p2p.identity import NodeKey
from node.p2p.noise import KEY, TAG, Handshake
from node.p2p.preface import MAGIC, SIZE, Preface, prologue
from node.p2p.settings import Network

_FIRST: Final = KEY
_SECOND: Final = KEY + (KEY + TAG) + TAG
_THIRD: Final = (KEY + TAG) + TAG


@dataclass(frozen=True, slots=True)
class Introduction:
    """This side of a handshake.

    Attributes:
        key: Who this node is.
        network: The chain it is on.
        hello: What it tells.
        ephemeral: 32 unpredictable bytes, for this handshake alone.
    """

    key: NodeKey
    network: Network
    hello: Hello
    ephemeral: bytes


@dataclass(frozen=True, slots=True)
class Secured:
    """An authenticated connection."""

    frames: FrameStream
    peer: bytes
    hello: Hello


async def initiate(
    stream: trio.abc.Stream, own: Introduction, expected: bytes
) -> Secured:
    """The dialler's side; `expected` is the node id dialled.

    Raises:
        HandshakeError: the other side is no peer of this node, or not that one.
    """
    return await _shake(ByteStream(stream), own, expected)


async def respond(stream: trio.abc.Stream, own: Introduction) -> Secured:
    """The listener's side.

    Raises:
        HandshakeError: the other side is no peer of this node.
    """
    return await _shake(ByteStream(stream), own, None)


async def _shake(
    stream: ByteStream, own: Introduction, expected: bytes | None
) -> Secured:
    step = "preface"
    try:
        bound = await _prefaces(stream, own.network, initiator=expected is not None)
        step = "Noise handshake"
        noise = Handshake(
            initiator=expected is not None,
            prologue=bound,
            static=own.key.secret,
            ephemeral=own.ephemeral,
        )
        if expected is None:
            await _answer(stream, noise)
        else:
            await _open(stream, noise, expected)
        peer = node_id(noise.remote_static)
        if peer == own.key.id:
            raise HandshakeError("this node met itself")
        step = "hello"
        frames = FrameStream(stream, *noise.split())
        hello = await _hellos(frames, own.hello)
    except PeerLostError as error:
        raise HandshakeError(f"{error} during the {step}") from error
    return Secured(frames, peer, hello)


async def _prefaces(stream: ByteStream, network: Network, *, initiator: bool) -> bytes:
    preface = Preface(network)
    mine = preface.encode()
    await stream.send(mine)
    theirs = bytes(await stream.exactly(len(MAGIC)))
    if theirs == MAGIC:
        theirs += await stream.exactly(SIZE - len(MAGIC))
    preface.check(theirs)
    return prologue(mine, theirs) if initiator else prologue(theirs, mine)


async def _open(stream: ByteStream, noise: Handshake, expected: bytes) -> None:
    await stream.send_message(noise.write())
    noise.read(await _noise_message(stream, _SECOND))
    met = node_id(noise.remote_static)
    if met != expected:
        raise HandshakeError(f"expected node {expected.hex()}, met {met.hex()}")
    await stream.send_message(noise.write())


async def _answer(stream: ByteStream, noise: Handshake) -> None:
    noise.read(await _noise_message(stream, _FIRST))
    await stream.send_message(noise.write())
    noise.read(await _noise_message(stream, _THIRD))


async def _noise_message(stream: ByteStream, size: int) -> bytes:
    announced = int.from_bytes(await stream.exactly(LENGTH), "big")
    if announced != size:
        raise GarbageError(
            f"expected a Noise message of {size} bytes, got {announced} announced"
        )
    return bytes(await stream.exactly(size))


async def _hellos(frames: FrameStream, own: Hello) -> Hello:
    await frames.send(own.encode())
    announced = int.from_bytes(await frames.bytes.exactly(LENGTH), "big")
    if not TAG < announced <= MAX_HELLO + TAG:
        raise GarbageError(
            f"expected a hello of at most {MAX_HELLO} bytes, "
            f"got a frame of {announced} announced"
        )
    return Hello.decode(frames.open(await frames.bytes.exactly(announced)))
