"""A chain in this process: one block per transaction, no node, no network, no clock.

    chain = DevChain()
    market = chain.contract("JobMarket")
    sent = market.send("post", program, terms, url, value=10**18)
    job_id = sent.event("Posted")["job_id"]
    market.call("job", job_id)

`send` raises `Reverted` with the contract's reason unless told otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode as abi_decode, encode as abi_encode

from chain import addresses
from chain.block import Block
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.header import Header
from chain.receipt import Log, Receipt
from chain.sidecar import Sidecar
from chain.store import Store
from chain.transaction import Transaction, Unsigned, decode
from contracts import artifact
from genesis import ChainSpec, open_chain
from genesis.accounts import Account, account
from runtime.block import BlockAttributes, BlockBuilder, ExecutedBlock, import_block
from runtime.call import CallRequest, StateView, call
from runtime.system import Offence
from runtime.transition import Outcome

ACCOUNTS = 10
BURN = b"\xfe"  # initcode that halts at once and takes all of its gas

Abi = Mapping[str, Any]


class Reverted(Exception):
    """A call or transaction failed.

    Attributes:
        reason: The string of Error(string), or what the machine says.
        output: Revert data.
    """

    def __init__(self, reason: str, output: bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.output = output


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction in its block."""

    transaction: Transaction
    receipt: Receipt
    outcome: Outcome
    executed: ExecutedBlock

    @property
    def gas_used(self) -> int:
        """Gas charged."""
        return self.outcome.gas_used

    @property
    def created(self) -> bytes:
        """Address of the contract that it created."""
        assert self.outcome.created is not None
        return self.outcome.created

    def events(self, *names: str) -> list[tuple[str, dict[str, Any]]]:
        """Decoded logs of the system contracts, of these names if any are given."""
        found = [_decode_log(log) for log in self.receipt.logs]
        return [each for each in found if not names or each[0] in names]

    def event(self, name: str) -> dict[str, Any]:
        """The only log of this name."""
        ((_, arguments),) = self.events(name)
        return arguments


class DevChain:
    """The head of a chain and the means to extend it.

    Args:
        spec: The bundled devnet by default.
        store: Memory by default.
    """

    def __init__(
        self, spec: ChainSpec | None = None, store: Store | None = None
    ) -> None:
        self.spec = ChainSpec.load("devnet") if spec is None else spec
        self.database: ChainDatabase = open_chain(
            self.spec, Store.memory() if store is None else store
        )
        self.accounts: Sequence[Account] = [account(i) for i in range(ACCOUNTS)]

    # -- blocks ---------------------------------------------------------------

    @property
    def head(self) -> Header:
        """The last block's header."""
        return self.database.head()

    @property
    def genesis_hash(self) -> bytes:
        """Names the chain."""
        return self.database.genesis_hash()

    def builder(
        self,
        coinbase: bytes = b"\xcb" * 20,
        *,
        offences: tuple[Offence, ...] = (),
        absent: tuple[bytes, ...] = (),
    ) -> BlockBuilder:
        """A builder of the next block, one second after the head."""
        parent = self.head
        return BlockBuilder(
            self.spec.rules.at(parent.number + 1),
            self.database,
            parent,
            BlockAttributes(
                timestamp=parent.timestamp + 1,
                coinbase=coinbase,
                mix_hash=keccak(parent.mix_hash),
                extra_data=parent.extra_data,
                sidecar=Sidecar(),
                offences=offences,
                absent=absent,
            ),
        )

    def commit(self, executed: ExecutedBlock) -> ExecutedBlock:
        """Write a sealed block and make it the head."""
        self.database.commit(executed.block, executed.receipts, executed.writes)
        return executed

    def extend(
        self,
        block: Block,
        *,
        offences: tuple[Offence, ...] = (),
        absent: tuple[bytes, ...] = (),
    ) -> ExecutedBlock:
        """Import somebody else's block and make it the head."""
        rules = self.spec.rules.at(block.number)
        executed = import_block(
            *(rules, self.database, self.head, block),
            offences=offences,
            absent=absent,
        )
        return self.commit(executed)

    def mine(self, count: int = 1, *, ticks: bool = True) -> None:
        """Add blocks.

        Args:
            count: How many.
            ticks: Whether the clock advances in the block after each: blocks are
                empty, or else full of burnt gas (the burner is the last account).
        """
        for _ in range(count):
            builder = self.builder()
            if not ticks:
                burner = self.accounts[-1]
                nonce = self.nonce(burner.address)
                for gas in (1 << 24, builder.gas_left - (1 << 24)):
                    raw = self.sign(burner, nonce=nonce, data=BURN, gas=gas)
                    builder.apply(decode(raw, self.spec.chain_id))
                    nonce += 1
            self.commit(builder.seal())

    # -- transactions ---------------------------------------------------------

    def sign(self, sender: Account, **fields: object) -> bytes:
        """Signed bytes; nonce, fees and a large gas limit are filled in."""
        values: dict[str, Any] = {
            "chain_id": self.spec.chain_id,
            "gas": 8_000_000,
            "max_fee_per_gas": 4 * self.head.base_fee_per_gas + 1,
            **fields,
        }
        if "nonce" not in values:
            values["nonce"] = self.nonce(sender.address)
        return Unsigned(**values).sign(sender.secret)

    def send(
        self, sender: Account | None = None, *, check: bool = True, **fields: object
    ) -> Sent:
        """Sign a transaction, mine it alone in a block.

        Args:
            sender: The first account by default.
            check: Raise `Reverted` when it fails; it is mined all the same.
            **fields: Of `chain.transaction.Unsigned`.
        """
        raw = self.sign(self.accounts[0] if sender is None else sender, **fields)
        transaction = decode(raw, self.spec.chain_id)
        builder = self.builder()
        receipt = builder.apply(transaction)
        outcome = builder.last_outcome
        executed = self.commit(builder.seal())
        if check and not outcome.succeeded:
            raise _reverted(outcome.error, outcome.output)
        return Sent(transaction, receipt, outcome, executed)

    def deploy(self, initcode: bytes, sender: Account | None = None) -> bytes:
        """Create a contract; its address."""
        return self.send(sender, data=initcode).created

    # -- reading --------------------------------------------------------------

    def view(self) -> StateView:
        """The state at the head."""
        return StateView(self.database, self.head.state_root)

    def balance(self, address: bytes) -> int:
        """wei at the head."""
        return self.view().balance(address)

    def nonce(self, address: bytes) -> int:
        """The next nonce of an account."""
        return self.view().nonce(address)

    def call(self, to: bytes, data: bytes, **fields: object) -> bytes:
        """Output of a call on the head's state; `fields` are CallRequest's."""
        head = self.head
        values: dict[str, Any] = {"to": to, "data": data, **fields}
        request = CallRequest(**values)
        result = call(self.spec.rules.at(head.number), self.database, head, request)
        if not result.succeeded:
            raise _reverted(result.error, result.output)
        return result.output

    def contract(self, name: str) -> "Contract":
        """A system contract by name."""
        return Contract(
            self, addresses.SYSTEM_CONTRACTS[name], list(artifact(name).abi)
        )


