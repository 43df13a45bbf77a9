# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Comparisons, logic and choice."""

import math

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Operand, Tensor
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.types import DType

aten = torch.ops.aten


def compared(low: Lowering, name: str, left: Operand, right: Operand) -> Tensor:
    """Return a comparison in the wider of the two element types."""
    dtypes = {low.computing(left), low.computing(right)}
    dtype = DType.F32 if DType.F32 in dtypes else DType.I64
    return low.add(name, low.cast(left, dtype), low.cast(right, dtype))


def _compare(name: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        return compared(low, name, call["self"], call["other"])

    return rule


def _logic(name: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        left = low.cast(call["self"], DType.BOOL)
        return low.add(name, left, low.cast(call["other"], DType.BOOL))

    return rule


def _bitwise(name: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        if call.dtype is not DType.BOOL:
            raise Unsupported("of integers: only of booleans")
        return _logic(name)(low, call)

    return rule


def _not(low: Lowering, call: Call) -> Operand:
    return low.add("not", low.cast(call["self"], DType.BOOL))


def _bitwise_not(low: Lowering, call: Call) -> Operand:
    if call.dtype is not DType.BOOL:
        raise Unsupported("of integers: only of booleans")
    return low.add("not", call["self"])


def _isnan(low: Lowering, call: Call) -> Operand:
    return low.add("ne", call["self"], call["self"])


def _isinf(low: Lowering, call: Call) -> Operand:
    return low.add("eq", low.add("abs", call["self"]), math.inf)


def _infinite(sign: float) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        return low.add("eq", call["self"], sign * math.inf)

    return rule


def _isfinite(low: Lowering, call: Call) -> Operand:
    return low.add("lt", low.add("abs", call["self"]), math.inf)


def chosen(
    low: Lowering, mask: Operand, then: Operand, other: Operand, dtype: DType
) -> Tensor:
    """Return ``then`` where the mask is true, else ``other``."""
    then, other = low.cast(then, dtype), low.cast(other, dtype)
    return low.add("where", low.cast(mask, DType.BOOL), then, other)


def _where(low: Lowering, call: Call) -> Operand:
    return chosen(low, call["condition"], call["self"], call["other"], call.dtype)


def _masked_fill(low: Lowering, call: Call) -> Operand:
    return chosen(low, call["mask"], call["value"], call["self"], call.dtype)


RULES: Rules = {
    **{
        getattr(getattr(aten, name), overload): _compare(name)
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
        for overload in ("Tensor", "Scalar")
    },
    aten.logical_and.default: _logic("and"),
    aten.logical_or.default: _logic("or"),
    aten.logical_xor.default: _logic("xor"),
    aten.logical_not.default: _not,
    aten.bitwise_and.Tensor: _bitwise("and"),
    aten.bitwise_or.Tensor: _bitwise("or"),
    aten.bitwise_xor.Tensor: _bitwise("xor"),
    aten.bitwise_and.Scalar: _bitwise("and"),
    aten.bitwise_or.Scalar: _bitwise("or"),
    aten.bitwise_not.default: _bitwise_not,
    aten.isnan.default: _isnan,
    aten.isinf.default: _isinf,
    aten.isfinite.default: _isfinite,
    aten.isposinf.default: _infinite(1),
    aten.isneginf.default: _infinite(-1),
    aten.where.self: _where,
    aten.where.ScalarSelf: _where,
    aten.where.ScalarOther: _where,
    aten.where.Scalar: _where,
    aten.masked_fill.Scalar: _masked_fill,
    aten.masked_fill.Tensor: _masked_fill,
}
