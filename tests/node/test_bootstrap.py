"""A fifth node begins at a snapshot of four others: real processes, real sockets."""

import json
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
import trio
from typing_extensions import override

from chain.database import ChainDatabase
from chain.header import Header
from chain.sidecar import CommitCertificate, CommitSignature
from chain.store import Store
from consensus.light import LightBlock
from consensus.votes import Subject, VoteKind, sign_vote
from genesis import ChainSpec
from genesis.accounts import validator
from lockstep.localnet import Localnet, Process, eventually
from node.bootstrap import EVIDENCE_FILE, Bootstrap, begin_at_snapshot
from node.config import load_config
from node.datadir import DataDirectory
from node.errors import ConfigError, DataDirectoryError
from node.opening import initialise, opened_chain
from node.p2p.identity import NodeKey
from node.p2p.interface import Peer, Reactor
from node.p2p.settings import Network, Settings
from node.p2p.switch import Switch
from node.rpc.errors import SERVER_ERROR
from node.sync.errors import BadSnapshotError, LightAttackError
from node.sync.lightsync import LightSync, light_block
from node.sync.restore import unfinished
from node.sync.snapshotfile import SnapshotFile
from node.sync.snapshots import records
from node.sync.snapshotsync import FetchLimits, Inbox, SnapshotSync
from node.upkeep import make_snapshot
from tests.node.process import CommandLine
from tests.node.sync.test_snapshots import HEIGHT, HISTORY, chain, restorer, small
from tests.node.sync.test_snapshotsync import Stuck
from tests.node.test_testnet import ask, height, is_at, pay, reach
from tests.node.test_upkeep import database_of, grown
from tests.testnets.network import free_ports

SECONDS = 120.0
TRUSTED = 2
INTERVAL = 4
# However slow the machine is, all servers are heard before one is chosen.
PATIENT = FetchLimits(late=60.0, patience=60.0, discovery=60.0)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def net(tmp_path: Path, run: CommandLine) -> Iterator[Localnet]:
    del run  # it clears the environment first
    patch = pytest.MonkeyPatch()
    patch.setenv("LOCKSTEP_SNAPSHOT_INTERVAL", str(INTERVAL))
    with Localnet(tmp_path / "net", block_time=0.3, validators=4) as running:
        patch.undo()
        yield running


def follower(net: Localnet, home: Path, trusted_hash: str, port: int) -> Process:
    """Write a fifth node's configuration, and start it."""
    peers: list[str] = []
    for each in net.databases:
        lines = (each / "config.toml").read_text().splitlines()
        (found,) = [line for line in lines if line.startswith("p2p_persistent_peers")]
        peers += json.loads(found.partition(" = ")[2])
    config = home.with_suffix(".toml")
    config.write_text(
        f"data_dir = {json.dumps(str(home))}\nrpc_port = {port}\n"
        f"p2p_persistent_peers = {json.dumps(sorted(set(peers)))}\n"
    )
    arguments = ["node", "--json", "--config", str(config)]
    arguments += ["--sync-trust-height", str(TRUSTED)]
    arguments += ["--sync-trust-hash", trusted_hash]
    return Process("follower", arguments, home.with_suffix(".log"))


def told(url: str) -> tuple[int, Any]:
    """Status and content of what a node answers; 0 when it does not."""
    try:
        answer = requests.get(url, timeout=30)
    except requests.ConnectionError:
        return 0, None
    return answer.status_code, answer.json()


@contextmanager
def frozen(*processes: Process) -> Generator[None]:
    """Processes that neither run nor end, as on a machine that hangs."""
    pids = [each._process.pid for each in processes]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.network
