"""One account's connection to one node: calls, transactions, receipts, logs.

Everything of web3 that the rest of this package needs, and nothing of web3 leaves this
file. A transaction is estimated, paid with EIP-1559 fees that survive twelve full
blocks, signed here, sent, and waited for. A stale one (the base fee outran it) is
replaced under the same nonce, so an account is never stuck behind itself; one that the
node has forgotten (its pool was full, or lost with it) is sent again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, cast

import requests
from eth_account.datastructures import SignedTransaction
from eth_account.signers.local import LocalAccount
from eth_account.types import TransactionDictType
from eth_typing import ABI, BlockNumber, ChecksumAddress, HexStr
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.exceptions import (
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.types import (
    BlockIdentifier,
    EventData,
    LogReceipt,
    TxParams,
    TxReceipt,
    Wei,
)

from lockstep.client.contracts import ContractInfo
from lockstep.errors import (
    ChainError,
    ContractReverted,
    InsufficientFunds,
    NodeUnreachable,
    TransactionTimeout,
)

__all__ = ["Connection", "Event", "Receipt"]

Answer = TypeVar("Answer")

GWEI = 10**9
MAX_TRANSACTION_GAS = 16_777_216  # EIP-7825, also this chain's cap
_TIP = GWEI
_POLL_SECONDS = 0.15
_RESEND_SECONDS = 2.0
_REPLACE_BUMP = 1.25  # pools ask for 10 %; a quarter is safe
_REQUEST_SECONDS = 30
_PACE_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded log of a system contract.

    Attributes:
        contract: the contract's name.
        name: the event's name.
        fields: its arguments; bytes as bytes, addresses as checksummed text.
        block: number of the block.
        index: position among the block's logs.
        transaction: the transaction's hash.
    """

    contract: str
    name: str
    fields: Mapping[str, object]
    block: int
    index: int
    transaction: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that took effect.

    Attributes:
        transaction: its hash.
        block: number of the block.
        gas: gas charged.
        fee: wei paid for it.
        events: what the system contracts logged, in order.
    """

    transaction: bytes
    block: int
    gas: int
    fee: int
    events: tuple[Event, ...]

    def event(self, name: str) -> Event:
        """The first event of this name.

        Raises:
            ChainError: the transaction logged none.
        """
        for event in self.events:
            if event.name == name:
                return event
        raise ChainError(
            f"expected transaction {self.transaction.hex()} to log {name}, it logged "
            f"{[event.name for event in self.events]}"
        )


class _Processor(Protocol):
    def process_log(self, log: LogReceipt) -> EventData: ...


class Connection:
    """A node, seen by one account (or by nobody, for reading only)."""

    def __init__(
        self,
        url: str,
        contracts: Sequence[ContractInfo],
        account: LocalAccount | None = None,
        transaction_seconds: float = 60,
    ) -> None:
        """Connect and ask for the chain id.

        Args:
            url: of the node's JSON-RPC.
            contracts: name, address and ABI of each system contract.
            account: who signs.
            transaction_seconds: how long a transaction is waited for.

        Raises:
            NodeUnreachable: nothing answers there.
        """
        self.url = url
        self.account = account
        self._transaction_seconds = transaction_seconds
        provider = HTTPProvider(
            url,
            request_kwargs={"timeout": _REQUEST_SECONDS},
            exception_retry_configuration=None,
        )
        self._web3 = Web3(provider)
        self._contracts: dict[str, Contract] = {}
        self._names: dict[str, str] = {}
        self._events: dict[tuple[str, bytes], tuple[str, _Processor]] = {}
        for info in contracts:
            self._bind(info)
        self.chain_id = self._asked(lambda: self._web3.eth.chain_id)

    # ── reading ──────────────────────────────────────────────────────────────

    @property
    def address(self) -> str:
        """The account's address.

        Raises:
            ChainError: the connection has no account.
        """
        return self._signer().address

    def genesis_hash(self) -> bytes:
        """The hash of block 0, which names the chain."""
        block = self._asked(lambda: self._web3.eth.get_block(0))
        return bytes(block.get("hash", b""))

    def block_number(self) -> int:
        """Number of the newest block."""
        return self._asked(lambda: int(self._web3.eth.block_number))

    def balance(self, address: str, block: int | None = None) -> int:
        """Wei at an address."""
        where = to_checksum_address(address)
        return self._asked(lambda: int(self._web3.eth.get_balance(where, _at(block))))

    def transaction_input(self, transaction: bytes) -> bytes:
        """The call data of a transaction."""
        found = self._asked(
            lambda: self._web3.eth.get_transaction(HexBytes(transaction))
        )
        return bytes(found.get("input", b""))

    def gas_used(self, transaction: bytes) -> int:
        """Gas that a transaction was charged."""
        receipt = self._asked(
            lambda: self._web3.eth.get_transaction_receipt(HexBytes(transaction))
        )
        return int(receipt["gasUsed"])

    def block_proposer(self, number: int) -> str:
        """The address that a block's tips went to."""
        block = self._asked(lambda: self._web3.eth.get_block(number))
        return str(block.get("miner", ""))

    def block_seconds(self) -> float:
        """Seconds between blocks, as the newest timestamps have it."""
        head = self.block_number()
        first = max(0, head - _PACE_BLOCKS)
        if head == first:
            return 1.0
        start, end = self._timestamp(first), self._timestamp(head)
        return (end - start) / (head - first)

    def block_fees(self, number: int) -> tuple[int, int]:
        """Base fee per gas and gas used of a block; their product was burned."""
        block = self._asked(lambda: self._web3.eth.get_block(number))
        return int(block.get("baseFeePerGas", 0)), int(block.get("gasUsed", 0))

    def call(
        self, contract: str, function: str, *arguments: object, block: int | None = None
    ) -> object:
        """The answer of a view.

        Raises:
            ContractReverted: the contract refused.
        """
        bound = self._function(contract, function, arguments)
        sender: TxParams = {}
        if self.account is not None:
            sender["from"] = self.account.address
        return self._asked(
            lambda: bound.call(sender, block_identifier=_at(block)), contract, function
        )

    def decode_input(self, contract: str, data: bytes) -> tuple[str, dict[str, object]]:
        """The function and arguments that call data of this contract stands for."""
        try:
            function, arguments = self._contracts[contract].decode_function_input(
                HexBytes(data)
            )
        except (Web3Exception, ValueError) as error:
            raise ChainError(f"call data is none of {contract}'s: {error}") from error
        return function.fn_name, dict(arguments)

    def logs(
        self,
        first: int,
        last: int,
        contract: str | None = None,
        name: str | None = None,
    ) -> list[Event]:
        """Events of system contracts in blocks `first..last`, oldest first."""
        addresses = [
            bound.address
            for key, bound in self._contracts.items()
            if contract in (None, key)
        ]
        topics = [
            HexStr("0x" + topic.hex())
            for (_, topic), (event, _) in self._events.items()
            if name in (None, event)
        ]
        logs = self._asked(
            lambda: self._web3.eth.get_logs(
                {
                    "fromBlock": first,
                    "toBlock": last,
                    "address": addresses,
                    "topics": [list(dict.fromkeys(topics))],
                }
            )
        )
        return list(self._decoded(logs))

    # ── writing ──────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """Wait until no transaction of this account is pending any more.

        Call it after a restart: what the last run sent either took effect, which the
        chain's state then shows, or never will.

        Raises:
            ChainError: something stays pending.
        """
        address = self._signer().address
        deadline = time.monotonic() + self._transaction_seconds
        while True:
            pending = self._count(address, "pending")
            mined = self._count(address, "latest")
            if pending <= mined:
                return
            if time.monotonic() > deadline:
                raise ChainError(
                    f"{pending - mined} transactions of {address} have been pending "
                    f"for {self._transaction_seconds:.0f} s; is the chain running?"
                )
            time.sleep(_POLL_SECONDS)

    def send(
        self,
        contract: str,
        function: str,
        *arguments: object,
        value: int = 0,
        gas: int | None = None,
    ) -> Receipt:
        """Call a contract in a transaction and wait for it.

        Args:
            contract: its name.
            function: the function's name.
            arguments: the function's arguments.
            value: wei to send along.
            gas: limit; None asks the node for an estimate and adds a fifth.

        Raises:
            ContractReverted: the contract refuses, before or after sending.
            InsufficientFunds: the account can't pay.
            TransactionTimeout: no block took it.
        """
        data = self._contracts[contract].encode_abi(function, list(arguments))
        return self.send_data(contract, function, data, value=value, gas=gas)

    def send_data(
        self,
        contract: str,
        function: str,
        data: HexStr | bytes,
        *,
        value: int = 0,
        gas: int | None = None,
    ) -> Receipt:
        """Like `send`, with call data that the caller encoded.

        Args:
            contract: its name.
            function: the function's name, for messages.
            data: selector and arguments.
            value: wei to send along.
            gas: limit; None asks the node for an estimate and adds a fifth.
        """
        request: TxParams = {
            "from": self._signer().address,
            "to": self._contracts[contract].address,
            "data": data,
            "value": Wei(value),
        }
        if gas is None:
            estimate = self._asked(
                lambda: self._web3.eth.estimate_gas(request), contract, function
            )
            gas = min(MAX_TRANSACTION_GAS, estimate + estimate // 5)
        draft: TxParams = {**request, "gas": gas}
        receipt = self._deliver(draft, f"{contract}.{function}")
        if receipt.get("status") != 1:
            parent = BlockNumber(receipt["blockNumber"] - 1)
            self._asked(
                lambda: self._web3.eth.call(request, parent), contract, function
            )
            raise ContractReverted(contract, function, "")
        return self._receipt(receipt)

    def accepts(self, contract: str, function: str, *arguments: object) -> bool:
        """Whether a contract would accept this transaction now; nothing is sent."""
        try:
            self.call(contract, function, *arguments)
        except ContractReverted:
            return False
        return True

    def transfer(self, recipient: str, value: int) -> Receipt:
        """Send tokens to an address."""
        draft: TxParams = {
            "to": to_checksum_address(recipient),
            "value": Wei(value),
            "gas": 100_000,
        }
        return self._receipt(self._deliver(draft, "transfer"))

    # ── inside ───────────────────────────────────────────────────────────────

    def _bind(self, info: ContractInfo) -> None:
        address = to_checksum_address(info.address)
        bound = self._web3.eth.contract(address=address, abi=cast(ABI, info.abi))
        self._contracts[info.name] = bound
        self._names[address] = info.name
        for item in info.abi:
            if item["type"] == "event":
                name = str(item["name"])
                event = bound.events[name]
                topic = bytes(HexBytes(event().topic))
                self._events[address, topic] = (name, cast(_Processor, event()))

    def _signer(self) -> LocalAccount:
        if self.account is None:
            raise ChainError("this connection only reads: give it a key to send with")
        return self.account

    def _count(self, address: ChecksumAddress, at: Literal["latest", "pending"]) -> int:
        return self._asked(lambda: self._web3.eth.get_transaction_count(address, at))

    def _function(
        self, contract: str, function: str, arguments: Sequence[object]
    ) -> ContractFunction:
        return self._contracts[contract].functions[function](*arguments)

    def _deliver(self, draft: TxParams, what: str) -> TxReceipt:
        """Send under the next nonce and wait; replace when the base fee outruns it."""
        nonce = self._count(self._signer().address, "pending")
        deadline = time.monotonic() + self._transaction_seconds
        sent: list[SignedTransaction] = []
        cap, told, trouble = 0, 0.0, ""
        while (now := time.monotonic()) < deadline:
            base = self._base_fee()
            if not sent or base > cap:
                cap = max(int(cap * _REPLACE_BUMP), 4 * base + _TIP)
                tip = min(cap, int(_TIP * _REPLACE_BUMP ** len(sent)))
                sent.append(self._signed(draft, nonce, cap, tip))
                self._submit(sent[-1], what)
                told = now
            for transaction in sent:
                receipt = self._mined(transaction.hash)
                if receipt is not None:
                    return receipt
            if now > told + _RESEND_SECONDS:
                trouble = self._remind(sent[-1], what)
                told = now
            time.sleep(_POLL_SECONDS)
        raise TransactionTimeout(
            f"{what} was sent as 0x{sent[-1].hash.hex()} with nonce {nonce}, and no "
            f"block took it within {self._transaction_seconds:.0f} s; "
            + (trouble or "is the chain running?"),
            bytes(sent[-1].hash),
        )

    def _signed(
        self, draft: TxParams, nonce: int, cap: int, tip: int
    ) -> SignedTransaction:
        filled = cast(TransactionDictType, dict(draft))
        filled.pop("from", None)
        filled["type"] = 2
        filled["chainId"] = self.chain_id
        filled["nonce"] = nonce
        filled["maxFeePerGas"] = cap
        filled["maxPriorityFeePerGas"] = tip
        return self._signer().sign_transaction(filled)

    def _submit(self, transaction: SignedTransaction, what: str) -> None:
        self._asked(
            lambda: self._web3.eth.send_raw_transaction(transaction.raw_transaction),
            *what.partition(".")[::2],
        )

    def _remind(self, transaction: SignedTransaction, what: str) -> str:
        """Send once more what the node has forgotten; why it refused, if it did."""
        try:
            self._asked(lambda: self._web3.eth.get_transaction(transaction.hash))
        except TransactionNotFound:
            try:
                self._submit(transaction, what)
            except NodeUnreachable:
                raise
            except ChainError as error:
                return str(error)
        return ""

    def _mined(self, transaction: HexBytes) -> TxReceipt | None:
        try:
            return self._asked(
                lambda: self._web3.eth.get_transaction_receipt(transaction)
            )
        except TransactionNotFound:
            return None

    def _timestamp(self, number: int) -> int:
        block = self._asked(lambda: self._web3.eth.get_block(number))
        return int(block.get("timestamp", 0))

    def _base_fee(self) -> int:
        block = self._asked(lambda: self._web3.eth.get_block("latest"))
        return int(block.get("baseFeePerGas", GWEI))

    def _receipt(self, receipt: TxReceipt) -> Receipt:
        gas = int(receipt["gasUsed"])
        return Receipt(
            transaction=bytes(receipt["transactionHash"]),
            block=int(receipt["blockNumber"]),
            gas=gas,
            fee=gas * int(receipt["effectiveGasPrice"]),
            events=tuple(self._decoded(receipt["logs"])),
        )

    def _decoded(self, logs: Sequence[LogReceipt]) -> Iterator[Event]:
        for log in logs:
            known = self._events.get((log["address"], bytes(log["topics"][0])))
            if known is None:
                continue
            name, processor = known
            data = processor.process_log(log)
            yield Event(
                contract=self._names[log["address"]],
                name=name,
                fields=dict(data["args"]),
                block=int(log["blockNumber"]),
                index=int(log["logIndex"]),
                transaction=bytes(log["transactionHash"]),
            )

    def _asked(
        self, ask: Callable[[], Answer], contract: str = "", function: str = ""
    ) -> Answer:
        """Run one request and translate what web3 and requests raise."""
        try:
            return ask()
        except TransactionNotFound:
            raise
        except requests.RequestException as error:
            raise NodeUnreachable(
                f"no node answers at {self.url} ({type(error).__name__}); start one "
                "with `lockstep devnet`, or give another --rpc"
            ) from error
        except ContractLogicError as error:
            raise ContractReverted(contract, function, _reason(error)) from error
        except Web3RPCError as error:
            said = str(error.message or error)
            if "insufficient funds" in said.lower():
                raise InsufficientFunds(
                    f"{self.address} cannot pay for {contract}.{function}: {said}"
                ) from error
            raise ChainError(f"the node at {self.url} answered: {said}") from error
        except Web3Exception as error:
            raise ChainError(
                f"the node at {self.url} gave an unusable answer: {error}"
            ) from error


def _at(block: int | None) -> BlockIdentifier:
    return "latest" if block is None else BlockNumber(block)


def _reason(error: ContractLogicError) -> str:
    """The revert string alone."""
    said = str(error.message or "")
    return said.removeprefix("execution reverted").removeprefix(":").strip()
