"""Evidence on the disk: restarts, damage, full disks, what was punished meanwhile."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from chain.crypto import sha256
from chain.database import ChainDatabase
from chain.sidecar import Sidecar
from chain.store import Store
from consensus.evidence import Evidence
from consensus.votes import NIL, Subject, VoteKind, sign_vote
from genesis import ChainSpec, open_chain
from genesis.accounts import validator, validator_entries
from node.accusations import EvidencePool
from node.datadir import DataDirectory
from node.epochs import Epochs
from node.errors import DataDirectoryError
from node.evidence_file import EvidenceFile
from node.opening import initialise, opened_node
from tests.node.fakedisk import FakeDisk
from tests.node.tiny import config

SPEC = ChainSpec.load("devnet").with_validators(validator_entries(3))
AGE = 10
PATH = Path("/data/evidence")


@pytest.fixture(scope="module")
def database() -> ChainDatabase:
    """A chain that has only a genesis block."""
    return open_chain(SPEC, Store.memory())


@pytest.fixture
def pool(database: ChainDatabase) -> EvidencePool:
    """Without a file."""
    return fresh(database)


def fresh(database: ChainDatabase) -> EvidencePool:
    """As after a restart."""
    return EvidencePool(
        Epochs(database, SPEC.rules, SPEC.validator_set, evidence_age=AGE)
    )


def accusation(database: ChainDatabase, of: int, height: int = 1) -> Evidence:
    secrets = validator(of)
    index = SPEC.validator_set.index_of(secrets.address)
    assert index is not None
    one, other = (
        sign_vote(
            database.genesis_hash(),
            Subject(VoteKind.PREVOTE, height, 0, block_hash),
            index,
            secrets.secret,
        )
        for block_hash in (b"\1" * 32, NIL)
    )
    return Evidence.of(one, other, SPEC.validator_set)


def test_a_restart_keeps_what_waits(
    database: ChainDatabase, pool: EvidencePool, tmp_path: Path
) -> None:
    path, head = tmp_path / "evidence", database.head()
    pool.keep_in(EvidenceFile(path), head)
    assert not path.exists()
    wanted = [accusation(database, of) for of in range(2)]
    assert all(map(pool.add, wanted))
    assert path.stat().st_mode & 0o777 == 0o600
    again = fresh(database)
    again.keep_in(EvidenceFile(path), head)
    assert list(again) == wanted
    assert not again.add(wanted[0])
    assert again.usable(replace(head, number=1)) == wanted


def test_who_contradicts_itself_often_keeps_nobody_else_out(
    database: ChainDatabase, pool: EvidencePool
) -> None:
    """Somebody who was punished has nothing to lose."""
    head = replace(database.head(), number=5)
    first, *more = (accusation(database, 0, height) for height in (3, 1, 2, 4))
    assert pool.check(head, first)
    assert pool.add(first)
    for each in more:
        assert not pool.check(head, each)
        assert not pool.add(each)
    other = accusation(database, 1)
    assert pool.check(head, other)
    assert pool.add(other)
    assert list(pool) == [first, other]


def test_what_a_block_punishes_is_not_found_again(
    database: ChainDatabase, pool: EvidencePool, tmp_path: Path
) -> None:
    file, head = EvidenceFile(tmp_path / "evidence"), database.head()
    pool.keep_in(file, head)
    first, second = (accusation(database, of) for of in range(2))
    pool.add(first)
    pool.add(second)
    genesis = database.block(head.hash)
    header = replace(head, number=2)
    pool.forget(replace(genesis, header=header, sidecar=Sidecar(evidence=())))
    assert list(file.load()) == [first, second]
    carried = Sidecar(evidence=(first.encode(),))
    pool.forget(replace(genesis, header=header, sidecar=carried))
    assert list(file.load()) == [second]
    old = replace(genesis, header=replace(head, number=1 + AGE))
    pool.forget(old)
    assert list(file.load()) == []


def test_what_proves_nothing_is_dropped(
    database: ChainDatabase, pool: EvidencePool, tmp_path: Path
) -> None:
    """A stranger's signature, too new, too old, and one that is right."""
    file, head = EvidenceFile(tmp_path / "evidence"), database.head()
    right = accusation(database, 0)
    forged = replace(right, validator=validator(1).address)
    file.store([forged, accusation(database, 1, height=2), right, right])
    with capture_logs() as told:
        pool.keep_in(file, head)
    assert list(pool) == [right]
    assert list(file.load()) == [right]
    (line,) = told
    assert line["event"] == "stored evidence proves nothing"


def test_a_damaged_file_is_set_aside(
    database: ChainDatabase, pool: EvidencePool, tmp_path: Path
) -> None:
    path, head = tmp_path / "evidence", database.head()
    file = EvidenceFile(path)
    file.store([accusation(database, 0)])
    whole = path.read_bytes()
    spoiled = [whole[:size] for size in range(len(whole))]
    spoiled += [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        for at in range(len(whole))
    ]
    hashed = b"lockstep/evidence/1\n" + sha256(b"\x80") + b"\x80"
    for content in [*spoiled, whole + b"\0", hashed, bytes(1 << 20)]:
        path.write_bytes(content)
        with capture_logs() as told:
            assert file.load() == ()
        assert [each["log_level"] for each in told] == ["warning"]
        assert not path.exists()
        assert path.with_name("evidence.damaged").read_bytes() == content
    pool.keep_in(file, head)
    assert pool.add(accusation(database, 1))
    assert len(file.load()) == 1


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    with pytest.raises(DataDirectoryError, match=r"cannot read .*evidence"):
        EvidenceFile(tmp_path / "evidence").load()


def test_a_crash_or_a_full_disk_leaves_the_old_or_the_new(
    database: ChainDatabase,
) -> None:
    old, new = ([accusation(database, of)] for of in range(2))
    healthy = FakeDisk()
    EvidenceFile(PATH, disk=healthy).store(old)
    before = len(healthy.operations)
    EvidenceFile(PATH, disk=healthy).store(new)
    operations = len(healthy.operations) - before
    assert operations >= 4
    for at in range(operations):
        disk = FakeDisk()
        EvidenceFile(PATH, disk=disk).store(old)
        disk.faults[len(disk.operations) + at] = errno.ENOSPC
        file = EvidenceFile(PATH, disk=disk)
        with capture_logs() as told:
            file.store(new)
        assert [each["event"] for each in told] == ["evidence was not stored"]
        assert list(file.load()) in (old, new)


def test_a_node_finds_what_it_knew(tmp_path: Path, database: ChainDatabase) -> None:
    """From opening to opening; what is damaged does not keep a node from starting."""
    wanted = accusation(database, 1)
    path = tmp_path / "data" / "evidence"
    with DataDirectory(tmp_path / "data") as directory:
        initialise(directory, SPEC, None)
        with opened_node(config(), directory) as node:
            assert node.engine.evidence.add(wanted)
        with opened_node(config(), directory) as node:
            assert list(node.engine.evidence) == [wanted]
        path.write_bytes(b"?")
        with opened_node(config(), directory) as node:
            assert list(node.engine.evidence) == []
    assert (tmp_path / "data" / "evidence.damaged").read_bytes() == b"?"
