"""A node put together: database, mempool, engine and RPC in one trio program."""

import importlib.metadata
import secrets
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio
from starlette.applications import Starlette

from chain.database import ChainDatabase
from consensus.validators import ValidatorSet
from node.author import Validator
from node.config import NodeConfig
from node.engine import Engine, Timeouts
from node.epochs import Epochs
from node.gossip import Gossip
from node.housekeeping import Housekeeper
from node.intake import Intake, next_block
from node.ledger import Ledger
from node.mempool import Account, Mempool, PoolLimits
from node.mempool_reactor import MempoolReactor
from node.metrics import Metrics
from node.p2p.address import PeerAddress
from node.p2p.identity import NodeKey
from node.p2p.interface import Reactor
from node.p2p.settings import Network, Settings
from node.p2p.switch import Switch
from node.pool_journal import PoolJournal
from node.rpc.dispatch import BenchLimits, Dispatcher, WorkBench
from node.rpc.eth_blocks import BlockMethods
from node.rpc.eth_state import StateContext, StateMethods
from node.rpc.fees import FeeMethods
from node.rpc.filters import Filters
from node.rpc.identity import Identity, IdentityMethods, Surroundings
from node.rpc.logs import LogLimits
from node.rpc.reading import ChainReader
from node.rpc.server import application, serve_http, serve_metrics
from node.sync.blocks import BlockSync
from node.sync.lightsync import LightSync, light_block
from node.vitals import Readiness, Vitals, health, readiness
from node.wal import WriteAheadLog
from runtime.call import StateView
from runtime.rules import ForkSchedule

_log = structlog.get_logger("node")
_STALLED_BEATS = 30
_STALLED_SECONDS = 15.0
_BELIEVED_SECONDS = 60.0
_DRAIN_SECONDS = 10.0
_ON_THEIR_WAY = 2


