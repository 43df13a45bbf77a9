from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from lockstep.errors import JournalError
from lockstep.journal import Journal, write_durably


def test_a_second_run_reads_what_the_first_wrote(tmp_path: Path) -> None:
    path = tmp_path / "actor" / "journal"
    with closing(Journal(path)) as journal:
        journal.append("challenge", job=3, step=7, salt="ab" * 32)
        journal.append("challenge", job=4, step=9, salt="cd" * 32)
    with closing(Journal(path)) as journal:
        found = journal.latest("challenge", job=3)
        assert found is not None
        assert found["salt"] == "ab" * 32
        assert [entry["job"] for entry in journal.select("challenge")] == [3, 4]
        assert journal.latest("challenge", job=5) is None


@given(st.integers(min_value=0, max_value=60))
def test_a_torn_last_line_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, kept: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "journal"
    with closing(Journal(path)) as journal:
        journal.append("first", number=1)
    whole = path.read_bytes()
    with closing(Journal(path)) as journal:
        journal.append("second", number=2)
    torn = path.read_bytes()[: len(whole) + kept]
    path.write_bytes(torn)
    intact = torn.count(b"\n")
    with closing(Journal(path)) as journal:
        assert len(journal.entries) == intact
        journal.append("third", number=3)
    with closing(Journal(path)) as journal:
        assert journal.entries[-1] == {"kind": "third", "number": 3}
        assert len(journal.entries) == intact + 1


def test_a_changed_past_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(Journal(path)) as journal:
        journal.append("price", tokens=1)
        journal.append("price", tokens=2)
    path.write_bytes(path.read_bytes().replace(b'"tokens":1', b'"tokens":9'))
    with pytest.raises(JournalError, match="line 1"):
        Journal(path)


def test_one_directory_serves_one_process(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with (
        closing(Journal(path)),
        pytest.raises(JournalError, match="in use by another process"),
    ):
        Journal(path)
    Journal(path).close()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_durably(path, b"old")
    write_durably(path, b"new state")
    assert path.read_bytes() == b"new state"
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
