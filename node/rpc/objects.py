"""JSON shapes of blocks, transactions, receipts and logs (ethereum/execution-apis)."""

from collections.abc import Sequence
from typing import Any

from chain import rlp
from chain.block import Block
from chain.crypto import keccak
from chain.header import Header
from chain.receipt import Log, Receipt
from chain.transaction import (
    ACCESS_LIST,
    LEGACY,
    SET_CODE,
    AccessList,
    Authorization,
    Transaction,
    contract_address,
    decode,
)
from node.rpc.values import data, quantity


def header_object(header: Header) -> dict[str, Any]:
    """The header members of a block object."""
    return {
        "hash": data(header.hash),
        "parentHash": data(header.parent_hash),
        "sha3Uncles": data(header.ommers_hash),
        "miner": data(header.coinbase),
        "stateRoot": data(header.state_root),
        "transactionsRoot": data(header.transactions_root),
        "receiptsRoot": data(header.receipts_root),
        "logsBloom": data(header.logs_bloom),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": quantity(0),
        "number": quantity(header.number),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "extraData": data(header.extra_data),
        "mixHash": data(header.mix_hash),
        "nonce": data(header.nonce),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": data(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        "requestsHash": data(header.requests_hash),
    }


def block_object(block: Block, chain_id: int, *, full: bool) -> dict[str, Any]:
    """A block, with whole transactions or only their hashes."""
    transactions: list[Any]
    if full:
        transactions = [
            transaction_object(decode(raw, chain_id), block.header, index)
            for index, raw in enumerate(block.transactions)
        ]
    else:
        transactions = [data(keccak(raw)) for raw in block.transactions]
    return {
        **header_object(block.header),
        "size": quantity(len(ethereum_encoding(block))),
        "transactions": transactions,
        "uncles": [],
        "withdrawals": [],
    }


def ethereum_encoding(block: Block) -> bytes:
    """The block as Ethereum's tools encode it: no sidecar, legacy transactions inline.

    rlp([header, [transaction, ...], [], []]): no ommers, no withdrawals.
    """
    transactions: list[rlp.Item] = [
        rlp.decode(raw) if raw[0] >= 0xC0 else raw for raw in block.transactions
    ]
    return rlp.encode([block.header.fields(), transactions, [], []])


def transaction_object(
    transaction: Transaction, header: Header | None = None, index: int | None = None
) -> dict[str, Any]:
    """A transaction; without a header it is one that waits in the mempool."""
    base_fee = None if header is None else header.base_fee_per_gas
    price = (
        transaction.max_fee_per_gas
        if base_fee is None
        else transaction.gas_price(base_fee)
    )
    answer: dict[str, Any] = {
        "blockHash": None if header is None else data(header.hash),
        "blockNumber": None if header is None else quantity(header.number),
        "transactionIndex": None if index is None else quantity(index),
        "type": quantity(transaction.type),
        "chainId": quantity(transaction.chain_id),
        "hash": data(transaction.hash),
        "from": data(transaction.sender),
        "to": None if transaction.to is None else data(transaction.to),
        "nonce": quantity(transaction.nonce),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(price),
        "value": quantity(transaction.value),
        "input": data(transaction.data),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
    }
    if transaction.type == LEGACY:
        v = 35 + 2 * transaction.chain_id + transaction.y_parity
        return answer | {"v": quantity(v)}
    answer |= {
        "v": quantity(transaction.y_parity),
        "yParity": quantity(transaction.y_parity),
        "accessList": access_list_object(transaction.access_list),
    }
    if transaction.type != ACCESS_LIST:
        answer |= {
            "maxFeePerGas": quantity(transaction.max_fee_per_gas),
            "maxPriorityFeePerGas": quantity(transaction.max_priority_fee_per_gas),
        }
    if transaction.type == SET_CODE:
        answer["authorizationList"] = [
            _authorization_object(each) for each in transaction.authorizations
        ]
    return answer


def access_list_object(access_list: AccessList) -> list[dict[str, Any]]:
    """An EIP-2930 access list."""
    return [
        {
            "address": data(address),
            "storageKeys": [data(slot.to_bytes(32)) for slot in slots],
        }
        for address, slots in access_list
    ]


def _authorization_object(each: Authorization) -> dict[str, Any]:
    return {
        "chainId": quantity(each.chain_id),
        "address": data(each.address),
        "nonce": quantity(each.nonce),
        "yParity": quantity(each.y_parity),
        "r": quantity(each.r),
        "s": quantity(each.s),
    }


def receipt_objects(
    block: Block, receipts: Sequence[Receipt], chain_id: int
) -> list[dict[str, Any]]:
    """The receipts of a whole block, in order."""
    answers: list[dict[str, Any]] = []
    first_log = 0
    for index, receipt in enumerate(receipts):
        answers.append(receipt_object(block, receipts, index, first_log, chain_id))
        first_log += len(receipt.logs)
    return answers


def receipt_object(
    block: Block, receipts: Sequence[Receipt], index: int, first_log: int, chain_id: int
) -> dict[str, Any]:
    """One receipt of a block; `first_log` logs of the block are in those before it."""
    receipt = receipts[index]
    gas_before = receipts[index - 1].cumulative_gas_used if index else 0
    transaction = decode(block.transactions[index], chain_id)
    created = (
        contract_address(transaction.sender, transaction.nonce)
        if transaction.to is None
        else None
    )
    return {
        "type": quantity(transaction.type),
        "status": quantity(int(receipt.succeeded)),
        "transactionHash": data(transaction.hash),
        "transactionIndex": quantity(index),
        "blockHash": data(block.hash),
        "blockNumber": quantity(block.number),
        "from": data(transaction.sender),
        "to": None if transaction.to is None else data(transaction.to),
        "contractAddress": None if created is None else data(created),
        "cumulativeGasUsed": quantity(receipt.cumulative_gas_used),
        "gasUsed": quantity(receipt.cumulative_gas_used - gas_before),
        "effectiveGasPrice": quantity(
            transaction.gas_price(block.header.base_fee_per_gas)
        ),
        "logs": [
            log_object(log, block.header, transaction.hash, index, first_log + offset)
            for offset, log in enumerate(receipt.logs)
        ],
        "logsBloom": data(receipt.bloom()),
    }


def log_object(
    log: Log, header: Header, transaction_hash: bytes, index: int, log_index: int
) -> dict[str, Any]:
    """One log of a committed block; finality means it is never removed."""
    return {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "blockNumber": quantity(header.number),
        "blockHash": data(header.hash),
        "blockTimestamp": quantity(header.timestamp),
        "transactionHash": data(transaction_hash),
        "transactionIndex": quantity(index),
        "logIndex": quantity(log_index),
        "removed": False,
    }
