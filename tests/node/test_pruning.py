"""Pruning: what is kept stays whole, whatever happens meanwhile."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings, strategies as st
from typing_extensions import override

from chain import rlp
from chain.block import Block
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.errors import MissingNode, NotFound, StoreError
from chain.header import EMPTY_TRIE_ROOT, Header
from chain.sidecar import Sidecar
from chain.store import PassThrough, Store
from genesis import ChainSpec, open_chain
from genesis.accounts import account, validator
from lockstep.localnet import eventually
from node.audit import AuditMismatch, Auditor, DatabaseSource
from node.author import Validator
from node.config import load_config
from node.doppelganger import Guard
from node.errors import ConfigError, LedgerError
from node.exporting import records
from node.opening import encode_spec
from node.pruning import Plan, Pruned, blocks_to_keep, prune, window
from node.service import Chain as NodeChain, Node
from node.signer import LocalSigner
from node.sync.blocks import read_blocks
from node.sync.errors import SyncError
from node.sync.walk import ACCOUNTS, CODE, below
from node.upkeep import (
    make_snapshot,
    planned,
    prune_all,
    restore_snapshot,
    roll_back,
)
from node.validatorkey import ValidatorKey
from node.wal import WriteAheadLog
from node.watching import WatchedStore
from runtime.world import World
from tests.node.conftest import RunningNode
from tests.node.process import CommandLine, Process
from tests.node.sync.chains import Chain
from tests.node.test_upkeep import SPEC, grown
from tests.node.tiny import ALICE, ETHER, VALIDATORS, address, make_node, transfer

BLOCKS = 24
# Stores the second word of its call data at the first.
STORER = bytes.fromhex("6020355f355500")


def storing(store: Store) -> ChainDatabase:
    """A genesis with a contract that stores, where transfers go."""
    database = ChainDatabase(store)
    world = World(database, EMPTY_TRIE_ROOT)
    world.set_balance(address(ALICE), 1_000 * ETHER)
    world.set_nonce(b"\x11" * 20, 1)
    world.set_code(b"\x11" * 20, STORER)
    root, writes = world.commit()
    header = Header(
        parent_hash=bytes(32),
        coinbase=bytes(20),
        state_root=root,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        number=0,
        gas_limit=30_000_000,
        gas_used=0,
        timestamp=1_000,
        extra_data=VALIDATORS.hash,
        mix_hash=bytes(32),
        base_fee_per_gas=10**9,
        parent_beacon_block_root=Sidecar().root(),
    )
    database.commit(Block(header), (), writes)
    return database


def setting(slot: int, value: int) -> bytes:
    """Call data; long, because the gas of a transfer goes by it."""
    return slot.to_bytes(32) + value.to_bytes(32) + bytes(600)


def more(chain: Chain, count: int = 1) -> None:
    """Blocks that change a storage trie to what it was two blocks ago."""
    for _ in range(count):
        number = chain.database.head().number
        chain.grow(1, [setting(slot, 1 + number % 2) for slot in (1, 2, 3)])


def made(blocks: int = BLOCKS, store: Store | None = None) -> Chain:
    chain = Chain(storing(WatchedStore(store or Store.memory())))
    more(chain, blocks)
    return chain


def done(chain: Chain, plan: Plan, *, dry: bool = False) -> Pruned:
    return prune_all(chain.database, plan, dry=dry)


def nodes_of(database: ChainDatabase, number: int) -> set[bytes]:
    """The hashes of all nodes of a state; fails when one is missing."""
    header = database.header_at(number)
    assert header is not None
    stack, found = [(ACCOUNTS, header.state_root)], set[bytes]()
    while stack:
        kind, digest = stack.pop()
        if kind == CODE:
            database.code(digest)
            continue
        found.add(digest)
        stack += below(kind, rlp.decode(database.node(digest)))
    return found


def exact(database: ChainDatabase, lowest: int) -> None:
    """Exactly the nodes of genesis and the states from `lowest` on are here."""
    head = database.head().number
    wanted = nodes_of(database, 0)
    for number in range(lowest, head + 1):
        wanted |= nodes_of(database, number)
    assert {key[1:] for key, _ in database.store.scan(b"s")} == wanted


def test_an_archive_is_exact_and_states_come_back() -> None:
    chain = made()
    exact(chain.database, 1)
    roots = [nodes_of(chain.database, n) for n in (BLOCKS, BLOCKS - 2)]
    assert len(roots[0] & roots[1]) > len(roots[0]) // 3


PLAN = Plan(11, 17)


def test_what_is_below_goes_and_the_rest_is_whole() -> None:
    chain, whole = made(), made()
    database = chain.database
    told = done(chain, PLAN)
    exact(database, 17)
    assert (database.base(), database.state_base()) == (11, 17)
    assert told.blocks == 10
    assert told.kept == len(list(database.store.scan(b"s")))
    assert told.nodes == len(list(whole.database.store.scan(b"s"))) - told.kept > 0
    for number in range(BLOCKS + 1):
        header = whole.database.header_at(number)
        assert header is not None
        assert database.header_at(number) == header
        assert database.has_state(number) == (number == 0 or number >= 17)
        kept = number == 0 or number >= 11
        for read in (database.block, database.receipts):
            if kept:
                read(header.hash)
            else:
                with pytest.raises(NotFound):
                    read(header.hash)
        raws = whole.block(number).transactions
        assert all((database.location(keccak(r)) is not None) == kept for r in raws)
        assert (database.certificate(header.hash) is not None) == (kept and number > 0)
    assert database.pruning() is None
    with pytest.raises(MissingNode):
        nodes_of(database, 16)


def test_the_chain_goes_on_and_is_pruned_again() -> None:
    chain, whole = made(), made()
    done(chain, PLAN)
    for each in (chain, whole):
        more(each, 8)
    assert chain.database.head() == whole.database.head()
    done(chain, Plan(20, 30))
    exact(chain.database, 30)
    once = made(BLOCKS + 8)
    done(once, Plan(20, 30))
    here, there = (dict(each.database.store.scan(b"")) for each in (chain, once))
    assert here == there


def test_a_dry_run_counts_and_changes_nothing() -> None:
    chain = made()
    before = dict(chain.database.store.scan(b""))
    counted = done(chain, PLAN, dry=True)
    assert dict(chain.database.store.scan(b"")) == before
    assert done(chain, PLAN) == counted


class PowerCut(Exception):
    """Nothing more is written."""


class Cut(PassThrough):
    """A store that takes so many writes."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.left = 1_000_000

    @override
    def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        sync: bool = True,
    ) -> None:
        if not self.left:
            raise PowerCut
        self.left -= 1
        self._inner.write(puts, deletes, sync=sync)


