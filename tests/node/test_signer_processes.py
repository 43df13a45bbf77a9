"""A validator whose keys are in another process; both are killed at bad moments."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from genesis import ChainSpec
from node.opening import encode_spec
from node.signstate import STATE_FILE
from tests.node.process import CommandLine, command

pytestmark = [pytest.mark.slow, pytest.mark.network]
WAIT_SECONDS = 90
PASSWORD = "correct horse"  # noqa: S105 - a test's


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Run a command of `lockstep`."""
    return CommandLine(monkeypatch, capsys)


@dataclass
class Child:
    """A process that has said that it is ready."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(WAIT_SECONDS) == -signal.SIGKILL

    def height(self) -> int:
        body = '{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'
        answer = requests.post(self.facts["rpc"], data=body, timeout=WAIT_SECONDS)
        return int(answer.json()["result"], 16)

    def reach(self, height: int) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while self.height() < height:
            assert time.monotonic() < deadline, f"stuck at {self.height()}"
            assert self.process.poll() is None


Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes; whatever the test leaves running is killed."""
    running: list[subprocess.Popen[str]] = []
    log = (tmp_path / "log").open("ab")

    def begin(*arguments: str, **environment: str) -> Child:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **environment},
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (tmp_path / "log").read_text()
        return Child(process, json.loads(line))

    yield begin
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    log.close()


def spec_for(key: dict[str, Any], path: Path) -> str:
    """A chain whose one validator has this key."""
    document = json.loads(encode_spec(ChainSpec.load("devnet")))
    members = document["validators"]
    document["validators"] = [
        {**members[0], "public_key": key["public_key"], "beacon_key": key["beacon_key"]}
    ]
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize("over", ["unix", "tcp"])
def test_node_and_signer_are_killed_and_go_on(
    tmp_path: Path, run: CommandLine, start: Start, over: str
) -> None:
    word = tmp_path / "word"
    word.write_text(PASSWORD)
    word.chmod(0o600)
    keys, home = str(tmp_path / "keys"), str(tmp_path / "home")
    secret = ("--password-file", str(word))
    facts = json.loads(run("keys", "validator", "new", keys, *secret, "--json"))
    chain = spec_for(facts, tmp_path / "chain.json")
    made = json.loads(run("init", "--data-dir", home, "--chain", chain, "--json"))
    listen: Sequence[str] = ("--listen", f"unix:{tmp_path}/socket")
    if over == "tcp":
        listen = ("--listen", "tcp:127.0.0.1:0", "--allow", made["node_id"])
    signing = ("signer", "run", "--key", keys, "--chain", chain, *secret, "--json")
    signer = start(*signing, *listen)
    if over == "tcp":
        # The node must find it again at the same port.
        port = signer.facts["signer"].rpartition(":")[2]
        listen = ("--listen", f"tcp:127.0.0.1:{port}", *listen[2:])
    running = ("node", "run", "--data-dir", home, "--rpc-port", "0", "--json")
    settings = {
        "LOCKSTEP_SIGNER": signer.facts["signer"],
        "LOCKSTEP_BLOCK_TIME": "0.05",
        "LOCKSTEP_TIMEOUT_PROPOSE": "0.3",
        "LOCKSTEP_TIMEOUT_VOTE": "0.1",
    }
    node = start(*running, **settings)
    assert not list((Path(home) / "validator").glob("*.json"))
    for _ in range(2):
        node.reach(node.height() + 3)
        signer.kill()
        before = node.height()
        signer = start(*signing, *listen)
        node.reach(before + 3)
        node.kill()
        node = start(*running, **settings)
    node.reach(node.height() + 3)
    state = json.loads((Path(keys) / STATE_FILE).read_text())
    assert state["height"] >= node.height()
    node.process.terminate()
    assert node.process.wait(WAIT_SECONDS) == 0
    signer.process.terminate()
    assert signer.process.wait(WAIT_SECONDS) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_an_operator_can_get_wrong(tmp_path: Path, run: CommandLine) -> None:
    keys, home = str(tmp_path / "keys"), str(tmp_path / "home")
    run("keys", "validator", "new", keys, "--plain")
    signing = ("signer", "run", "--key", keys, "--chain", "devnet")
    told = run(*signing, "--listen", "tcp:127.0.0.1:0", code=1)
    assert "--allow" in told
    told = run(*signing, "--listen", "tcp:127.0.0.1:0", "--allow", "xyz", code=1)
    assert "40 hex digits" in told
    assert "expected unix:PATH" in run(*signing, "--listen", "nowhere", code=1)
    told = run("signer", "run", "--key", home, *signing[4:], "--listen", "x", code=1)
    assert "x" in told
    first = run("signer", "id", "--key", keys).strip()
    assert json.loads(run("signer", "id", "--key", keys, "--json")) == {"id": first}
    run("init", "--data-dir", home, "--validator-key", keys)
    config = tmp_path / "config.toml"
    config.write_text(f'data_dir = "{home}"\nsigner = "unix:{tmp_path}/socket"\n')
    told = run("node", "run", "--config", str(config), code=1)
    assert "move one of them away" in told
    for path in (Path(home) / "validator").iterdir():
        path.unlink()
    told = run("node", "run", "--config", str(config), code=1)
    assert "is `lockstep signer run` running" in told
    config.write_text(f'data_dir = "{home}"\nsigner = "x"\n')
    told = run("node", "run", "--config", str(config), code=1)
    assert "expected unix:PATH or tcp:ID@HOST:PORT" in told


def test_one_signer_for_each_directory(
    tmp_path: Path, run: CommandLine, start: Start
) -> None:
    keys = str(tmp_path / "keys")
    run("keys", "validator", "new", keys, "--plain")
    signing = ("signer", "run", "--key", keys, "--chain", "devnet")
    start(*signing, "--listen", f"unix:{tmp_path}/a", "--json")
    told = run(*signing, "--listen", f"unix:{tmp_path}/b", code=1)
    assert "is in use by process" in told
