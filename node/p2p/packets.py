"""Messages in packets, packets in frames. Pure.

A frame's plaintext is a sequence of packets that fill it exactly:

    channel  1
    left     4  bytes of this message that follow in later packets of the channel
    size     2  bytes of this packet, at least 1
    data     size

The first packet of a message announces its length, size + left, which is checked
before anything is kept. In every later packet size + left must equal the `left`
before. Messages of different channels may interleave, those of one channel may not.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from node.p2p.errors import PeerFaultError

HEADER: Final = struct.Struct(">BIH")
HEADER_BYTES: Final = HEADER.size
MAX_DATA: Final = (1 << 16) - 1


@dataclass(slots=True)
class Packet:
    """One packet as it arrived.

    Attributes:
        channel: Its channel.
        cost: Bytes in the frame, header included, for rate limits.
        first: Whether it begins a message.
        message: The whole payload if the packet ends it.
    """

    channel: int
    cost: int
    first: bool
    message: bytes | None


@dataclass(slots=True)
class _Partial:
    left: int
    data: bytearray


class Assembler:
    """Puts the messages of one peer together.

    Args:
        bounds: Longest message of each channel.
    """

    def __init__(self, bounds: Mapping[int, int]) -> None:
        self._bounds = bounds
        self._partial: dict[int, _Partial] = {}

    def feed(self, frame: bytes) -> Iterator[Packet]:
        """The packets of a frame, in order.

        Raises:
            PeerFaultError: a channel that is not open, a message too long, or a size
                that is not what was announced.
        """
        position, end = 0, len(frame)
        while position < end:
            start = position + HEADER_BYTES
            if start > end:
                raise PeerFaultError("a packet header is cut off")
            channel, left, size = HEADER.unpack_from(frame, position)
            position = start + size
            if not size or position > end:
                raise PeerFaultError(
                    f"a packet of {size} bytes where {end - start} follow"
                )
            yield self._packet(channel, left, frame[start:position])

    def _packet(self, channel: int, left: int, data: bytes) -> Packet:
        size = len(data)
        cost = HEADER_BYTES + size
        partial = self._partial.get(channel)
        if partial is None:
            self._check_bound(channel, size + left)
            if not left:
                return Packet(channel, cost, first=True, message=data)
            self._partial[channel] = _Partial(left, bytearray(data))
            return Packet(channel, cost, first=True, message=None)
        if size + left != partial.left:
            raise PeerFaultError(
                f"channel {channel}: {partial.left} bytes were announced to follow, "
                f"now {size + left}"
            )
        partial.left = left
        partial.data += data
        if left:
            return Packet(channel, cost, first=False, message=None)
        del self._partial[channel]
        return Packet(channel, cost, first=False, message=bytes(partial.data))

    def _check_bound(self, channel: int, length: int) -> None:
        bound = self._bounds.get(channel)
        if bound is None:
            raise PeerFaultError(f"channel {channel} is not open")
        if length > bound:
            raise PeerFaultError(
                f"channel {channel}: a message of {length} bytes was announced, "
                f"{bound} are allowed"
            )
