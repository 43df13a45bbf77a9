"""Light blocks between nodes: a reactor that serves them, and verifies with them.

Whoever begins at a snapshot trusts one height and hash. From there `verify` reaches
any later header by the rules of `consensus.light`, with the light blocks of one peer. A
light block that proves nothing is the fault of that peer; then the next one is asked.
Another block at the trusted height is nobody's provable fault: perhaps the operator was
told a wrong hash. It is logged, and the peer passed over. `witnesses` asks all the
others whether they have the header that was verified.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from chain.database import ChainDatabase
from chain.errors import NotFound
from consensus.errors import InvalidValidatorSet
from consensus.light import (
    InvalidLightBlock,
    LightBlock,
    Search,
    Trusted,
    TrustExpired,
)
from consensus.validators import ValidatorSet
from node.p2p.errors import P2PError, PeerFaultError, PeerStalledError
from node.p2p.interface import Channel, Peer
from node.sync.errors import SyncError
from node.sync.lightmessages import (
    MAX_MESSAGE_BYTES,
    Absent,
    Ask,
    Light,
    decode,
    encode,
)
from node.sync.lightsearch import (
    NotToldError,
    Rules,
    Testimony,
    Verified,
    contradiction,
    searched,
)

_log = structlog.get_logger("node.sync.light")

Inbox = trio.MemoryReceiveChannel[tuple[int, bytes]]

LIGHT = Channel(
    id=0x42,
    name="light",
    max_bytes=MAX_MESSAGE_BYTES,
    messages_per_second=50,
    bytes_per_second=4 << 20,
    queue=16,
    priority=1,
)
_OPEN_ASKS = 8
_TESTIMONY_SECONDS = 60.0


def light_block(database: ChainDatabase, height: int) -> LightBlock | None:
    """The light block of a height, if all of it is here."""
    header, parent = database.header_at(height), database.header_at(height - 1)
    if header is None or parent is None:
        return None
    certificate = database.certificate(header.hash)
    if certificate is None:
        return None
    try:
        voters, following = (
            ValidatorSet.decode(database.validators(each.extra_data))
            for each in (parent, header)
        )
    except (NotFound, InvalidValidatorSet):
        return None
    return LightBlock(parent, header, certificate, voters, following)


@dataclass(slots=True)
class _Helper:
    """A peer, and the one ask that it is to answer."""

    peer: Peer
    scope: trio.CancelScope
    asked: int = 0
    answer: LightBlock | None = None
    verdict: P2PError | None = None

    def end(self, verdict: P2PError) -> None:
        if self.verdict is None:
            self.verdict = verdict
        self.scope.cancel()


class LightSync:
    """Serves light blocks, and verifies headers with those of others."""

    def __init__(
        self,
        read: Callable[[int], LightBlock | None],
        *,
        patience: float = 10.0,
    ) -> None:
        """Wire it.

        Args:
            read: The light block of a height, from the database; runs in a thread.
            patience: Longest wait for an answer, in seconds; then its peer is dropped.
        """
        self._read = read
        self._patience = patience
        self._helpers: dict[bytes, _Helper] = {}
        self._changed = trio.Event()

    @property
    def channels(self) -> Sequence[Channel]:
        """One channel."""
        return (LIGHT,)

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- verifying --------------------------------------------------------------------

    async def verify(
        self, rules: Rules, trusted: tuple[int, bytes], target: int
    ) -> Verified | None:
        """Verify the header of a height above the trusted one; None: nobody has it.

        Args:
            rules: Of light clients.
            trusted: A height, and the hash of its block.
            target: The height to verify.

        Raises:
            SyncError: the trusted header is too old.
        """
        for helper in list(self._helpers.values()):
            try:
                search = await self._search(helper, rules, trusted, target)
            except TrustExpired as error:
                raise SyncError(str(error)) from error
            except NotToldError:
                continue
            except InvalidLightBlock as error:
                self._condemn(helper, error)
                continue
            if search is not None:
                return Verified(search, helper.peer.id, helper.peer.address)
        return None

    async def _search(
        self, helper: _Helper, rules: Rules, trusted: tuple[int, bytes], target: int
    ) -> Search | None:
        """Verify with the light blocks of one peer; None: of no use here."""
        block = await self._ask(helper, trusted[0])
        if block is None:
            return None
        if block.header.hash != trusted[1]:
            _log.error(
                "not the trusted block: a wrong hash was given, or the peer lies",
                height=trusted[0],
                trusted="0x" + trusted[1].hex(),
                has="0x" + block.header.hash.hex(),
                peer=helper.peer.address,
            )
            return None
        root = Trusted.root(*trusted, block.header, block.following)
        return await searched(partial(self._ask, helper), rules, Search(root, target))

    async def witnesses(
        self, rules: Rules, found: Verified, *, unless: Container[bytes] = ()
    ) -> tuple[Testimony, ...]:
        """What other peers say of a verified header, all asked at once.

        Who says something else and proves nothing is banned.

        Args:
            rules: Of light clients.
            found: What was verified.
            unless: Ids of peers that need not be asked.
        """
        testimonies: list[Testimony] = []

        async def hear(helper: _Helper) -> None:
            testimonies.append(await self._testimony(helper, rules, found.search))

        async with trio.open_nursery() as nursery:
            for ident, helper in self._helpers.items():
                if ident != found.peer and ident not in unless:
                    nursery.start_soon(hear, helper)
        return tuple(testimonies)

    async def _testimony(
        self, helper: _Helper, rules: Rules, search: Search
    ) -> Testimony:
        peer, problem, proved = helper.peer, "it took too long", None
        with trio.move_on_after(_TESTIMONY_SECONDS):
            try:
                ask = partial(self._ask, helper)
                proved, problem = await contradiction(ask, rules, search), ""
            except InvalidLightBlock as error:
                self._condemn(helper, error)
                problem = str(error)
            except (NotToldError, TrustExpired) as error:
                problem = str(error)
        return Testimony(peer.id, peer.address, problem, proved)

    def _condemn(self, helper: _Helper, error: InvalidLightBlock) -> None:
        _log.warning("bad light block", peer=helper.peer.address, reason=str(error))
        helper.end(PeerFaultError(f"light block: {error}"))

    async def _ask(self, helper: _Helper, height: int) -> LightBlock | None:
        if helper.verdict is not None:
            return None
        helper.asked, helper.answer = height, None
        if not helper.peer.try_send(LIGHT.id, encode(Ask(height))):
            helper.end(PeerStalledError("takes no asks for light blocks"))
            return None
        with trio.move_on_after(self._patience):
            while self._is_asked(helper):
                await self._changed.wait()
            return helper.answer
        helper.end(PeerStalledError("too slow with light blocks"))
        return None

    def _is_asked(self, helper: _Helper) -> bool:
        here = self._helpers.get(helper.peer.id) is helper
        return here and helper.verdict is None and helper.asked > 0

    # -- one peer ---------------------------------------------------------------------

    async def attend(self, peer: Peer, inbox: Inbox) -> None:
        """Serve and hear a peer until it goes.

        Raises:
            PeerFaultError: it broke a rule, or sent a light block that proves nothing.
            PeerStalledError: it is too slow.
        """
        helper = _Helper(peer, trio.CancelScope())
        self._helpers[peer.id] = helper
        sender, receiver = trio.open_memory_channel[Ask](_OPEN_ASKS)
        try:
            with helper.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._serve, peer, receiver)
                    await self._hear(helper, inbox, sender)
                    nursery.cancel_scope.cancel()
        finally:
            if self._helpers.get(peer.id) is helper:
                del self._helpers[peer.id]
            self._note()
        if helper.verdict is not None:
            raise helper.verdict

    async def _hear(
        self, helper: _Helper, inbox: Inbox, asks: trio.MemorySendChannel[Ask]
    ) -> None:
        async for _, payload in inbox:
            message = decode(payload)
            match message:
                case Ask():
                    try:
                        asks.send_nowait(message)
                    except trio.WouldBlock:
                        raise PeerFaultError(
                            f"more than {_OPEN_ASKS} asks at once"
                        ) from None
                case Light(block):
                    self._answered(helper, block.height)
                    helper.answer = block
                case Absent(height):
                    self._answered(helper, height)
            self._note()

    def _answered(self, helper: _Helper, height: int) -> None:
        if not helper.asked or height != helper.asked:
            raise PeerFaultError(f"light block {height}: nobody asked for it")
        helper.asked = 0

    async def _serve(self, peer: Peer, asks: trio.MemoryReceiveChannel[Ask]) -> None:
        async for ask in asks:
            block = await trio.to_thread.run_sync(self._read, ask.height)
            answer = Absent(ask.height) if block is None else Light(block)
            await peer.send(LIGHT.id, encode(answer))
