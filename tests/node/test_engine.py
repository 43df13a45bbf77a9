"""The engine: blocks, crashes between any two writes, bad transactions."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from typing_extensions import override

from chain.block import Block
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.header import Header
from chain.receipt import Receipt
from chain.sidecar import CommitCertificate
from chain.store import Store
from chain.transaction import Transaction, decode
from consensus.certificate import verify_certificate
from consensus.proposal import check_block
from consensus.votes import Subject
from node.author import Validator
from node.disk import SystemDisk
from node.doppelganger import Guard
from node.errors import KeyFileError, LedgerError, SignerUnavailableError
from node.service import Node
from node.signer import STATE_FILE, LocalSigner, Signed
from node.validatorkey import ValidatorKey
from runtime.block import BlockBuilder, ExecutedBlock, import_block
from tests.node.tiny import (
    ALICE,
    BOB,
    CHAIN_ID,
    GENESIS_TIME,
    KEY,
    Clock,
    address,
    make_node,
    transfer,
)
from tests.support.clock import virtual_clock


def admit(node: Node, raw: bytes) -> None:
    node.mempool.add(decode(raw, CHAIN_ID), 10**9)


def step(node: Node) -> Header:
    async def main() -> Header:
        return await node.engine.step()

    return trio.run(main)


def last_signed(node: Node) -> Signed | None:
    assert node.engine.author.validator is not None
    return node.engine.author.validator.signer.last


def head_block(node: Node) -> Block:
    database = node.chain.database
    return database.block(database.head().hash)


def test_empty_blocks_follow_each_other(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    headers = [step(node) for _ in range(3)]
    assert [header.number for header in headers] == [1, 2, 3]
    assert headers[2].parent_hash == headers[1].hash


def test_blocks_satisfy_consensus_and_carry_certificates(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    ledger, database = node.chain.ledger, node.chain.database
    for _ in range(3):
        parent = database.head()
        step(node)
        block = head_block(node)
        epoch = ledger.epochs.epoch(parent)
        check_block(epoch, parent, block)
        certificate = database.certificate(block.hash)
        assert certificate is not None
        verify_certificate(
            epoch.genesis_hash,
            certificate,
            epoch.current,
            height=block.number,
            block_hash=block.hash,
        )


def test_a_block_has_the_time_at_which_its_parent_was_committed(
    tmp_path: Path,
) -> None:
    clock = Clock()
    node = make_node(tmp_path, clock=clock)
    times = [step(node).timestamp for _ in range(2)]
    clock.seconds = 5.0
    times.append(step(node).timestamp)
    clock.seconds = GENESIS_TIME + 1_000.9
    times += [step(node).timestamp for _ in range(2)]
    assert times == [GENESIS_TIME + each for each in (0, 100, 100, 100, 1_000)]


def test_best_transactions_go_in_and_leave_the_pool(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    admit(node, transfer(ALICE, 0, tip=10**9))
    admit(node, transfer(BOB, 0, tip=2 * 10**9))
    admit(node, transfer(ALICE, 2))
    step(node)
    included = head_block(node).transactions
    assert [decode(raw, CHAIN_ID).sender for raw in included] == [
        address(BOB),
        address(ALICE),
    ]
    assert [waiting.nonce for waiting in node.mempool.transactions()] == [2]


def test_transaction_that_became_unpayable_is_dropped_and_stops_nobody(
    tmp_path: Path,
) -> None:
    node = make_node(tmp_path)
    everything = 999 * 10**18
    admit(node, transfer(ALICE, 0, value=everything, tip=9 * 10**8))
    admit(node, transfer(BOB, 0))
    # Admitted on the same balance by a pool that has not seen the first one.
    poor = decode(transfer(ALICE, 1, value=1), CHAIN_ID)
    node.mempool.add(poor, 10**9)
    step(node)
    drained = transfer(ALICE, 2, value=everything)
    accounts = node.mempool._accounts
    rich = accounts(address(ALICE))
    node.mempool._accounts = lambda _: type(rich)(rich.nonce, 10**24)
    admit(node, drained)
    node.mempool._accounts = accounts
    admit(node, transfer(BOB, 1))
    header = step(node)
    assert header.gas_used == 21_000
    assert node.mempool.get(keccak(drained)) is None


def test_transaction_below_the_base_fee_waits(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    admit(node, transfer(ALICE, 0, fee=8 * 10**8, tip=1))
    headers = [step(node) for _ in range(3)]
    assert [header.gas_used for header in headers] == [0, 21_000, 0]
    assert headers[0].base_fee_per_gas > 8 * 10**8 >= headers[1].base_fee_per_gas


def test_full_block_leaves_the_rest_for_the_next(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    burn = b"\xfe"
    for nonce in range(3):
        raw = transfer(ALICE, nonce, to=None, value=0, gas=14_000_000, data=burn)
        admit(node, raw)
    used = [step(node).gas_used for _ in range(2)]
    assert used == [28_000_000, 14_000_000]


def test_fault_in_executing_one_transaction_costs_only_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path)
    apply = BlockBuilder.apply

    def faulty(builder: BlockBuilder, transaction: Transaction) -> Receipt:
        receipt = apply(builder, transaction)
        if transaction.sender == address(BOB):
            raise RuntimeError("a fault of ours, with the block half changed")
        return receipt

    monkeypatch.setattr(BlockBuilder, "apply", faulty)
    for raw in (transfer(ALICE, 0, tip=9 * 10**9), transfer(BOB), transfer(ALICE, 1)):
        admit(node, raw)
    header = step(node)
    assert header.gas_used == 2 * 21_000
    assert len(node.mempool) == 0
    parent = node.chain.database.header(header.parent_hash)
    monkeypatch.undo()
    rules = node.chain.forks.at(header.number)
    import_block(rules, node.chain.database, parent, head_block(node))


def test_a_node_without_a_vote_follows_and_signs_nothing(tmp_path: Path) -> None:
    validator = make_node(tmp_path / "validator")
    stranger = ValidatorKey.from_seed(b"\x07" * 32, b"\x08" * 64)
    follower = make_node(tmp_path / "follower", key=stranger)
    step(validator)
    block = head_block(validator)
    certificate = validator.chain.database.certificate(block.hash)
    assert certificate is not None

    async def follow() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.engine.step)
            await follower.engine.import_certified(block, certificate)

    trio.run(follow)
    assert head_block(follower) == block
    assert last_signed(follower) is None


def test_missing_certificate_is_named(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    head = step(node)
    node.chain.database.store.write({}, [b"c" + head.hash])
    node.engine._heights.previous = None  # as after a restart
    with pytest.raises(LedgerError, match="block 1 has no commit certificate"):
        step(node)


class PowerLoss(Exception):
    """The machine stops."""


class Crashing:
    """Counts durable writes of both kinds and stops at one of them."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left = at
        self.after = after
        self.off = False

    def around(self, write: Callable[[], None]) -> None:
        if self.off:
            write()
            return
        if self.left == 0 and not self.after:
            raise PowerLoss
        write()
        if self.left == 0:
            raise PowerLoss
        self.left -= 1


