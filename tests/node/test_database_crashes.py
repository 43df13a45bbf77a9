"""LevelDB under crashes: a batch is there whole or not at all, and what was synced is.

Files as a power cut may leave them; a process that is killed, or whose disk is full or
broken, at every operation of a database that fills logs and flushes them to tables.
"""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st
from structlog.testing import capture_logs

from chain.errors import StoreCorrupt
from chain.store import Store
from node.dbrepair import crc32c, cut_torn_batch, open_store
from tests.node.faults import built
from tests.node.faulty_store import BATCHES, Outcome, Trial, batch

ROOT = Path(__file__).parents[2]
Spoil = Callable[[bytearray], None]
Run = Callable[[list[Trial]], Iterator[tuple[Trial, Outcome, Path]]]
BLOCK = 32_768  # of LevelDB's log


def newest_log(directory: Path) -> Path:
    return max(directory.glob("*.log"), key=lambda path: int(path.stem))


class Database:
    """Three batches, as files; `last` is where the third begins in the log."""

    def __init__(self, size: int, directory: Path, *, over_the_edge: bool) -> None:
        store = Store.open(directory)
        for number in (1, 2):
            store.write(batch(number, size))
        if over_the_edge:
            left = BLOCK - newest_log(directory).stat().st_size
            store.write({b"filler": bytes(left - 250)})
        self.last = newest_log(directory).stat().st_size
        store.write(batch(3, size))
        # As a killed process leaves it: closing would tidy up.
        self.files = {path.name: path.read_bytes() for path in directory.iterdir()}
        self.log = newest_log(directory).name
        self.size = len(self.files[self.log])
        assert (self.last < BLOCK < self.size) == over_the_edge
        store.close()

    def spoiled(self, directory: Path, spoil: Spoil) -> Path:
        directory.mkdir(exist_ok=True)
        for path in directory.iterdir():
            path.unlink()
        for name, content in self.files.items():
            (directory / name).write_bytes(content)
        log = bytearray(self.files[self.log])
        spoil(log)
        (directory / self.log).write_bytes(log)
        return directory

    def places(self, step: int) -> list[int]:
        """In the last batch: every `step`th, of small ones; else near their records."""
        if self.size - self.last < BLOCK:
            return list(range(self.last, self.size, step))
        edges = [self.last, *range(BLOCK, self.size, BLOCK), self.size]
        near = {edge + by for edge in edges for by in range(-9, 10, step)}
        return sorted(place for place in near if self.last <= place < self.size)


@pytest.fixture(
    scope="module",
    params=[(50, False), (50, True), (9_000, False)],
    ids=["one record", "two records", "over blocks"],
)
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Database:
    """Batches that fill one record, or several."""
    size, over_the_edge = request.param
    directory = tmp_path_factory.mktemp("database")
    return Database(size, directory, over_the_edge=over_the_edge)


def found(directory: Path) -> int:
    """The last batch that is there; it and all before it whole, or this fails."""
    store = open_store(directory)
    head = int(store.get(b"head") or b"0")
    rows = dict(store.scan(b"row"))
    store.close()
    size = len(next(iter(rows.values()), b""))
    expected: dict[bytes, bytes] = {}
    for number in range(1, head + 1):
        expected |= batch(number, size)
    expected.pop(b"head", None)
    assert rows == expected
    return head


@pytest.mark.slow
def test_a_log_that_ends_short(database: Database, tmp_path: Path) -> None:
    for place in database.places(1):

        def cut(log: bytearray, place: int = place) -> None:
            del log[place:]

        assert found(database.spoiled(tmp_path / "t", cut)) == 2
    assert found(database.spoiled(tmp_path / "t", lambda _: None)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("filler", "step"), [(0, 1), (0xFF, 5), (0x5A, 5)])
def test_an_end_that_was_promised_and_not_written(
    database: Database, tmp_path: Path, filler: int, step: int
) -> None:
    for place in database.places(step):

        def fill(log: bytearray, place: int = place) -> None:
            log[place:] = bytes([filler]) * (len(log) - place)

        with capture_logs() as told:
            assert found(database.spoiled(tmp_path / "t", fill)) == 2
        assert {each["log_level"] for each in told} <= {"warning"}