def test_a_crash_after_any_write_loses_nothing_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("node.pruning._NODES_AT_ONCE", 8)
    whole = made()
    rows = dict(whole.database.store.scan(b""))
    done(whole, PLAN)
    wanted = dict(whole.database.store.scan(b""))
    for writes in range(1_000):
        store = Store.memory()
        store.write(rows)
        cut = Cut(store)
        cut.left = writes
        database = ChainDatabase(WatchedStore(cut))
        try:
            prune_all(database, PLAN)
        except PowerCut:
            for number in range(17, BLOCKS + 1):
                nodes_of(database, number)
                database.block(database.hash_at(number) or b"")
            again = ChainDatabase(WatchedStore(store))
            prune_all(again, Plan.of(again, BLOCKS - 10, BLOCKS - 16))
            assert dict(store.scan(b"")) == wanted
        else:
            assert dict(store.scan(b"")) == wanted
            break
    assert writes > 15


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=6))
def test_blocks_that_are_committed_meanwhile_are_spared(
    pauses: list[int],
) -> None:
    chain = made()
    steps = prune(chain.database, PLAN)
    for pause in pauses:
        for _ in range(pause):
            next(steps, None)
        more(chain)
    for _ in steps:
        pass
    for number in range(17, BLOCKS + len(pauses) + 1):
        nodes_of(chain.database, number)
    done(chain, Plan(11, 17))
    exact(chain.database, 17)


