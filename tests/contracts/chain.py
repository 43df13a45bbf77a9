"""The contracts on the product's EVM, without blocks around it.

A `Chain` runs the committed artifacts at their fixed addresses. The precompile is the
product's door with a judge of the test's choosing behind it. Gas is measured and free,
so that after every call the tests can demand that not one wei was made or lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, cast

from eth_abi.abi import decode, encode

from chain import addresses
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.header import EMPTY_TRIE_ROOT
from chain.receipt import Log
from chain.store import Store
from contracts import NAMES, Argument, artifact
from runtime.evm import BlockContext, Call, execute
from runtime.ml_precompile import Judge, ml_precompile
from runtime.precompile_table import precompiles
from runtime.rules import Rules
from runtime.steps import OutOfSteps, StepMeter
from runtime.system import SYSTEM_CALL_GAS
from runtime.transition import calldata_tokens
from runtime.world import World
from tests.contracts.toy import ToyJudge

GENESIS_HASH: Final = keccak(b"genesis of the contract tests")
GAS_LIMIT: Final = 1 << 24
STEP_LIMIT: Final = 1_000_000
TOKEN: Final = 10**18

PARAMETERS: Final[Mapping[str, Argument]] = {
    "clock": addresses.CLOCK,
    "staking": addresses.STAKING,
    "job_market": addresses.JOB_MARKET,
    "dispute_game": addresses.DISPUTE_GAME,
    "evidence": addresses.EVIDENCE,
    "demands": addresses.DEMANDS,
    "ml_verifier": addresses.ML_VERIFIER,
    "unbonding_ticks": 40,
    "dispute_gas_budget": 12_000_000,
    "late_penalty_bps": 1_000,
    "challenge_window": 20,
    "reveal_window": 8,
    "minimum_reveal_delay": 1,
    "move_clock": 20,
    "demand_clock": 20,
    "whistleblower_share_bps": 5_000,
    "bond_gas_price": 10**9,
    "opening_gas": 3_000_000,
    "answer_gas": 1_500_000,
    "bls_possession": addresses.BLS_POSSESSION,
    "epoch_blocks": 10,
    "evidence_age_blocks": 20,
    "unbonding_blocks": 31,
    "minimum_validator_stake": TOKEN,
    "max_validators": 3,
    "max_missed_percent": 50,
    "jail_blocks": 15,
    "slash_percent": 10,
}


# A validator's operator, public key, beacon key and stake.
Placed = tuple[bytes, bytes, bytes, int]


class Reverted(Exception):
    """A call failed; `reason` is what the contract said, or the EVM's error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded log."""

    contract: str
    name: str
    fields: SimpleNamespace


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a transaction did.

    Attributes:
        output: The function's return value, None if it has none; bytes of a raw call.
        gas: What the chain would charge: intrinsic gas and execution, or the floor.
        steps: Interpreter steps of the execution.
    """

    output: Any
    events: tuple[Event, ...]
    gas: int
    steps: int

    def event(self, name: str) -> SimpleNamespace:
        """Fields of the only event of this name."""
        (found,) = [e.fields for e in self.events if e.name == name]
        return found


def mix_of(number: int) -> bytes:
    """The beacon's value in a block."""
    return keccak(b"mix" + number.to_bytes(8, "big"))


def account(name: str) -> bytes:
    """Return the address of a person in a test."""
    return keccak(name.encode())[12:]


def _type(entry: Mapping[str, Any]) -> str:
    kind = cast("str", entry["type"])
    if kind.startswith("tuple"):
        inner = ",".join(_type(c) for c in entry["components"])
        return f"({inner}){kind.removeprefix('tuple')}"
    return kind


def _signature(entry: Mapping[str, Any]) -> bytes:
    types = ",".join(_type(i) for i in entry["inputs"])
    return keccak(f"{entry['name']}({types})".encode())


def _named(entry: Mapping[str, Any], value: Any) -> Any:  # noqa: ANN401  (ABI values)
    if entry["type"] == "tuple":
        parts = zip(entry["components"], value, strict=True)
        return SimpleNamespace(**{c["name"]: _named(c, v) for c, v in parts})
    if entry["type"] == "address":
        return bytes.fromhex(value[2:])
    return value


@cache
def _functions(contract: str) -> dict[str, Mapping[str, Any]]:
    entries = cast("Sequence[Mapping[str, Any]]", artifact(contract).abi)
    return {e["name"]: e for e in entries if e["type"] == "function"}


