"""What a running node does to its database beside making blocks.

One task, one thing at a time, each in a worker thread that rests as long as it works,
so that consensus goes on:

- snapshots at the multiples of `snapshot_interval`, for peers that begin
  (`node.sync.snapshotsync`). One that was interrupted leaves nothing but a file that
  the next start removes.
- pruning (`node.pruning`), as soon as there are `prune_interval` states more than are
  kept. One that was interrupted goes on at the next start. It never runs while a
  snapshot is taken, which walks a state.
"""

import math
import time
from contextlib import closing, suppress
from pathlib import Path

import structlog
import trio

from chain.database import ChainDatabase
from genesis import ChainSpec
from node.config import NodeConfig
from node.engine import Engine
from node.errors import DataDirectoryError, LedgerError
from node.pruning import Plan, Pruned, blocks_to_keep, prune
from node.sync.errors import BadSnapshotError, SyncError
from node.sync.snapshotfile import SnapshotFile, write_snapshot
from node.sync.snapshots import snapshot_history
from node.sync.snapshotsync import SnapshotSync

_log = structlog.get_logger("node.housekeeping")
_SUFFIX = ".snapshot"
_PART = _SUFFIX + ".part"


class Rest:
    """Lets a worker thread rest as long as it works, and ends it with its task.

    Call it in the thread, between two pieces of work.
    """

    def __init__(self) -> None:
        """Begin now."""
        self._began = time.monotonic()

    def __call__(self, *_: object) -> None:
        """Rest; raises `trio.Cancelled` when the task is to end."""
        trio.from_thread.check_cancelled()
        time.sleep(time.monotonic() - self._began)
        self._began = time.monotonic()


class Housekeeper:
    """Keeps the snapshots of a node, and prunes it.

    Attributes:
        snapshots: The reactor that offers them.
    """

    def __init__(
        self,
        config: NodeConfig,
        database: ChainDatabase,
        specification: bytes,
        evidence_age: int,
    ) -> None:
        """Nothing is touched before `run`.

        Args:
            config: Settings.
            database: Of the node.
            specification: Of the chain, JSON.
            evidence_age: How many heights back evidence may reach.

        Raises:
            ConfigError: fewer blocks would be kept than the chain needs.
        """
        self.snapshots = SnapshotSync()
        self._interval = config.snapshot_interval
        self._keep = config.snapshot_keep
        self._directory = config.data_dir / "snapshots"
        self._database = database
        self._history = snapshot_history(evidence_age)
        self._files: dict[Path, SnapshotFile] = {}
        self._prunes = config.pruning == "recent"
        self._prune_interval = config.prune_interval
        # A snapshot may be due for so long before the task comes to it.
        self._states = max(config.prune_keep_states, self._interval + 1)
        self._blocks = 0
        if self._prunes:
            spec = ChainSpec.parse(specification, "the node's specification")
            self._blocks = blocks_to_keep(spec, config.prune_keep_blocks)

    async def run(self, engine: Engine) -> None:
        """Do what is due whenever a block was committed, until cancelled.

        Raises:
            DataDirectoryError: the directory of the snapshots cannot be used.
        """
        try:
            if self._interval:
                await trio.to_thread.run_sync(self._open)
                self.snapshots.serve(self._newest())
            await self._attend(engine)
        finally:
            self.snapshots.serve([])
            for file in self._files.values():
                file.close()
            self._files.clear()

    async def _attend(self, engine: Engine) -> None:
        seen = math.nan
        while True:
            changed = engine.changed
            if engine.last_commit != seen:
                seen = engine.last_commit
                if self._interval:
                    await self._snapshot(self._database.head().number)
                if self._prunes:
                    await self._prune()
            await changed.wait()

    def _newest(self) -> list[SnapshotFile]:
        return [self._files[path] for path in sorted(self._files, reverse=True)]

    def _open(self) -> None:
        """Open what earlier runs left, as far as it is whole."""
        try:
            self._directory.mkdir(exist_ok=True)
            for path in self._directory.glob("*" + _PART):
                path.unlink()
            found = sorted(self._directory.glob("*" + _SUFFIX), reverse=True)
            for path in found:
                self._add(path)
        except OSError as error:
            raise DataDirectoryError(
                f"cannot use {self._directory}: {error}"
            ) from error
        self._retire()

    def _add(self, path: Path) -> None:
        stream = path.open("rb")
        try:
            self._files[path] = SnapshotFile(stream)
        except BadSnapshotError as error:
            stream.close()
            _log.warning("snapshot removed", file=str(path), reason=str(error))
            path.unlink()

    def _retire(self) -> None:
        """Remove all but the newest."""
        for path in sorted(self._files, reverse=True)[self._keep :]:
            self._files.pop(path).close()
            with suppress(FileNotFoundError):
                path.unlink()

    async def _snapshot(self, head: int) -> None:
        """Take the snapshot that is due, if there is one."""
        height = head - head % self._interval
        path = self._directory / f"{height:012}{_SUFFIX}"
        if height < max(1, self._database.base()) or path in self._files:
            return
        began = trio.current_time()
        try:
            await trio.to_thread.run_sync(self._write, path, height)
        except (OSError, SyncError) as error:
            # The next one may succeed; blocks go on meanwhile.
            _log.error("no snapshot", height=height, reason=str(error))
            return
        self.snapshots.serve(self._newest()[: self._keep])
        await trio.to_thread.run_sync(self._retire)
        _log.info(
            "snapshot taken",
            height=height,
            chunks=self._files[path].manifest.chunks,
            seconds=round(trio.current_time() - began, 2),
        )

    async def _prune(self) -> None:
        """Remove what is no longer kept, if it is much or was begun."""
        database = self._database
        surplus = database.head().number - self._states + 1 - database.state_base()
        if database.pruning() is None and surplus < self._prune_interval:
            return
        plan = Plan.of(database, self._blocks, self._states)
        began = trio.current_time()
        try:
            done = await trio.to_thread.run_sync(self._prune_all, plan)
        except LedgerError as error:
            # Nothing was removed; the node can go on as an archive.
            _log.error("not pruned", reason=str(error))
            self._prunes = False
            return
        _log.info(
            "pruned",
            first_block=plan.base,
            first_state=plan.state_base,
            blocks=done.blocks,
            nodes=done.nodes,
            seconds=round(trio.current_time() - began, 2),
        )

    def _prune_all(self, plan: Plan) -> Pruned:
        rest, last = Rest(), Pruned()
        with closing(prune(self._database, plan)) as steps:
            for done in steps:
                last = done
                rest()
        return last

    def _write(self, path: Path, height: int) -> None:
        write_snapshot(path, self._database, height, self._history, Rest())
        self._add(path)
