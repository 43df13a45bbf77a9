"""Who may begin a handshake: limits and bans by IP address. Pure.

Node ids cost nothing, so garbage before the handshake, and faults after it, count
against the address they came from: three strikes close the gate to it for a minute,
then two, four, up to an hour. An IPv6 address counts as its /64. Loopback addresses are
limited in rate but never banned: whoever can use one is on this machine.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from node.p2p.address import parse_ip
from node.p2p.limits import TokenBucket

STRIKES: Final = 3
BAN_SECONDS: Final = 60.0
BAN_MOST: Final = 3_600.0
FORGIVEN_AFTER: Final = 3_600.0
MAX_HOSTS: Final = 4_096
BURST_SECONDS: Final = 10.0
_SITE_BITS: Final = 64


@dataclass(slots=True)
class _Host:
    bucket: TokenBucket
    pending: int = 0
    strikes: int = 0
    last_strike: float = 0.0
    banned_until: float = 0.0


class Gate:
    """Counts handshakes by the address they come from.

    Args:
        max_handshakes: At once; a single address may hold half of them.
        accepts_per_second: From one address.
    """

    def __init__(self, max_handshakes: int, accepts_per_second: float) -> None:
        self._max = max_handshakes
        self._rate = accepts_per_second
        self._pending = 0
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def enter(self, host: str, now: float) -> str | None:
        """Begin a handshake with `host`; a reason if it is refused.

        `leave` must follow when it was not.
        """
        entry = self._host(host, now)
        if now < entry.banned_until:
            return "banned address"
        if not entry.bucket.take(1, now):
            return "too many connections"
        if self._pending >= self._max or entry.pending >= max(1, self._max // 2):
            return "too many handshakes"
        entry.pending += 1
        self._pending += 1
        return None

    def leave(self, host: str, now: float) -> None:
        """End a handshake."""
        self._host(host, now).pending -= 1
        self._pending -= 1

    def strike(self, host: str, now: float) -> None:
        """Count garbage or a fault."""
        entry = self._host(host, now)
        if now - entry.last_strike > FORGIVEN_AFTER:
            entry.strikes = 0
        entry.last_strike = now
        entry.strikes += 1
        address = parse_ip(host)
        if entry.strikes >= STRIKES and not (address and address.is_loopback):
            seconds = BAN_SECONDS * 2.0 ** min(entry.strikes - STRIKES, 16)
            entry.banned_until = now + min(seconds, BAN_MOST)

    def _host(self, host: str, now: float) -> _Host:
        key = _site(host)
        entry = self._hosts.get(key)
        if entry is None:
            self._make_room(now)
            bucket = TokenBucket(self._rate, BURST_SECONDS * self._rate, now)
            entry = self._hosts[key] = _Host(bucket)
        self._hosts.move_to_end(key)
        return entry

    def _make_room(self, now: float) -> None:
        """Forget the address longest unheard of that is neither busy nor banned."""
        if len(self._hosts) < MAX_HOSTS:
            return
        idle = [key for key, host in self._hosts.items() if not host.pending]
        free = (key for key in idle if self._hosts[key].banned_until <= now)
        del self._hosts[next(free, idle[0])]


def _site(host: str) -> str:
    address = parse_ip(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), _SITE_BITS), strict=False))
    return host
