"""Snapshots between nodes: several servers, bad peers of each kind, real sockets."""

import io
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st
from typing_extensions import override

from chain import rlp
from chain.crypto import sha256
from chain.database import ChainDatabase
from chain.errors import Malformed
from chain.header import Header
from chain.store import Store
from node.p2p.address import PeerAddress
from node.p2p.errors import PeerFaultError, PeerStalledError
from node.p2p.identity import NodeKey
from node.p2p.settings import Network, Settings, Timing
from node.p2p.switch import Switch
from node.sync.merkle import Tree
from node.sync.restore import Restorer, restore
from node.sync.snapshotfile import SnapshotFile, write_snapshot
from node.sync.snapshotmessages import (
    MAX_MESSAGE_BYTES,
    Absent,
    Chunk,
    Fetch,
    Offers,
    SnapshotMessage,
    decode,
    encode,
)
from node.sync.snapshots import Manifest, chunks, records
from node.sync.snapshotsync import (
    SNAPSHOTS,
    Begin,
    FetchLimits,
    Inbox,
    SnapshotSync,
)
from tests.node.sync.chains import Wire, execute, until, wired
from tests.node.sync.test_snapshots import (
    HEIGHT,
    HISTORY,
    chain,
    restorer,
    small,
    trust,
)
from tests.node.tiny import CHAIN_ID
from tests.support.vectors import Vectors

T = TypeVar("T")
LIMITS = FetchLimits(tick=0.02)
MANIFEST = Manifest(5, b"\1" * 32, 256, 3, b"\2" * 32)
SAMPLES: dict[str, SnapshotMessage] = {
    "no offers": Offers(()),
    "offers": Offers((MANIFEST, replace(MANIFEST, height=9))),
    "fetch": Fetch(b"\2" * 32, 7),
    "chunk": Chunk(b"\2" * 32, 0, b"chunk", (b"\3" * 32, b"\4" * 32)),
    "absent": Absent(b"\2" * 32, 300),
}


def test_vectors(vectors: Vectors) -> None:
    rows = {name: "0x" + encode(each).hex() for name, each in SAMPLES.items()}
    vectors.check("snapshot_messages", rows)


@pytest.mark.parametrize("message", SAMPLES.values(), ids=list(SAMPLES))
def test_round_trip(message: SnapshotMessage) -> None:
    assert decode(encode(message)) == message


