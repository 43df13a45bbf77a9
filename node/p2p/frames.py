"""Bytes of a connection: exact reads, then encrypted frames.

A frame is `uint16 size || ciphertext`, size from 17 to 65,535: one Noise message each.
"""

from typing import Final

import trio

from node.p2p.errors import GarbageError, PeerLostError
from node.p2p.noise import MAX_MESSAGE, TAG, CipherState

LENGTH: Final = 2
MAX_PLAINTEXT: Final = MAX_MESSAGE - TAG
_RECEIVE: Final = 131_072


class ByteStream:
    """Buffered reads over a trio stream; counts what goes each way."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self.received = 0
        self.sent = 0

    async def exactly(self, size: int) -> bytearray:
        """The next `size` bytes.

        Raises:
            PeerLostError: the stream ended or broke before.
        """
        while len(self._buffer) < size:
            try:
                data = await self._stream.receive_some(_RECEIVE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise PeerLostError("the connection broke") from error
            if not data:
                raise PeerLostError("the peer closed the connection")
            self.received += len(data)
            self._buffer += data
        part = self._buffer[:size]
        del self._buffer[:size]
        return part

    async def send(self, data: bytes) -> None:
        """Send everything.

        Raises:
            PeerLostError: the connection broke.
        """
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerLostError("the connection broke") from error
        self.sent += len(data)

    async def aclose(self) -> None:
        """Close at once, without a farewell."""
        await trio.aclose_forcefully(self._stream)

    async def send_message(self, message: bytes) -> None:
        """Send a Noise message with its length before it."""
        await self.send(len(message).to_bytes(LENGTH, "big") + message)


class FrameStream:
    """Encrypted frames over bytes, after the handshake."""

    def __init__(
        self, stream: ByteStream, outgoing: CipherState, incoming: CipherState
    ) -> None:
        self.bytes = stream
        self._outgoing = outgoing
        self._incoming = incoming

    async def send(self, plaintext: bytes) -> None:
        """Send one frame of 1 to `MAX_PLAINTEXT` bytes."""
        if not 0 < len(plaintext) <= MAX_PLAINTEXT:
            raise ValueError(f"frame of {len(plaintext)} bytes")
        await self.bytes.send_message(self._outgoing.encrypt(plaintext))

    async def receive(self) -> bytes:
        """The plaintext of the next frame.

        Raises:
            PeerLostError: the stream ended or broke.
            GarbageError: a frame too short, or not of the peer's making.
        """
        size = int.from_bytes(await self.bytes.exactly(LENGTH), "big")
        if size <= TAG:
            raise GarbageError(f"a frame of {size} bytes holds nothing")
        return self.open(await self.bytes.exactly(size))

    def open(self, ciphertext: bytes | bytearray) -> bytes:
        """The plaintext of the next frame, whose bytes were read already.

        Raises:
            GarbageError: not of the peer's making.
        """
        return self._incoming.decrypt(ciphertext)
