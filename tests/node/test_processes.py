"""Real processes: devnet, kill -9 at random moments, export, audit."""

import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genesis.accounts import account
from tests.node.process import CommandLine, Process
from tests.node.tiny import transfer

pytestmark = [pytest.mark.slow, pytest.mark.network]
KILLS = 3
SENDER = "0x" + account(0).address.hex()


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Run a command of `lockstep`."""
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start devnets; whatever the test leaves running is killed."""
    started: list[Process] = []

    def begin(directory: Path, *options: str) -> Process:
        process = Process(directory, *options)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.close()


def test_devnet_tells_what_a_client_needs_and_stops_on_sigint(
    tmp_path: Path, start: Callable[..., Process]
) -> None:
    node = start(tmp_path / "data", "--block-time", "0.05")
    facts = node.facts
    assert facts["event"] == "ready"
    assert facts["chain_id"] == 4242
    assert facts["contracts"]["JobMarket"].lower().startswith("0x4c6f636b73746570")
    first = facts["accounts"][0]
    balance = int(node.call("eth_getBalance", first["address"], "latest"), 16)
    assert balance == int(first["balance"])
    assert node.call("lockstep_chainSpec")["name"] == "devnet"
    node.stop(signal.SIGINT)


def test_devnet_parameters_change_the_genesis(
    tmp_path: Path, start: Callable[..., Process]
) -> None:
    node = start(tmp_path / "data", "--parameter", "challenge_window=7")
    parameters = node.call("lockstep_chainSpec")["parameters"]
    node.stop()
    assert parameters["challenge_window"] == 7


def test_second_process_on_a_directory_is_refused(
    tmp_path: Path, start: Callable[..., Process], run: CommandLine
) -> None:
    node = start(tmp_path / "data")
    told = run("audit", str(tmp_path / "data"), code=1)
    node.stop()
    assert "is in use by process" in told


def test_kill_at_random_moments_loses_nothing(
    tmp_path: Path, start: Callable[..., Process], run: CommandLine
) -> None:
    """No block that was once reported ever changes, whatever the moment of death."""
    chosen = random.Random(7)  # noqa: S311 - a test's choice
    directory = tmp_path / "data"
    seen: dict[int, str] = {}
    for _ in range(KILLS):
        node = start(directory, "--block-time", "0.05")
        for number, block_hash in seen.items():
            block = node.call("eth_getBlockByNumber", hex(number), *[False])
            assert block is not None
            assert block["hash"] == block_hash
        for _ in range(chosen.randrange(1, 60)):
            nonce = int(node.call("eth_getTransactionCount", SENDER, "pending"), 16)
            raw = transfer(account(0).secret, nonce)
            sent = node.answer("eth_sendRawTransaction", "0x" + raw.hex())
            # The block that was signed before the kill may take the nonce meanwhile.
            if "error" in sent:
                assert "nonce too low" in sent["error"]["message"]
            block = node.call("eth_getBlockByNumber", "latest", *[False])
            number = int(block["number"], 16)
            assert seen.setdefault(number, block["hash"]) == block["hash"]
        node.kill()
    report = json.loads(run("audit", str(directory), "--json", "--chain", "devnet"))
    assert report["mismatches"] == []
    assert report["head"] >= max(seen)


def test_export_and_audit_of_both_agree(
    tmp_path: Path, start: Callable[..., Process], run: CommandLine
) -> None:
    directory, file = tmp_path / "data", tmp_path / "chain.lockstep"
    node = start(directory, "--block-time", "0.05")
    for nonce in range(3):
        raw = transfer(account(0).secret, nonce)
        node.call("eth_sendRawTransaction", "0x" + raw.hex())
    node.stop()
    written = json.loads(
        run("export", str(file), "--data-dir", str(directory), "--json")
    )
    of_database = json.loads(run("audit", str(directory), "--json"))
    of_file = json.loads(run("audit", str(file), "--json"))
    assert written["blocks"] == of_database["blocks"] == of_file["blocks"]
    assert of_database["head_hash"] == of_file["head_hash"]
    assert "everything agrees" in run("audit", str(file))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert run("audit", str(file), "--json", code=1)


def test_node_init_run_refuses_what_does_not_fit(
    tmp_path: Path, run: CommandLine
) -> None:
    directory = str(tmp_path / "data")
    assert "holds no chain" in run("node", "--data-dir", directory, code=1)
    made = json.loads(
        run("init", "--data-dir", directory, "--new-validator-key", "--json")
    )
    key = tmp_path / "data" / "validator" / "key.json"
    assert key.stat().st_mode & 0o777 == 0o600
    assert made["validator"].startswith("0x")
    told = run("init", "--data-dir", directory, "--chain", "nowhere", code=1)
    assert "no bundled specification" in told
    told = run("node", "--data-dir", directory, "--rpc-port", "99999", code=1)
    assert "rpc_port (from flags)" in told


def test_keys_are_made_shown_listed_and_imported(
    tmp_path: Path, run: CommandLine
) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    made = json.loads(run("keys", "new", str(first), "--json"))
    assert first.stat().st_mode & 0o777 == 0o600
    assert made["address"] in run("keys", "show", str(first))
    private = json.loads(run("keys", "show", str(first), "--private", "--json"))
    imported = json.loads(
        run("keys", "import", str(second), "--json", text=private["private_key"])
    )
    assert imported["address"] == made["address"]
    listed = run("keys", "ls", str(tmp_path))
    assert str(first) in listed
    assert str(second) in listed
    assert "never overwritten" in run("keys", "new", str(first), code=1)
    assert "expected a key" in run("keys", "import", "x.json", text="0x12", code=1)
