"""The last steps of a transaction into the mempool: check, add.

What can be known without executing is refused here with a reason that clients
recognise, so that the mempool holds only transactions that some block could take.
"""

from chain.transaction import Transaction
from node.mempool import Mempool, MempoolError
from runtime.errors import TransactionInvalid
from runtime.rules import Rules
from runtime.transition import check_static, intrinsic_gas


class MalformedTransactionError(MempoolError):
    """The bytes are no transaction of this chain."""


class FeesReversedError(MempoolError):
    """The tip cap exceeds the fee cap."""


class GasTooLowError(MempoolError):
    """The gas does not cover what every such transaction costs."""


class GasTooHighError(MempoolError):
    """The gas exceeds what one transaction may ask for."""


class StaticallyInvalidError(MempoolError):
    """Another rule that needs no state is broken."""


def admit_decoded(
    mempool: Mempool, rules: Rules, base_fee: int, transaction: Transaction
) -> None:
    """Put a transaction into the mempool.

    Args:
        mempool: Changed only when the transaction is admitted.
        rules: Of the next block.
        base_fee: Of the next block.
        transaction: Decoded for this chain (`node.recovery`).

    Raises:
        MempoolError: which one says why.
    """
    _check(rules, transaction)
    mempool.add(transaction, base_fee)


def _check(rules: Rules, transaction: Transaction) -> None:
    tip, cap = transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas
    if tip > cap:
        raise FeesReversedError(
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas: {tip}, maxFeePerGas: {cap}"
        )
    intrinsic, floor = intrinsic_gas(transaction)
    if transaction.gas < intrinsic:
        raise GasTooLowError(
            f"intrinsic gas too low: gas {transaction.gas}, minimum needed {intrinsic}"
        )
    if transaction.gas < floor:
        raise GasTooLowError(
            "insufficient gas for floor data gas cost: "
            f"gas {transaction.gas}, minimum needed {floor}"
        )
    if transaction.gas > rules.transaction_gas_limit:
        raise GasTooHighError(
            "transaction gas limit too high "
            f"(cap: {rules.transaction_gas_limit}, tx: {transaction.gas})"
        )
    try:
        check_static(rules, transaction)
    except TransactionInvalid as error:
        raise StaticallyInvalidError(str(error)) from error
