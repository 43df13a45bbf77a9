"""Snapshots of a running node: what is found, kept, and given up."""

import errno
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from chain.database import ChainDatabase
from chain.store import Store
from node.errors import DataDirectoryError
from node.service import Node
from node.sync.snapshotfile import write_snapshot
from node.sync.snapshots import Manifest
from node.watching import WatchedStore
from tests.node.sync.chains import until
from tests.node.tiny import make_node

SUFFIX = ".snapshot"


def made(home: Path, **settings: object) -> Node:
    store = WatchedStore(Store.memory())
    chosen: dict[str, Any] = {"data_dir": home, "snapshot_interval": 3, **settings}
    return make_node(home, store, **chosen)


def blocks(node: Node, count: int, served: int) -> int:
    """Make blocks, wait until the snapshot of a height is offered; the newest's."""

    async def main() -> int:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.housekeeper.run, node.engine)
                for _ in range(count):
                    await node.engine.step()
                    await trio.testing.wait_all_tasks_blocked()
                await until(lambda: node.housekeeper.snapshots.newest >= served)
                newest = node.housekeeper.snapshots.newest
                nursery.cancel_scope.cancel()
        return newest

    return trio.run(main)


def files(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "snapshots").iterdir())


def name(height: int) -> str:
    return f"{height:012}{SUFFIX}"


def test_snapshots_are_taken_at_multiples_and_the_newest_kept(tmp_path: Path) -> None:
    node = made(tmp_path)
    assert blocks(node, 10, 9) == 9
    assert name(9) in files(tmp_path)
    assert len(files(tmp_path)) <= 2
    path = tmp_path / "again"
    write_snapshot(path, node.chain.database, 9, 256)
    assert path.read_bytes() == (tmp_path / "snapshots" / name(9)).read_bytes()


def test_without_an_interval_nothing_is_touched(tmp_path: Path) -> None:
    node = made(tmp_path, snapshot_interval=0)
    blocks(node, 2, 0)
    assert not (tmp_path / "snapshots").exists()


def test_what_an_earlier_run_left_is_offered_as_far_as_it_is_whole(
    tmp_path: Path,
) -> None:
    node = made(tmp_path)
    blocks(node, 4, 3)
    folder = tmp_path / "snapshots"
    whole = (folder / name(3)).read_bytes()
    (folder / name(6)).write_bytes(whole[:-1])
    (folder / (name(7) + ".part")).write_bytes(whole)
    with capture_logs() as logs:
        assert blocks(node, 0, 3) == 3
    assert files(tmp_path) == [name(3)]
    told = [each for each in logs if each["event"] == "snapshot removed"]
    assert [each["file"] for each in told] == [str(folder / name(6))]


def test_a_snapshot_that_fails_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, database: ChainDatabase, height: int, *rest: Any) -> Manifest:  # noqa: ANN401 - passed on
        if height == 3:
            raise OSError(errno.ENOSPC, "no space left")
        return write_snapshot(path, database, height, *rest)

    monkeypatch.setattr("node.housekeeping.write_snapshot", full)
    node = made(tmp_path)
    with capture_logs() as logs:
        blocks(node, 4, 0)
        blocks(node, 3, 6)
    failed = [each for each in logs if each["event"] == "no snapshot"]
    assert {each["height"] for each in failed} == {3}
    assert "no space left" in failed[0]["reason"]
    assert node.chain.database.head().number == 7


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_bytes(b"")
    node = made(tmp_path)
    with pytest.raises(BaseExceptionGroup) as caught:
        blocks(node, 1, 0)
    assert caught.group_contains(DataDirectoryError, match="cannot use")


def test_blocks_go_on_while_a_snapshot_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer waits until two more blocks are there."""
    node = made(tmp_path)
    database = node.chain.database

    def slow(path: Path, *rest: Any) -> Manifest:  # noqa: ANN401 - passed on
        while database.head().number < 5:
            trio.from_thread.check_cancelled()
        return write_snapshot(path, *rest)

    monkeypatch.setattr("node.housekeeping.write_snapshot", slow)

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.housekeeper.run, node.engine)
                while database.head().number < 5:
                    await node.engine.step()
                await until(lambda: node.housekeeper.snapshots.newest == 3)
                nursery.cancel_scope.cancel()

    trio.run(main)
