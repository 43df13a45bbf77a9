"""Block sync between nodes: in memory with bad peers of each kind, and over sockets."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio

from chain.sidecar import CommitCertificate
from chain.store import Store
from consensus.parts import PART_BYTES, cut
from node.p2p.address import PeerAddress
from node.p2p.errors import PeerFaultError, PeerStalledError
from node.p2p.identity import NodeKey
from node.p2p.interface import Reactor
from node.p2p.settings import Network, Settings, Timing
from node.p2p.switch import Switch
from node.sync.assembly import EncodedBlock, messages
from node.sync.blocks import BLOCKS, Inbox, read_blocks
from node.sync.errors import ForkError, SyncError
from node.sync.messages import (
    BlockPart,
    End,
    LargeBlock,
    Message,
    Request,
    SmallBlock,
    Status,
    encode,
)
from node.sync.scheduler import Limits
from tests.consensus.committee import Committee
from tests.node.sync.chains import Chain, Follower, Wire, hear, until, wired
from tests.node.tiny import CHAIN_ID

LIMITS = Limits(batch=4)
HASTY = Limits(batch=4, silence=0.2, patience=0.5, rest=0.01, strikes=1_000)
COMMITTEES = {6: Committee(2, 1, 1, 1), 12: Committee(1, 1, 1)}


def long_chain() -> Chain:
    """Blocks of all sizes, and two changes of validators."""
    chain = Chain(committees=COMMITTEES)
    chain.grow(10)
    chain.grow(1, [bytes(range(256)) * 300, b"", bytes(70_000)])
    chain.grow(9, [])
    return chain


CHAIN = long_chain()


def follower(limits: Limits = LIMITS, store: Store | None = None) -> Follower:
    return Follower(limits, sets=CHAIN.voters, store=store)


Peer = Callable[[Wire, Inbox], Awaitable[None]]


async def honest(wire: Wire, inbox: Inbox) -> None:
    """Serves the chain."""
    await wire.say(Status(1, CHAIN.database.head().number))
    while True:
        message = await hear(inbox)
        if isinstance(message, Request):
            found = read_blocks(CHAIN.database, message.first, message.count)
            for each in found:
                for piece in messages(each):
                    await wire.say(piece)
            await wire.say(End(message.first, len(found)))


async def attended(
    node: Follower, name: bytes, peer: Peer, faults: dict[bytes, Exception]
) -> None:
    """Let `peer` talk to the node until one of them is through."""
    here, inbox, there, at_peer = wired(b"node", name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer, there, at_peer)
        try:
            await node.sync.attend(here, inbox)
        except* (PeerFaultError, PeerStalledError) as group:
            faults[name] = group.exceptions[0]
        nursery.cancel_scope.cancel()


async def synced(node: Follower, **peers: Peer) -> dict[bytes, Exception]:
    """Run a node with these peers until it has the whole chain."""
    faults: dict[bytes, Exception] = {}
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for name, peer in peers.items():
                nursery.start_soon(attended, node, name.encode(), peer, faults)
            if set(peers) - {"good"}:
                # The bad one first, so that it is asked.
                await until(lambda: node.sync.best > 0 or bool(faults))
            nursery.start_soon(node.sync.run)
            await until(lambda: node.database.head() == CHAIN.database.head())
            await node.sync.caught_up.wait()
            nursery.cancel_scope.cancel()
    assert node.imported == [*range(1, 21)]
    return faults


def test_a_node_catches_up_with_one_peer() -> None:
    node = follower()
    assert trio.run(lambda: synced(node, good=honest)) == {}
    assert not node.sync.syncing
    head = node.database.head()
    for height in range(1, 21):
        block = node.database.block_at(height)
        assert block == CHAIN.block(height)
        certificate = CHAIN.database.certificate(block.hash)
        assert node.database.certificate(block.hash) == certificate
    assert head.state_root == CHAIN.database.head().state_root


def test_with_several_peers() -> None:
    node = follower(Limits(batch=1))
    assert trio.run(lambda: synced(node, a=honest, b=honest, c=honest)) == {}


def test_it_resumes_where_it_stopped() -> None:
    store = Store.memory()
    first = follower(store=store)

    async def interrupted() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attended, first, b"good", honest, {})
            nursery.start_soon(first.sync.run)
            await until(lambda: first.database.head().number >= 7)
            nursery.cancel_scope.cancel()

    trio.run(interrupted)
    done = first.imported[-1]
    second = follower(store=store)

    async def again() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attended, second, b"good", honest, {})
            nursery.start_soon(second.sync.run)
            await until(lambda: second.database.head() == CHAIN.database.head())
            nursery.cancel_scope.cancel()

    trio.run(again)
    assert second.imported == [*range(done + 1, 21)]


def test_a_peer_that_is_gone_in_the_middle_is_replaced() -> None:
    async def leaves(wire: Wire, inbox: Inbox) -> None:
        await wire.say(Status(1, 20))
        await hear(inbox)
        message = await hear(inbox)
        assert isinstance(message, Request)
        for piece in messages(CHAIN.encoded(message.first)):
            await wire.say(piece)
        wire._out.close()

    node = follower()
    assert trio.run(lambda: synced(node, bad=leaves, good=honest)) == {}


def lying(spoil: Callable[[EncodedBlock], EncodedBlock], top: int = 20) -> Peer:
    """A peer that answers in time, with something else."""

    async def peer(wire: Wire, inbox: Inbox) -> None:
        await wire.say(Status(1, top))
        while True:
            message = await hear(inbox)
            if isinstance(message, Request):
                last = min(message.first + message.count - 1, 20)
                for height in range(message.first, last + 1):
                    for piece in messages(spoil(CHAIN.encoded(height))):
                        await wire.say(piece)
                await wire.say(End(message.first, max(0, last - message.first + 1)))

    return peer


def _unsigned(found: EncodedBlock) -> EncodedBlock:
    certificate = CommitCertificate.decode(found.certificate)
    return replace(found, certificate=replace(certificate, signatures=()).encode())


def _emptied(found: EncodedBlock) -> EncodedBlock:
    block = replace(CHAIN.block(found.height), transactions=())
    return replace(found, block=block.encode())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_unsigned, "more than 2/3"),
        (_emptied, "transactionsRoot"),
        (lambda found: replace(found, block=b"\xc0"), "list of 3"),
        (lambda found: replace(found, block=found.block + b"\0"), "bytes follow"),
        (lambda found: replace(found, certificate=bytes(1_000)), "certificate"),
        (lambda found: replace(found, height=found.height + 1), "comes next"),
        (lambda found: replace(CHAIN.encoded(9), height=found.height), "got block 9"),
    ],
    ids=["unsigned", "emptied", "garbage", "longer", "votes", "unasked", "another"],
)
def test_a_peer_that_lies_is_banned_and_its_blocks_thrown_away(
    spoil: Callable[[EncodedBlock], EncodedBlock], reason: str
) -> None:
    faults = trio.run(lambda: synced(follower(), bad=lying(spoil), good=honest))
    assert set(faults) == {b"bad"}
    assert isinstance(faults[b"bad"], PeerFaultError)
    assert reason in str(faults[b"bad"])


def saying(*answer: Message) -> Peer:
    """A peer that answers the first request with this."""

    async def peer(wire: Wire, inbox: Inbox) -> None:
        await wire.say(Status(1, 20))
        while not isinstance(await hear(inbox), Request):
            pass
        for message in answer:
            await wire.say(message)
        await trio.sleep_forever()

    return peer


ROOT, PARTS = cut(bytes(2 * PART_BYTES))
LARGE = LargeBlock(1, 2 * PART_BYTES, ROOT, b"c")


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (saying(End(1, 5)), "an answer of 5 blocks"),
        (saying(LARGE, End(1, 0)), "ends inside a block"),
        (saying(LARGE, BlockPart(1, PARTS[1])), "expected part 0"),
        (saying(LARGE, SmallBlock(1, b"x", b"c")), "before block 1 ended"),
        (saying(BlockPart(1, PARTS[0])), "out of place"),
        (saying(*[Request(1, 64)] * 200), "requests at once"),
    ],
    ids=["count", "cut", "order", "overlap", "stray", "flood"],
)
def test_a_peer_that_breaks_the_protocol_is_banned(peer: Peer, reason: str) -> None:
    faults = trio.run(lambda: synced(follower(), bad=peer, good=honest))
    assert isinstance(faults[b"bad"], PeerFaultError)
    assert reason in str(faults[b"bad"])


def test_a_silent_peer_holds_nobody_up_and_is_dropped() -> None:
    node = follower(HASTY)
    faults: dict[bytes, Exception] = {}

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for name, peer in ((b"bad", saying()), (b"good", honest)):
                    nursery.start_soon(attended, node, name, peer, faults)
                await until(lambda: node.sync.best > 0)
                nursery.start_soon(node.sync.run)
                await until(lambda: node.database.head() == CHAIN.database.head())
                await until(lambda: b"bad" in faults)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert isinstance(faults[b"bad"], PeerStalledError)


def test_a_head_that_does_not_exist_holds_nobody_up() -> None:
    boaster = lying(lambda found: found, top=2**63)
    trio.run(lambda: synced(follower(HASTY), bad=boaster, good=honest))


def test_requests_for_what_is_not_here_are_answered() -> None:
    async def main() -> None:
        node = follower()
        here, inbox, there, at_peer = wired(b"node", b"peer")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.sync.attend, here, inbox)
            assert await hear(at_peer) == Status(1, 0)
            await there.say(Request(1, 5))
            assert await hear(at_peer) == End(1, 0)
            await node.import_block(CHAIN.block(1), _certificate(1))
            assert await hear(at_peer) == Status(1, 1)
            await there.say(Request(1, 5))
            found = CHAIN.encoded(1)
            assert await hear(at_peer) == SmallBlock(1, found.block, found.certificate)
            assert await hear(at_peer) == End(1, 1)
            nursery.cancel_scope.cancel()

    trio.run(main)


def _certificate(height: int) -> CommitCertificate:
    certificate = CHAIN.database.certificate(CHAIN.block(height).hash)
    assert certificate is not None
    return certificate


def test_long_answers_are_cut() -> None:
    chain = Chain()
    chain.grow(4, [bytes(380_000)] * 4)
    assert [each.height for each in read_blocks(chain.database, 1, 9)] == [1, 2, 3]
    assert [each.height for each in read_blocks(chain.database, 3, 9)] == [3, 4]
    assert read_blocks(chain.database, 5, 9) == ()


def _fails(node: Follower, error: type[SyncError], reason: str) -> None:
    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attended, node, b"good", honest, {})
                nursery.start_soon(node.sync.run)

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    found = caught.value.subgroup(error)
    assert found is not None
    assert reason in repr(found.exceptions)


def test_a_validator_set_that_nobody_stored_stops_it() -> None:
    _fails(Follower(LIMITS), SyncError, "of height 6 is missing")


def test_a_fork_stops_it() -> None:
    node = follower()
    other = Chain()
    other.grow(1, [b"something else"])
    block = other.block(1)
    certificate = other.database.certificate(block.hash)
    assert certificate is not None
    trio.run(node.import_block, block, certificate)
    _fails(Follower(LIMITS, store=node.database.store), ForkError, "is final")


def test_an_import_that_imports_nothing_stops_it() -> None:
    node = follower()

    async def nothing(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    node.sync._import_block = nothing
    _fails(node, SyncError, "block 1 was verified, and is not imported")


# -- over real sockets -----------------------------------------------------------------


def switch(number: int, reactor: Reactor, *others: Switch | str) -> Switch:
    return Switch(
        NodeKey(bytes(31) + bytes((number,))),
        Network(CHAIN_ID, CHAIN.database.genesis_hash()),
        Settings(
            listen="127.0.0.1:0",
            persistent=tuple(PeerAddress.parse(str(each)) for each in others),
            accepts_per_second=100,
            timing=Timing(retry_first=0.05),
        ),
        (reactor,),
    )


class Served:
    """A reactor that plays a part of this file's peers."""

    channels = (BLOCKS,)

    def __init__(self, database_of: Chain) -> None:
        self.node = Follower(store=database_of.database.store, sets=database_of.voters)

    async def attend(self, peer: object, inbox: Inbox) -> None:
        await self.node.sync.attend(peer, inbox)  # type: ignore[arg-type]


class Garbage:
    """A reactor that sends bytes that mean nothing."""

    channels = (BLOCKS,)

    async def attend(self, peer: Wire, inbox: Inbox) -> None:
        await peer.send(BLOCKS.id, encode(Status(1, 20)))
        await inbox.receive()
        await peer.send(BLOCKS.id, b"\xff garbage")
        await trio.sleep_forever()


@pytest.mark.network
def test_over_real_sockets_with_two_servers_and_a_bad_one() -> None:
    node = follower(Limits(batch=2))

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                servers: list[object] = []
                for number, reactor in enumerate(
                    (Served(CHAIN), Served(CHAIN), Garbage()), start=1
                ):
                    made = switch(number, reactor)  # type: ignore[arg-type]
                    servers.append(await nursery.start(made.run))
                mine = switch(9, node.sync, *map(str, servers))
                await nursery.start(mine.run)
                nursery.start_soon(node.sync.run)
                await until(lambda: node.database.head() == CHAIN.database.head())
                await until(lambda: mine.counters.p2p_faults_total == 1)
                assert len(mine.peers()) == 2
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert node.imported == [*range(1, 21)]