class Contract:
    """A contract by its ABI.

    Args:
        chain: Where it lives.
        address: 20 bytes.
        abi: Entries of its JSON interface.
    """

    def __init__(self, chain: DevChain, address: bytes, abi: Sequence[Abi]) -> None:
        self.chain = chain
        self.address = address
        self.abi = abi

    def _function(self, name: str, count: int) -> Abi:
        for entry in self.abi:
            if (
                entry.get("type") == "function"
                and entry["name"] == name
                and len(entry["inputs"]) == count
            ):
                return entry
        raise KeyError(f"no function {name} of {count} arguments")

    def encode(self, name: str, *arguments: object) -> bytes:
        """Call data."""
        types = _types(self._function(name, len(arguments))["inputs"])
        selector = keccak(f"{name}({','.join(types)})".encode())[:4]
        return selector + abi_encode(types, arguments)

    def call(  # any ABI type may come out
        self, name: str, *arguments: object, **fields: object
    ) -> Any:  # noqa: ANN401
        """The decoded result: None, the only value, or a tuple of them."""
        outputs = self._function(name, len(arguments))["outputs"]
        data = self.encode(name, *arguments)
        output = self.chain.call(self.address, data, **fields)
        return _result(outputs, output)

    def send(
        self,
        name: str,
        *arguments: object,
        sender: Account | None = None,
        check: bool = True,
        **fields: object,
    ) -> Sent:
        """Send a transaction; see `DevChain.send`."""
        data = self.encode(name, *arguments)
        return self.chain.send(
            sender, to=self.address, data=data, check=check, **fields
        )


def _types(parameters: Sequence[Abi]) -> list[str]:
    """ABI types as signatures write them, tuples spelled out."""
    return [
        parameter["type"].replace(
            "tuple", f"({','.join(_types(parameter['components']))})", 1
        )
        if parameter["type"].startswith("tuple")
        else parameter["type"]
        for parameter in parameters
    ]


def _named(parameter: Abi, value: Any) -> Any:  # noqa: ANN401  (any ABI type)
    """A struct as a dictionary; other values as they are."""
    if parameter["type"] == "tuple":
        return {
            part["name"]: _named(part, each)
            for part, each in zip(parameter["components"], value, strict=True)
        }
    return value


def _result(outputs: Sequence[Abi], output: bytes) -> Any:  # noqa: ANN401  (same)
    values = abi_decode(_types(outputs), output)
    named = tuple(
        _named(parameter, value)
        for parameter, value in zip(outputs, values, strict=True)
    )
    return named[0] if len(named) == 1 else named or None


def _decode_log(log: Log) -> tuple[str, dict[str, Any]]:
    for name, address in addresses.SYSTEM_CONTRACTS.items():
        if address == log.address:
            for entry in artifact(name).abi:
                found = _match(entry, log)
                if found is not None:
                    return found
    return "unknown", {"address": log.address, "topics": log.topics, "data": log.data}


def _match(entry: Abi, log: Log) -> tuple[str, dict[str, Any]] | None:
    if entry.get("type") != "event":
        return None
    inputs: list[Abi] = entry["inputs"]
    signature = f"{entry['name']}({','.join(_types(inputs))})".encode()
    if log.topics[:1] != (keccak(signature),):
        return None
    topics = iter(log.topics[1:])
    plain = [each for each in inputs if not each["indexed"]]
    values = iter(abi_decode(_types(plain), log.data))
    return entry["name"], {
        each["name"]: abi_decode([each["type"]], next(topics))[0]
        if each["indexed"]
        else _named(each, next(values))
        for each in inputs
    }


def _reverted(error: str, output: bytes) -> Reverted:
    if output[:4] == keccak(b"Error(string)")[:4]:
        return Reverted(abi_decode(["string"], output[4:])[0], output)
    return Reverted(error, output)
