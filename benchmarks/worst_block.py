"""The slowest blocks within the limits: `python -m benchmarks.worst_block [name ...]`.

Each attack of `benchmarks/blocks.py` fills a block under the real limits; another
node then imports it, with cold caches. The import is what counts: it is what every
validator must do before it votes.
"""

import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eth_abi.abi import encode as abi_encode

from benchmarks.blocks import Attack, attacks, initcode, precompile
from chain.crypto import keccak
from chain.transaction import decode
from runtime import evm
from runtime.errors import BlockFull, TransactionInvalid
from runtime.ml_precompile import ADMIT, REPLAY
from tests.support.devchain import DevChain

_MAX_TRANSACTIONS = 2_000
_REPLAY_TYPES = ["bytes32", "uint256", *["bytes32"] * 4, "uint256", "uint256", "bytes"]


@dataclass(frozen=True, slots=True)
class Row:
    """One attack.

    Attributes:
        name: Of the attack.
        seconds: To import its block, processor time.
        steps: Interpreter steps of the block.
        gas: Gas of the block.
        transactions: How many fit.
    """

    name: str
    seconds: float
    steps: int
    gas: int
    transactions: int


def ml_attacks() -> Iterator[Attack]:
    """The ML verifier asked again and again: a real step, and a real program."""
    from benchmarks.executor import digits_session  # noqa: PLC0415  (imports torch)
    from benchmarks.training import replay_call  # noqa: PLC0415  (imports torch)

    session = digits_session()
    call = replay_call(session)
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
    yield precompile("ml replay", 0x4D4C, REPLAY + abi_encode(_REPLAY_TYPES, arguments))
    program = [call.records, session.program.encoded]
    yield precompile(
        "ml admit", 0x4D4C, ADMIT + abi_encode(["uint256", "bytes"], program)
    )


def run(attack: Attack) -> Row:
    """Build the attack's block, import it elsewhere, time the import."""
    chain, other = DevChain(), DevChain()
    target = chain.deploy(initcode(attack.code)) if attack.code else None
    if target is not None:
        chain.send(to=target, value=10**15, gas=50_000, check=False)
    builder = chain.builder()
    count = 0
    for nonce in range(_MAX_TRANSACTIONS):
        fresh = keccak(nonce.to_bytes(2, "big"))[:20]
        raw = chain.sign(
            chain.accounts[1],
            nonce=nonce,
            to=None if attack.creates else target or fresh,
            data=attack.data,
            gas=min(attack.gas, builder.gas_left),
        )
        try:
            builder.apply(decode(raw, chain.spec.chain_id))
        except (BlockFull, TransactionInvalid):
            break
        count += 1
    executed = builder.seal()
    for number in range(1, executed.header.number):
        block = chain.database.block_at(number)
        if block is not None:
            other.extend(block)
    evm.forget_code()
    gc.collect()
    start = time.process_time()
    other.extend(executed.block)
    seconds = time.process_time() - start
    header = executed.header
    return Row(attack.name, seconds, executed.steps, header.gas_used, count)


def rows(names: Sequence[str] = ()) -> Iterator[Row]:
    """Every attack, or those whose name contains one of `names`."""
    for attack in (*attacks(), *ml_attacks()):
        if not names or any(name in attack.name for name in names):
            yield run(attack)


def measure() -> list[tuple[str, float]]:
    """(name, seconds) of every attack."""
    return [(row.name, row.seconds) for row in rows()]


def main() -> None:
    """Print the table, slowest last."""
    found = sorted(rows(sys.argv[1:]), key=lambda row: row.seconds)
    print(
        f"{'attack':28}{'seconds':>9}{'steps':>10}{'Mgas':>8}{'txs':>6}{'us/step':>9}"
    )
    for row in found:
        print(
            f"{row.name:28}{row.seconds:9.3f}{row.steps:10}{row.gas / 1e6:8.2f}"
            f"{row.transactions:6}{row.seconds / max(row.steps, 1) * 1e6:9.3f}"
        )


if __name__ == "__main__":
    main()