ROOT = bytes(32)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unknown kind of nothing"),
        (b"\5\xc0", "unknown kind 05"),
        (b"\1" + rlp.encode([MANIFEST.encode()] * 9), "9 offers"),
        (b"\1" + rlp.encode([b"x"]), "expected a list"),
        (b"\2" + rlp.encode([ROOT, b"\x40\0\0"]), "at most 4194304 exist"),
        (b"\3" + rlp.encode([ROOT, b"", b"", []]), "a chunk of 0 bytes"),
        (b"\3" + rlp.encode([ROOT, b"", b"x", [ROOT] * 33]), "33 hashes"),
        (b"\4" + rlp.encode([ROOT]), "list of 2"),
        (b"\4" + bytes(MAX_MESSAGE_BYTES), "are possible"),
    ],
)
def test_refusals(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decode(data)


@given(st.binary(max_size=200), st.integers(0, 5))
def test_whatever_decodes_has_one_encoding(data: bytes, kind: int) -> None:
    data = bytes((kind,)) + data
    try:
        message = decode(data)
    except Malformed:
        return
    assert encode(message) == data


# -- between nodes ---------------------------------------------------------------------


class Content:
    """Chunks that a peer of ours serves, true or false."""

    def __init__(self, content: list[bytes], height: int = HEIGHT) -> None:
        self.chunks = content
        self.tree = Tree([sha256(each) for each in content])
        block_hash = chain().block(height).hash
        self.manifest = Manifest(
            height, block_hash, HISTORY, len(content), self.tree.root
        )

    def answer(self, fetch: Fetch) -> Chunk:
        proof = self.tree.proof(fetch.index)
        return Chunk(fetch.root, fetch.index, self.chunks[fetch.index], proof)

    def answers(self, fetch: Fetch) -> tuple[SnapshotMessage, ...]:
        return (self.answer(fetch),)


ROWS = list(records(chain().database, HEIGHT, HISTORY))
TRUE = Content(small(ROWS))
BadPeer = Callable[[Wire, Inbox], Awaitable[None]]


async def _say(wire: Wire, *messages: SnapshotMessage) -> None:
    for message in messages:
        await wire.send(SNAPSHOTS.id, encode(message))


def serving(
    content: Content,
    answer: Callable[[Fetch], tuple[SnapshotMessage, ...]] | None = None,
    *more: SnapshotMessage,
) -> BadPeer:
    """A peer that offers this, and answers with something."""

    async def peer(wire: Wire, inbox: Inbox) -> None:
        await _say(wire, Offers((content.manifest,)), *more)
        async for _, payload in inbox:
            message = decode(payload)
            if isinstance(message, Fetch):
                found = (
                    (content.answer(message),) if answer is None else answer(message)
                )
                await _say(wire, *found)

    return peer


honest = serving(TRUE)


def begin(store: Store) -> Begin:
    async def made(manifest: Manifest) -> Restorer:
        return Restorer(store, manifest, trust(), execute)

    return made


async def _attended(
    sync: SnapshotSync, name: bytes, peer: BadPeer, faults: dict[bytes, Exception]
) -> None:
    here, inbox, there, at_peer = wired(b"node", name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer, there, at_peer)
        try:
            await sync.attend(here, inbox)
        except* (PeerFaultError, PeerStalledError, Malformed) as group:
            faults[name] = group.exceptions[0]
        nursery.cancel_scope.cancel()


def fetched(
    peers: dict[bytes, BadPeer], limits: FetchLimits = LIMITS
) -> tuple[Header, dict[bytes, Exception]]:
    """Fetch a snapshot; the honest peer comes when the bad one is done for."""
    faults: dict[bytes, Exception] = {}
    store = Store.memory()

    async def main() -> Header:
        sync = SnapshotSync(limits=limits)
        result: list[Header] = []

        async def fetch() -> None:
            result.append(await sync.fetch(begin(store)))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch)
                for name, peer in peers.items():
                    nursery.start_soon(_attended, sync, name, peer, faults)
                await until(lambda: bool(result or faults or set(peers) == {b"idle"}))
                nursery.start_soon(_attended, sync, b"good", honest, faults)
                await until(lambda: bool(result))
                nursery.cancel_scope.cancel()
        assert sync.progress == (0, 0)
        return result[0]

    header = trio.run(main)
    assert ChainDatabase(store).head() == header
    return header, faults


def test_one_peer_is_enough() -> None:
    header, faults = fetched({b"one": honest})
    assert header == chain().block(HEIGHT).header
    assert faults == {}


def test_several_peers_share_the_work() -> None:
    counts = {b"a": 0, b"b": 0, b"c": 0}

    def counted(name: bytes) -> BadPeer:
        def answer(fetch: Fetch) -> tuple[SnapshotMessage, ...]:
            counts[name] += 1
            return (TRUE.answer(fetch),)

        return serving(TRUE, answer)

    fetched({name: counted(name) for name in counts})
    assert sum(counts.values()) == len(TRUE.chunks)
    assert sum(1 for count in counts.values() if count) >= 2


def shared(
    peers: Mapping[bytes, BadPeer], limits: FetchLimits, *, expected: int = 1
) -> tuple[Header, dict[bytes, Exception]]:
    """Fetch a snapshot from all of these at once."""
    faults: dict[bytes, Exception] = {}
    store = Store.memory()

    async def made(manifest: Manifest) -> Restorer:
        return Restorer(store, manifest, trust(manifest.height), execute)

    async def main() -> Header:
        sync = SnapshotSync(limits=limits)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for name, peer in peers.items():
                    nursery.start_soon(_attended, sync, name, peer, faults)
                header = await sync.fetch(made, expected=expected)
                nursery.cancel_scope.cancel()
        return header

    return trio.run(main), faults


