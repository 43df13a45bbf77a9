"""What a running node does to its database beside making blocks.

One task, one thing at a time, each in a worker thread that rests as long as it works,
so that consensus goes on: snapshots at the multiples of `snapshot_interval`, for peers
that begin (`node.sync.snapshotsync`). A snapshot that was interrupted leaves nothing
but a file that the next start removes.
"""

import math
import time
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from chain.database import ChainDatabase
from node.config import NodeConfig
from node.engine import Engine
from node.errors import DataDirectoryError
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
    """Keeps the snapshots of a node.

    Attributes:
        snapshots: The reactor that offers them.
    """

    def __init__(
        self, config: NodeConfig, database: ChainDatabase, evidence_age: int
    ) -> None:
        """Nothing is touched before `run`.

        Args:
            config: Settings.
            database: Of the node.
            evidence_age: How many heights back evidence may reach.
        """
        self.snapshots = SnapshotSync()
        self._interval = config.snapshot_interval
        self._keep = config.snapshot_keep
        self._directory = config.data_dir / "snapshots"
        self._database = database
        self._history = snapshot_history(evidence_age)
        self._files: dict[Path, SnapshotFile] = {}

    async def run(self, engine: Engine) -> None:
        """Do what is due whenever a block was committed, until cancelled.

        Raises:
            DataDirectoryError: the directory of the snapshots cannot be used.
        """
        if not self._interval:
            return
        await trio.to_thread.run_sync(self._open)
        self.snapshots.serve(self._newest())
        seen = math.nan
        while True:
            changed = engine.changed
            if engine.last_commit != seen:
                seen = engine.last_commit
                await self._snapshot(self._database.head().number)
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

    def _write(self, path: Path, height: int) -> None:
        write_snapshot(path, self._database, height, self._history, Rest())
        self._add(path)