def test_a_hole_in_the_last_batch(database: Database, tmp_path: Path) -> None:
    for place in database.places(11):
        if place + 16 < database.size:

            def hole(log: bytearray, place: int = place) -> None:
                log[place : place + 16] = bytes(16)

            assert found(database.spoiled(tmp_path / "t", hole)) in (2, 3)


@settings(max_examples=40)
@example(place=5, flip=4)  # a length past the end of the log
@given(place=st.integers(0, 2**31), flip=st.integers(1, 255))
def test_damage_before_the_last_batch_is_an_error(
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
    place: int,
    flip: int,
) -> None:
    place %= database.last

    def spoil(log: bytearray) -> None:
        log[place] ^= flip

    directory = database.spoiled(tmp_path_factory.getbasetemp() / "t", spoil)
    try:
        head = found(directory)
    except StoreCorrupt:
        return
    assert head == 3  # a byte that means nothing: padding at the end of a block


def test_a_hole_before_the_last_batch_is_an_error(
    database: Database, tmp_path: Path
) -> None:
    """LevelDB leaves the rest of that block out, and says nothing."""

    def hole(log: bytearray) -> None:
        log[:7] = bytes(7)

    with pytest.raises(StoreCorrupt, match="damaged at byte 0, and whole batches"):
        open_store(database.spoiled(tmp_path / "t", hole))


def test_nothing_is_cut_off_what_is_whole(database: Database, tmp_path: Path) -> None:
    directory = database.spoiled(tmp_path / "t", lambda _: None)
    assert not cut_torn_batch(directory)
    assert not cut_torn_batch(tmp_path)
    assert found(directory) == 3


def test_other_damage_is_told(database: Database, tmp_path: Path) -> None:
    directory = database.spoiled(tmp_path / "t", lambda _: None)
    (manifest,) = directory.glob("MANIFEST-*")
    manifest.write_bytes(b"\xff" * 50)
    with pytest.raises(StoreCorrupt, match="restore a copy or sync again"):
        open_store(directory)


def test_crc32c() -> None:
    """RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run trials; each with its outcome and its database."""
    library = built(tmp_path_factory.mktemp("library"))

    def run(wanted: list[Trial]) -> Iterator[tuple[Trial, Outcome, Path]]:
        directory = tmp_path_factory.mktemp("trials")
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "tests.node.faulty_store", str(directory)],
            input="".join(json.dumps(asdict(each)) + "\n" for each in wanted),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": str(library)},
        )
        lines = done.stdout.splitlines()
        assert len(lines) == len(wanted)
        for number, (trial, line) in enumerate(zip(wanted, lines, strict=True)):
            yield trial, Outcome(**json.loads(line)), directory / str(number)

    return run


FAILURES = [
    Trial(0),
    Trial(0, torn=-1),
    Trial(0, errno.ENOSPC, torn=-1),
    Trial(0, errno.ENOSPC, once=True, torn=-1),
    Trial(0, errno.EIO),
    Trial(0, errno.EIO, once=True),
]


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_at_every_operation(trials: Run, failure: Trial) -> None:
    """Killed, full or broken: what was acknowledged is there, and nothing by halves.

    A database that failed takes no more writes, though the disk may have room again;
    the one batch that was under way may be there.
    """
    ((_, whole, _),) = trials([Trial(-1)])
    assert whole.operations > 60
    heads: set[int] = set()
    failed = 0
    wanted = [replace(failure, at=at) for at in range(whole.operations)]
    for trial, outcome, directory in trials(wanted):
        head = found(directory)
        heads.add(head)
        assert head in (outcome.acknowledged, outcome.acknowledged + 1), trial
        if failure.errno:
            assert not outcome.killed
            failed += bool(outcome.error)
            if outcome.error:
                assert os.strerror(failure.errno) in outcome.error, trial
            if outcome.error.startswith("cannot write"):
                assert outcome.again.startswith("the database failed before"), trial
    assert len(heads) > BATCHES // 2  # flushes in the background move the operations
    assert bool(failed) == bool(failure.errno)


def test_a_disk_that_takes_no_more(trials: Run) -> None:
    """The system's own refusal: no file may grow over the limit."""
    ((_, outcome, directory),) = trials([Trial(-1, file_limit=40_000)])
    assert outcome.acknowledged == 2
    assert outcome.error.startswith("cannot write the database: IO error: ")
    assert outcome.error.endswith("000003.log: File too large")
    assert outcome.again.startswith("the database failed before: IO error: ")
    assert found(directory) == 2