def test_a_peer_has_only_a_few_fetches_under_way() -> None:
    most = {b"a": 0, b"b": 0, b"c": 0}

    def piling(name: bytes) -> BadPeer:
        """Answers when nobody can do anything else."""

        async def peer(wire: Wire, inbox: Inbox) -> None:
            await _say(wire, Offers((TRUE.manifest,)))
            waiting: list[Fetch] = []
            while True:
                with trio.move_on_after(0.02 if waiting else float("inf")) as quiet:
                    message = decode((await inbox.receive())[1])
                    if isinstance(message, Fetch):
                        waiting.append(message)
                        most[name] = max(most[name], len(waiting))
                if quiet.cancelled_caught:
                    await _say(wire, TRUE.answer(waiting.pop(0)))

        return peer

    limits = FetchLimits(each=2, late=60.0, tick=0.02)
    header, faults = shared({name: piling(name) for name in most}, limits, expected=3)
    assert (header.number, faults) == (HEIGHT, {})
    assert len(TRUE.chunks) > 6
    assert set(most.values()) == {2}


def test_a_slow_peer_holds_nobody_up_and_is_asked_last() -> None:
    asked: list[int] = []

    def silent(fetch: Fetch) -> tuple[SnapshotMessage, ...]:
        asked.append(fetch.index)
        return ()

    peers = {b"a slow one": serving(TRUE, silent), b"b": honest, b"c": honest}
    limits = FetchLimits(ahead=6, each=2, late=0.1, tick=0.02)
    header, faults = shared(peers, limits, expected=3)
    assert (header.number, faults) == (HEIGHT, {})
    assert len(TRUE.chunks) > 6
    assert asked == [0, 3]


def test_two_slow_peers_hold_nobody_up() -> None:
    slow = serving(TRUE, lambda _: ())
    peers = {b"a": slow, b"b": slow, b"c": honest}
    limits = FetchLimits(ahead=6, each=2, late=0.1, tick=0.02)
    header, faults = shared(peers, limits, expected=3)
    assert (header.number, faults) == (HEIGHT, {})


def test_a_slow_peer_is_enough_when_it_is_the_only_one() -> None:
    async def slow(wire: Wire, inbox: Inbox) -> None:
        await _say(wire, Offers((TRUE.manifest,)))
        async for _, payload in inbox:
            message = decode(payload)
            if isinstance(message, Fetch):
                await trio.sleep(0.2 if message.index == 0 else 0)
                await _say(wire, TRUE.answer(message))

    header, faults = shared({b"one": slow}, FetchLimits(late=0.05, tick=0.02))
    assert (header.number, faults) == (HEIGHT, {})


def test_a_peer_that_keeps_offering_what_it_lacks_is_asked_last() -> None:
    asked: list[int] = []

    def answer(fetch: Fetch) -> tuple[SnapshotMessage, ...]:
        asked.append(fetch.index)
        return (Absent(fetch.root, fetch.index), Offers((TRUE.manifest,)))

    peers = {b"a liar": serving(TRUE, answer), b"b": honest}
    limits = FetchLimits(ahead=6, each=2, tick=0.02)
    header, faults = shared(peers, limits, expected=2)
    assert (header.number, faults) == (HEIGHT, {})
    assert len(asked) <= limits.each


NEWER = Content(small(list(records(chain().database, 14, HISTORY))), 14)


@pytest.mark.parametrize(
    ("expected", "discovery", "height"), [(2, 30.0, 14), (1, 30.0, 12), (2, 0.05, 12)]
)
def test_who_is_expected_gets_time_to_offer_something_newer(
    expected: int, discovery: float, height: int
) -> None:
    over = trio.Event()

    async def early(wire: Wire, inbox: Inbox) -> None:
        try:
            await honest(wire, inbox)
        finally:
            over.set()

    async def later(wire: Wire, inbox: Inbox) -> None:
        """Offers when the node waits for it, or, if it does not, is done."""
        with trio.move_on_after(0.3 if expected == 2 and discovery > 1 else 30.0):
            await over.wait()
        await serving(NEWER)(wire, inbox)

    limits = FetchLimits(discovery=discovery, tick=0.02)
    header, faults = shared({b"e": early, b"l": later}, limits, expected=expected)
    assert (header.number, faults) == (height, {})


def _false(at: int) -> Content:
    """A snapshot whose manifest is true to chunks that are not."""
    rows = list(ROWS)
    rows[at] = rows[at][:-1] + bytes((rows[at][-1] ^ 1,))
    return Content(small(rows))


