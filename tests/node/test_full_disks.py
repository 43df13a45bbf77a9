"""A validator whose disk fills up or breaks: it stops, says why, and goes on later."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.node.faults import built
from tests.node.process import WAIT_SECONDS, CommandLine, Process

pytestmark = [pytest.mark.slow, pytest.mark.network]
AT = 90  # operations: after the start, within some twenty blocks


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Run a command of `lockstep`."""
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes the disk fail."""
    return built(tmp_path_factory.mktemp("library"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of the node."""
    return tmp_path.resolve() / "data"


@pytest.fixture
def failing(directory: Path, library: Path, part: str, code: int) -> Iterator[Process]:
    """A node for whose files in a part of its directory the disk fails."""
    node = Process(
        directory,
        "--block-time",
        "0.05",
        LD_PRELOAD=str(library),
        FAULTS_BELOW=str(directory / part),
        FAULTS_AT=str(AT),
        FAULTS_ERRNO=str(code),
    )
    yield node
    node.close()


def seen_until_it_stops(node: Process) -> dict[str, str]:
    """Every block that the node reported, hashes by number."""
    seen: dict[str, str] = {}
    gone = requests.ConnectionError, requests.exceptions.ChunkedEncodingError
    with suppress(*gone):
        while True:
            block = node.call("eth_getBlockByNumber", "latest", *[False])
            seen[block["number"]] = block["hash"]
    return seen


@pytest.mark.parametrize("part", ["database", "wal", "validator"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_stops_the_node(
    directory: Path, failing: Process, run: CommandLine, part: str, code: int
) -> None:
    seen = seen_until_it_stops(failing)
    assert failing.child.wait(WAIT_SECONDS) == 1
    log = Path(failing.log.name).read_text()
    told = json.loads(log.splitlines()[-1])["message"]
    assert os.strerror(code) in told
    assert f"{directory}/{part}" in told
    assert "Traceback" not in log
    assert len(seen) > 1

    again = Process(directory, "--block-time", "0.05")
    try:
        for number, block_hash in seen.items():
            block = again.call("eth_getBlockByNumber", number, *[False])
            assert block["hash"] == block_hash
        target = max(int(number, 16) for number in seen) + 3
        while int(again.call("eth_blockNumber"), 16) < target:
            pass
        again.stop()
    finally:
        again.close()
    report = json.loads(run("audit", str(directory), "--json", "--chain", "devnet"))
    assert report["mismatches"] == []
