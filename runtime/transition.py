"""One transaction: may it run, what it costs, what it does.

`check_static` asks what needs no state, `check_payable` what the sender's account must
allow; both before anything moves. `apply` then follows the Ethereum executable
specifications for Prague (`process_transaction`): buy gas, process authorizations, run
the first frame, refund at most a fifth, charge at least EIP-7623's floor, pay the
proposer its tip and burn the rest.
"""

from dataclasses import dataclass
from typing import Final

from chain.errors import BadSignature
from chain.receipt import Log
from chain.transaction import (
    Authorization,
    Transaction,
    contract_address,
)
from runtime import steps
from runtime.errors import NonceTooHigh, TransactionInvalid
from runtime.evm import (
    DELEGATION_PREFIX,
    MAX_INITCODE_BYTES,
    delegation_of,
    execute,
)
from runtime.machine import BlockContext, Call, Result
from runtime.rules import Rules
from runtime.steps import OutOfSteps, StepMeter
from runtime.world import World

TRANSACTION_GAS: Final = 21_000
CREATION_GAS: Final = 32_000
CALLDATA_TOKEN_GAS: Final = 4  # EIP-2028; a nonzero byte is four tokens (EIP-7623)
FLOOR_TOKEN_GAS: Final = 10
NONZERO_BYTE_TOKENS: Final = 4
INITCODE_WORD_GAS: Final = 2  # EIP-3860
ACCESS_ADDRESS_GAS: Final = 2_400  # EIP-2930
ACCESS_SLOT_GAS: Final = 1_900
NEW_ACCOUNT_GAS: Final = 25_000  # EIP-7702, PER_EMPTY_ACCOUNT_COST
AUTHORIZATION_GAS: Final = 12_500  # EIP-7702, PER_AUTH_BASE_COST
MAX_REFUND_QUOTIENT: Final = 5  # EIP-3529
MAX_NONCE: Final = (1 << 64) - 1  # EIP-2681


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction did.

    Attributes:
        succeeded: False when the first frame reverted, halted or ran out.
        gas_used: After refunds, at least the floor.
        logs: Empty when it failed.
        output: Return or revert data of the first frame.
        created: Address of the contract that a creation made or tried to make.
        error: Why it failed, for people.
        steps: Interpreter steps taken.
    """

    succeeded: bool
    gas_used: int
    logs: tuple[Log, ...]
    output: bytes
    created: bytes | None
    error: str
    steps: int


def calldata_tokens(data: bytes) -> int:
    """EIP-7623 tokens: one for a zero byte, four for any other."""
    zeros = data.count(0)
    return zeros + NONZERO_BYTE_TOKENS * (len(data) - zeros)


def intrinsic_gas(transaction: Transaction) -> tuple[int, int]:
    """Gas charged before execution, and the least that is charged at all."""
    tokens = calldata_tokens(transaction.data)
    gas = TRANSACTION_GAS + CALLDATA_TOKEN_GAS * tokens
    if transaction.to is None:
        words = (len(transaction.data) + 31) // 32
        gas += CREATION_GAS + INITCODE_WORD_GAS * words
    for _, slots in transaction.access_list:
        gas += ACCESS_ADDRESS_GAS + ACCESS_SLOT_GAS * len(slots)
    gas += NEW_ACCOUNT_GAS * len(transaction.authorizations)
    return gas, TRANSACTION_GAS + FLOOR_TOKEN_GAS * tokens


def check_static(rules: Rules, transaction: Transaction) -> None:
    """Refuse what no state and no block could make valid.

    Raises:
        TransactionInvalid: With the rule that it breaks.
    """
    if transaction.chain_id != rules.chain_id:
        raise TransactionInvalid(
            f"chain id {transaction.chain_id}, this chain is {rules.chain_id}"
        )
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        raise TransactionInvalid(
            f"priority fee {transaction.max_priority_fee_per_gas} exceeds the fee cap "
            f"{transaction.max_fee_per_gas}"
        )
    if transaction.gas > rules.transaction_gas_limit:
        raise TransactionInvalid(
            f"gas {transaction.gas}, a transaction may ask for "
            f"{rules.transaction_gas_limit} (EIP-7825)"
        )
    if transaction.nonce >= MAX_NONCE:
        raise TransactionInvalid("nonce 2**64 - 1 can never be used (EIP-2681)")
    if transaction.to is None and len(transaction.data) > MAX_INITCODE_BYTES:
        raise TransactionInvalid(
            f"initcode of {len(transaction.data)} bytes, at most "
            f"{MAX_INITCODE_BYTES} (EIP-3860)"
        )
    intrinsic, floor = intrinsic_gas(transaction)
    if transaction.gas < max(intrinsic, floor):
        raise TransactionInvalid(
            f"gas {transaction.gas} is below the intrinsic {intrinsic} or the calldata "
            f"floor {floor} (EIP-7623)"
        )


def check_payable(world: World, base_fee: int, transaction: Transaction) -> None:
    """Refuse what the sender's account does not allow now.

    Raises:
        NonceTooHigh: An earlier transaction is missing.
        TransactionInvalid: Nonce used, fee cap below the base fee, too little
            balance for gas and value, or the sender is a contract (EIP-3607).
    """
    if transaction.max_fee_per_gas < base_fee:
        raise TransactionInvalid(
            f"fee cap {transaction.max_fee_per_gas} is below the base fee {base_fee}"
        )
    account = world.account(transaction.sender)
    if transaction.nonce > account.nonce:
        raise NonceTooHigh(
            f"nonce {transaction.nonce}, the account is at {account.nonce}"
        )
    if transaction.nonce < account.nonce:
        raise TransactionInvalid(
            f"nonce {transaction.nonce} was used, the account is at {account.nonce}"
        )
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    if account.balance < cost:
        raise TransactionInvalid(
            f"balance {account.balance} does not cover gas and value, {cost}"
        )
    code = world.code(transaction.sender)
    if code and delegation_of(code) is None:
        raise TransactionInvalid("the sender is a contract (EIP-3607)")


def apply(
    world: World,
    block: BlockContext,
    transaction: Transaction,
    meter: StepMeter,
    *,
    steps_end_block: bool = False,
) -> Outcome:
    """Execute a checked transaction.

    Args:
        world: At the state before; `begin` has been called.
        block: The block it runs in.
        transaction: Passed `check_static` and `check_payable`.
        meter: Steps that it may take.
        steps_end_block: Whether the meter holds what is left of the block. Running
            out of a transaction's own steps fails it, like running out of gas.

    Raises:
        OutOfSteps: The block's steps ran out; the caller must revert the world.
    """
    sender = transaction.sender
    price = transaction.gas_price(block.base_fee)
    world.set_nonce(sender, transaction.nonce + 1)
    world.set_balance(sender, world.balance(sender) - transaction.gas * price)
    intrinsic, floor = intrinsic_gas(transaction)
    _prepare(world, block, transaction)
    created = _created_by(transaction)
    mark = world.mark()
    try:
        meter.charge(_fixed_steps(transaction))
        result = _first_frame(
            world, block, transaction, transaction.gas - intrinsic, created, meter
        )
    except OutOfSteps:
        if steps_end_block:
            raise
        world.revert(mark)
        result = _failed(f"more than {meter.limit} interpreter steps")
    used = transaction.gas - result.gas_left
    used = max(used - min(used // MAX_REFUND_QUOTIENT, world.refund), floor)
    world.set_balance(sender, world.balance(sender) + (transaction.gas - used) * price)
    tip = used * (price - block.base_fee)
    if tip:
        world.set_balance(block.coinbase, world.balance(block.coinbase) + tip)
    world.delete_doomed()
    return Outcome(
        succeeded=result.succeeded,
        gas_used=used,
        logs=tuple(world.logs),
        output=result.output,
        created=created,
        error=result.error,
        steps=meter.used,
    )


def _fixed_steps(transaction: Transaction) -> int:
    slots = sum(len(keys) + 1 for _, keys in transaction.access_list)
    return (
        steps.TRANSACTION_STEPS
        + steps.AUTHORIZATION_STEPS * len(transaction.authorizations)
        + steps.COLD_STEPS * slots
        + len(transaction.data) // steps.CALLDATA_BYTES_PER_STEP
    )


def _created_by(transaction: Transaction) -> bytes | None:
    if transaction.to is not None:
        return None
    return contract_address(transaction.sender, transaction.nonce)


def _failed(error: str) -> Result:
    return Result(succeeded=False, gas_left=0, output=b"", error=error)


def _prepare(world: World, block: BlockContext, transaction: Transaction) -> None:
    """What holds even if execution fails: accessed addresses, authorizations."""
    world.warm(transaction.sender)
    world.warm(block.coinbase)  # EIP-3651
    for address, slots in transaction.access_list:
        world.warm(address)
        for slot in slots:
            world.warm_slot(address, slot)
    for authorization in transaction.authorizations:
        _authorise(world, block.chain_id, authorization)


def _first_frame(
    world: World,
    block: BlockContext,
    transaction: Transaction,
    gas: int,
    created: bytes | None,
    meter: StepMeter,
) -> Result:
    target = created or transaction.to or bytes(20)
    world.warm(target)
    if created is not None:
        if world.is_occupied(created):
            return _failed(f"the address {created.hex()} is occupied")
    elif target not in block.precompiles and not world.code(target):
        _transfer(world, transaction.sender, target, transaction.value)
        return Result(succeeded=True, gas_left=gas, output=b"", error="")
    call = Call(
        origin=transaction.sender,
        gas_price=transaction.gas_price(block.base_fee),
        to=target,
        gas=gas,
        value=transaction.value,
        data=transaction.data,
        code=None if created is None else transaction.data,
        is_create=created is not None,
    )
    return execute(world, block, meter, call)


def _transfer(world: World, sender: bytes, recipient: bytes, value: int) -> None:
    """A call to an account without code: nothing executes."""
    world.set_balance(sender, world.balance(sender) - value)
    world.set_balance(recipient, world.balance(recipient) + value)


def _authorise(world: World, chain_id: int, authorization: Authorization) -> None:
    """Give an account the code it signed for; skip what does not apply (EIP-7702)."""
    if authorization.chain_id not in (0, chain_id):
        return
    if authorization.nonce >= MAX_NONCE:
        return
    try:
        authority = authorization.authority()
    except BadSignature:  # the rule: an unreadable tuple is skipped
        return
    world.warm(authority)
    code = world.code(authority)
    if code and delegation_of(code) is None:
        return
    if world.nonce(authority) != authorization.nonce:
        return
    if world.exists(authority):
        world.refund += NEW_ACCOUNT_GAS - AUTHORIZATION_GAS
    removes = authorization.address == bytes(20)
    world.set_code(
        authority, b"" if removes else DELEGATION_PREFIX + authorization.address
    )
    world.set_nonce(authority, authorization.nonce + 1)
