"""An empty node begins at a snapshot that its peers have (`node.sync.snapshotsync`).

Before anything else runs: a switch with two reactors fetches the newest snapshot whose
block follows from the height and hash that the operator trusts, by light blocks that
other peers confirm (`node.vouching`), and restores it. Until the last step the database
is empty to every reader, so whatever interrupts this, the next start goes on with it,
and no half of a state is ever used. Meanwhile the node's own ports answer: /health,
/ready and the metrics as ever, calls with an error that says why.
"""

import secrets
import time
from functools import partial

import structlog
import trio

from chain.block import Block
from chain.database import ChainDatabase
from chain.errors import ChainError
from chain.header import Header
from chain.store import Store
from consensus.light import Policy
from genesis import ChainSpec, Genesis, SpecError, build
from node.config import NodeConfig
from node.datadir import DataDirectory
from node.dbrepair import open_store
from node.errors import ConfigError, DataDirectoryError
from node.metrics import Metrics
from node.p2p.identity import NodeKey, load_node_key
from node.p2p.settings import Network
from node.p2p.switch import Switch
from node.rpc.dispatch import Dispatcher
from node.rpc.errors import RpcError, server_error
from node.rpc.server import application, serve_http, serve_metrics
from node.service import peer_settings, stopped_by_signal
from node.sync.errors import BadSnapshotError, FalseSnapshotError
from node.sync.lightsearch import Rules
from node.sync.lightsync import LightSync
from node.sync.restore import Restorer, Trust, unfinished
from node.sync.snapshots import Manifest, snapshot_history
from node.sync.snapshotsync import FetchLimits, SnapshotSync
from node.upkeep import ledger_of
from node.vitals import Restoration
from node.vouching import Vouching
from runtime.block import ExecutedBlock

_log = structlog.get_logger("node.bootstrap")
_TOLD_SECONDS = 5.0
EVIDENCE_FILE = "light-attack.json"


def begin_at_snapshot(config: NodeConfig, directory: DataDirectory) -> bool:
    """Restore a snapshot from peers if the configuration says so and nothing is here.

    Returns False when a signal came before the end.

    Raises:
        ConfigError: what is trusted is not said whole, or there are no peers to ask.
        DataDirectoryError: not initialised, or unreadable.
        LightAttackError: two blocks are certified at the snapshot's height.
        ListenError: an address for peers, calls or metrics is taken.
        SyncError: the trusted block is too old.
    """
    if bool(config.sync_trust_height) != bool(config.sync_trust_hash):
        raise ConfigError("sync_trust_height and sync_trust_hash belong together")
    content = directory.specification()
    if not config.sync_trust_height or content is None:
        return True
    try:
        spec = ChainSpec.parse(content, str(directory.path / "chain.json"))
        store = open_store(directory.database)
    except (SpecError, ChainError) as error:
        raise DataDirectoryError(str(error)) from error
    try:
        if not ChainDatabase(store).is_empty():
            return True
        if not (config.p2p_persistent_peers or config.p2p_bootstrap):
            raise ConfigError(
                "a snapshot comes from peers: set p2p_persistent_peers or p2p_bootstrap"
            )
        identity = load_node_key(directory.path, secrets.token_bytes)
        return trio.run(_until_signal, Bootstrap(config, spec, store), identity)
    finally:
        store.close()


async def _until_signal(bootstrap: "Bootstrap", identity: NodeKey) -> bool:
    with trio.CancelScope() as scope:
        async with stopped_by_signal(scope.cancel):
            await bootstrap.run(identity)
    return not scope.cancelled_caught


