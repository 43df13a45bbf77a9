"""The block executor: from raw block bytes to a persisted state root, one core."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from eth.constants import BLANK_ROOT_HASH
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague.state import PragueState
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_abi.abi import encode as abi_encode
from torch import nn
from vyper import compile_code

from benchmarks import worst_block
from benchmarks.harness import Figure
from benchmarks.training import SEED, replay_call
from chain.addresses import ML_VERIFIER
from chain.block import Block
from chain.crypto import keccak
from chain.store import Store
from chain.transaction import decode
from genesis import ChainSpec, open_chain
from ml_verifier.capture import capture
from ml_verifier.data import Dataset, encode_records
from ml_verifier.session import Session
from runtime.block import import_block
from tests.support.devchain import DevChain

BLOCKS = 4
TRANSFERS = 1_000
TOKENS = 400
TARGET = 400.0  # transfers a second
WORST_SECONDS = 2.0

Prepare: TypeAlias = Callable[[DevChain], Callable[[int], dict[str, object]]]
REPLAY = "replay(bytes32,uint256,bytes32,bytes32,bytes32,bytes32,uint256,uint256,bytes)"


class StockState(PragueState):
    """py-evm's own state, without the deployment that its fork would run."""

    def set_system_contracts(self) -> None:
        """Do nothing: no system contracts take part in the comparison."""


def _transfer(_: DevChain) -> Callable[[int], dict[str, object]]:
    return lambda i: {
        "to": keccak(i.to_bytes(8, "big"))[:20],
        "value": 1,
        "gas": 21_000,
    }


def _token(chain: DevChain) -> Callable[[int], dict[str, object]]:
    source = (Path(__file__).parent / "token.vy").read_text()
    code = compile_code(source, output_formats=["bytecode"])["bytecode"]
    owners = ["0x" + account.address.hex() for account in chain.accounts]
    initcode = bytes.fromhex(code[2:]) + abi_encode(["address[]"], [owners])
    token = chain.deploy(initcode)
    selector = keccak(b"transfer(address,uint256)")[:4]

    def fields(i: int) -> dict[str, object]:
        receiver = "0x" + keccak(i.to_bytes(8, "big"))[:20].hex()
        data = selector + abi_encode(["address", "uint256"], [receiver, 1])
        return {"to": token, "data": data, "gas": 70_000}

    return fields


def _precompile(_: DevChain) -> Callable[[int], dict[str, object]]:
    call = replay_call(digits_session())
    arguments = [
        call.trial,
        call.position,
        call.pre_root,
        call.post_root,
        call.program_root,
        call.data_root,
        call.seed,
        call.records,
        call.witness,
    ]
    types = REPLAY[REPLAY.index("(") + 1 : -1].split(",")
    data = keccak(REPLAY.encode())[:4] + abi_encode(types, arguments)
    return lambda _: {"to": ML_VERIFIER, "data": data, "gas": 3_000_000}


def digits_session() -> Session:
    """A job of the demo's size: 64-32-10, batch 32."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.AdamW(model.parameters())
    x, y = torch.rand(1024, 64), torch.randint(0, 10, (1024,))
    program = capture(model, nn.CrossEntropyLoss(), optimiser, (x[:32], y[:32])).program
    data = encode_records(program, [x.numpy(), y.numpy()])
    return Session(program, SEED, Dataset(program, data))


def _blocks(prepare: Prepare, count: int) -> tuple[list[bytes], list[bytes]]:
    """Build blocks in memory; return all of the chain's, and the measured ones."""
    chain = DevChain()
    fields = prepare(chain)
    setup = [
        block.encode()
        for number in range(1, chain.head.number + 1)
        if (block := chain.database.block_at(number))
    ]
    measured: list[bytes] = []
    serial = 0
    for _ in range(BLOCKS):
        builder = chain.builder()
        nonces = [chain.nonce(account.address) for account in chain.accounts]
        for _ in range(count):
            which = serial % len(nonces)
            raw = chain.sign(
                chain.accounts[which], nonce=nonces[which], **fields(serial)
            )
            builder.apply(decode(raw, chain.spec.chain_id))
            nonces[which] += 1
            serial += 1
        measured.append(chain.commit(builder.seal()).block.encode())
    return setup, measured


def _import(setup: Sequence[bytes], measured: Sequence[bytes]) -> float:
    """Return seconds from raw bytes to roots persisted and fsynced in LevelDB."""
    spec = ChainSpec.load("devnet")
    with tempfile.TemporaryDirectory() as folder:
        database = open_chain(spec, Store.open(folder))
        seconds = 0.0
        for position, raw in enumerate((*setup, *measured)):
            start = time.perf_counter()
            block = Block.decode(raw)
            executed = import_block(
                spec.rules.at(block.number), database, database.head(), block
            )
            database.commit(executed.block, executed.receipts, executed.writes)
            if position >= len(setup):
                seconds += time.perf_counter() - start
    return seconds


def _stock(measured: Sequence[bytes]) -> float:
    """Return seconds of stock py-evm for the same transfers, state in memory."""
    spec = ChainSpec.load("devnet")
    context = ExecutionContext(
        coinbase=b"\xcb" * 20,
        timestamp=1,
        block_number=1,
        difficulty=0,
        mix_hash=bytes(32),
        gas_limit=10**9,
        prev_hashes=(),
        chain_id=spec.chain_id,
        base_fee_per_gas=10**9,
        excess_blob_gas=0,
    )
    database = AtomicDB()
    state = StockState(database, context, BLANK_ROOT_HASH)
    for address, balance in spec.alloc.items():
        state.set_balance(address, balance)
    state.persist()
    start = time.perf_counter()
    for raw in measured:
        state = StockState(database, context, state.state_root)
        for encoded in Block.decode(raw).transactions:
            state.lock_changes()
            state.apply_transaction(PragueTransactionBuilder.decode(encoded))
        state.persist()
    return time.perf_counter() - start


def figures() -> Iterator[Figure]:
    """Measure throughput and the worst block."""
    setup, measured = _blocks(_transfer, TRANSFERS)
    total = BLOCKS * TRANSFERS
    ours, stock = total / _import(setup, measured), total / _stock(measured)
    yield Figure(
        "executor/transfers",
        ours,
        "transactions/s",
        f"stock py-evm in memory ({stock:.0f}/s); target {TARGET:.0f}/s",
        ours / stock,
    )
    for name, prepare, count in (
        ("tokens", _token, TOKENS),
        ("precompile", _precompile, 9),
    ):
        rate = BLOCKS * count / _import(*_blocks(prepare, count))
        yield Figure(
            f"executor/{name}",
            rate,
            "transactions/s",
            "executor/transfers",
            rate / ours,
        )
    name, seconds = max(worst_block.measure(), key=lambda row: row[1])
    yield Figure(
        "executor/worst_block",
        seconds,
        "s",
        f"limit of {WORST_SECONDS:.0f} s ({name})",
        seconds / WORST_SECONDS,
    )
