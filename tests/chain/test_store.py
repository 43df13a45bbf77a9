import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.errors import StoreCorrupt, StoreError, StoreLocked
from chain.store import Store

Opener = Callable[[Path], Store]
BACKENDS: list[Opener] = [Store.open, lambda _: Store.memory()]


@pytest.fixture(params=BACKENDS, ids=["leveldb", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    opened: Store = request.param(tmp_path / "db")
    return opened


def test_reads_what_was_written(store: Store) -> None:
    store.write({b"a": b"1", b"b": b"2"})
    store.write({b"c": b""}, deletes=[b"a", b"absent"], sync=False)
    assert [store.get(key) for key in (b"a", b"b", b"c", b"d")] == [
        None,
        b"2",
        b"",
        None,
    ]
    store.close()


def test_scans_by_prefix_in_order(store: Store) -> None:
    store.write({b"n\2": b"2", b"n\1": b"1", b"o": b"x", b"m": b"y", b"n": b"0"})
    assert list(store.scan(b"n")) == [(b"n", b"0"), (b"n\1", b"1"), (b"n\2", b"2")]
    store.close()


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError):
        store.get(b"a")
    with pytest.raises(StoreError):
        store.write({b"a": b"1"})
    with pytest.raises(StoreError):
        list(store.scan(b""))


def test_survives_reopening(tmp_path: Path) -> None:
    first = Store.open(tmp_path)
    first.write({b"a": b"1"})
    first.close()
    second = Store.open(tmp_path)
    assert second.get(b"a") == b"1"
    second.close()


def test_a_second_opener_is_told(tmp_path: Path) -> None:
    first = Store.open(tmp_path)
    with pytest.raises(StoreLocked, match="another process"):
        Store.open(tmp_path)
    first.close()


def test_a_disk_that_refuses_is_no_other_process(tmp_path: Path) -> None:
    """LevelDB's message for both names a path with LOCK in it."""
    Store.open(tmp_path / "lock").close()
    (tmp_path / "lock" / "LOCK").unlink()
    (tmp_path / "lock" / "LOCK").mkdir()
    with pytest.raises(StoreError, match=r"cannot open.*Is a directory") as told:
        Store.open(tmp_path / "lock")
    assert not isinstance(told.value, StoreLocked)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    first = Store.open(tmp_path)
    first.write({b"a": b"1"})
    first.close()
    (tmp_path / "CURRENT").write_text("nonsense\n")
    with pytest.raises((StoreCorrupt, StoreError), match="database"):
        Store.open(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("")
    with pytest.raises(StoreError, match="cannot make"):
        Store.open(tmp_path / "db")


_KILLED = """
import os, signal, sys
from chain.store import Store
store = Store.open(sys.argv[1])
for number in range(10**6):
    key = number.to_bytes(4, "big")
    store.write({b"a" + key: key * 100, b"b" + key: key * 100, b"last": key})
    if number == 200:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_whole_batches(tmp_path: Path) -> None:
    """Killed behind its 201st write, the store holds all 201 and each one whole."""
    root = Path(__file__).parents[2]
    ended = subprocess.run(  # noqa: S603  (our own interpreter and script)
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    store = Store.open(tmp_path)
    assert store.get(b"last") == (200).to_bytes(4, "big")
    assert len(list(store.scan(b"a"))) == len(list(store.scan(b"b"))) == 201
    store.close()


def test_a_torn_log_loses_only_its_end(tmp_path: Path) -> None:
    """Half of the last record on disk, as after a power cut: the batch never was."""
    store = Store.open(tmp_path)
    store.write({b"a": b"1" * 50, b"head": b"1"})
    store.write({b"b": b"2" * 50, b"head": b"2"})
    store.close()
    (log,) = tmp_path.glob("*.log")
    content = log.read_bytes()
    log.write_bytes(content[:-30])
    again = Store.open(tmp_path)
    assert (again.get(b"head"), again.get(b"a"), again.get(b"b")) == (
        b"1",
        b"1" * 50,
        None,
    )
    again.close()