class Bootstrap:
    """The snapshot sync of one empty database."""

    def __init__(
        self,
        config: NodeConfig,
        spec: ChainSpec,
        store: Store,
        *,
        limits: FetchLimits | None = None,
    ) -> None:
        """Wire it.

        Args:
            config: Says what is trusted, and who the peers are.
            spec: Of the chain.
            store: Empty, or with a restoration under way.
            limits: Of fetching chunks.
        """
        self._config = config
        self._spec = spec
        self._store = store
        self._genesis: Genesis = build(spec)
        self._light = LightSync(lambda _: None)
        self._vouching = Vouching(
            self._light,
            Rules(
                self._genesis.block.hash, Policy(config.sync_trust_period), time.time
            ),
            (config.sync_trust_height, bytes.fromhex(config.sync_trust_hash[2:])),
            config.data_dir / EVIDENCE_FILE,
        )
        self._snapshots = SnapshotSync(limits=limits)

    async def run(self, identity: NodeKey) -> Header:
        """Restore; returns the header of the block where the database begins.

        Raises:
            LightAttackError: two blocks are certified at the snapshot's height.
            ListenError: an address for peers, calls or metrics is taken.
            SyncError: the trusted block is too old.
        """
        settings = peer_settings(self._config)
        configured = {each.id for each in (*settings.persistent, *settings.bootstrap)}
        switch = Switch(
            identity,
            Network(self._spec.chain_id, self._genesis.block.hash),
            settings,
            [self._snapshots, self._light],
            book_file=self._config.data_dir / "addresses.json",
        )
        first = unfinished(self._store)
        _log.info(
            "beginning at a snapshot",
            trusted_height=self._config.sync_trust_height,
            goes_on=first is not None,
        )
        stop = trio.Event()
        async with trio.open_nursery() as server:
            await self._answer(server, switch, stop)
            async with trio.open_nursery() as work:
                await work.start(switch.run)
                work.start_soon(self._tell)
                header = await self._snapshots.fetch(
                    self._restorer,
                    first=first,
                    expected=len(configured - {identity.id}),
                    confirm=lambda manifest: self._vouching.confirm(manifest.height),
                )
                work.cancel_scope.cancel()
            stop.set()
        _log.info(
            "snapshot restored", height=header.number, hash="0x" + header.hash.hex()
        )
        return header

    async def _answer(
        self, server: trio.Nursery, switch: Switch, stop: trio.Event
    ) -> None:
        """Serve what a node without a chain can say, until `stop` is set."""

        def look() -> Restoration:
            done, count = self._snapshots.progress
            return Restoration(self._snapshots.height, done, count, len(switch.peers()))

        metrics = Metrics()
        metrics.watch_peers(switch.counters, switch.peers)
        metrics.watch_restoration(look)
        config = self._config
        calls = Dispatcher(
            {}, metrics, max_batch=config.rpc_max_batch, otherwise=_no_chain
        )
        app = application(
            config,
            calls,
            lambda: look().health(),
            metrics.exposition,
            ready=lambda: look().readiness(),
        )
        urls = await server.start(partial(serve_http, app, config, stop.wait))
        await server.start(
            partial(serve_metrics, metrics.exposition, config, stop.wait)
        )
        _log.info("answering while a snapshot is restored", rpc=urls[0])

    async def _tell(self) -> None:
        """Log how far it is, as long as it moves; and that it waits."""
        told: tuple[int, int] | None = None
        while True:
            await trio.sleep(_TOLD_SECONDS)
            done, count = progress = self._snapshots.progress
            if not count:
                _log.info("waiting for peers with a usable snapshot")
            elif progress != told:
                _log.info(
                    "restoring", chunks=done, of=count, peers=self._snapshots.suppliers
                )
            told = progress

    async def _restorer(self, manifest: Manifest) -> Restorer | None:
        """The restorer of an offered snapshot; None when nobody can vouch for it yet.

        Raises:
            BadSnapshotError: it is older than the trusted block, of another block at
                its height, or cut otherwise.
            FalseSnapshotError: its block is not the verified one of that height.
            LightAttackError: two blocks of that height are certified.
        """
        height = self._config.sync_trust_height
        if manifest.height < height:
            raise BadSnapshotError(
                f"block {manifest.height} is before the trusted block {height}"
            )
        block_hash = await self._vouching.block_hash(manifest.height)
        if block_hash is None:
            return None
        if block_hash != manifest.block_hash and manifest.height > height:
            raise FalseSnapshotError(
                f"block {manifest.height} is 0x{block_hash.hex()}, "
                f"not 0x{manifest.block_hash.hex()}"
            )
        trust = Trust(
            manifest.height,
            block_hash,
            self._genesis.block,
            self._genesis.writes,
            snapshot_history(self._spec.consensus.evidence_age_blocks),
        )
        return await trio.to_thread.run_sync(
            Restorer, self._store, manifest, trust, self._execute
        )

    def _execute(
        self, database: ChainDatabase, parent: Header, block: Block
    ) -> ExecutedBlock:
        return ledger_of(self._spec, database).check(parent, block)


def _no_chain(name: str) -> RpcError:
    return server_error(
        f"{name}: this node is restoring a snapshot and has no chain yet; "
        "GET /ready tells how far it is"
    )