@pytest.mark.parametrize("at", [0, -1])
def test_who_offers_a_false_snapshot_is_banned(at: int) -> None:
    false = serving(_false(at))
    header, faults = fetched({b"bad": false, b"worse": false})
    assert header.number == HEIGHT
    assert set(faults) == {b"bad", b"worse"}
    for error in faults.values():
        assert isinstance(error, PeerFaultError)
        assert "offered a false snapshot" in str(error)


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (
            serving(TRUE, lambda f: (replace(TRUE.answer(f), content=b"x"),)),
            "its proof is false",
        ),
        (
            serving(TRUE, lambda f: (replace(TRUE.answer(f), proof=()),)),
            "its proof is false",
        ),
        (
            serving(TRUE, lambda f: (TRUE.answer(f), TRUE.answer(f))),
            "nobody asked for it",
        ),
        (serving(TRUE, lambda f: (Absent(ROOT, f.index),)), "that nobody wanted"),
        (serving(TRUE, None, *[Fetch(ROOT, 1)] * 200), "fetches at once"),
    ],
    ids=["content", "proof", "twice", "absent", "flood"],
)
def test_a_peer_that_breaks_the_protocol_is_banned(peer: BadPeer, reason: str) -> None:
    header, faults = fetched({b"bad": peer})
    assert header.number == HEIGHT
    assert isinstance(faults[b"bad"], PeerFaultError)
    assert reason in str(faults[b"bad"])


def test_a_silent_peer_is_dropped() -> None:
    limits = FetchLimits(patience=0.3, tick=0.02)
    _, faults = fetched({b"bad": serving(TRUE, lambda _: ())}, limits)
    assert isinstance(faults[b"bad"], PeerStalledError)


@pytest.mark.parametrize(
    "peer",
    [
        serving(Content(TRUE.chunks, height=11)),
        serving(TRUE, lambda fetch: (Absent(fetch.root, fetch.index),)),
    ],
    ids=["another block", "no longer"],
)
def test_a_peer_without_the_snapshot_is_passed_over(peer: BadPeer) -> None:
    _, faults = fetched({b"idle": peer})
    assert faults == {}


def test_a_snapshot_that_nobody_has_any_more_gives_way_to_another() -> None:
    def answer(fetch: Fetch) -> tuple[SnapshotMessage, ...]:
        if fetch.index < 4:
            return (NEWER.answer(fetch),)
        return (Absent(fetch.root, fetch.index),)

    async def made(manifest: Manifest) -> Restorer:
        return Restorer(store, manifest, trust(manifest.height), execute)

    async def main() -> Header:
        faults: dict[bytes, Exception] = {}
        sync = SnapshotSync(limits=FetchLimits(patience=0.3, tick=0.02))
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for name, peer in {b"n": serving(NEWER, answer), b"o": honest}.items():
                    nursery.start_soon(_attended, sync, name, peer, faults)
                header = await sync.fetch(made)
                nursery.cancel_scope.cancel()
        assert faults == {}
        return header

    store, clean = Store.memory(), Store.memory()
    assert trio.run(main).number == HEIGHT
    restore(restorer(clean, TRUE.chunks), TRUE.chunks)
    assert dict(store.scan(b"")) == dict(clean.scan(b""))


def test_what_cannot_be_told_yet_is_tried_again() -> None:
    tries: list[int] = []
    store = Store.memory()

    async def made(manifest: Manifest) -> Restorer | None:
        tries.append(manifest.height)
        return None if len(tries) < 3 else await begin(store)(manifest)

    async def main() -> Header:
        sync = SnapshotSync(limits=FetchLimits(rest=0.02, tick=0.02))
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_attended, sync, b"one", honest, {})
                header = await sync.fetch(made)
                nursery.cancel_scope.cancel()
        return header

    assert trio.run(main).number == HEIGHT
    assert tries == [HEIGHT] * 3


