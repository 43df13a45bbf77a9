"""eth_* methods about accounts, and those that execute code or send transactions."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError

from chain.header import Header
from chain.transaction import Transaction
from node.mempool import Mempool, MempoolError
from node.rpc.dispatch import Method, Params, WorkBench, inline
from node.rpc.errors import (
    REVERTED,
    RpcError,
    invalid_params,
    limit_exceeded,
    missing_state,
    server_error,
)
from node.rpc.reading import ChainReader
from node.rpc.values import (
    data,
    quantity,
    read_address,
    read_data,
    read_hash,
    read_list,
    read_object,
    read_quantity,
    read_storage_slot,
)
from runtime.call import CallRequest, StateView, call, estimate_gas
from runtime.errors import (
    CallFailed,
    CallLimitExceeded,
    ExecutionReverted,
    TransactionInvalid,
)
from runtime.rules import Rules

T = TypeVar("T")

MAX_PROOF_KEYS = 1_024
MAX_ACCESS_LIST = 1_024
_ERROR_SELECTOR = bytes.fromhex("08c379a0")
_PANIC_SELECTOR = bytes.fromhex("4e487b71")


@dataclass(frozen=True, slots=True)
class StateContext:
    """What the methods of this module work on.

    Attributes:
        gas_cap: The most gas that a call may use.
        submit: Takes a transaction of a client or raises MempoolError.
    """

    reader: ChainReader
    mempool: Mempool
    gas_cap: int
    submit: Callable[[bytes], Awaitable[Transaction]]


class StateMethods:
    """Reads at any block's state; calls, estimates and new transactions."""

    def __init__(self, context: StateContext) -> None:
        self._context = context
        self._reader = context.reader

    def table(self, bench: WorkBench) -> Mapping[str, Method]:
        """The methods by name."""
        return {
            "eth_getBalance": inline(self.balance, 1, 2),
            "eth_getTransactionCount": inline(self.transaction_count, 1, 2),
            "eth_getCode": inline(self.code, 1, 2),
            "eth_getStorageAt": inline(self.storage, 2, 3),
            "eth_getProof": bench.threaded(self.proof, 2, 3),
            "eth_call": bench.threaded(self.call, 1, 3),
            "eth_estimateGas": bench.threaded(self.estimate, 1, 3),
            "eth_sendRawTransaction": Method(self.send, 1, 1),
        }

    def _header(self, parameter: object) -> Header:
        """The header of a block whose state is here.

        Raises:
            RpcError: there is none, or the state is pruned.
        """
        header = self._reader.need(parameter)
        if not self._reader.database.has_state(header.number):
            what = f"state 0x{header.state_root.hex()} of block {header.number}"
            raise missing_state(header.state_root, what)
        return header

    def _view(self, parameter: object) -> StateView:
        header = self._header(parameter)
        return StateView(self._reader.database, header.state_root)

    def balance(self, params: Params) -> object:
        """eth_getBalance(address, block)."""
        address = read_address(params[0], "address")
        return quantity(self._view(params[1]).balance(address))

    def transaction_count(self, params: Params) -> object:
        """eth_getTransactionCount(address, block); `pending` counts the mempool."""
        address = read_address(params[0], "address")
        if params[1] == "pending":
            return quantity(self._context.mempool.pending_nonce(address))
        return quantity(self._view(params[1]).nonce(address))

    def code(self, params: Params) -> object:
        """eth_getCode(address, block)."""
        address = read_address(params[0], "address")
        return data(self._view(params[1]).code(address))

    def storage(self, params: Params) -> object:
        """eth_getStorageAt(address, slot, block): 32 bytes."""
        address = read_address(params[0], "address")
        slot = read_storage_slot(params[1], "slot")
        return data(self._view(params[2]).storage(address, slot).to_bytes(32))

    def proof(self, params: Params) -> object:
        """eth_getProof(address, slots, block) (EIP-1186)."""
        address = read_address(params[0], "address")
        wanted = read_list(params[1], "slots", most=MAX_PROOF_KEYS)
        slots = [read_storage_slot(each, "slot") for each in wanted]
        found = self._view(params[2]).proof(address, slots)
        return {
            "address": data(address),
            "accountProof": [data(node) for node in found.account_proof],
            "balance": quantity(found.balance),
            "codeHash": data(found.code_hash),
            "nonce": quantity(found.nonce),
            "storageHash": data(found.storage_root),
            "storageProof": [
                {
                    "key": quantity(each.slot),
                    "value": quantity(each.value),
                    "proof": [data(node) for node in each.proof],
                }
                for each in found.storage
            ],
        }

    def call(self, params: Params) -> object:
        """eth_call(transaction, block): the output, or an error with revert data."""
        header = self._header(params[1])
        _refuse_overrides(params[2])
        request = self._affordable(read_call(params[0]), header)
        result = self._guarded(
            lambda: call(self._rules(header), self._reader.database, header, request)
        )
        if not result.succeeded:
            raise _failure(result.error, result.output)
        return data(result.output)

    def estimate(self, params: Params) -> object:
        """eth_estimateGas(transaction, block): the least gas that suffices."""
        header = self._header(params[1])
        _refuse_overrides(params[2])
        request = self._affordable(read_call(params[0]), header)
        return quantity(
            self._guarded(
                lambda: estimate_gas(
                    self._rules(header), self._reader.database, header, request
                )
            )
        )

    def _affordable(self, request: CallRequest, header: Header) -> CallRequest:
        """The request with the gas that the node grants and the sender can pay.

        Raises:
            RpcError: the sender cannot pay for the value, or for the gas it names.
        """
        cap = self._context.gas_cap
        gas = cap if request.gas is None else min(request.gas, cap)
        if not request.value and not request.gas_price:
            return replace(request, gas=gas)
        view = StateView(self._reader.database, header.state_root)
        balance = view.balance(request.sender)
        if request.gas is None and request.gas_price and balance >= request.value:
            gas = min(gas, (balance - request.value) // request.gas_price)
        wanted = request.value + gas * request.gas_price
        if balance < wanted:
            raise server_error(
                "insufficient funds for gas * price + value: "
                f"address {data(request.sender)} have {balance} want {wanted}"
            )
        return replace(request, gas=gas)

    def _rules(self, header: Header) -> Rules:
        return self._reader.forks.at(header.number)

    def _guarded(self, work: Callable[[], T]) -> T:
        """Run an execution; its failures become answers."""
        try:
            return work()
        except ExecutionReverted as error:
            raise _failure(str(error), error.output) from error
        except CallLimitExceeded as error:
            raise limit_exceeded(f"execution aborted: {error}") from error
        except (CallFailed, TransactionInvalid) as error:
            raise server_error(str(error)) from error

    async def send(self, params: Params) -> object:
        """eth_sendRawTransaction: into the mempool; returns the hash."""
        raw = read_data(params[0], "transaction")
        try:
            admitted = await self._context.submit(raw)
        except MempoolError as error:
            raise server_error(str(error)) from error
        return data(admitted.hash)


def read_call(parameter: object) -> CallRequest:
    """Read a transaction object of eth_call or eth_estimateGas.

    Raises:
        RpcError: a member is malformed, or members contradict each other.
    """
    fields = read_object(parameter, "transaction")
    given, alias = fields.get("input"), fields.get("data")
    if given is not None and alias is not None and given != alias:
        raise invalid_params('both "data" and "input" are set and not equal')
    payload = given if given is not None else alias
    legacy, cap = fields.get("gasPrice"), fields.get("maxFeePerGas")
    tip = fields.get("maxPriorityFeePerGas")
    if legacy is not None and (cap is not None or tip is not None):
        raise invalid_params(
            "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"
        )
    price = legacy if legacy is not None else cap
    gas = fields.get("gas")
    return CallRequest(
        sender=_optional_address(fields.get("from"), "from") or bytes(20),
        to=_optional_address(fields.get("to"), "to"),
        gas=None if gas is None else read_quantity(gas, "gas"),
        gas_price=0 if price is None else read_quantity(price, "gas price"),
        value=_optional_quantity(fields.get("value"), "value"),
        data=b"" if payload is None else read_data(payload, "input"),
        access_list=_read_access_list(fields.get("accessList")),
    )


def _optional_address(value: object, name: str) -> bytes | None:
    return None if value is None else read_address(value, name)


def _optional_quantity(value: object, name: str) -> int:
    return 0 if value is None else read_quantity(value, name)


def _read_access_list(value: object) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
    if value is None:
        return ()
    entries: list[tuple[bytes, tuple[int, ...]]] = []
    for each in read_list(value, "accessList", most=MAX_ACCESS_LIST):
        fields = read_object(each, "accessList")
        keys = read_list(fields.get("storageKeys"), "storageKeys", most=MAX_ACCESS_LIST)
        slots = tuple(int.from_bytes(read_hash(key, "storageKeys")) for key in keys)
        entries.append((read_address(fields.get("address"), "accessList"), slots))
    return tuple(entries)


def _refuse_overrides(value: object) -> None:
    if value:
        raise invalid_params("state overrides are not supported")


def _failure(reason: str, output: bytes) -> RpcError:
    """The error of an execution that failed, as go-ethereum words it."""
    if not output and "Revert" not in reason:
        return server_error(reason)
    message = "execution reverted"
    explained = revert_reason(output)
    if explained is not None:
        message += f": {explained}"
    return RpcError(REVERTED, message, data(output))


def revert_reason(output: bytes) -> str | None:
    """The string in `Error(string)`, the code in `Panic(uint256)`, else None."""
    try:
        if output[:4] == _ERROR_SELECTOR:
            (reason,) = abi_decode(["string"], output[4:])
            return str(reason)
        if output[:4] == _PANIC_SELECTOR:
            (code,) = abi_decode(["uint256"], output[4:])
            return f"panic code 0x{code:02x}"
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return None
    return None
