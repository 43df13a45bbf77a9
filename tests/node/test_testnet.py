"""Four validators as real processes on real sockets: kill, restart, agree."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from chain.transaction import Unsigned
from genesis.accounts import account
from lockstep.localnet import Localnet, eventually
from tests.node.process import CommandLine

VALIDATORS = 4
SECONDS = 120.0


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Localnet]:
    with Localnet(tmp_path / "net", block_time=0.3, validators=VALIDATORS) as running:
        yield running


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def ask(url: str, method: str, *params: object) -> Any:  # noqa: ANN401 - any JSON
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"content-type": "application/json"}
    data = json.dumps(body)
    answer = requests.post(url, data=data, headers=headers, timeout=30).json()
    assert "error" not in answer, answer
    return answer["result"]


def height(url: str) -> int:
    return int(ask(url, "eth_blockNumber"), 16)


def reach(net: Localnet, wanted: int, *who: int) -> None:
    for index in who or range(VALIDATORS):
        url = net.urls[index]
        reached = partial(is_at, url, wanted)
        eventually(reached, SECONDS, f"{url}: {wanted}")


def is_at(url: str, wanted: int) -> bool:
    return height(url) >= wanted


def pay(url: str, nonce: int) -> str:
    raw = Unsigned(
        chain_id=4242,
        nonce=nonce,
        gas=21_000,
        max_fee_per_gas=10**10,
        max_priority_fee_per_gas=10**9,
        to=b"\x22" * 20,
        value=1,
        type=2,
    ).sign(account(0).secret)
    sent: str = ask(url, "eth_sendRawTransaction", "0x" + raw.hex())
    return sent


def test_a_killed_validator_comes_back_and_all_agree(
    net: Localnet, run: CommandLine
) -> None:
    reach(net, 2)
    first = pay(net.urls[3], 0)
    eventually(
        lambda: ask(net.urls[1], "eth_getTransactionReceipt", first) is not None,
        SECONDS,
        "a transfer sent to one node is in the chain of another",
    )
    net.kill_node(3)
    before = height(net.url)
    second = pay(net.urls[0], 1)
    reach(net, before + 8, 0, 1, 2)
    net.restart_node(3)
    reach(net, before + 12)
    assert ask(net.urls[3], "eth_getTransactionReceipt", second) is not None
    for node in net.nodes:
        assert node.stop() == 0
    reports = [json.loads(run("audit", str(each), "--json")) for each in net.databases]
    assert min(report["blocks"] for report in reports) > before + 12
