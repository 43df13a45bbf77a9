"""Token buckets. Pure: the time is an argument, in seconds."""

from typing import Final

from node.p2p.interface import Channel

# Less is no wait: too small a step may not move a clock at all.
_INSTANT: Final = 1e-6


class TokenBucket:
    """So much per second on average, so much at once.

    The balance may go below zero; the debt is paid by waiting.
    """

    __slots__ = ("_balance", "_capacity", "_rate", "_when")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self._balance = capacity
        self._when = now

    def wait(self, now: float) -> float:
        """Seconds until the balance is not negative."""
        elapsed = max(0.0, now - self._when)
        self._balance = min(self._capacity, self._balance + elapsed * self._rate)
        self._when = now
        return self._debt()

    def charge(self, amount: float, now: float) -> float:
        """Take `amount`; seconds to wait before the next is taken."""
        self.wait(now)
        self._balance -= amount
        return self._debt()

    def take(self, amount: float, now: float) -> bool:
        """Take `amount` if it is there; tell whether."""
        self.wait(now)
        if self._balance < amount:
            return False
        self._balance -= amount
        return True

    def _debt(self) -> float:
        seconds = -self._balance / self._rate
        return seconds if seconds > _INSTANT else 0.0


class Meter:
    """The traffic of one channel in one direction.

    Args:
        channel: Whose rates hold.
        seconds: How much of them may come at once; at least one message always.
        now: The time.
    """

    __slots__ = ("_bytes", "_messages")

    def __init__(self, channel: Channel, seconds: float, now: float) -> None:
        rate = channel.bytes_per_second
        burst = max(seconds * rate, seconds * channel.max_bytes)
        self._bytes = TokenBucket(rate, burst, now)
        rate = channel.messages_per_second
        self._messages = TokenBucket(rate, max(seconds * rate, seconds), now)

    def charge(self, size: int, messages: int, now: float) -> float:
        """Count a packet; seconds to wait before the next."""
        return max(self._bytes.charge(size, now), self._messages.charge(messages, now))

    def wait(self, now: float) -> float:
        """Seconds until more may go."""
        return max(self._bytes.wait(now), self._messages.wait(now))
