"""JSON-RPC over real sockets, method by method, success and refusal."""

from typing import Any

import pytest
from eth_abi.abi import encode
from web3 import Web3
from web3.exceptions import Web3RPCError

from chain import rlp
from chain.crypto import keccak
from chain.header import Header
from consensus.validators import ValidatorSet
from tests.node.conftest import RunningNode
from tests.node.tiny import (
    ALICE,
    BOB,
    CAROL,
    CHAIN_ID,
    DOUBLER,
    ETHER,
    KEY,
    LOGGER,
    VALIDATORS,
    address,
    transfer,
)

TARGET = "0x" + "11" * 20
ABSENT = "0x" + "ee" * 32
FULL, SHORT = True, False


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def word(number: int) -> str:
    return hexed(number.to_bytes(32))


def next_nonce(node: RunningNode, secret: bytes = ALICE) -> int:
    found = node.call("eth_getTransactionCount", hexed(address(secret)), "pending")
    return int(found, 16)


def test_identity(running: RunningNode) -> None:
    assert running.call("eth_chainId") == hex(CHAIN_ID)
    assert running.call("net_version") == str(CHAIN_ID)
    assert running.call("web3_clientVersion").startswith("lockstep/v")
    assert running.call("eth_accounts") == []
    assert running.call("eth_syncing") is False
    assert running.call("net_peerCount") == "0x0"
    assert running.call("web3_sha3", "0x68656c6c6f") == hexed(keccak(b"hello"))
    assert "lockstep" in running.call("rpc_modules")


def test_transfer_from_mempool_to_receipt(running: RunningNode) -> None:
    raw = transfer(nonce=next_nonce(running), value=5)
    before = int(running.call("eth_getBalance", TARGET, "latest"), 16)
    sent = running.send(raw)
    assert sent == hexed(keccak(raw))
    waiting = running.call("eth_getTransactionByHash", sent)
    assert waiting["blockHash"] is None
    assert waiting["from"] == hexed(address(ALICE))
    assert running.call("eth_getTransactionReceipt", sent) is None
    running.mine()
    receipt = running.call("eth_getTransactionReceipt", sent)
    assert (receipt["status"], receipt["gasUsed"]) == ("0x1", "0x5208")
    assert receipt["to"] == TARGET
    mined = running.call("eth_getTransactionByHash", sent)
    assert mined["blockHash"] == receipt["blockHash"]
    assert mined["transactionIndex"] == "0x0"
    assert running.call("eth_getRawTransactionByHash", sent) == hexed(raw)
    after = int(running.call("eth_getBalance", TARGET, "latest"), 16)
    assert after - before == 5


def test_block_by_number_and_hash_agree(running: RunningNode) -> None:
    receipt = running.mined(transfer(nonce=next_nonce(running)))
    number, block_hash = receipt["blockNumber"], receipt["blockHash"]
    by_number = running.call("eth_getBlockByNumber", number, FULL)
    by_hash = running.call("eth_getBlockByHash", block_hash, FULL)
    assert by_number == by_hash
    assert by_number["hash"] == block_hash
    assert by_number["transactions"][0]["hash"] == receipt["transactionHash"]
    short = running.call("eth_getBlockByNumber", number, SHORT)
    assert short["transactions"] == [receipt["transactionHash"]]
    assert len(bytes.fromhex(short["extraData"][2:])) == 32
    assert running.call("eth_getBlockReceipts", number) == [receipt]
    count = running.call("eth_getBlockTransactionCountByNumber", number)
    assert count == running.call("eth_getBlockTransactionCountByHash", block_hash)
    assert count == "0x1"
    for method, name in (("Number", number), ("Hash", block_hash)):
        found = running.call(f"eth_getTransactionByBlock{method}AndIndex", name, "0x0")
        assert found["hash"] == receipt["transactionHash"]
    assert running.call("eth_getUncleCountByBlockNumber", number) == "0x0"