@cache
def _events() -> dict[tuple[bytes, bytes], tuple[str, Mapping[str, Any]]]:
    found: dict[tuple[bytes, bytes], tuple[str, Mapping[str, Any]]] = {}
    for contract in NAMES:
        address = addresses.SYSTEM_CONTRACTS[contract]
        for entry in cast("Sequence[Mapping[str, Any]]", artifact(contract).abi):
            if entry["type"] == "event":
                found[address, _signature(entry)] = (contract, entry)
    return found


def encode_call(contract: str, function: str, *arguments: object) -> bytes:
    """Return the call data of a function of a contract."""
    entry = _functions(contract)[function]
    types = [_type(i) for i in entry["inputs"]]
    return _signature(entry)[:4] + encode(types, arguments)


def _decode_event(log: Log) -> Event:
    contract, entry = _events()[log.address, log.topics[0]]
    indexed = [i for i in entry["inputs"] if i["indexed"]]
    plain = [i for i in entry["inputs"] if not i["indexed"]]
    fields = {
        i["name"]: _named(i, decode([_type(i)], topic)[0])
        for i, topic in zip(indexed, log.topics[1:], strict=True)
    }
    values = decode([_type(i) for i in plain], log.data)
    fields |= {i["name"]: _named(i, v) for i, v in zip(plain, values, strict=True)}
    return Event(contract, entry["name"], SimpleNamespace(**fields))


def _reason(output: bytes, error: str) -> str:
    if output[:4] == keccak(b"Error(string)")[:4]:
        return cast("str", decode(["string"], output[4:])[0])
    return error or output.hex()


@cache
def _deployed(parameters: tuple[tuple[str, Argument], ...]) -> tuple[Store, bytes]:
    """A state in which the contracts' constructors have run."""
    store = Store.memory()
    world = World(ChainDatabase(store), EMPTY_TRIE_ROOT)
    world.set_nonce(addresses.ML_VERIFIER, 1)
    world.set_code(addresses.ML_VERIFIER, b"\xfe")
    given = dict(parameters)
    for name in NAMES:
        compiled = artifact(name)
        code = compiled.deployment({n: given[n] for n, _ in compiled.parameters})
        call = Call(
            origin=addresses.SYSTEM,
            gas_price=0,
            to=addresses.SYSTEM_CONTRACTS[name],
            gas=GAS_LIMIT,
            code=code,
            is_create=True,
        )
        world.begin()
        result = execute(world, _context(0, ToyJudge()), StepMeter(STEP_LIMIT), call)
        if not result.succeeded:
            raise Reverted(_reason(result.output, result.error))
    root, writes = world.commit()
    store.write(writes)
    return store, root


def _context(number: int, judge: Judge) -> BlockContext:
    table = dict(precompiles(Rules(chain_id=4242)))
    table[addresses.ML_VERIFIER] = ml_precompile(judge)
    return BlockContext(
        chain_id=4242,
        number=number,
        timestamp=1_000 + number,
        coinbase=addresses.ZERO,
        gas_limit=30_000_000,
        base_fee=0,
        mix_hash=mix_of(number),
        block_hash=lambda _: None,
        precompiles=table,
    )