def client_version() -> str:
    """Name and version, as clients see them."""
    try:
        version = importlib.metadata.version("lockstep-chain")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        version = "0-source"
    return f"lockstep/v{version}"


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain that a node serves.

    Attributes:
        database: Holds at least the genesis block.
        specification: The JSON that defines the chain.
        forks: Rules by height.
        validators: Who votes on block 1.
        epoch_blocks: See `node.epochs`.
        evidence_age: See `node.epochs`.
    """

    database: ChainDatabase
    specification: bytes
    forks: ForkSchedule
    validators: ValidatorSet
    epoch_blocks: int = 0
    evidence_age: int = 0

    @property
    def ledger(self) -> Ledger:
        """The chain as consensus sees it."""
        epochs = Epochs(
            self.database,
            self.forks,
            self.validators,
            epoch_blocks=self.epoch_blocks,
            evidence_age=self.evidence_age,
        )
        return Ledger(self.database, self.forks, epochs)


class Node:
    """One node; `run` is its whole life."""

    def __init__(
        self,
        config: NodeConfig,
        chain: Chain,
        validator: Validator | None,
        wal: WriteAheadLog,
        identity: NodeKey | None = None,
        *,
        journal: PoolJournal | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Wire the parts.

        Args:
            config: Settings.
            chain: Opened.
            validator: Our keys; None follows without a vote.
            wal: The log of consensus.
            identity: Who we are to other nodes; None has no peers.
            journal: Of local transactions; None forgets them at the end.
            now: The wall clock.
        """
        self.config = config
        self.chain = chain
        self._address = None if validator is None else validator.signer.address
        self.metrics = Metrics(self._address)
        self._view: StateView | None = None  # of the head, for admissions
        limits = PoolLimits(
            transactions=config.mempool_transactions,
            size=config.mempool_bytes,
            per_sender=config.mempool_per_sender,
            min_tip=config.mempool_min_tip,
        )
        self.mempool = Mempool(limits, self._account)
        self.intake = Intake(
            self.mempool,
            partial(next_block, chain.database, chain.forks),
            chain.forks.chain_id,
            refused=self.metrics.count_refusal,
            journal=journal,
        )
        ledger = chain.ledger
        ledger.known = self.mempool.get
        self.engine = Engine(
            ledger,
            wal,
            validator,
            self.mempool,
            self.metrics,
            timeouts=Timeouts(
                config.timeout_propose, config.timeout_vote, config.timeout_delta
            ),
            now=now,
        )
        self.sync = BlockSync(
            chain.database, ledger.epochs.sets.find, self.engine.import_certified
        )
        self.housekeeper = Housekeeper(
            config, chain.database, chain.specification, chain.evidence_age
        )
        self._guard = None if validator is None else validator.guard
        if self._guard is not None:
            self._guard.wait_while(self._behind)
        self.switch: Switch | None = None
        if identity is not None:
            network = Network(chain.forks.chain_id, chain.database.genesis_hash())
            self.switch = Switch(
                identity,
                network,
                peer_settings(config),
                self.reactors(),
                book_file=config.data_dir / "addresses.json",
            )
        self._watch()
        bench = BenchLimits(
            config.rpc_call_threads, config.rpc_call_queue, config.rpc_call_seconds
        )
        # Calls that take long keep nobody from reading blocks.
        self._calls, self._reads = WorkBench(bench), WorkBench(bench)

    def reactors(self) -> list[Reactor]:
        """What this node speaks about with others."""
        chain_id = self.chain.forks.chain_id
        transactions = MempoolReactor(self.mempool, chain_id, self.intake.admit)
        light = LightSync(partial(light_block, self.chain.database))
        snapshots = self.housekeeper.snapshots
        return [Gossip(self.engine), transactions, self.sync, snapshots, light]

    def _watch(self) -> None:
        """Let the metrics look at what changes by itself."""
        metrics = self.metrics
        metrics.watch_mempool(self.mempool)
        metrics.watch_store(
            self.chain.database, lambda: self.housekeeper.snapshots.newest
        )
        metrics.watch_sync(self.catching_up)
        metrics.consensus.watch_round(lambda: self.engine.round)
        if self.switch is not None:
            metrics.watch_peers(self.switch.counters, self.switch.peers)

    def _account(self, address: bytes) -> Account:
        database = self.chain.database
        root = database.head().state_root
        if self._view is None or self._view.root != root:
            self._view = StateView(database, root)
        view = self._view
        return Account(nonce=view.nonce(address), balance=view.balance(address))

    async def run(self, stop: trio.Event, *, ready: Callable[[str], None]) -> None:
        """Serve and make blocks until `stop` is set.

        A block that is under way is finished, requests that are under way are
        answered; nothing of either is lost.

        Args:
            stop: Ends the node.
            ready: Called once with the URL of the RPC, when it accepts connections.
        """
        await self.intake.restore()
        async with trio.open_nursery() as server:
            urls: list[str] = await server.start(
                partial(serve_http, self._application(), self.config, stop.wait)
            )
            await server.start(
                partial(serve_metrics, self.exposition, self.config, stop.wait)
            )
            async with trio.open_nursery() as work:
                if self.switch is not None:
                    address = await work.start(self.switch.run)
                    _log.info("listening for peers", address=str(address))
                    work.start_soon(self.sync.run)
                work.start_soon(self.housekeeper.run, self.engine)
                work.start_soon(self.engine.run, self.config.block_time)
                ready(urls[0])
                await stop.wait()
                _log.info("stopping", height=self.chain.database.head().number)
                work.cancel_scope.cancel()
        # The database closes after this; no thread may still read it.
        async with trio.open_nursery() as last:
            for bench in (self._calls, self._reads):
                last.start_soon(bench.drain, _DRAIN_SECONDS)

    def _application(self) -> Starlette:
        dispatcher = self._dispatcher()
        return application(
            self.config, dispatcher, self.health, self.exposition, ready=self.ready
        )

    def _dispatcher(self) -> Dispatcher:
        config, chain = self.config, self.chain
        reader = ChainReader(chain.database, chain.forks)
        reads = self._reads
        identity = Identity(
            client=client_version(),
            specification=chain.specification,
            validators=chain.validators,
            validator=self._address,
            block_time=config.block_time,
            look=self.around,
        )
        filters = Filters(trio.current_time, lambda: secrets.randbits(128))
        log_limits = LogLimits(config.rpc_log_range, config.rpc_log_results)
        state = StateContext(
            reader, self.mempool, config.rpc_call_gas, self.intake.submit
        )
        methods = {
            **IdentityMethods(reader, self.mempool, identity).table(),
            **BlockMethods(reader, self.mempool, filters, log_limits).table(reads),
            **StateMethods(state).table(self._calls),
            **FeeMethods(reader, config.mempool_min_tip).table(reads),
        }
        return Dispatcher(methods, self.metrics, max_batch=config.rpc_max_batch)

    def around(self) -> Surroundings:
        """What this node knows of the network."""
        head = self.chain.database.head().number
        peers = () if self.switch is None else self.switch.peers()
        voters = self.engine.voters(head + 1)
        return Surroundings(
            peers=peers,
            listening=bool(self.switch is not None and self.config.p2p_listen),
            catching_up=self.catching_up(),
            best=max(head, self.sync.best),
            next_proposer=voters.proposer(head + 1, 0).address,
        )

    def catching_up(self) -> bool:
        """Whether others have blocks that are fetched; one or two are on their way."""
        head = self.chain.database.head().number
        return self.sync.syncing and self.sync.best > head + _ON_THEIR_WAY

    def _behind(self) -> bool:
        """Whether others may have blocks that were final before this node started.

        Nobody knows before a peer tells; who decides nothing alone loses nothing by
        waiting for it. Peers that claim to be ahead are believed while blocks come, not
        for ever.
        """
        if self.engine.previous is not None:  # the last block came by consensus
            return False
        if not self.sync.heard:
            return not self._decides_alone()
        silent = trio.current_time() - self.engine.last_commit
        ahead = self.sync.syncing and self.sync.best > self.chain.database.head().number
        return ahead and silent < _BELIEVED_SECONDS

    def _decides_alone(self) -> bool:
        voters = self.engine.voters(self.chain.database.head().number + 1)
        index = None if self._address is None else voters.index_of(self._address)
        return index is not None and voters.is_quorum(voters.at(index).stake)

    def vitals(self) -> Vitals:
        """What is known of this node; silence is held against it."""
        head = self.chain.database.head().number
        return Vitals(
            height=head,
            best=max(head, self.sync.best),
            catching_up=self.catching_up(),
            peers=self._peer_count(),
            silent=trio.current_time() - self.engine.last_commit,
            limit=max(_STALLED_SECONDS, _STALLED_BEATS * self.config.block_time),
            unsigned=None if self._guard is None else self._guard.reason,
        )

    def _peer_count(self) -> int | None:
        """Connected peers; None for a node that is a network of its own."""
        upcoming = self.chain.database.head().number + 1
        if self.switch is None or len(self.engine.voters(upcoming).members) == 1:
            return None
        return len(self.switch.peers())

    def health(self) -> tuple[bool, dict[str, object]]:
        """For GET /health."""
        return health(self.vitals())

    def ready(self) -> tuple[Readiness, dict[str, object]]:
        """For GET /ready."""
        return readiness(self.vitals())

    def exposition(self) -> tuple[bytes, str]:
        """For GET /metrics."""
        return self.metrics.exposition()


def peer_settings(config: NodeConfig) -> Settings:
    """What the configuration says about peers."""
    return Settings(
        listen=config.p2p_listen or None,
        advertise=config.p2p_advertise,
        software=client_version(),
        persistent=tuple(map(PeerAddress.parse, config.p2p_persistent_peers)),
        bootstrap=tuple(map(PeerAddress.parse, config.p2p_bootstrap)),
        max_inbound=config.p2p_max_inbound,
        max_outbound=config.p2p_max_outbound,
    )


async def run_until_signal(node: Node, ready: Callable[[str], None]) -> None:
    """Run a node until SIGINT or SIGTERM."""
    stop = trio.Event()
    async with stopped_by_signal(stop.set):
        await node.run(stop, ready=ready)


@asynccontextmanager
async def stopped_by_signal(stop: Callable[[], None]) -> AsyncGenerator[None]:
    """Call `stop` at the first SIGINT or SIGTERM while the context lasts."""
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            nursery.start_soon(_tell_signal, signals, stop)
            yield
            nursery.cancel_scope.cancel()


async def _tell_signal(signals: AsyncIterator[int], stop: Callable[[], None]) -> None:
    async for number in signals:
        _log.info("signal received", signal=signal.Signals(number).name)
        stop()
        return
