"""Light blocks of a peer put to use: a search along them, and what a witness proves.

The rules are `consensus.light`, the I/O is whoever answers an `Ask`. A header that was
verified with the light blocks of one peer is false only if more than a third of the
stake helped that peer; so others are asked for the same height. Who has another header
must prove it from the last header on which both agree. Then more than a third of the
stake signed two histories, and both headers are the evidence.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import trio

from consensus.light import (
    Fork,
    InvalidLightBlock,
    LightBlock,
    LightError,
    Policy,
    Search,
    bifurcation,
    fork,
)

Ask = Callable[[int], Awaitable[LightBlock | None]]


class NotToldError(LightError):
    """A peer lacks what would decide, or is of another history: no fault of its."""


@dataclass(frozen=True, slots=True)
class Rules:
    """By which light blocks are judged.

    Attributes:
        genesis_hash: Of the chain.
        policy: For how long a header is trusted.
        now: The wall clock.
    """

    genesis_hash: bytes
    policy: Policy
    now: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Verified:
    """A header, verified with the light blocks of one peer.

    Attributes:
        search: Finished.
        peer: Id of the peer.
        address: Of the peer.
    """

    search: Search
    peer: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Testimony:
    """What a peer says of a header that another one verified.

    Attributes:
        peer: Its id.
        address: Of it.
        problem: Why nothing it says counts; empty when it agrees or proves a fork.
        fork: What it proves.
    """

    peer: bytes
    address: str
    problem: str = ""
    fork: Fork | None = None

    @property
    def agrees(self) -> bool:
        """Whether it has the same header."""
        return not self.problem and self.fork is None


async def searched(ask: Ask, rules: Rules, search: Search) -> Search:
    """Bring a search to its end with the light blocks of one peer.

    Raises:
        NotToldError: the peer lacks one.
        InvalidLightBlock: one proves nothing.
        TrustExpired: the root of the search is too old.
    """
    while (needed := search.needed) is not None:
        block = await _told(ask, needed)
        advance = partial(
            search.advance, rules.genesis_hash, block, rules.policy, now=rules.now()
        )
        search = await trio.to_thread.run_sync(advance)
    return search


async def contradiction(ask: Ask, rules: Rules, search: Search) -> Fork | None:
    """The fork that a witness proves; None when it has the header that was found.

    Args:
        ask: The witness.
        rules: By which the search was made.
        search: Finished, with the light blocks of somebody else.

    Raises:
        NotToldError: it lacks a block, or has another one at the trusted height.
        InvalidLightBlock: it says something else, and proves nothing.
        TrustExpired: the trusted header has become too old to tell.
    """
    told = await _told(ask, search.target)
    if told.header.hash == search.latest.header.hash:
        return None
    root = search.root.header
    if (await _told(ask, root.number)).header.hash != root.hash:
        raise NotToldError("it has another block at the trusted height")
    hashes = {
        each.height: (await _told(ask, each.height)).header.hash
        for each in search.trace
    }
    parting = bifurcation(search, hashes)
    if parting is not None:
        common, ours = parting
        theirs = await searched(ask, rules, Search(common, ours.height))
        proved = fork(common, ours, theirs.trace[-1])
        if proved is not None:
            return proved
    raise InvalidLightBlock("it says two things of one height")


async def _told(ask: Ask, height: int) -> LightBlock:
    block = await ask(height)
    if block is None:
        raise NotToldError(f"it has no light block {height}")
    return block
