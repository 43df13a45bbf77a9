# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201
# It runs in another environment, whose libraries the project does not have.
"""What Ethereum's executable specification says about a list of cases.

Runs in an environment of its own (`pip install ethereum-execution==2.20.0`), never in
the project's:

    python tests/runtime/oracle/eels.py < cases.json > answers.json

A case is {"name", "alloc": {address: [balance, nonce, code, {slot: value}]},
"transactions": [raw]}; an answer is {"transactions": ["invalid" or [succeeded, gas
used, log count]], "root": state root}. Everything is hexadecimal.
"""

import json
import sys

from ethereum.crypto.hash import Hash32
from ethereum.exceptions import EthereumException
from ethereum.forks.prague import fork, state, vm
from ethereum.forks.prague.blocks import Receipt
from ethereum.forks.prague.fork_types import Account
from ethereum.forks.prague.transactions import LegacyTransaction, decode_transaction
from ethereum.forks.prague.trie import trie_get
from ethereum_rlp import rlp
from ethereum_types.bytes import Bytes, Bytes20, Bytes32
from ethereum_types.numeric import U64, U256, Uint

CHAIN_ID = 4242


def environment(world):
    return vm.BlockEnvironment(
        chain_id=U64(CHAIN_ID),
        state=world,
        block_gas_limit=Uint(10**12),
        block_hashes=[Hash32(bytes([7] * 32))],
        coinbase=Bytes20(b"\xcb" * 20),
        number=Uint(1),
        base_fee_per_gas=Uint(10**9),
        time=U256(1000),
        prev_randao=Bytes32(b"\x05" * 32),
        excess_blob_gas=U64(0),
        parent_beacon_block_root=Hash32(bytes(32)),
    )


def answer(case):
    world = state.State()
    for address, (balance, nonce, code, storage) in case["alloc"].items():
        where = Bytes20(bytes.fromhex(address))
        state.set_account(
            world,
            where,
            Account(
                nonce=Uint(nonce),
                balance=U256(int(balance)),
                code=Bytes(bytes.fromhex(code)),
            ),
        )
        for slot, value in storage.items():
            state.set_storage(
                world, where, Bytes32(int(slot).to_bytes(32, "big")), U256(value)
            )
    env = environment(world)
    output = vm.BlockOutput()
    results = []
    for index, raw in enumerate(map(bytes.fromhex, case["transactions"])):
        before = output.block_gas_used
        try:
            if raw[0] >= 0xC0:
                transaction = rlp.decode_to(LegacyTransaction, raw)
            else:
                transaction = decode_transaction(Bytes(raw))
            fork.process_transaction(env, output, transaction, Uint(index))
        except (EthereumException, rlp.DecodingError) as error:
            results.append("invalid")
            sys.stderr.write(f"{case['name']}: {type(error).__name__} {error}\n")
            continue
        found = trie_get(output.receipts_trie, rlp.encode(Uint(index)))
        if isinstance(found, bytes):
            found = rlp.decode_to(Receipt, found[1:])
        results.append(
            [
                bool(found.succeeded),
                int(output.block_gas_used - before),
                len(found.logs),
            ]
        )
    return {"transactions": results, "root": state.state_root(world).hex()}


if __name__ == "__main__":
    sys.setrecursionlimit(100_000)
    json.dump([answer(case) for case in json.load(sys.stdin)], sys.stdout)
