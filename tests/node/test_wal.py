"""The write-ahead log: nothing acknowledged is lost, a torn end is cut off."""

import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from consensus.machine import TimedOut, TimeoutKind
from consensus.messages import Ballot
from node.errors import WalError
from node.logbook import Begun, Received, Whole, decode_entry, encode_entry
from node.wal import KEPT_HEIGHTS, MAGIC, MAX_RECORD_BYTES, WriteAheadLog
from tests.consensus.committee import Committee
from tests.node.blocks import make_block

RECORDS = [b"one", b"\0" * 100, b"three"]


def written(directory: Path, records: list[bytes] = RECORDS, height: int = 7) -> Path:
    log = WriteAheadLog(directory)
    assert log.open(height) == []
    for record in records:
        log.append(record)
    log.sync()
    log.close()
    return directory / f"{height:020}.log"


def read(directory: Path, height: int = 7) -> list[bytes]:
    log = WriteAheadLog(directory)
    records = log.open(height)
    log.close()
    return records


def test_what_was_appended_is_there_again_and_goes_on(tmp_path: Path) -> None:
    written(tmp_path)
    log = WriteAheadLog(tmp_path)
    assert log.open(7) == RECORDS
    log.append(b"four")
    log.close()
    assert read(tmp_path) == [*RECORDS, b"four"]
    assert (tmp_path / f"{7:020}.log").stat().st_mode & 0o777 == 0o600


def test_each_height_has_its_own_and_old_ones_are_forgotten(tmp_path: Path) -> None:
    for height in range(1, 12):
        written(tmp_path, [b"%d" % height], height)
    assert len(list(tmp_path.iterdir())) == KEPT_HEIGHTS + 1
    assert read(tmp_path, 11) == [b"11"]


def test_a_torn_end_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    ends = [len(MAGIC) + 8]
    for record in RECORDS:
        ends.append(ends[-1] + 8 + len(record))
    for size in range(ends[0], len(whole)):
        path.write_bytes(whole[:size])
        expected = RECORDS[: sum(end <= size for end in ends) - 1]
        assert read(tmp_path) == expected
        assert path.stat().st_size == ends[len(expected)]


def test_a_damaged_end_is_cut_off_and_a_damaged_middle_is_not(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    assert read(tmp_path) == RECORDS[:2]
    path = written(tmp_path, height=8)
    whole = bytearray(path.read_bytes())
    whole[len(MAGIC) + 8 + 8] ^= 1
    path.write_bytes(whole)
    with pytest.raises(WalError, match="byte 24 is damaged"):
        read(tmp_path, 8)


@pytest.mark.parametrize("content", [b"", b"lockstep", MAGIC + bytes(8), b"x" * 40])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    written(tmp_path).write_bytes(content)
    with pytest.raises(WalError, match="no write-ahead log of height 7"):
        read(tmp_path)


def test_bounds_and_order_of_use(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path)
    with pytest.raises(WalError, match="no height is open"):
        log.append(b"a")
    with pytest.raises(WalError, match="no height is open"):
        log.sync()
    log.open(1)
    for record in (b"", bytes(MAX_RECORD_BYTES + 1)):
        with pytest.raises(WalError, match="bytes, got"):
            log.append(record)
    log.close()


def test_a_full_disk_loses_only_what_was_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half a record, then no more; later it has room again."""
    log = WriteAheadLog(tmp_path)
    log.open(7)
    log.append(b"first")
    write, calls = os.write, iter([5])

    def full(descriptor: int, data: bytes) -> int:
        for size in calls:
            return write(descriptor, data[:size])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("node.wal.os.write", full)
    with pytest.raises(WalError, match="No space left"):
        log.append(b"second")
    monkeypatch.undo()
    log.append(b"third")
    log.close()
    assert read(tmp_path) == [b"first", b"third"]


def test_a_disk_that_does_not_sync_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    log = WriteAheadLog(tmp_path)
    log.open(7)
    monkeypatch.setattr("node.wal.os.fdatasync", refuse)
    with pytest.raises(WalError, match="Input/output error"):
        log.sync()
    log.close()


ENTRIES = [
    Begun(),
    TimedOut(TimeoutKind.PRECOMMIT, 3),
    Received(Ballot(Committee(1).vote(0))),
    Whole(bytes(32), make_block()),
    Whole(bytes(32), None),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=range(len(ENTRIES)))
def test_entries_round_trip(entry: object) -> None:
    assert decode_entry(encode_entry(entry)) == entry


@given(st.binary(max_size=60))
def test_garbage_is_no_entry(data: bytes) -> None:
    try:
        entry = decode_entry(data)
    except WalError:
        return
    assert encode_entry(entry) == data