def test_snapshots_that_come_and_go_are_told_to_peers(tmp_path: Path) -> None:
    file = _file(tmp_path / "snapshot")

    async def main() -> None:
        server = SnapshotSync()
        here, inbox, there, at_peer = wired(b"server", b"client")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.attend, here, inbox)

            async def heard() -> SnapshotMessage:
                return decode((await at_peer.receive())[1])

            with trio.fail_after(30):
                assert await heard() == Offers(())
                server.serve([file])
                assert await heard() == Offers((file.manifest,))
                assert server.newest == HEIGHT
                file.close()
                await _say(there, Fetch(file.manifest.root, 0))
                assert await heard() == Absent(file.manifest.root, 0)
                server.serve([])
                assert await heard() == Offers(())
            nursery.cancel_scope.cancel()

    trio.run(main)


def _file(path: Path) -> SnapshotFile:
    write_snapshot(path, chain().database, HEIGHT, HISTORY)
    return SnapshotFile(io.BytesIO(path.read_bytes()))


def _switch(number: int, sync: SnapshotSync, *others: object) -> Switch:
    return Switch(
        NodeKey(bytes(31) + bytes((number,))),
        Network(CHAIN_ID, chain().database.genesis_hash()),
        Settings(
            listen="127.0.0.1:0",
            persistent=tuple(PeerAddress.parse(str(each)) for each in others),
            accepts_per_second=100,
            timing=Timing(retry_first=0.05),
        ),
        (sync,),
    )


@pytest.mark.network
def test_over_real_sockets(tmp_path: Path) -> None:
    file = _file(tmp_path / "snapshot")
    assert file.manifest.chunks > 1
    assert list(file) == list(chunks(iter(ROWS)))
    store = Store.memory()

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                servers: list[object] = []
                for number in (1, 2):
                    made = _switch(number, SnapshotSync([file]))
                    servers.append(await nursery.start(made.run))
                sync = SnapshotSync(limits=LIMITS)
                await nursery.start(_switch(9, sync, *servers).run)
                header = await sync.fetch(begin(store))
                assert header.number == HEIGHT
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert ChainDatabase(store).head() == chain().block(HEIGHT).header


class Counted(SnapshotFile):
    """Counts what is read."""

    reads = 0

    @override
    def chunk(self, index: int) -> bytes:
        self.reads += 1
        return super().chunk(index)


class Stuck(Counted):
    """A disk that answers when it is told to."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.go_on = threading.Event()

    @override
    def chunk(self, index: int) -> bytes:
        self.go_on.wait()
        return super().chunk(index)


class Lying(Counted):
    """Changes the last byte of everything."""

    @override
    def chunk(self, index: int) -> bytes:
        content = super().chunk(index)
        return content[:-1] + bytes((content[-1] ^ 1,))


@pytest.mark.network
def test_several_peers_over_real_sockets_of_which_one_is_stuck_and_one_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.sync.snapshots.CHUNK_BYTES", 1)
    _file(tmp_path / "snapshot").close()
    content = (tmp_path / "snapshot").read_bytes()
    stuck, lying = Stuck(io.BytesIO(content)), Lying(io.BytesIO(content))
    good = [Counted(io.BytesIO(content)) for _ in range(2)]
    files: list[Counted] = [stuck, lying, *good]
    assert stuck.manifest.chunks > 8
    store = Store.memory()

    async def main() -> None:
        limits = FetchLimits(ahead=8, each=2, late=0.3, discovery=60.0, tick=0.05)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                servers: list[object] = []
                for number, file in enumerate(files, start=1):
                    made = _switch(number, SnapshotSync([file]))
                    servers.append(await nursery.start(made.run))
                sync = SnapshotSync(limits=limits)
                switch = _switch(9, sync, *servers)
                await nursery.start(switch.run)
                try:
                    header = await sync.fetch(begin(store), expected=len(files))
                finally:
                    stuck.go_on.set()
                assert header.number == HEIGHT
                banned = [
                    switch.banned_until(NodeKey(bytes(31) + bytes((n,))).id) > 0
                    for n in (1, 2, 3, 4)
                ]
                assert banned == [False, True, False, False]
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert ChainDatabase(store).head() == chain().block(HEIGHT).header
    assert all(each.reads for each in good)
    # What the two bad ones were asked was asked elsewhere.
    assert sum(each.reads for each in good) >= stuck.manifest.chunks
