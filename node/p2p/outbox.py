"""What waits to be sent to one peer, and in which order it goes. Pure.

Each channel has a bounded queue and sends no faster than its rates. Among channels
that may send, the one goes first that has had least of the connection in proportion to
its priority (start-time fair queueing), so a bulk channel delays an urgent one by at
most a frame and starves nobody. The control channel goes before all.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from node.p2p.frames import MAX_PLAINTEXT
from node.p2p.interface import CONTROL, Channel
from node.p2p.limits import Meter
from node.p2p.packets import HEADER, HEADER_BYTES, MAX_DATA

BURST_SECONDS: Final = 1.0
_CONTROL_QUEUE: Final = 4


class _Lane:
    """One channel's queue."""

    __slots__ = ("channel", "meter", "offset", "queue", "start")

    def __init__(self, channel: Channel, now: float) -> None:
        self.channel = channel
        self.meter = Meter(channel, BURST_SECONDS, now)
        self.queue: deque[bytes] = deque()
        self.offset = 0
        self.start = 0.0


class Outbox:
    """Queues of one peer, drained frame by frame."""

    def __init__(self, channels: Iterable[Channel], now: float) -> None:
        self._lanes = {c.id: _Lane(c, now) for c in channels}
        self._control: deque[bytes] = deque()
        self._virtual = 0.0
        self.pending = 0

    def has_room(self, channel: int) -> bool:
        """Whether a message of the channel can be queued.

        Raises:
            ValueError: no such channel.
        """
        lane = self._lane(channel)
        return len(lane.queue) < lane.channel.queue

    def push(self, channel: int, payload: bytes) -> None:
        """Queue a message; there must be room.

        Raises:
            ValueError: no such channel, no room, or a payload empty or too large.
        """
        lane = self._lane(channel)
        bound = lane.channel.max_bytes
        if not 0 < len(payload) <= bound:
            raise ValueError(
                f"{lane.channel.name}: expected 1 to {bound} bytes, got {len(payload)}"
            )
        if len(lane.queue) >= lane.channel.queue:
            raise ValueError(f"{lane.channel.name}: the queue is full")
        if not lane.queue:
            lane.start = max(lane.start, self._virtual)
        lane.queue.append(payload)
        self.pending += len(payload)

    def push_control(self, payload: bytes) -> None:
        """Queue a message of the transport itself, unless several wait already."""
        if len(self._control) < _CONTROL_QUEUE:
            self._control.append(payload)

    def frame(self, now: float) -> tuple[bytes, list[tuple[Channel, int]]]:
        """The next frame, and channel and size of each message that ends in it.

        The frame is empty when nothing may go now.
        """
        parts: list[bytes | memoryview] = []
        room = MAX_PLAINTEXT
        done: list[tuple[Channel, int]] = []
        while self._control:
            payload = self._control.popleft()
            parts += (HEADER.pack(CONTROL, 0, len(payload)), payload)
            room -= HEADER_BYTES + len(payload)
        while room > HEADER_BYTES and (lane := self._next(now)) is not None:
            length = len(lane.queue[0])
            cost = HEADER_BYTES + self._cut(lane, room - HEADER_BYTES, parts)
            room -= cost
            lane.meter.charge(cost, 0 if lane.offset else 1, now)
            self._virtual = lane.start
            lane.start += cost / lane.channel.priority
            if not lane.offset:
                done.append((lane.channel, length))
        return b"".join(parts), done

    def wait(self, now: float) -> float | None:
        """Seconds until a queued message may go; None when none is queued."""
        waits = [la.meter.wait(now) for la in self._lanes.values() if la.queue]
        return min(waits) if waits else None

    def _lane(self, channel: int) -> _Lane:
        lane = self._lanes.get(channel)
        if lane is None:
            raise ValueError(f"channel {channel} is not open to this peer")
        return lane

    def _next(self, now: float) -> _Lane | None:
        best: _Lane | None = None
        for lane in self._lanes.values():
            if (
                lane.queue
                and (best is None or lane.start < best.start)
                and not lane.meter.wait(now)
            ):
                best = lane
        return best

    def _cut(self, lane: _Lane, room: int, parts: list[bytes | memoryview]) -> int:
        """Move the next piece of the lane's first message into the frame."""
        payload = lane.queue[0]
        rest = len(payload) - lane.offset
        size = min(rest, room, MAX_DATA)
        parts.append(HEADER.pack(lane.channel.id, rest - size, size))
        if size == len(payload):
            parts.append(payload)
        else:
            parts.append(memoryview(payload)[lane.offset : lane.offset + size])
        if size == rest:
            lane.queue.popleft()
            lane.offset = 0
        else:
            lane.offset += size
        self.pending -= size
        return size
