"""`lockstep status` against a running node, and answers that are none."""

import json

import pytest

from lockstep.cli.status import summary
from tests.node.conftest import RunningNode
from tests.node.process import CommandLine
from tests.node.tiny import CHAIN_ID, GENESIS_TIME, KEY, transfer


@pytest.fixture
def lockstep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.mark.network
def test_status_of_a_running_node(fresh: RunningNode, lockstep: CommandLine) -> None:
    fresh.mine(2)
    fresh.send(transfer())
    # The node of this process logs to the same place; the command prints last.
    printed = lockstep("status", "--rpc", fresh.url, "--json")
    found = json.loads(printed.splitlines()[-1])
    assert found["height"] == 2
    assert found["chain_id"] == CHAIN_ID
    assert found["validator"] == "0x" + KEY.address.hex()
    assert (found["mempool"], found["mempool_bytes"]) == (1, len(transfer()))
    assert (found["peers"], found["catching_up"], found["behind"]) == (0, False, 0)
    assert found["age"] > 0
    shown = lockstep("status", "--rpc", fresh.url, "--peers")
    assert "catching up    false" in shown
    assert "next proposer  0x" + KEY.address.hex() in shown


def test_no_node_is_told(lockstep: CommandLine) -> None:
    said = lockstep("status", "--rpc", "http://127.0.0.1:1", code=1)
    assert "no node answers at http://127.0.0.1:1" in said


ANSWER: dict[str, object] = {
    "client": "lockstep/v1",
    "chainId": "0x7",
    "head": {"number": "0xa", "hash": "0xab", "timestamp": hex(GENESIS_TIME)},
    "mempool": {"transactions": "0x1", "bytes": "0x64"},
    "validator": None,
    "bestKnown": "0xf",
    "firstBlock": "0x3",
    "firstState": "0x5",
    "catchingUp": True,
    "nextProposer": "0x01",
    "peers": [{}, {}],
}


def test_an_answer_in_a_persons_words() -> None:
    assert summary(ANSWER, GENESIS_TIME + 2.55) == {
        "client": "lockstep/v1",
        "chain id": 7,
        "height": 10,
        "hash": "0xab",
        "age": 2.5,
        "first block": 3,
        "first state": 5,
        "peers": 2,
        "catching up": True,
        "behind": 5,
        "validator": None,
        "next proposer": "0x01",
        "mempool": 1,
        "mempool bytes": 100,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"head": None},
        {"head": {"number": 1, "hash": "0x", "timestamp": "0x1"}},
        {"peers": 3},
        {"peers": [4]},
        {"catchingUp": "yes"},
        {"mempool": {}},
        {"client": None},
        {"nextProposer": 9},
    ],
)
def test_an_answer_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        summary(ANSWER | change, 0.0)