class Chain:
    """A chain of one process on which a test plays all the people.

    Args:
        judge: What stands behind the precompile.
        placed: Validators at genesis: operator, public key, beacon key, stake.
        parameters: Constructor parameters that differ from `PARAMETERS`.
    """

    def __init__(
        self,
        judge: Judge | None = None,
        *,
        placed: Sequence[Placed] = (),
        **parameters: Argument,
    ) -> None:
        given = {**PARAMETERS, **parameters}
        store, root = _deployed(tuple(sorted(given.items(), key=lambda item: item[0])))
        self.parameters = given
        self._world = World(ChainDatabase(store), root)
        self._judge = judge or ToyJudge()
        self._number = 0
        self._holders = {*addresses.SYSTEM_CONTRACTS.values(), addresses.ZERO}
        self._supply = sum(each[3] for each in placed)
        self._world.set_balance(addresses.VALIDATORS, self._supply)
        self._context = _context(0, self._judge)
        for each in placed:
            self.system("Validators", "place", *each)
        self.mine()

    def fund(self, name: str, amount: int = 10_000 * TOKEN) -> bytes:
        """Give a person tokens at genesis; return the address."""
        who = account(name)
        self._world.set_balance(who, self._world.balance(who) + amount)
        self._holders.add(who)
        self._supply += amount
        return who

    def balance(self, who: bytes) -> int:
        """Tokens of an account."""
        return self._world.balance(who)

    @property
    def burned(self) -> int:
        """Tokens at the zero address."""
        return self.balance(addresses.ZERO)

    @property
    def now(self) -> int:
        """The Clock's ticks."""
        return cast("int", self.call("Clock", "now"))

    @property
    def number(self) -> int:
        """Height of the present block."""
        return self._number

    def system(
        self, contract: str, function: str, *arguments: object
    ) -> tuple[int, int]:
        """Make a system call; its gas beyond a transaction's, and its steps."""
        data = encode_call(contract, function, *arguments)
        to = addresses.SYSTEM_CONTRACTS[contract]
        _, gas, steps = self._run(addresses.SYSTEM, to, data, limit=SYSTEM_CALL_GAS)
        return gas - 21_000 - 4 * calldata_tokens(data), steps

    def skip(self, blocks: int) -> None:
        """Begin a block so many after this one, as if none lay between."""
        self._number += blocks - 1
        self.mine()

    def mine(self, blocks: int = 1, *, ticks: bool = True) -> None:
        """Begin new blocks; without `ticks`, after parents that were full."""
        for _ in range(blocks):
            self._number += 1
            self._context = _context(self._number, self._judge)
            self.system("Clock", "tick", ticks, GENESIS_HASH)

    def send(
        self,
        sender: bytes,
        contract: str,
        function: str,
        *arguments: object,
        value: int = 0,
    ) -> Receipt:
        """Send a transaction; raise `Reverted` if it fails. Checks conservation."""
        data = encode_call(contract, function, *arguments)
        receipt = self.send_raw(sender, contract, data, value=value)
        return replace(receipt, output=self._decode(contract, function, receipt.output))

    def send_raw(
        self, sender: bytes, contract: str, data: bytes, *, value: int = 0
    ) -> Receipt:
        """Send call data as it is; the receipt's output is not decoded."""
        to = addresses.SYSTEM_CONTRACTS[contract]
        output, gas, steps = self._run(sender, to, data, value=value)
        events = tuple(_decode_event(log) for log in self._world.logs)
        return Receipt(output, events, gas, steps)

    def call(self, contract: str, function: str, *arguments: object) -> Any:  # noqa: ANN401  (ABI values)
        """Call a function without keeping what it does."""
        data = encode_call(contract, function, *arguments)
        output, _, _ = self._run(
            addresses.ZERO, addresses.SYSTEM_CONTRACTS[contract], data, keep=False
        )
        return self._decode(contract, function, output)

    def install(self, name: str, code: bytes) -> bytes:
        """Put code at a person's address: a contract that takes part in a test."""
        who = account(name)
        self._world.set_code(who, code)
        self._holders.add(who)
        return who

    def check_conservation(self) -> None:
        """Refuse a world in which a token was made or lost."""
        held = sum(self._world.balance(holder) for holder in self._holders)
        assert held == self._supply, f"{held} tokens of {self._supply}"

    def _decode(self, contract: str, function: str, output: bytes) -> Any:  # noqa: ANN401  (ABI values)
        outputs = cast("list[Any]", _functions(contract)[function]["outputs"])
        if not outputs:
            return None
        values = decode([_type(o) for o in outputs], output)
        named = [_named(o, v) for o, v in zip(outputs, values, strict=True)]
        return named[0] if len(named) == 1 else tuple(named)

    def _run(
        self,
        sender: bytes,
        to: bytes,
        data: bytes,
        *,
        value: int = 0,
        keep: bool = True,
        limit: int = GAS_LIMIT,
    ) -> tuple[bytes, int, int]:
        self._world.begin()
        mark = self._world.mark()
        meter = StepMeter(STEP_LIMIT)
        tokens = calldata_tokens(data)
        intrinsic = 21_000 + 4 * tokens
        call = Call(
            origin=sender,
            gas_price=0,
            to=to,
            gas=limit - intrinsic,
            value=value,
            data=data,
        )
        for warm in (sender, to, addresses.ZERO, *self._context.precompiles):
            self._world.warm(warm)
        try:
            result = execute(self._world, self._context, meter, call)
        except OutOfSteps:
            self._world.revert(mark)
            raise Reverted("out of steps") from None
        if not keep:
            self._world.revert(mark)
        self.check_conservation()
        if not result.succeeded:
            raise Reverted(_reason(result.output, result.error))
        used = limit - result.gas_left
        used -= min(self._world.refund, used // 5)
        return (
            result.output,
            max(used, 21_000 + 10 * tokens),
            STEP_LIMIT - meter.left,
        )
