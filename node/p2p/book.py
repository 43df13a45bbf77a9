"""Addresses of nodes: bounded, and no source fills it. Pure; times are arguments.

- One address for each node id. What a node says of itself replaces what others said;
  what others say replaces nothing.
- An address is *tried* once this node reached that id there.
- Addresses heard from one network (/16 of IPv4, /32 of IPv6, all of loopback) may take
  an eighth of the book. When the book is full, an untried address of the network that
  holds most of them makes room; tried ones stay.
- Failures put off the next try twice as long each time; after a few the address goes.
- The operator's own bootstrap addresses neither count nor go.
"""

import ipaddress
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from node.p2p.address import PeerAddress, parse_ip

CAPACITY: Final = 2_048
PER_SOURCE: Final = CAPACITY // 8
OPERATOR: Final = "operator"
RETRY_FIRST: Final = 5.0
RETRY_MOST: Final = 3_600.0
UNTRIED_FAILURES: Final = 3
TRIED_FAILURES: Final = 12


def network_of(host: str) -> str:
    """The network that an IP address counts to; a name counts for itself."""
    address = parse_ip(host)
    if address is None:
        return host
    if address.is_loopback:
        return "loopback"
    bits = 16 if isinstance(address, ipaddress.IPv4Address) else 32
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))


@dataclass(slots=True)
class Entry:
    """One address.

    Attributes:
        address: Where the node listens.
        source: Network of whoever named it first.
        tried: Whether it was reached there.
        failures: In a row.
        not_before: No try before, in wall time.
    """

    address: PeerAddress
    source: str
    tried: bool = False
    failures: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class AddressBook:
    """The addresses a node knows.

    Attributes:
        own: Its own id, never stored.
        public_only: Refuse addresses that are not globally reachable.
    """

    own: bytes
    public_only: bool = False
    _entries: dict[bytes, Entry] = field(default_factory=dict[bytes, Entry])
    _by_source: Counter[str] = field(default_factory=Counter[str])

    def __len__(self) -> int:
        """How many addresses it holds."""
        return len(self._entries)

    def entries(self) -> Iterable[Entry]:
        """All addresses, oldest first."""
        return self._entries.values()

    def add_own(self, address: PeerAddress) -> None:
        """Add an address that the operator configured."""
        if address.id != self.own:
            self._discard(address.id)
            self._entries[address.id] = Entry(address, OPERATOR)

    def add(self, address: PeerAddress, source: str, rng: random.Random) -> bool:
        """Add an address that a node at IP address `source` named.

        Returns:
            Whether it was new and there was room.
        """
        if address.id in self._entries or not self._welcome(address):
            return False
        return self._insert(Entry(address, network_of(source)), rng)

    def introduce(self, address: PeerAddress, source: str, rng: random.Random) -> None:
        """Add the address that a connected node gave for itself."""
        known = self._entries.get(address.id)
        if known is None:
            self.add(address, source, rng)
        elif (
            known.address != address
            and known.source != OPERATOR
            and self._welcome(address)
        ):
            known.address = address
            known.tried = False

    def reached(self, address: PeerAddress) -> None:
        """The node was found where the book said."""
        entry = self._at(address)
        if entry is not None:
            entry.tried = True

    def served(self, address: PeerAddress) -> None:
        """The node was found, and stayed."""
        entry = self._at(address)
        if entry is not None:
            entry.failures = 0
            entry.not_before = 0.0

    def failed(self, address: PeerAddress, wall: float) -> None:
        """The node was not found, or hung up soon."""
        entry = self._at(address)
        if entry is None:
            return
        entry.failures += 1
        wait = RETRY_FIRST * 2.0 ** min(entry.failures - 1, 16)
        entry.not_before = wall + min(wait, RETRY_MOST)
        bound = TRIED_FAILURES if entry.tried else UNTRIED_FAILURES
        if entry.failures >= bound and entry.source != OPERATOR:
            self._discard(address.id)

    def pick(
        self,
        usable: Callable[[bytes], bool],
        score: Callable[[bytes], float],
        wall: float,
        rng: random.Random,
    ) -> PeerAddress | None:
        """An address to dial: tried or not with even odds, better of two at random."""
        ready = [
            entry
            for entry in self._entries.values()
            if entry.not_before <= wall and usable(entry.address.id)
        ]
        found = [entry for entry in ready if entry.source != OPERATOR] or ready
        tried = [entry for entry in found if entry.tried]
        fresh = [entry for entry in found if not entry.tried]
        pool = rng.choice([part for part in (tried, fresh) if part] or [[]])
        if not pool:
            return None
        pair = rng.sample(pool, min(2, len(pool)))
        return max(pair, key=lambda entry: score(entry.address.id)).address

    def sample(self, count: int, rng: random.Random) -> list[PeerAddress]:
        """Up to `count` addresses for another node: IP addresses that may work."""
        fit = [
            entry.address
            for entry in self._entries.values()
            if not entry.failures and parse_ip(entry.address.host) is not None
        ]
        return rng.sample(fit, min(count, len(fit)))

    def restore(self, entries: Iterable[Entry], rng: random.Random) -> None:
        """Entries as they were stored."""
        for entry in entries:
            if entry.address.id not in self._entries and self._welcome(entry.address):
                self._insert(entry, rng)

    def _at(self, address: PeerAddress) -> Entry | None:
        entry = self._entries.get(address.id)
        return entry if entry is not None and entry.address == address else None

    def _welcome(self, address: PeerAddress) -> bool:
        ip = parse_ip(address.host)
        if ip is None or address.id == self.own or ip.is_unspecified:
            return False
        if "%" in address.host:  # a scope means nothing on another machine
            return False
        return not ip.is_multicast and (ip.is_global or not self.public_only)

    def _insert(self, entry: Entry, rng: random.Random) -> bool:
        if self._by_source[entry.source] >= PER_SOURCE:
            return False
        if self._by_source.total() >= CAPACITY and not self._evict(rng):
            return False
        self._entries[entry.address.id] = entry
        self._by_source[entry.source] += 1
        return True

    def _evict(self, rng: random.Random) -> bool:
        fresh = [
            entry
            for entry in self._entries.values()
            if not entry.tried and entry.source != OPERATOR
        ]
        if not fresh:
            return False
        crowd = Counter(entry.source for entry in fresh)
        largest = max(crowd, key=lambda source: crowd[source])
        victims = [entry for entry in fresh if entry.source == largest]
        self._discard(rng.choice(victims).address.id)
        return True

    def _discard(self, ident: bytes) -> None:
        entry = self._entries.pop(ident, None)
        if entry is not None and entry.source != OPERATOR:
            self._by_source[entry.source] -= 1
