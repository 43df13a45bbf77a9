"""The write-ahead log: whatever the disk does, what was acknowledged is there."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from structlog.testing import capture_logs
from structlog.typing import EventDict

from node.disk import SYSTEM
from node.errors import WalError
from node.wal import (
    KEPT_HEIGHTS,
    MARKER,
    MAX_RECORD_BYTES,
    RECORD_HEAD,
    SEGMENT_HEAD,
    WriteAheadLog,
    encode_head,
    encode_record,
)
from tests.node.fakedisk import (
    EVERYTHING,
    NOTHING,
    ZEROS,
    FakeDisk,
    Luck,
    PowerLoss,
)
from tests.support.vectors import Vectors

HOME = Path("/wal")
RECORDS = [b"one", b"\0" * 40, b"three"]
SMALL = 200


@pytest.fixture(autouse=True)
def told() -> Iterator[list[EventDict]]:
    """What was logged."""
    with capture_logs() as events:
        yield events


def opened(disk: FakeDisk, segment_bytes: int = SMALL) -> WriteAheadLog:
    return WriteAheadLog(HOME, disk=disk, segment_bytes=segment_bytes)


def read(disk: FakeDisk, height: int = 1) -> list[bytes]:
    return opened(disk).records_after(height - 1)


def written(records: list[bytes] = RECORDS, *, sync: bool = True) -> FakeDisk:
    disk = FakeDisk()
    log = opened(disk, 10_000)
    assert log.open(1) == []
    for record in records:
        log.append(record)
    if sync:
        log.sync()
    return disk


def segment(disk: FakeDisk, number: int = 1) -> bytearray:
    return disk.current[HOME / f"{number:020}.wal"].content


# -- what it is for ----------------------------------------------------------------


def test_what_was_appended_is_there_again_and_goes_on(tmp_path: Path) -> None:
    for expected in ([], [b"0"], [b"0", b"1"]):
        log = WriteAheadLog(tmp_path / "wal")
        assert log.open(7) == expected
        log.append(b"%d" % len(expected))
        log.sync()
        log.close()
    (path,) = (tmp_path / "wal").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_only_the_height_under_way_is_replayed() -> None:
    disk = FakeDisk()
    log = opened(disk)
    for height in (1, 2, 3):
        assert log.open(height) == []
        log.append(b"%d" % height)
    assert read(disk.after_kill(), 3) == [b"3"]
    assert read(disk.after_kill(), 2) == []
    assert read(disk.after_kill(), 4) == []
    assert opened(disk.after_kill()).ended == 2


def test_a_database_that_is_behind_or_ahead_begins_anew() -> None:
    disk = written()
    for height in (9, 4, 5):
        log = opened(disk)
        assert log.open(height) == []
        log.append(b"%d" % height)
        assert log.ended == height - 1
    assert read(disk, 5) == [b"5"]


def test_a_height_may_fill_many_segments() -> None:
    disk = FakeDisk()
    log = opened(disk)
    log.open(1)
    log.append(b"before")
    log.open(2)
    records = [bytes([i]) * 50 for i in range(20)]
    for record in records:
        log.append(record)
    assert len(disk.names(HOME)) > 5
    assert opened(disk.after_kill()).open(2) == records
    assert log.records_after(1) == records


def test_a_mark_at_the_end_of_a_segment_ends_the_height() -> None:
    """The last segment may be empty, and what precedes it be over."""
    for size in range(1, SMALL):
        disk = FakeDisk()
        log = opened(disk)
        log.open(1)
        log.append(bytes(size))
        log.end_height(1)
        assert read(disk.after_kill(), 2) == []
        assert read(disk.after_kill(), 1) == []


def test_old_segments_are_dropped() -> None:
    disk = FakeDisk()
    log = opened(disk)
    most = 0
    for height in range(1, 50):
        log.open(height)
        log.append(bytes(150))
        most = max(most, len(disk.names(HOME)))
    assert most <= 2 * KEPT_HEIGHTS  # a mark and a record fill one each
    assert read(disk.after_kill(), 49) == [bytes(150)]


def test_bounds_and_order_of_use() -> None:
    log = opened(FakeDisk())
    for record in (b"", bytes(MAX_RECORD_BYTES + 1)):
        with pytest.raises(WalError, match="bytes, got"):
            log.append(record)
    log.append(b"a")
    log.close()
    log.close()
    for use in (log.sync, lambda: log.append(b"a"), lambda: log.open(1)):
        with pytest.raises(WalError, match="closed"):
            use()


def test_the_largest_record(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path)
    log.append(b"first")
    log.append(bytes(MAX_RECORD_BYTES))
    log.append(b"last")
    log.close()
    again = WriteAheadLog(tmp_path).records_after(0)
    assert [len(each) for each in again] == [5, MAX_RECORD_BYTES, 4]


# -- crashes -----------------------------------------------------------------------


def test_a_torn_end_is_cut_off_at_every_byte(told: list[EventDict]) -> None:
    whole = bytes(segment(written()))
    ends = [SEGMENT_HEAD]
    for record in RECORDS:
        ends.append(ends[-1] + RECORD_HEAD + len(record))
    for size in range(SEGMENT_HEAD, len(whole)):
        disk = written(sync=False)
        del segment(disk)[size:]
        expected = RECORDS[: sum(end <= size for end in ends) - 1]
        again = disk.after_kill()
        log = opened(again)
        assert log.open(1) == expected
        log.append(b"more")
        assert read(again) == [*expected, b"more"]
    assert {each["log_level"] for each in told} == {"warning"}
    assert {each["event"] for each in told} == {"cut off the end of the log"}


class Journal:
    """Uses a log as the engine does, and remembers what must and what may be there."""

    def __init__(self) -> None:
        self.ended = 0
        self.synced: list[bytes] = []  # of the height under way
        self.appended: list[bytes] = []
        self.count = 0

    def live(self, log: WriteAheadLog, heights: int = 3) -> None:
        for height in range(self.ended + 1, self.ended + 1 + heights):
            found = log.open(height)
            assert found[: len(self.synced)] == self.synced
            assert found == self.appended[: len(found)]
            self.appended = found
            for size in (3, 70, 0, 120, 33):
                self.count += 1
                record = b"%d-%d" % (height, self.count) + bytes(size)
                self.appended = [*self.appended, record]
                log.append(record)
                if size == 70:
                    log.sync()
                    self.synced = self.appended
            # Until the database has committed the height nothing may be missing.
            self.ended, self.synced, self.appended = height, [], []


def crashed(disk: FakeDisk, journal: Journal) -> bool:
    """Live until the power fails; tell whether it did."""
    try:
        journal.live(opened(disk))
    except PowerLoss:
        return True
    return False


LUCKS = {"nothing": NOTHING, "everything": EVERYTHING, "zeros": ZEROS}


@pytest.mark.parametrize("luck", LUCKS.values(), ids=LUCKS)
@pytest.mark.parametrize("torn", [0, 1, 20, 40])
def test_power_loss_at_every_operation(luck: Luck, torn: int) -> None:
    crashes = 0
    while True:
        disk, journal = FakeDisk(crash_at=crashes, torn=torn), Journal()
        if not crashed(disk, journal):
            break
        crashes += 1
        again = disk.after_power_loss(luck)
        journal.live(opened(again), heights=1)
    assert crashes > 40


@given(st.data())
def test_power_loss_with_any_luck_and_again(data: st.DataObject) -> None:
    """Names, sizes and sectors survive in any combination, over several lives."""
    draw = data.draw
    luck = Luck(
        names=lambda n: draw(st.integers(0, n)),
        size=lambda old, new: draw(st.integers(min(old, new), max(old, new))),
        sector=lambda _: draw(st.booleans()),
    )
    disk, journal = FakeDisk(), Journal()
    for _ in range(draw(st.integers(1, 3))):
        disk.crash_at = draw(st.integers(0, 60))
        disk.torn = draw(st.integers(0, 200))
        crashed(disk, journal)
        disk = disk.after_power_loss(luck)
    journal.live(opened(disk), heights=1)


@given(st.data())
def test_a_killed_process_loses_nothing(data: st.DataObject) -> None:
    disk = FakeDisk(crash_at=data.draw(st.integers(0, 60)))
    journal = Journal()
    crashed(disk, journal)
    again = opened(disk.after_kill())
    found = again.records_after(journal.ended)
    # The record under way when the process died may be missing.
    assert found in (journal.appended, journal.appended[:-1])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("torn", [0, 7, 60])
def test_an_error_at_any_operation_loses_nothing_that_was_accepted(
    code: int, torn: int
) -> None:
    """The caller tries again, on a log that it opens again when told to."""
    refusals: list[str] = []
    index = operations = 0
    while index <= operations:
        disk = FakeDisk(faults={index: code}, torn=torn, short=50)
        log: WriteAheadLog | None = None
        accepted: list[bytes] = []
        for size in (3, 70, 20, 120, 33, 5):
            record = b"%d" % size + bytes(size)
            while record not in accepted:
                try:
                    log = log or opened(disk)
                    if record not in log.records_after(0):
                        log.append(record)
                    log.sync()
                    accepted.append(record)
                except WalError as error:
                    refusals.append(str(error))
                    if "start again" in refusals[-1]:
                        log = None
                found = log or opened(disk.after_kill())
                assert found.records_after(0)[: len(accepted)] == accepted
        assert read(disk.after_kill()) == accepted
        assert read(disk.after_power_loss(NOTHING)) == accepted
        index, operations = index + 1, len(disk.operations)
    assert len(refusals) > 20
    assert all(errno.errorcode[code] in each and "/wal" in each for each in refusals)


def test_a_log_that_cannot_sync_takes_nothing_more() -> None:
    disk = written()
    log = opened(disk)
    log.append(b"four")
    disk.faults = {len(disk.operations): errno.EIO}
    with pytest.raises(WalError, match=r"could not be synced: .*EIO.*start again"):
        log.sync()
    for use in (log.sync, lambda: log.append(b"five"), lambda: log.end_height(1)):
        with pytest.raises(WalError, match="could not be synced"):
            use()


def test_a_record_that_cannot_be_cut_off_shuts_the_log() -> None:
    disk = written()
    log = opened(disk)
    now = len(disk.operations)
    disk.faults, disk.torn = {now: errno.ENOSPC, now + 1: errno.EIO}, 9
    for record in (b"four", b"five"):
        with pytest.raises(WalError, match=r"cannot be cut off: .*start again"):
            log.append(record)
    assert read(disk.after_kill()) == RECORDS


def test_a_full_disk_stops_a_new_log_with_a_reason() -> None:
    for index in range(5):
        disk = FakeDisk(faults={index: errno.ENOSPC})
        with pytest.raises(WalError, match="ENOSPC"):
            opened(disk)


# -- damage ------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 255))
def test_any_flipped_byte_of_the_middle_is_told(place: int, flip: int) -> None:
    """Also one in a length, which hides all that follows."""
    disk = written(sync=True)
    log = opened(disk)
    log.append(b"vouches for what is before it")
    log.sync()
    content = segment(disk)
    middle = len(content) - RECORD_HEAD - len(b"vouches for what is before it")
    place %= middle
    content[place] ^= flip
    with pytest.raises(WalError) as caught:
        read(disk)
    told = str(caught.value)
    assert str(HOME / f"{1:020}.wal") in told
    assert "move it away" in told
    if place >= SEGMENT_HEAD:
        starts = [SEGMENT_HEAD]
        for record in RECORDS:
            starts.append(starts[-1] + RECORD_HEAD + len(record))
        assert f"byte {max(s for s in starts if s <= place)}," in told


def test_a_damaged_last_record_is_cut_off() -> None:
    for place in range(1, RECORD_HEAD + len(RECORDS[-1]) + 1):
        disk = written()
        segment(disk)[-place] ^= 1
        assert read(disk) == RECORDS[:-1]
        assert read(disk) == RECORDS[:-1]


def test_a_hole_that_nobody_vouched_for_is_a_crash() -> None:
    """Power loss may keep a later write and lose one before it."""
    disk = written([b"first"])
    log = opened(disk)
    start = len(segment(disk))
    log.append(b"lost")
    log.append(b"kept")
    segment(disk)[start : start + 4] = bytes(4)
    assert read(disk) == [b"first"]
    assert len(segment(disk)) == start


def test_damage_in_an_older_segment_is_told_when_it_is_needed() -> None:
    disk = FakeDisk()
    log = opened(disk)
    for _ in range(6):
        log.append(bytes(100))
    segment(disk, 2)[-1] ^= 1
    with pytest.raises(WalError, match="is damaged at byte"):
        read(disk)


def test_a_missing_segment_is_told() -> None:
    disk = FakeDisk()
    log = opened(disk)
    for _ in range(6):
        log.append(bytes(100))
    del disk.current[HOME / f"{2:020}.wal"]
    with pytest.raises(WalError, match="one is missing"):
        opened(disk)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.clear(),
        lambda content: content.__delitem__(slice(20, None)),
        lambda content: content.__setitem__(slice(0, 8), b"leveldb "),
        lambda content: content.__setitem__(slice(0, SEGMENT_HEAD), encode_head(2, 0)),
    ],
    ids=["empty", "cut", "foreign", "moved"],
)
def test_another_file_is_refused(spoil: Callable[[bytearray], None]) -> None:
    disk = written()
    spoil(segment(disk))
    with pytest.raises(WalError, match="does not begin as segment 1"):
        opened(disk)


def test_a_record_means_nothing_in_another_place() -> None:
    """A copy of good bytes somewhere else is not taken for a record."""
    disk = written([b"a", b"a"], sync=False)
    content = segment(disk)
    size = RECORD_HEAD + 1
    content[SEGMENT_HEAD + size :] = content[SEGMENT_HEAD : SEGMENT_HEAD + size]
    assert read(disk) == [b"a"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("hello")
    (tmp_path / "x.wal").write_text("hello")
    WriteAheadLog(tmp_path).append(b"a")
    assert (tmp_path / "README").read_text() == "hello"


def test_an_unreadable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "wal").write_text("a file")
    with pytest.raises(WalError, match="wal"):
        WriteAheadLog(tmp_path / "wal")


# -- the real thing ------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from node.wal import WriteAheadLog
log = WriteAheadLog(Path(sys.argv[1]), segment_bytes=4096)
log.open(1)
count = 0
while True:
    count += 1
    log.append(b"%d " % count * 20)
    print(count, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 50, 500])
def test_kill_9_loses_nothing(tmp_path: Path, lines: int) -> None:
    child = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(lines):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().split()
    child.stdout.close()
    child.wait()
    told = int(rest[-1]) if rest else lines
    found = WriteAheadLog(tmp_path, segment_bytes=4096).records_after(0)
    assert len(found) in (told, told + 1)
    assert found == [b"%d " % (i + 1) * 20 for i in range(len(found))]


def test_a_real_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The system takes half a record, then no more; later it has room again."""
    log = WriteAheadLog(tmp_path)
    log.append(b"first")
    write, sizes = SYSTEM.write, iter([5])

    def full(descriptor: int, data: bytes) -> int:
        with suppress(StopIteration):
            return write(descriptor, data[: next(sizes)])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SYSTEM, "write", full)
    with pytest.raises(WalError, match="No space left"):
        log.append(b"second")
    monkeypatch.undo()
    log.append(b"third")
    log.close()
    assert WriteAheadLog(tmp_path).records_after(0) == [b"first", b"third"]


# -- format ------------------------------------------------------------------------


def test_vectors(vectors: Vectors) -> None:
    disk = FakeDisk()
    log = opened(disk)
    log.open(1)
    log.append(b"a proposal")
    log.sync()
    log.append(b"a vote of ours")
    log.end_height(1)
    log.append(bytes(range(256)))
    log.append(b"after 256")
    cases = [
        {
            "segment": f"{number:020}.wal",
            "content": segment(disk, number).hex(),
        }
        for number in range(1, len(disk.names(HOME)) + 1)
    ]
    assert len(cases) == 3
    vectors.check(
        "wal",
        {
            "segments": cases,
            "height_under_way": 2,
            "records_of_it": [bytes(range(256)).hex(), b"after 256".hex()],
        },
    )


def test_fields_of_a_record() -> None:
    record = encode_record(3, 40, 40, 1, b"payload")
    assert record[:4] == MARKER
    assert record[4:8] == (7).to_bytes(4)
    assert record[RECORD_HEAD:] == b"payload"
