"""The journal of local transactions: restarts, torn tails, bounds, full disks."""

import errno
import os
from pathlib import Path

import pytest
import trio
from hypothesis import given, strategies as st

from node import pool_journal
from node.intake import Intake, NextBlock
from node.mempool import (
    Account,
    Mempool,
    MempoolError,
    NonceTooLowError,
    PoolLimits,
)
from node.pool_journal import MAGIC, PoolJournal, PoolJournalError
from node.recovery import BusyError, Recovery
from tests.node.tiny import ALICE, BOB, CHAIN_ID, ETHER, FORKS, address, transfer

RAWS = [transfer(ALICE, nonce) for nonce in range(3)]


def reopened(path: Path) -> PoolJournal:
    journal = PoolJournal(path)
    journal.close()
    return journal


def written(path: Path) -> bytes:
    journal = PoolJournal(path)
    assert journal.recovered == []
    assert all(map(journal.append, RAWS))
    journal.close()
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_bytes()


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pool.journal"
    written(path)
    journal = PoolJournal(path)
    assert list(journal.recovered) == RAWS
    assert journal.lost == 0
    assert journal.append(transfer(BOB))
    journal.close()
    assert list(reopened(path).recovered) == [*RAWS, transfer(BOB)]


def test_a_tail_torn_at_every_byte_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "pool.journal"
    content = written(path)
    ends = [len(MAGIC)]
    for raw in RAWS:
        ends.append(ends[-1] + 8 + len(raw))
    for size in range(len(content)):
        path.write_bytes(content[:size])
        journal = PoolJournal(path)
        whole = sum(end <= size for end in ends[1:])
        assert list(journal.recovered) == RAWS[:whole]
        assert journal.append(RAWS[2])
        journal.close()
        assert list(reopened(path).recovered) == [*RAWS[:whole], RAWS[2]]


@given(st.data())
def test_damage_loses_what_follows_and_nothing_before(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "pool.journal"
    content = bytearray(written(path))
    at = data.draw(st.integers(len(MAGIC), len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    journal = reopened(path)
    found = list(journal.recovered)
    assert found == RAWS[: len(found)]
    assert len(found) < len(RAWS)
    assert path.stat().st_size == len(content) - journal.lost


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pool.journal"
    path.write_bytes(b"my diary, which is longer than the magic")
    with pytest.raises(PoolJournalError, match="move it away"):
        PoolJournal(path)
    assert path.read_bytes().startswith(b"my diary")


def test_a_file_that_is_too_large_or_cannot_be_opened_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pool.journal"
    path.write_bytes(MAGIC + bytes(1_000))
    with pytest.raises(PoolJournalError, match="larger than 500"):
        PoolJournal(path, limit=500)
    with pytest.raises(PoolJournalError, match="cannot use"):
        PoolJournal(tmp_path / "missing" / "pool.journal")


def test_rotation_keeps_what_waits_and_leaves_room(tmp_path: Path) -> None:
    path = tmp_path / "pool.journal"
    record = 8 + len(RAWS[0])
    journal = PoolJournal(path, limit=len(MAGIC) + 5 * record)
    for _ in range(5):
        assert journal.append(RAWS[0])
    assert not journal.append(RAWS[0])
    journal.rotate(RAWS)
    assert journal.append(RAWS[2])
    journal.close()
    assert list(reopened(path).recovered) == [*RAWS[:2], RAWS[2]]


def test_a_full_disk_costs_no_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pool.journal"
    journal = PoolJournal(path)
    assert journal.append(RAWS[0])
    write = os.write

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert not journal.append(RAWS[1])
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:20]))
    assert not journal.append(RAWS[1])
    monkeypatch.setattr(os, "write", write)
    assert journal.append(RAWS[2])
    journal.close()
    assert not journal.append(RAWS[1])
    assert list(reopened(path).recovered) == [RAWS[0], RAWS[2]]


def test_a_rotation_that_fails_closes_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = PoolJournal(tmp_path / "pool.journal")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pool_journal, "write_durably", broken)
    journal.rotate(RAWS)
    assert not journal.append(RAWS[0])


# -- the way in ------------------------------------------------------------------------


class Node:
    """A pool, its intake, and what was refused."""

    def __init__(self, journal: PoolJournal | None = None, *, nonce: int = 0) -> None:
        account = Account(nonce, 1_000 * ETHER)
        self.mempool = Mempool(PoolLimits(), lambda _: account)
        self.refused: list[str] = []
        self.intake = Intake(
            self.mempool,
            lambda: NextBlock(FORKS.at(1), 10**9),
            CHAIN_ID,
            refused=self.refused.append,
            journal=journal,
        )


def test_a_client_gets_its_transaction_or_a_reason() -> None:
    node = Node(nonce=1)

    async def main() -> None:
        found = await node.intake.submit(RAWS[1])
        assert found.sender == address(ALICE)
        with pytest.raises(NonceTooLowError):
            await node.intake.submit(RAWS[0])
        with pytest.raises(MempoolError, match="invalid transaction"):
            await node.intake.submit(b"rubbish")

    trio.run(main)
    assert len(node.mempool) == 1
    assert node.refused == ["NonceTooLow", "MalformedTransaction"]


def test_local_transactions_survive_a_restart_and_are_admitted_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pool.journal"
    first = Node(PoolJournal(path))

    async def submit() -> None:
        for raw in (*RAWS, transfer(BOB)):
            await first.intake.submit(raw)

    trio.run(submit)
    second = Node(PoolJournal(path), nonce=1)
    assert trio.run(second.intake.restore) == 2
    assert {each.nonce for each in second.mempool.transactions()} == {1, 2}
    assert second.refused == ["NonceTooLow", "NonceTooLow"]
    assert list(reopened(path).recovered) == RAWS[1:]


def test_without_a_journal_nothing_is_restored() -> None:
    assert trio.run(Node().intake.restore) == 0


def test_a_full_journal_is_rotated_to_what_still_waits(tmp_path: Path) -> None:
    path = tmp_path / "pool.journal"
    limit = len(MAGIC) + 6 * (8 + len(RAWS[0]))
    node = Node(PoolJournal(path, limit=limit))

    async def main() -> None:
        for nonce in range(6):
            sent = await node.intake.submit(transfer(ALICE, nonce))
            if nonce:
                node.mempool.discard(sent.hash)
        await node.intake.submit(transfer(ALICE, 1))

    trio.run(main)
    assert list(reopened(path).recovered) == [transfer(ALICE, 0), transfer(ALICE, 1)]


def test_too_many_that_wait_for_a_thread_are_refused() -> None:
    recovery = Recovery(CHAIN_ID, waiting=0)
    with pytest.raises(BusyError, match="busy"):
        trio.run(recovery.one, RAWS[0])