def test_a_fifth_node_joins_by_snapshot_and_has_the_same_state(
    net: Localnet, run: CommandLine, tmp_path: Path
) -> None:
    reach(net, 2)
    pay(net.url, 0)
    reach(net, 2 * INTERVAL + 1)
    home = tmp_path / "fifth"
    specification = str(net.database / "chain.json")
    run("init", "--data-dir", str(home), "--chain", specification)
    trusted = ask(net.url, "eth_getBlockByNumber", hex(TRUSTED), *[False])["hash"]
    port = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with frozen(net.nodes[3]):
        with frozen(*net.nodes[:3]):
            fifth = follower(net, home, trusted, port)
            eventually(lambda: told(url + "/health")[0] == 200, SECONDS, "health")
            status, details = told(url + "/ready")
            assert status == 503
            assert details["status"] == "no peers to restore a snapshot from"
        fifth.wait_for("ready", SECONDS)
    log = (home.with_suffix(".log") / "stderr").read_text()
    assert "other peers confirm" in log
    assert "no second peer confirms" not in log
    begun = height(url)
    assert begun >= INTERVAL
    eventually(
        partial(is_at, url, begun + 3), SECONDS, "the fifth node goes on with blocks"
    )
    number = hex(height(url))
    here, there = (
        ask(each, "eth_getBlockByNumber", number, *[False]) for each in (url, net.url)
    )
    assert here == there
    payee = "0x" + "22" * 20
    balances = {ask(each, "eth_getBalance", payee, number) for each in (url, net.url)}
    assert balances == {"0x1"}
    assert fifth.stop() == 0
    with (
        DataDirectory.existing(home) as directory,
        opened_chain(directory) as (_, database),
    ):
        assert database.base() >= INTERVAL
        assert database.base() % INTERVAL == 0
        base = database.base()
    report = json.loads(run("audit", str(home), "--json"))
    assert report["mismatches"] == []
    assert (report["first_block"], report["trusted_state"]) == (base, base - 1)
    assert report["blocks"] == report["head"] - base + 2
    assert f"begins        with block {base}" in run("audit", str(home))


SPEC = ChainSpec.load("devnet")
Rows = dict[bytes, bytes]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ChainDatabase:
    """Five blocks of devnet."""
    return database_of(grown(tmp_path_factory.mktemp("source"), SPEC, 5))


def serving(source: ChainDatabase, files: Iterable[SnapshotFile]) -> list[Reactor]:
    return [SnapshotSync(files), LightSync(partial(light_block, source))]


def snapshot(source: ChainDatabase, path: Path, height: int) -> SnapshotFile:
    make_snapshot(path, SPEC, source, height)
    return SnapshotFile(BytesIO(path.read_bytes()))


def restored(
    source: ChainDatabase,
    store: Store,
    home: Path,
    servers: Iterable[list[Reactor]],
    enough: Callable[[], bool] = lambda: False,
    trusted: str | None = None,
    **settings: object,
) -> Header | None:
    """Begin at a snapshot of these servers; None when stopped by `enough`."""

    async def main() -> Header | None:
        header: Header | None = None
        async with trio.open_nursery() as nursery:
            peers: list[str] = []
            for number, reactors in enumerate(servers):
                switch = Switch(
                    NodeKey(bytes(31) + bytes((number + 1,))),
                    Network(SPEC.chain_id, source.genesis_hash()),
                    Settings(listen="127.0.0.1:0", accepts_per_second=100),
                    reactors,
                )
                peers.append(str(await nursery.start(switch.run)))
            flags = {
                "data_dir": home,
                "p2p_persistent_peers": tuple(peers),
                "sync_trust_height": 1,
                "sync_trust_hash": trusted or "0x" + (source.hash_at(1) or b"").hex(),
                "sync_trust_period": 1 << 40,
                "rpc_port": 0,
                **settings,
            }
            config = load_config(flags, environment={})

            async def until_enough() -> None:
                while not enough():  # noqa: ASYNC110 - looks, never guesses
                    await trio.sleep(0.005)
                scope.cancel()

            nursery.start_soon(until_enough)
            with trio.move_on_after(60) as scope:
                begun = Bootstrap(config, SPEC, store, limits=PATIENT)
                header = await begun.run(NodeKey(bytes(31) + b"\xff"))
            nursery.cancel_scope.cancel()
        return header

    return trio.run(main)


@pytest.mark.network
def test_the_newest_true_snapshot_is_taken(
    source: ChainDatabase, tmp_path: Path
) -> None:
    old, new = (snapshot(source, tmp_path / str(n), n) for n in (3, 4))
    false = snapshot(source, tmp_path / "false", 5)
    false.manifest = replace(false.manifest, block_hash=b"\1" * 32)
    servers = [serving(source, each) for each in ([old], [new, old], [false])]
    store = Store.memory()
    header = restored(source, store, tmp_path, servers)
    assert header == source.header_at(4)
    assert ChainDatabase(store).head() == header
    banned = json.loads((tmp_path / "addresses.json").read_text())["bans"]
    assert len(banned) == 1


class Late(SnapshotSync):
    """Says nothing for a while."""

    @override
    async def attend(self, peer: Peer, inbox: Inbox) -> None:
        await trio.sleep(0.5)
        await super().attend(peer, inbox)


@pytest.mark.network
def test_a_configured_peer_that_takes_its_time_is_waited_for(
    source: ChainDatabase, tmp_path: Path
) -> None:
    old, new = (snapshot(source, tmp_path / str(n), n) for n in (3, 4))
    servers = [serving(source, [old]), [Late([new]), *serving(source, [])[1:]]]
    header = restored(source, Store.memory(), tmp_path, servers)
    assert header == source.header_at(4)


