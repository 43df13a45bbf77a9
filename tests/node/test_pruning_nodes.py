"""Nodes that prune, and how they answer for what is gone."""

import json
from functools import partial
from pathlib import Path

import pytest
import trio

from chain.store import Store
from genesis import ChainSpec, open_chain
from genesis.accounts import account, validator
from lockstep.localnet import eventually
from node.audit import Auditor, DatabaseSource
from node.author import Validator
from node.config import load_config
from node.doppelganger import Guard
from node.errors import ConfigError
from node.opening import encode_spec
from node.pruning import Plan, window
from node.service import Chain as NodeChain, Node
from node.signer import LocalSigner
from node.upkeep import planned, prune_all
from node.validatorkey import ValidatorKey
from node.wal import WriteAheadLog
from node.watching import WatchedStore
from tests.node.conftest import RunningNode
from tests.node.process import CommandLine, Process
from tests.node.prunable import storing
from tests.node.test_upkeep import SPEC
from tests.node.tiny import ALICE, address, make_node, transfer


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