def life(directory: Path, store: Store, crash: Crashing, clock: Clock) -> Node:
    node = make_node(directory, store, clock)
    database = node.chain.database

    class Disk(SystemDisk):
        """A file is replaced by its rename."""

        @override
        def rename(self, old: Path, new: Path) -> None:
            crash.around(lambda: super(Disk, self).rename(old, new))

    signer = LocalSigner(directory, database.genesis_hash(), KEY, disk=Disk())
    node.engine.author.validator = Validator(signer, Guard(signer, 0, heights=0))
    commit = database.commit

    def committed(*arguments: object, **named: object) -> None:
        crash.around(lambda: commit(*arguments, **named))  # type: ignore[arg-type]  # as given

    database.commit = committed  # type: ignore[method-assign]  # a crash on the way
    return node


WRITES_PER_BLOCK = 5  # proposal file, three signatures, the database


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(2 * WRITES_PER_BLOCK))
def test_crash_at_any_write_neither_double_signs_nor_loses_a_block(
    tmp_path: Path, at: int, *, after: bool
) -> None:
    store, clock = Store.memory(), Clock()
    crash = Crashing(at, after=after)
    first = life(tmp_path, store, crash, clock)
    admit(first, transfer(ALICE, 0))
    proposed: dict[int, bytes] = {}

    def remember(node: Node) -> None:
        last = last_signed(node)
        if last is not None:
            height, block_hash = last.subject.height, last.subject.block_hash
            assert proposed.setdefault(height, block_hash) == block_hash

    with suppress(PowerLoss):
        for _ in range(3):
            step(first)
        pytest.fail("the machine did not stop")
    remember(first)
    # The clock went on, so a block made anew would differ from the signed one.
    clock.seconds += 50
    crash.off = True
    before = ChainDatabase(store).head().number
    second = life(tmp_path, store, crash, clock)
    headers = [step(second) for _ in range(3)]
    for header in headers:
        proposed.setdefault(header.number, header.hash)
        assert proposed[header.number] == header.hash
    assert headers[-1].number == before + 3
    for number, block_hash in proposed.items():
        assert second.chain.database.hash_at(number) == block_hash