def test_a_node_that_is_swept_may_come_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every state comes back after two blocks: between any two steps of the sweep."""
    monkeypatch.setattr("node.pruning._NODES_AT_ONCE", 1)
    chain = made()
    for told in prune(chain.database, Plan(BLOCKS, BLOCKS)):
        if told.phase == "sweep" and told.nodes % 8 == 0:
            more(chain)
    for number in range(BLOCKS, chain.database.head().number + 1):
        nodes_of(chain.database, number)


def test_a_state_with_a_hole_is_told_before_anything_goes() -> None:
    chain = made()
    head = chain.database.head()
    chain.database.store.write({}, [b"s" + head.state_root])
    before = dict(chain.database.store.scan(b"s"))
    with pytest.raises(LedgerError, match="is not whole"):
        done(chain, PLAN)
    assert dict(chain.database.store.scan(b"s")) == before


def test_only_one_prunes_and_only_a_watched_store() -> None:
    chain = made(4)
    first = prune(chain.database, Plan(2, 2))
    for told in first:
        if told.phase == "sweep":
            break
    with pytest.raises(StoreError, match="being pruned"):
        done(chain, Plan(2, 2))
    first.close()
    done(chain, Plan(2, 2))
    with pytest.raises(StoreError, match="watched"):
        WatchedStore.of(chain.database).remove_nodes([b"s"])
    with pytest.raises(StoreError, match="nobody watches"):
        prune_all(storing(Store.memory()), Plan(1, 0))


@pytest.mark.parametrize("plan", [Plan(0, 5), Plan(5, 3), Plan(5, 99), Plan(30, 31)])
def test_what_is_not_here_cannot_be_kept(plan: Plan) -> None:
    chain = made(9)
    done(chain, Plan(3, 4))
    with pytest.raises(StoreError, match="cannot keep"):
        done(chain, plan)


def test_plans_never_go_back() -> None:
    database = made(20).database
    assert Plan.of(database, 100, 100) == Plan(1, 0)
    assert Plan.of(database, 15, 4) == Plan(6, 17)
    assert Plan.of(database, 4, 15) == Plan(17, 16)
    prune_all(database, Plan(6, 17))
    assert Plan.of(database, 100, 100) == Plan(6, 17)


def test_a_chain_says_how_many_blocks_it_needs() -> None:
    assert window(SPEC) == SPEC.parameters["unbonding_blocks"] == 1_200
    assert blocks_to_keep(SPEC, 0) == 1_200
    assert blocks_to_keep(SPEC, 5_000) == 5_000
    with pytest.raises(ConfigError, match="reach 1200 blocks back"):
        blocks_to_keep(SPEC, 1_199)
    long = SPEC.with_parameters(challenge_window=5_000)
    assert window(long) == 2 * (5_000 + SPEC.parameters["reveal_window"])


def test_what_needs_the_past_says_that_it_is_pruned(tmp_path: Path) -> None:
    chain = made()
    done(chain, PLAN)
    with pytest.raises(SyncError, match="the state before block 17 is pruned"):
        make_snapshot(tmp_path / "snapshot", SPEC, chain.database, 17)
    with pytest.raises(LedgerError, match="blocks 1 to 10 are not here"):
        list(records(chain.database))
    assert read_blocks(chain.database, 10, 4) == ()
    assert [each.height for each in read_blocks(chain.database, 11, 4)] == [
        *range(11, 15)
    ]
    while chain.database.head().number > 17:
        roll_back(chain.database)
    with pytest.raises(LedgerError, match="the state of block 16 is pruned"):
        roll_back(chain.database)


@pytest.mark.network
def test_rpc_of_a_pruned_node(tmp_path: Path) -> None:
    running = RunningNode(make_node(tmp_path, WatchedStore(Store.memory())))
    try:
        for nonce in range(4):
            running.mined(transfer(nonce=nonce))
        prune_all(running.node.chain.database, Plan(2, 3))
        who = "0x" + address(ALICE).hex()
        for method, *params in (
            ("eth_getBalance", who, "0x2"),
            ("eth_getProof", who, [], "0x2"),
            ("eth_call", {"to": who}, "0x2"),
            ("eth_estimateGas", {"to": who}, "0x2"),
        ):
            error = running.error(method, *params)
            assert error["code"] == -32000
            assert error["message"].startswith("missing trie node ")
            assert "of block 2 is not available" in error["message"]
            assert "archive node" in error["message"]
        assert running.call("eth_getBalance", who, "0x3") != "0x0"
        assert running.call("eth_getBalance", who, "earliest") != "0x0"
        error = running.error("eth_getBlockByNumber", "0x1", False)  # noqa: FBT003 - RPC
        assert error["code"] == 4444
        status = running.call("lockstep_status")
        assert (status["firstBlock"], status["firstState"]) == ("0x2", "0x3")
    finally:
        running.stop()


# -- audits of what is left -----------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, bytes]:
    """Nine blocks of devnet."""
    return grown(tmp_path_factory.mktemp("validator"), SPEC, 9)


def stored(rows: Mapping[bytes, bytes]) -> WatchedStore:
    store = Store.memory()
    store.write(rows)
    return WatchedStore(store)


@pytest.fixture(scope="module")
def pruned(whole: dict[bytes, bytes]) -> dict[bytes, bytes]:
    store = stored(whole)
    prune_all(ChainDatabase(store), Plan(4, 6))
    return dict(store.scan(b""))


@pytest.fixture(scope="module")
def restored(
    whole: dict[bytes, bytes], tmp_path_factory: pytest.TempPathFactory
) -> dict[bytes, bytes]:
    path = tmp_path_factory.mktemp("snapshot") / "file"
    snapshot = make_snapshot(path, SPEC, ChainDatabase(stored(whole)), 7)
    store = Store.memory()
    restore_snapshot(path, SPEC, store, 7, snapshot.block_hash)
    return dict(store.scan(b""))


def audit(rows: Mapping[bytes, bytes]) -> Auditor:
    source = DatabaseSource(stored(rows))
    auditor = Auditor(SPEC, source, Store.memory(), use_oracle=False)
    auditor.run()
    return auditor


def test_a_pruned_database_is_audited_from_where_it_begins(
    pruned: dict[bytes, bytes],
) -> None:
    report = audit(pruned).report
    assert report.beginning is not None
    assert (report.beginning.block, report.beginning.state) == (4, 6)
    assert (report.head, report.blocks, report.certificates) == (9, 7, 6)


def test_a_restored_database_is_audited_from_where_it_begins(
    restored: dict[bytes, bytes],
) -> None:
    report = audit(restored).report
    assert report.beginning is not None
    assert (report.beginning.block, report.beginning.state) == (7, 6)
    assert (report.head, report.blocks) == (7, 2)


def test_pruned_at_the_head_and_with_all_blocks(whole: dict[bytes, bytes]) -> None:
    for plan in (Plan(1, 9), Plan(9, 9), Plan(9, 8), Plan(1, 1)):
        store = stored(whole)
        prune_all(ChainDatabase(store), plan)
        report = audit(dict(store.scan(b""))).report
        assert report.head == 9
        assert report.beginning is not None
        assert report.beginning.state == plan.state_base


@pytest.mark.parametrize("kind", ["pruned", "restored"])
def test_every_entry_of_a_late_beginning_is_held_against_something(
    kind: str, request: pytest.FixtureRequest
) -> None:
    rows: dict[bytes, bytes] = request.getfixturevalue(kind)
    database = ChainDatabase(stored(rows))
    # Steps follow from nothing but the execution of their block.
    trusted = {
        b"w" + (database.hash_at(number) or b"")
        for number in range(1, database.state_base() + 1)
    }
    for key, value in rows.items():
        if key in trusted:
            continue
        spoiled = value[:-1] + bytes((value[-1] ^ 1,))
        for changed in ({**rows, key: spoiled}, {k: rows[k] for k in rows if k != key}):
            with pytest.raises(AuditMismatch):
                audit(changed)


def test_an_interrupted_pruning_is_told(pruned: dict[bytes, bytes]) -> None:
    with pytest.raises(AuditMismatch, match="run `lockstep prune` again"):
        audit({**pruned, b"d": bytes(8)})


def test_a_stray_node_is_found_in_a_pruned_database(
    pruned: dict[bytes, bytes],
) -> None:
    with pytest.raises(AuditMismatch, match="no such entry"):
        audit({**pruned, b"s" + keccak(b"stray"): b"stray"})
    assert audit({**pruned, b"k" + keccak(b"code"): b"code"}).report.left_over == 1


# -- running nodes -------------------------------------------------------------------


def test_a_running_node_prunes_and_takes_snapshots(tmp_path: Path) -> None:
    consensus = SPEC.consensus.model_copy(
        update={"epoch_blocks": 20, "evidence_age_blocks": 40}
    )
    spec = SPEC.model_copy(update={"consensus": consensus}).with_parameters(
        unbonding_blocks=80, jail_blocks=20
    )
    assert window(spec) == 256
    node = running_node(tmp_path, spec)
    database = node.chain.database
    seen: set[int] = set()
    seen_metrics: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.housekeeper.run, node.engine)
            while database.base() < 20:
                await node.engine.step()
                await trio.lowlevel.checkpoint()
            while len(seen) < 3:
                await node.engine.step()
                seen.add(node.housekeeper.snapshots.newest)
            seen_metrics.append(node.exposition()[0].decode())
            nursery.cancel_scope.cancel()

    trio.run(main)
    head = database.head().number
    (shown,) = seen_metrics
    lines = (each.split() for each in shown.splitlines())
    values = {each[0]: float(each[1]) for each in lines if each[0] != "#"}
    assert 20 <= values["lockstep_store_first_block"] <= database.base()
    assert 0 < values["lockstep_store_first_state"] <= database.state_base()
    assert values["lockstep_store_snapshot_height"] == max(seen)
    assert head - 256 < database.base() + 40
    assert head - 100 < database.state_base()
    prune_all(database, Plan.of(database, 256, 16))
    auditor = Auditor(
        spec, DatabaseSource(database.store), Store.memory(), use_oracle=False
    )
    assert auditor.run().head == head


def running_node(home: Path, spec: ChainSpec) -> Node:
    database = open_chain(spec, WatchedStore(Store.memory()))
    secrets = validator(0)
    key = ValidatorKey.checked(secrets.secret, secrets.beacon_secret)
    signer = LocalSigner(home, database.genesis_hash(), key)
    flags = {
        "data_dir": home,
        "pruning": "recent",
        "prune_keep_states": 16,
        "prune_interval": 20,
        "snapshot_interval": 30,
    }
    return Node(
        load_config(flags, environment={}),
        NodeChain(
            database,
            encode_spec(spec),
            spec.rules,
            spec.validator_set,
            epoch_blocks=spec.consensus.epoch_blocks,
            evidence_age=spec.consensus.evidence_age_blocks,
        ),
        Validator(signer, Guard(signer, 0, heights=0)),
        WriteAheadLog(home / "wal"),
    )


def test_a_node_that_would_keep_too_little_does_not_start(tmp_path: Path) -> None:
    long = SPEC.with_parameters(unbonding_blocks=2_000)
    running_node(tmp_path, long)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCKSTEP_PRUNE_KEEP_BLOCKS", "1999")
        patch.setenv("LOCKSTEP_PRUNING", "recent")
        config = load_config({"data_dir": tmp_path})
    with pytest.raises(ConfigError, match="cannot keep 1999 blocks"):
        planned(long, storing(WatchedStore(Store.memory())), 1_999, 16)
    assert config.prune_keep_blocks == 1_999


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def first_state(node: Process) -> int:
    return int(node.call("lockstep_status")["firstState"], 16)


def has_moved(node: Process, start: int) -> bool:
    return first_state(node) > start


@pytest.mark.slow
@pytest.mark.network
def test_a_devnet_prunes_while_it_runs_and_is_pruned_when_it_is_stopped(
    tmp_path: Path, run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "data"
    monkeypatch.setenv("LOCKSTEP_PRUNING", "recent")
    monkeypatch.setenv("LOCKSTEP_PRUNE_KEEP_STATES", "16")
    monkeypatch.setenv("LOCKSTEP_PRUNE_INTERVAL", "4")
    who = "0x" + account(0).address.hex()
    for nonce in range(2):
        node = Process(home, "--block-time", "0.05")
        try:
            raw = transfer(account(0).secret, nonce)
            node.call("eth_sendRawTransaction", "0x" + raw.hex())
            start = first_state(node)
            eventually(partial(has_moved, node, start), 60, "states are pruned")
            error = node.answer("eth_getBalance", who, "0x1")["error"]
            assert error["code"] == -32000
            assert error["message"].startswith("missing trie node ")
            node.kill()
        finally:
            node.close()
    arguments = ("prune", "--data-dir", str(home), "--keep-states", "16", "--json")
    counted = json.loads(run(*arguments, "--dry-run"))
    removed = json.loads(run(*arguments))
    assert counted == {**removed, "dry_run": True}
    assert json.loads(run(*arguments))["nodes"] == 0
    report = json.loads(run("audit", str(home), "--json"))
    assert report["mismatches"] == []
    assert report["trusted_state"] == removed["first_state"] > 0
    assert "begins        with block 1" in run("audit", str(home))
    told = run("prune", "--data-dir", str(home), "--keep-heights", "5", code=1)
    assert "reach 1200 blocks back" in told