def another(source: ChainDatabase, height: int) -> LightBlock | None:
    """A light block; from height 4 on one of another history, by the same validator."""
    block = light_block(source, height)
    if block is None or height < 4:
        return block
    header = replace(block.header, gas_used=block.header.gas_used + 1)
    subject = Subject(VoteKind.PRECOMMIT, height, 0, header.hash, header.timestamp)
    secret = validator(0).secret
    vote = sign_vote(source.genesis_hash(), subject, 0, secret)
    signer = block.validators.at(0).address
    signature = CommitSignature(signer, subject.detail, vote.signature)
    certificate = CommitCertificate(height, 0, header.hash, (signature,))
    return replace(block, header=header, certificate=certificate)


@pytest.mark.network
def test_two_certified_headers_stop_it_and_are_kept(
    source: ChainDatabase, tmp_path: Path
) -> None:
    files = [snapshot(source, tmp_path / "snapshot", 4)]
    forger: list[Reactor] = [SnapshotSync(files), LightSync(partial(another, source))]
    store = Store.memory()
    with pytest.raises(BaseExceptionGroup) as caught:
        restored(source, store, tmp_path, [serving(source, files), forger])
    assert caught.group_contains(LightAttackError, match="block 4 is certified twice")
    assert ChainDatabase(store).is_empty()
    document = json.loads((tmp_path / EVIDENCE_FILE).read_text())
    hashes = {document[each]["header"]["hash"] for each in ("first", "second")}
    fork = another(source, 4)
    assert fork is not None
    assert hashes == {
        "0x" + (source.hash_at(4) or b"").hex(),
        "0x" + fork.header.hash.hex(),
    }
    # With the forger gone, or a trusted block that decides, it goes on.
    assert restored(source, store, tmp_path, [serving(source, files)]) is not None