def test_raw_header_hashes_to_the_block_hash(running: RunningNode) -> None:
    running.mined(transfer(nonce=next_nonce(running)))
    block = running.call("eth_getBlockByNumber", "latest", SHORT)
    raw = bytes.fromhex(running.call("debug_getRawHeader", "latest")[2:])
    assert hexed(keccak(raw)) == block["hash"]
    assert Header.decode(raw).number == int(block["number"], 16)
    whole = bytes.fromhex(running.call("debug_getRawBlock", block["number"])[2:])
    header, transactions, ommers, withdrawals = rlp.decode_list(whole)
    assert rlp.encode(header) == raw
    assert (len(transactions), ommers, withdrawals) == (1, [], [])
    assert int(block["size"], 16) == len(whole)
    (receipt,) = running.call("debug_getRawReceipts", block["number"])
    assert receipt.startswith("0x02")


def test_absent_things_are_null(running: RunningNode) -> None:
    for method, *params in (
        ("eth_getBlockByNumber", "0xffffff", False),
        ("eth_getBlockByHash", ABSENT, False),
        ("eth_getTransactionByHash", ABSENT),
        ("eth_getTransactionReceipt", ABSENT),
        ("eth_getBlockReceipts", "0xffffff"),
        ("eth_getBlockTransactionCountByHash", ABSENT),
        ("eth_getTransactionByBlockNumberAndIndex", "latest", "0xff"),
        ("lockstep_certificate", "0x0"),
        ("lockstep_sidecar", "0xffffff"),
    ):
        assert running.call(method, *params) is None, method


def test_state_of_an_old_block_stays_readable(running: RunningNode) -> None:
    running.mined(transfer(BOB, next_nonce(running, BOB), value=ETHER))
    latest = int(running.call("eth_getBalance", hexed(address(BOB)), "latest"), 16)
    first = running.call("eth_getBalance", hexed(address(BOB)), "0x0")
    assert int(first, 16) == 1_000 * ETHER > latest
    genesis = running.call("eth_getBlockByNumber", "0x0", SHORT)["hash"]
    for name in ("earliest", {"blockNumber": "0x0"}, {"blockHash": genesis}):
        assert running.call("eth_getBalance", hexed(address(BOB)), name) == first


def test_state_above_the_head_is_refused(running: RunningNode) -> None:
    error = running.error("eth_getBalance", TARGET, "0xffffff")
    assert error == {"code": -32000, "message": "header not found"}


def test_pending_nonce_counts_what_waits(running: RunningNode) -> None:
    carol = hexed(address(CAROL))
    assert running.call("eth_getTransactionCount", carol, "latest") == "0x0"
    for nonce in (0, 1):
        running.send(transfer(CAROL, nonce))
    assert running.call("eth_getTransactionCount", carol, "latest") == "0x0"
    assert running.call("eth_getTransactionCount", carol, "pending") == "0x2"
    running.mine()
    assert running.call("eth_getTransactionCount", carol, "latest") == "0x2"


def test_code_and_storage(running: RunningNode) -> None:
    assert running.call("eth_getCode", hexed(DOUBLER), "latest").startswith("0x5f35")
    assert running.call("eth_getCode", TARGET, "latest") == "0x"
    for slot in ("0x0", word(0)):
        found = running.call("eth_getStorageAt", hexed(DOUBLER), slot, "latest")
        assert found == word(0)


def test_call_returns_the_output(running: RunningNode) -> None:
    request = {"to": hexed(DOUBLER), "data": word(4)}
    assert running.call("eth_call", request, "latest") == word(8)
    assert running.call("eth_call", request | {"input": word(4)}) == word(8)


def test_reverted_call_is_code_3_with_its_data(running: RunningNode) -> None:
    request = {"to": hexed(DOUBLER), "input": word(3)}
    error = running.error("eth_call", request, "latest")
    assert error == {"code": 3, "message": "execution reverted", "data": word(3)}
    estimate = running.error("eth_estimateGas", request)
    assert estimate == error


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            bytes.fromhex("08c379a0") + encode(["string"], ["market: not open"]),
            "execution reverted: market: not open",
        ),
        (
            bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]),
            "execution reverted: panic code 0x11",
        ),
        (bytes.fromhex("08c379a0") + bytes(3), "execution reverted"),
        (b"", "execution reverted"),
    ],
    ids=["reason", "panic", "malformed", "bare"],
)
def test_revert_reasons_are_explained(
    running: RunningNode, output: bytes, message: str
) -> None:
    # Initcode that reverts with the rest of itself: codecopy(0, 12, n) revert(0, n).
    size = len(output).to_bytes(2)
    code = b"\x61" + size + b"\x80\x60\x0b\x5f\x39\x5f\xfd" + b"\0"
    request = {"data": hexed(code + output), "from": hexed(address(ALICE))}
    error = running.error("eth_call", request, "latest")
    assert (error["code"], error["message"]) == (3, message)
    assert error["data"] == hexed(output)


