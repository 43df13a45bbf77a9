"""Whom to dial, and when: persistent peers for ever, others while there are too few."""

import random
from collections.abc import Callable
from typing import Final, Protocol

import trio

from node.p2p.address import PeerAddress
from node.p2p.book import AddressBook
from node.p2p.settings import Settings

POLL_SECONDS: Final = 1.0
_SPREAD: Final = 0.25
_SETTLED_SECONDS: Final = 10.0


class Links(Protocol):
    """What the dialer asks of the switch."""

    def finished(self, ident: bytes) -> trio.Event | None:
        """Set when the present connection with that node ends; None without one."""
        ...

    def banned_until(self, ident: bytes) -> float:
        """In wall time."""
        ...

    def score(self, ident: bytes) -> float:
        """From -100 to 100."""
        ...

    async def connect(self, address: PeerAddress) -> float:
        """Dial and serve a node; how many seconds it was connected, 0 if never."""
        ...


class Dialer:
    """Keeps this node connected.

    Args:
        own: This node's id.
        settings: Whom and how many.
        book: Where others are.
        links: The switch.
        rng: Spreads waits and picks addresses.
        wall: Seconds since the epoch.
    """

    def __init__(
        self,
        own: bytes,
        settings: Settings,
        book: AddressBook,
        links: Links,
        rng: random.Random,
        wall: Callable[[], float],
    ) -> None:
        self._own = own
        self._settings = settings
        self._book = book
        self._links = links
        self._rng = rng
        self._wall = wall
        self._busy: set[bytes] = set()
        self._persistent = {a.id for a in settings.persistent} | {own}

    async def run(self) -> None:
        """Dial until cancelled."""
        for address in self._settings.bootstrap:
            self._book.add_own(address)
        async with trio.open_nursery() as nursery:
            for address in self._settings.persistent:
                if address.id != self._own:
                    nursery.start_soon(self._keep, address)
            while True:
                self._fill(nursery)
                await trio.sleep(self._spread(POLL_SECONDS))

    async def _keep(self, address: PeerAddress) -> None:
        timing = self._settings.timing
        wait = timing.retry_first
        while True:
            began = trio.current_time()
            connected = self._links.finished(address.id)
            if connected is None:
                await self._links.connect(address)
            else:
                await connected.wait()
            ban = self._links.banned_until(address.id) - self._wall()
            await trio.sleep(max(ban, self._spread(wait)))
            steady = trio.current_time() - began >= timing.steady
            wait = timing.retry_first if steady else min(2 * wait, timing.retry_most)

    def _fill(self, nursery: trio.Nursery) -> None:
        while len(self._busy) < self._settings.max_outbound:
            wall = self._wall()
            address = self._book.pick(
                self._is_usable, self._links.score, wall, self._rng
            )
            if address is None:
                return
            self._busy.add(address.id)
            nursery.start_soon(self._once, address)

    def _is_usable(self, ident: bytes) -> bool:
        return (
            ident not in self._busy
            and ident not in self._persistent
            and self._links.finished(ident) is None
            and self._links.banned_until(ident) <= self._wall()
        )

    async def _once(self, address: PeerAddress) -> None:
        try:
            seconds = await self._links.connect(address)
        finally:
            self._busy.discard(address.id)
        if seconds >= _SETTLED_SECONDS:
            self._book.served(address)
        elif self._links.finished(address.id) is None:
            self._book.failed(address, self._wall())

    def _spread(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1 - _SPREAD, 1 + _SPREAD)