def test_database_older_than_the_signer_is_not_signed_for(tmp_path: Path) -> None:
    store = Store.memory()
    node = make_node(tmp_path, store)
    step(node)
    rows = dict(store.scan(b""))
    step(node)
    step(node)
    old = Store.memory()
    old.write(rows)
    shutil.rmtree(tmp_path / "wal")
    second = make_node(tmp_path, old, Clock(9_999.0))
    last = last_signed(second)

    async def wait() -> None:
        with trio.move_on_after(1_000):
            await second.engine.step()

    trio.run(wait, clock=virtual_clock())
    assert second.chain.database.head().number == 1
    assert last_signed(second) == last


def test_lost_proposal_is_not_replaced_by_another(tmp_path: Path) -> None:
    store = Store.memory()
    node = life(tmp_path, store, Crashing(3, after=False), Clock())
    with pytest.raises(PowerLoss):
        step(node)
    assert (tmp_path / STATE_FILE).exists()
    (tmp_path / "proposal-1-0.rlp").unlink()
    shutil.rmtree(tmp_path / "wal")
    with pytest.raises(KeyFileError, match="cannot read"):
        step(make_node(tmp_path, store))


def test_beat_keeps_its_grid(tmp_path: Path) -> None:
    """A block every period, none in between; a slow one is not made up for."""
    node = make_node(tmp_path)
    engine = node.engine
    commits: list[float] = []
    note = engine._note_commit

    def noted(executed: ExecutedBlock, certificate: CommitCertificate) -> None:
        commits.append(trio.current_time())
        note(executed, certificate)

    engine._note_commit = noted  # type: ignore[method-assign]  # watched

    async def main() -> float:
        start = trio.current_time()
        with trio.move_on_after(4.5):
            await engine.run(1.0)
        return start

    start = trio.run(main, clock=virtual_clock())
    assert [round(each - start) for each in commits] == [1, 2, 3, 4]


class Absent(LocalSigner):
    """A signer that is away for the first calls of each kind."""

    away = 2

    def _leave(self, kind: str) -> None:
        gone = self.__dict__.setdefault("gone", {})
        gone[kind] = gone.get(kind, 0) + 1
        if gone[kind] <= self.away:
            raise SignerUnavailableError(f"{kind} {gone[kind]}")

    @override
    def sign(self, subject: Subject) -> Signed:
        self._leave(f"{subject.kind.name} of height {subject.height}")
        return super().sign(subject)

    @override
    def reveal(self, height: int) -> bytes:
        self._leave(f"reveal of height {height}")
        return super().reveal(height)


def test_a_signer_that_was_away_is_asked_again(tmp_path: Path) -> None:
    """Nobody else votes, so no round ends without the signature."""
    node = make_node(tmp_path)
    genesis_hash = node.chain.database.genesis_hash()
    signer = Absent(tmp_path, genesis_hash, KEY)
    node.engine.author.validator = Validator(signer, Guard(signer, 0, heights=0))

    async def main() -> None:
        for _ in range(3):
            await node.engine.step()

    trio.run(main, clock=virtual_clock())
    assert node.chain.database.head().number == 3
    assert all(times > Absent.away for times in signer.__dict__["gone"].values())


def test_a_guard_that_waited_is_asked_again(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    signer = LocalSigner(tmp_path, node.chain.database.genesis_hash(), KEY)
    guard = Guard(signer, 0, heights=0)
    guard.wait_while(lambda: trio.current_time() < until)
    node.engine.author.validator = Validator(signer, guard)
    until = 0.0

    async def main() -> None:
        nonlocal until
        until = trio.current_time() + 30
        await node.engine.step()
        assert trio.current_time() >= until

    trio.run(main, clock=virtual_clock())
    assert node.chain.database.head().number == 1
