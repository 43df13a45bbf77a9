"""A node put together: database, mempool, engine and RPC in one trio program."""

import importlib.metadata
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import structlog
import trio
from starlette.applications import Starlette

from chain.database import ChainDatabase
from consensus.proposal import Epoch
from consensus.validators import ValidatorSet
from node.config import NodeConfig
from node.engine import Engine, Validator
from node.intake import Intake, next_block
from node.mempool import Account, Mempool, PoolLimits
from node.metrics import Metrics
from node.pool_journal import PoolJournal
from node.rpc.dispatch import BenchLimits, Dispatcher, WorkBench
from node.rpc.eth_blocks import BlockMethods
from node.rpc.eth_state import StateContext, StateMethods
from node.rpc.fees import FeeMethods
from node.rpc.filters import Filters
from node.rpc.identity import Identity, IdentityMethods
from node.rpc.logs import LogLimits
from node.rpc.reading import ChainReader
from node.rpc.server import application, serve_http
from runtime.call import StateView
from runtime.rules import ForkSchedule

_log = structlog.get_logger("node")
_STALLED_BEATS = 30
_STALLED_SECONDS = 15.0
_DRAIN_SECONDS = 10.0


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
        validators: Who votes.
    """

    database: ChainDatabase
    specification: bytes
    forks: ForkSchedule
    validators: ValidatorSet

    @property
    def epoch(self) -> Epoch:
        """Validators never change yet, so there is one epoch."""
        return Epoch.constant(self.database.genesis_hash(), self.validators)


class Node:
    """One node; `run` is its whole life."""

    def __init__(
        self,
        config: NodeConfig,
        chain: Chain,
        validator: Validator | None,
        *,
        journal: PoolJournal | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Wire the parts.

        Args:
            config: Settings.
            chain: Opened.
            validator: Our keys; None only answers RPC.
            journal: Of local transactions; None forgets them at the end.
            now: The wall clock.

        Raises:
            LedgerError: our key is not in the chain's validator set.
        """
        self.config = config
        self.chain = chain
        self.metrics = Metrics()
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
        self.engine: Engine | None = None
        if validator is not None:
            self.engine = Engine(
                chain.database,
                chain.forks,
                chain.epoch,
                validator,
                self.mempool,
                self.metrics,
                now=now,
            )
        self._bench = WorkBench(
            BenchLimits(
                config.rpc_call_threads, config.rpc_call_queue, config.rpc_call_seconds
            )
        )
        self._address = None if validator is None else validator.key.address

    def _account(self, address: bytes) -> Account:
        database = self.chain.database
        view = StateView(database, database.head().state_root)
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
            async with trio.open_nursery() as work:
                if self.engine is not None:
                    work.start_soon(self.engine.run, self.config.block_time)
                ready(urls[0])
                await stop.wait()
                _log.info("stopping", height=self.chain.database.head().number)
                work.cancel_scope.cancel()
        # The database closes after this; no thread may still read it.
        await self._bench.drain(_DRAIN_SECONDS)

    def _application(self) -> Starlette:
        dispatcher = self._dispatcher()
        return application(self.config, dispatcher, self.health, self.exposition)

    def _dispatcher(self) -> Dispatcher:
        config, chain = self.config, self.chain
        reader = ChainReader(chain.database, chain.forks)
        bench = self._bench
        identity = Identity(
            client=client_version(),
            specification=chain.specification,
            validators=chain.validators,
            validator=self._address,
            block_time=config.block_time,
        )
        filters = Filters(trio.current_time, lambda: secrets.randbits(128))
        log_limits = LogLimits(config.rpc_log_range, config.rpc_log_results)
        state = StateContext(
            reader, self.mempool, config.rpc_call_gas, self.intake.submit
        )
        methods = {
            **IdentityMethods(reader, self.mempool, identity).table(),
            **BlockMethods(reader, self.mempool, filters, log_limits).table(bench),
            **StateMethods(state).table(bench),
            **FeeMethods(reader, config.mempool_min_tip).table(bench),
        }
        return Dispatcher(methods, self.metrics, max_batch=config.rpc_max_batch)

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether the node does its work, for GET /health.

        A validator is unhealthy when it has not committed a block for many beats.
        """
        head = self.chain.database.head()
        details: dict[str, object] = {"status": "ok", "height": head.number}
        if self.engine is not None:
            limit = max(_STALLED_SECONDS, _STALLED_BEATS * self.config.block_time)
            silent = trio.current_time() - self.engine.last_commit
            if silent > limit:
                details["status"] = f"no block for {silent:.0f} s"
                return False, details
        return True, details

    def exposition(self) -> tuple[bytes, str]:
        """For GET /metrics."""
        return self.metrics.exposition()


async def run_until_signal(node: Node, ready: Callable[[str], None]) -> None:
    """Run a node until SIGINT or SIGTERM."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            nursery.start_soon(_set_on_signal, signals, stop)
            await node.run(stop, ready=ready)
            nursery.cancel_scope.cancel()


async def _set_on_signal(signals: AsyncIterator[int], stop: trio.Event) -> None:
    async for number in signals:
        _log.info("signal received", signal=signal.Signals(number).name)
        stop.set()
        return