def test_call_that_takes_too_many_steps_is_cut_off(running: RunningNode) -> None:
    loop = {"data": "0x5b5f56"}  # JUMPDEST PUSH0 JUMP
    error = running.error("eth_call", loop, "latest")
    assert error["code"] in {-32005, -32000}
    assert "steps" in error["message"] or "gas" in error["message"].lower()


def test_estimates_suffice(running: RunningNode) -> None:
    plain = {"from": hexed(address(ALICE)), "to": TARGET, "value": "0x1"}
    assert running.call("eth_estimateGas", plain) == hex(21_000)
    call = {"from": hexed(address(ALICE)), "to": hexed(LOGGER), "data": word(1)}
    gas = int(running.call("eth_estimateGas", call), 16)
    receipt = running.mined(
        transfer(nonce=next_nonce(running), to=LOGGER, gas=gas, data=bytes(31) + b"\1")
    )
    assert receipt["status"] == "0x1"


def test_estimate_without_funds_is_refused(running: RunningNode) -> None:
    poor = {"from": TARGET, "to": TARGET, "value": hex(10**24)}
    error = running.error("eth_estimateGas", poor)
    assert error["code"] == -32000
    assert "insufficient funds" in error["message"]


def test_proof_has_the_account_and_the_slots(running: RunningNode) -> None:
    account = hexed(address(ALICE))
    proof = running.call("eth_getProof", account, ["0x0", word(7)], "latest")
    block = running.call("eth_getBlockByNumber", "latest", SHORT)
    root = keccak(bytes.fromhex(proof["accountProof"][0][2:]))
    assert hexed(root) == block["stateRoot"]
    assert proof["balance"] == running.call("eth_getBalance", account, "latest")
    assert [each["value"] for each in proof["storageProof"]] == ["0x0", "0x0"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonce": -1}, "nonce too low: next nonce"),
        ({"nonce": 100}, "nonce too high"),
        ({"value": 10_000 * ETHER}, "insufficient funds for gas * price + value"),
        ({"gas": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        ({"gas": 22_000, "data": b"\1" * 50}, "floor data gas cost"),
        ({"gas": 2**24 + 1}, "transaction gas limit too high (cap: 16777216"),
        ({"tip": 11 * 10**9}, "max priority fee per gas higher than max fee per gas"),
    ],
)
def test_refused_transactions_say_why(
    running: RunningNode, changes: dict[str, Any], message: str
) -> None:
    if next_nonce(running) == 0:
        running.mined(transfer())
    nonce = next_nonce(running) + changes.pop("nonce", 0)
    raw = transfer(nonce=nonce, **changes)
    error = running.error("eth_sendRawTransaction", hexed(raw))
    assert error["code"] == -32000
    assert message in error["message"]


def test_replacement_and_repetition(running: RunningNode) -> None:
    nonce = next_nonce(running)
    first = transfer(nonce=nonce, value=1)
    running.send(first)
    again = running.error("eth_sendRawTransaction", hexed(first))
    assert again == {"code": -32000, "message": "already known"}
    cheap = running.error(
        "eth_sendRawTransaction", hexed(transfer(nonce=nonce, value=2))
    )
    assert cheap["message"].startswith("replacement transaction underpriced")
    dear = running.send(transfer(nonce=nonce, value=3, fee=11 * 10**9, tip=11 * 10**8))
    running.mine()
    assert running.call("eth_getTransactionReceipt", dear) is not None
    assert running.call("eth_getTransactionByHash", hexed(keccak(first))) is None


@pytest.mark.parametrize(
    "raw", ["0x", "0x00", "0x03c0", "0xc0", "0x02c0", "0xdeadbeef"]
)
def test_rubbish_is_no_transaction(running: RunningNode, raw: str) -> None:
    error = running.error("eth_sendRawTransaction", raw)
    assert error["code"] == -32000
    assert error["message"].startswith("invalid transaction")


def log_of(node: RunningNode, topic: int) -> dict[str, Any]:
    receipt = node.mined(
        transfer(nonce=next_nonce(node), to=LOGGER, gas=60_000, data=topic.to_bytes(32))
    )
    (log,) = receipt["logs"]
    return dict(log)


def test_logs_are_found_by_address_topic_and_block(running: RunningNode) -> None:
    one, two = log_of(running, 101), log_of(running, 102)
    here = {"fromBlock": one["blockNumber"], "toBlock": two["blockNumber"]}
    logger = hexed(LOGGER)
    for wanted, expected in (
        ({}, [one, two]),
        ({"address": logger}, [one, two]),
        ({"address": [logger, TARGET]}, [one, two]),
        ({"address": TARGET}, []),
        ({"topics": [word(101)]}, [one]),
        ({"topics": [[word(101), word(102)]]}, [one, two]),
        ({"topics": [None]}, [one, two]),
        ({"topics": [None, None]}, []),
        ({"topics": [word(103)]}, []),
        ({"address": []}, [one, two]),
    ):
        assert running.call("eth_getLogs", here | wanted) == expected, wanted
    assert running.call("eth_getLogs", {"blockHash": one["blockHash"]}) == [one]
    assert one["topics"] == [word(101)]
    assert one["logIndex"] == "0x0"


def test_log_queries_are_bounded(running: RunningNode) -> None:
    reversed_range = {"fromBlock": "0x2", "toBlock": "0x1"}
    assert running.error("eth_getLogs", reversed_range)["code"] == -32602
    both = {"fromBlock": "0x1", "blockHash": ABSENT}
    assert running.error("eth_getLogs", both)["code"] == -32602
    unknown = running.error("eth_getLogs", {"blockHash": ABSENT})
    assert unknown == {"code": -32000, "message": "header not found"}
    assert running.call("eth_getLogs", {"fromBlock": "0xffffff"}) == []
    topics = {"topics": [None] * 5}
    assert running.error("eth_getLogs", topics)["code"] == -32602


def test_filters_report_what_is_new(running: RunningNode) -> None:
    blocks = running.call("eth_newBlockFilter")
    logs = running.call("eth_newFilter", {"address": hexed(LOGGER)})
    pending = running.call("eth_newPendingTransactionFilter")
    assert running.call("eth_getFilterChanges", blocks) == []
    raw = transfer(nonce=next_nonce(running), to=LOGGER, gas=60_000, data=bytes(32))
    sent = running.send(raw)
    assert running.call("eth_getFilterChanges", pending) == [sent]
    running.mine()
    head = running.call("eth_getBlockByNumber", "latest", SHORT)
    assert running.call("eth_getFilterChanges", blocks) == [head["hash"]]
    (log,) = running.call("eth_getFilterChanges", logs)
    assert log["transactionHash"] == sent
    assert log in running.call("eth_getFilterLogs", logs)
    for each in (blocks, logs, pending):
        assert running.call("eth_getFilterChanges", each) == []
        assert running.call("eth_uninstallFilter", each) is True
        assert running.call("eth_uninstallFilter", each) is False
        gone = running.error("eth_getFilterChanges", each)
        assert gone == {"code": -32000, "message": "filter not found"}


def test_fee_history(running: RunningNode) -> None:
    running.mined(transfer(nonce=next_nonce(running), tip=3 * 10**9))
    history = running.call("eth_feeHistory", "0x2", "latest", [0, 50, 100])
    assert len(history["baseFeePerGas"]) == 3
    assert len(history["gasUsedRatio"]) == 2
    assert history["reward"][-1] == [hex(3 * 10**9)] * 3
    running.mine()
    head = running.call("eth_getBlockByNumber", "latest", SHORT)
    assert history["baseFeePerGas"][-1] == head["baseFeePerGas"]
    assert "reward" not in running.call("eth_feeHistory", 1, "latest")
    assert int(running.call("eth_gasPrice"), 16) > 0
    assert int(running.call("eth_maxPriorityFeePerGas"), 16) > 0


@pytest.mark.parametrize("percentiles", [[50, 10], [-1], [101], ["1"], [True], "x"])
def test_bad_percentiles_are_refused(running: RunningNode, percentiles: Any) -> None:  # noqa: ANN401
    assert running.error("eth_feeHistory", "0x1", "latest", percentiles)["code"] == (
        -32602
    )


def test_own_namespace(running: RunningNode) -> None:
    running.mine(2)
    genesis = running.call("eth_getBlockByNumber", "0x0", SHORT)
    assert running.call("lockstep_genesisHash") == genesis["hash"]
    assert running.call("lockstep_chainSpec") == {"chain_id": CHAIN_ID}
    assert running.call("lockstep_contracts")["JobMarket"].startswith("0x4c6f636b")
    status = running.call("lockstep_status")
    assert status["validator"] == hexed(KEY.address)
    head = running.call("eth_getBlockByNumber", "latest", SHORT)
    sidecar = running.call("lockstep_sidecar", "latest")
    assert sidecar["root"] == head["parentBeaconBlockRoot"]
    parent = running.call("lockstep_certificate", head["parentHash"])
    assert sidecar["parentCertificate"] == parent
    assert parent["signatures"][0]["validator"] == hexed(KEY.address)
    validators = running.call("lockstep_validators")
    assert validators["hash"] == head["extraData"]
    encoded = bytes.fromhex(validators["encoded"][2:])
    assert ValidatorSet.decode(encoded) == VALIDATORS
    assert running.call("lockstep_validators", "0x1") == validators
    assert (
        running.call("lockstep_validators", hex(int(head["number"], 16) + 1))
        == validators
    )
    assert running.call("lockstep_validators", "0x0") is None
    assert running.call("lockstep_validators", "0xffff") is None
    error = running.error("lockstep_validators", "latest")
    assert error["message"].startswith("height: invalid hex quantity")


def test_web3_py_works_unmodified(running: RunningNode) -> None:
    web3 = Web3(Web3.HTTPProvider(running.url))
    account = web3.eth.account.from_key(BOB)
    transaction = {
        "from": account.address,
        "to": Web3.to_checksum_address(TARGET),
        "value": 7,
        "nonce": web3.eth.get_transaction_count(account.address),
        "chainId": web3.eth.chain_id,
    }
    transaction["gas"] = web3.eth.estimate_gas(transaction)  # type: ignore[arg-type]  # web3's own shape
    latest = web3.eth.get_block("latest")
    tip = web3.eth.max_priority_fee
    transaction |= {
        "maxFeePerGas": 2 * latest["baseFeePerGas"] + tip,
        "maxPriorityFeePerGas": tip,
    }
    signed = account.sign_transaction(transaction)
    sent = web3.eth.send_raw_transaction(signed.raw_transaction)
    running.mine()
    receipt = web3.eth.wait_for_transaction_receipt(sent, timeout=1)
    assert receipt["status"] == 1
    assert web3.eth.get_block(receipt["blockNumber"], full_transactions=True)
    assert web3.eth.get_logs({"fromBlock": 0, "toBlock": "latest"}) is not None
    with pytest.raises(Web3RPCError, match="nonce too low"):
        web3.eth.send_raw_transaction(
            account.sign_transaction(transaction | {"value": 8}).raw_transaction
        )
    provider = web3.provider
    assert isinstance(provider, Web3.HTTPProvider)
    provider.cache_allowed_requests = False


def test_refusals_are_counted_by_kind(running: RunningNode) -> None:
    gas = transfer(nonce=next_nonce(running), gas=20_000)
    running.error("eth_sendRawTransaction", hexed(gas))
    metrics = running.session.get(f"{running.url}/metrics", timeout=30).text
    assert 'lockstep_mempool_refused_total{reason="GasTooLow"}' in metrics


def test_ready(running: RunningNode) -> None:
    ready = running.session.get(f"{running.url}/ready", timeout=30)
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready"


def test_health_and_metrics(running: RunningNode) -> None:
    health = running.session.get(f"{running.url}/health", timeout=30)
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    running.mine()
    metrics = running.session.get(f"{running.url}/metrics", timeout=30)
    assert "\nlockstep_consensus_validators 1.0\n" in metrics.text
    assert "\nlockstep_consensus_missing_validators 0.0\n" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain")