@pytest.mark.network
def test_a_snapshot_from_before_the_trusted_block_is_passed_over(
    source: ChainDatabase, tmp_path: Path
) -> None:
    early = snapshot(source, tmp_path / "early", 1)
    early.manifest = replace(early.manifest, height=1)
    fine = snapshot(source, tmp_path / "fine", 2)
    header = restored(
        source, Store.memory(), tmp_path, [serving(source, [early, fine])]
    )
    assert header == source.header_at(2)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots of many chunks."""
    monkeypatch.setattr("node.sync.snapshots.CHUNK_BYTES", 4_096)


@pytest.mark.usefixtures("many")
@pytest.mark.network
def test_a_node_answers_while_it_restores(
    source: ChainDatabase, tmp_path: Path
) -> None:
    snapshot(source, tmp_path / "snapshot", 4).close()
    stuck = Stuck(BytesIO((tmp_path / "snapshot").read_bytes()))
    count = stuck.manifest.chunks
    rpc, metrics = (free_ports(1) for _ in range(2))
    url = f"http://127.0.0.1:{rpc}"
    said: dict[str, Any] = {}

    def look() -> None:
        try:
            wanted = f"restoring a snapshot: 0 of {count} chunks"
            eventually(
                lambda: (told(url + "/ready")[1] or {}).get("status") == wanted,
                30,
                wanted,
            )
            for path in ("/health", "/ready"):
                said[path] = told(url + path)
            body = b'{"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber"}'
            said["call"] = requests.post(url, body, timeout=30).json()
            exposition = f"http://127.0.0.1:{metrics}/metrics"
            said["metrics"] = requests.get(exposition, timeout=30).text
        finally:
            stuck.go_on.set()

    looking = Thread(target=look)
    looking.start()
    header = restored(
        source,
        Store.memory(),
        tmp_path,
        [serving(source, [stuck])],
        rpc_port=rpc,
        metrics_port=metrics,
    )
    looking.join()
    assert header == source.header_at(4)
    assert said["/health"] == (200, {"status": "ok", "height": 0, "restoring": 4})
    assert said["/ready"][0] == 503
    assert (said["/ready"][1]["best"], said["/ready"][1]["peers"]) == (4, 1)
    assert said["call"]["error"]["code"] == SERVER_ERROR
    assert "restoring a snapshot" in said["call"]["error"]["message"]
    for line in (
        "lockstep_statesync_syncing 1.0",
        "lockstep_statesync_snapshot_height 4.0",
        "lockstep_statesync_chunks 0.0",
        f"lockstep_statesync_chunks_wanted {count}.0",
        "lockstep_p2p_peers 1.0",
        'lockstep_rpc_errors_total{method="unknown"} 1.0',
    ):
        assert line in said["metrics"].splitlines()
    assert told(url + "/health") == (0, None)


@pytest.mark.network
def test_a_wrong_hash_bans_nobody(source: ChainDatabase, tmp_path: Path) -> None:
    """The operator may have been told wrong; only a newer snapshot can be a lie."""
    files = [snapshot(source, tmp_path / str(n), n) for n in (1, 4)]
    looks = count()

    def enough() -> bool:
        return next(looks) > 200

    store = Store.memory()
    servers = [serving(source, files)]
    assert restored(source, store, tmp_path, servers, enough, HASH) is None
    assert ChainDatabase(store).is_empty()
    assert json.loads((tmp_path / "addresses.json").read_text())["bans"] == []


class Half(SnapshotFile):
    """Has lost all chunks but the first ones."""

    @override
    def chunk(self, index: int) -> bytes:
        if index >= 6:
            raise BadSnapshotError("lost")
        return super().chunk(index)


@pytest.mark.usefixtures("many")
@pytest.mark.network
def test_what_was_interrupted_goes_on(source: ChainDatabase, tmp_path: Path) -> None:
    whole = snapshot(source, tmp_path / "snapshot", 4)
    assert whole.manifest.chunks > 6
    half = Half(BytesIO((tmp_path / "snapshot").read_bytes()))
    store = Store.memory()
    restored(
        source,
        store,
        tmp_path,
        [serving(source, [half])],
        lambda: unfinished(store) == whole.manifest,
    )
    assert ChainDatabase(store).is_empty()
    newer = snapshot(source, tmp_path / "newer", 5)
    both = [serving(source, [newer, whole])]
    assert restored(source, store, tmp_path, both) == source.header_at(4)
    assert unfinished(store) is None


@pytest.mark.usefixtures("many")
@pytest.mark.network
def test_what_nobody_has_any_more_is_begun_anew(
    source: ChainDatabase, tmp_path: Path
) -> None:
    whole = snapshot(source, tmp_path / "snapshot", 4)
    half = Half(BytesIO((tmp_path / "snapshot").read_bytes()))
    store, clean = Store.memory(), Store.memory()
    begun = [serving(source, [half])]
    restored(source, store, tmp_path, begun, lambda: unfinished(store) is not None)
    assert whole.manifest == unfinished(store)
    for each in (store, clean):
        newer = snapshot(source, tmp_path / "newer", 5)
        header = restored(source, each, tmp_path, [serving(source, [newer])])
        assert header == source.header_at(5)
    assert dict(store.scan(b"")) == dict(clean.scan(b""))


def ready(tmp_path: Path, **settings: object) -> bool:
    flags = {"data_dir": tmp_path, **settings}
    with DataDirectory(tmp_path) as directory:
        initialise(directory, SPEC, None)
        return begin_at_snapshot(load_config(flags, environment={}), directory)


HASH = "0x" + "11" * 32


def test_without_trust_a_node_begins_at_genesis(tmp_path: Path) -> None:
    assert ready(tmp_path)
    assert not (tmp_path / "database").exists()


def test_half_of_the_trust_is_refused(tmp_path: Path) -> None:
    for settings in ({"sync_trust_height": 5}, {"sync_trust_hash": HASH}):
        with pytest.raises(ConfigError, match="belong together"):
            ready(tmp_path, **settings)
    with pytest.raises(ConfigError, match="sync_trust_hash"):
        ready(tmp_path, sync_trust_height=5, sync_trust_hash="0x11")


def test_without_peers_there_is_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="comes from peers"):
        ready(tmp_path, sync_trust_height=5, sync_trust_hash=HASH)


def test_a_node_that_has_a_chain_goes_on_with_it(tmp_path: Path) -> None:
    assert ready(tmp_path)
    with (
        DataDirectory(tmp_path) as directory,
        opened_chain(directory) as (_, database),
    ):
        assert database.head().number == 0
    assert ready(tmp_path, sync_trust_height=5, sync_trust_hash=HASH)


def test_a_restoration_under_way_is_no_chain(tmp_path: Path) -> None:
    assert ready(tmp_path)
    with DataDirectory(tmp_path) as directory:
        store = Store.open(directory.database)
        content = small(list(records(chain().database, HEIGHT, HISTORY)))
        begun = restorer(store, content)
        while unfinished(store) is None:
            begun.take(content[begun.next])
        assert ChainDatabase(store).is_empty()
        store.close()
        with (
            pytest.raises(DataDirectoryError, match="is being restored here"),
            opened_chain(directory),
        ):
            pass
