"""Questions about a state that change nothing: eth_call, eth_estimateGas, eth_getProof.

None of this is consensus. Calls run on a committed state with a cap of their own on
gas and interpreter steps, so a stranger's question costs a bounded amount of work; the
node also bounds its time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chain.addresses import ZERO
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.header import Header
from chain.transaction import (
    DYNAMIC_FEE,
    AccessList,
    Authorization,
    Transaction,
)
from chain.trie import prove
from runtime.errors import (
    CallFailed,
    CallLimitExceeded,
    ExecutionReverted,
)
from runtime.evm import MAX_INITCODE_BYTES
from runtime.machine import BlockContext
from runtime.precompile_table import precompiles
from runtime.rules import Rules
from runtime.steps import OutOfSteps, StepMeter
from runtime.transition import Outcome, apply, intrinsic_gas
from runtime.world import World

CALL_GAS_LIMIT: Final = 50_000_000
CALL_STEP_LIMIT: Final = 3_000_000

# A search ends when its bounds are this close, as a share of the upper one.
_ESTIMATE_TOLERANCE: Final = 64
_CALL_STIPEND: Final = 2_300


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """A transaction that nobody signed.

    Attributes:
        sender: Whose call it pretends to be; its nonce and code do not matter.
        gas: Gas offered; None takes the most that is allowed.
        gas_price: wei; with 0 the sender pays for no gas.
    """

    sender: bytes = ZERO
    to: bytes | None = None
    gas: int | None = None
    gas_price: int = 0
    value: int = 0
    data: bytes = b""
    access_list: AccessList = ()
    authorizations: tuple[Authorization, ...] = ()


@dataclass(frozen=True, slots=True)
class CallResult:
    """How a call ended.

    Attributes:
        succeeded: Neither reverted nor halted.
        output: Return or revert data.
        gas_used: As a transaction would be charged.
        steps: Interpreter steps.
        error: Why it failed; empty on success.
    """

    succeeded: bool
    output: bytes
    gas_used: int
    steps: int
    error: str


def call(
    rules: Rules,
    database: ChainDatabase,
    header: Header,
    request: CallRequest,
    *,
    step_limit: int = CALL_STEP_LIMIT,
) -> CallResult:
    """Run `request` on the state after `header`, in that block's context.

    Raises:
        CallFailed: The request cannot run at all: too little gas or balance.
        CallLimitExceeded: It took more steps than `step_limit`.
    """
    gas = CALL_GAS_LIMIT if request.gas is None else min(request.gas, CALL_GAS_LIMIT)
    if request.gas is None:
        gas = min(gas, _allowance(database, header, request))
    outcome = _run(rules, database, header, request, gas, step_limit)
    return CallResult(
        succeeded=outcome.succeeded,
        output=outcome.output,
        gas_used=outcome.gas_used,
        steps=outcome.steps,
        error=outcome.error,
    )


def estimate_gas(
    rules: Rules,
    database: ChainDatabase,
    header: Header,
    request: CallRequest,
    *,
    step_limit: int = CALL_STEP_LIMIT,
) -> int:
    """A gas limit with which `request` succeeds on the state after `header`.

    Exact for what needs no more gas than it uses; otherwise within 1/64 of the least,
    by bisection. The sender need not afford more than the result.

    Raises:
        ExecutionReverted: It fails with all the gas a transaction may have.
        CallFailed: The request cannot run at all.
        CallLimitExceeded: It took more steps than a transaction may.
    """
    most = rules.transaction_gas_limit
    if request.gas is not None:
        most = min(most, request.gas)
    most = min(most, _allowance(database, header, request))
    limit = min(step_limit, rules.transaction_step_limit)

    def run(gas: int) -> Outcome:
        return _run(rules, database, header, request, gas, limit)

    outcome = run(most)
    if not outcome.succeeded:
        raise ExecutionReverted(outcome.error, outcome.output)
    low, high = outcome.gas_used, most
    if run(low).succeeded:
        return low
    # Nested calls need a 64th more than they use, refunds come after.
    guess = low + low // 63 + _CALL_STIPEND
    while high - low > max(high // _ESTIMATE_TOLERANCE, 1):
        middle = guess if low < guess < high else (low + high) // 2
        guess = 0
        if run(middle).succeeded:
            high = middle
        else:
            low = middle
    return high


def _allowance(database: ChainDatabase, header: Header, request: CallRequest) -> int:
    """Gas that the sender can pay for at its price, beside the value."""
    if request.gas_price == 0:
        return CALL_GAS_LIMIT
    balance = World(database, header.state_root).balance(request.sender)
    if balance < request.value:
        raise CallFailed(f"balance {balance} does not cover the value {request.value}")
    return (balance - request.value) // request.gas_price


def _run(
    rules: Rules,
    database: ChainDatabase,
    header: Header,
    request: CallRequest,
    gas: int,
    step_limit: int,
) -> Outcome:
    world = World(database, header.state_root)
    if request.to is None and len(request.data) > MAX_INITCODE_BYTES:
        raise CallFailed(
            f"initcode of {len(request.data)} bytes, at most {MAX_INITCODE_BYTES}"
        )
    transaction = _pretend(rules, world, request, gas)
    needed = max(intrinsic_gas(transaction))
    if gas < needed:
        raise CallFailed(f"gas {gas} is below the {needed} that any run costs")
    world.begin()
    meter = StepMeter(step_limit)
    try:
        return apply(
            world,
            _context(rules, database, header, request),
            transaction,
            meter,
            steps_end_block=True,
        )
    except OutOfSteps:
        raise CallLimitExceeded(
            f"more than {step_limit} interpreter steps; this node answers smaller "
            "questions"
        ) from None


def _pretend(rules: Rules, world: World, request: CallRequest, gas: int) -> Transaction:
    """The transaction that `request` describes, and a sender who can pay for it."""
    balance = world.balance(request.sender)
    cost = request.value + gas * request.gas_price
    if balance < cost:
        raise CallFailed(
            f"balance {balance} of {request.sender.hex()} does not cover gas and "
            f"value, {cost}"
        )
    return Transaction(
        type=DYNAMIC_FEE,
        chain_id=rules.chain_id,
        nonce=world.nonce(request.sender),
        max_priority_fee_per_gas=request.gas_price,
        max_fee_per_gas=request.gas_price,
        gas=gas,
        to=request.to,
        value=request.value,
        data=request.data,
        access_list=request.access_list,
        authorizations=request.authorizations,
        y_parity=0,
        r=0,
        s=0,
        raw=b"",
        hash=bytes(32),
        sender=request.sender,
    )


def _context(
    rules: Rules, database: ChainDatabase, header: Header, request: CallRequest
) -> BlockContext:
    """The block of `header`; a call that pays nothing sees a base fee of nothing."""
    return BlockContext(
        chain_id=rules.chain_id,
        number=header.number,
        timestamp=header.timestamp,
        coinbase=header.coinbase,
        gas_limit=header.gas_limit,
        base_fee=min(header.base_fee_per_gas, request.gas_price),
        mix_hash=header.mix_hash,
        block_hash=database.hash_at,
        precompiles=precompiles(rules),
    )


@dataclass(frozen=True, slots=True)
class StorageProof:
    """A slot, its value, and the nodes that prove it."""

    slot: int
    value: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AccountProof:
    """An account and some of its slots, with proofs (EIP-1186)."""

    nonce: int
    balance: int
    code_hash: bytes
    storage_root: bytes
    account_proof: tuple[bytes, ...]
    storage: tuple[StorageProof, ...]


class StateView:
    """A committed state, read only.

    Args:
        database: Holds it.
        state_root: From a header.
    """

    def __init__(self, database: ChainDatabase, state_root: bytes) -> None:
        self._database = database
        self.root = state_root
        self._world = World(database, state_root)

    def balance(self, address: bytes) -> int:
        """Wei."""
        return self._world.balance(address)

    def nonce(self, address: bytes) -> int:
        """Transactions sent."""
        return self._world.nonce(address)

    def code(self, address: bytes) -> bytes:
        """Contract code, empty for other accounts."""
        return self._world.code(address)

    def storage(self, address: bytes, slot: int) -> int:
        """The value at a slot."""
        return self._world.storage(address, slot)

    def proof(self, address: bytes, slots: Sequence[int] = ()) -> AccountProof:
        """The account and `slots` of it, with Merkle proofs (eth_getProof)."""
        account = self._world.account(address)
        read = self._database.node
        return AccountProof(
            nonce=account.nonce,
            balance=account.balance,
            code_hash=account.code_hash,
            storage_root=account.storage_root,
            account_proof=prove(read, self.root, keccak(address)),
            storage=tuple(
                StorageProof(
                    slot,
                    self._world.storage(address, slot),
                    prove(read, account.storage_root, keccak(slot.to_bytes(32, "big"))),
                )
                for slot in slots
            ),
        )
