# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Tensors made of numbers, and changes of element type."""

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Held, Operand, Tensor, Value
from ml_verifier.capture.rules.arithmetic import combined
from ml_verifier.types import DType

aten = torch.ops.aten
prims = torch.ops.prims


def _filled(value: float | None = None) -> Rule:
    """Return the rule of a tensor of ``value``, or of what the call says."""

    def rule(low: Lowering, call: Call) -> Operand:
        fill = value
        if fill is None:
            name = "s" if "s" in call.arguments else "fill_value"
            fill = call[name]
        blank = low.filled(0, DType.F32, call.shape)
        kinds = {DType.I64: int, DType.BOOL: bool}
        fill = kinds.get(call.dtype, float)(fill)
        return low.filled(fill, call.dtype, blank.type.shape)

    return rule


def _fill(low: Lowering, call: Call) -> Operand:
    value = low.cast(call["value"], call.dtype)
    return low.broadcast(value, call.shape)


def _copy(low: Lowering, call: Call) -> Operand:
    return low.broadcast(low.cast(call["src"], call.dtype), call.shape)


def counted(
    low: Lowering, size: int, start: float, step: float, dtype: DType
) -> Tensor:
    """Return start, start + step, ... of ``size`` elements."""
    steps: Tensor = Value(low.builder.add("iota", size=size))
    kind = dtype if dtype is DType.I64 else DType.F32
    if step != 1:
        steps = combined(low, "mul", steps, step, kind)
    if start:
        steps = combined(low, "add", steps, start, kind)
    return low.cast(steps, dtype)


def _arange(low: Lowering, call: Call) -> Operand:
    start, step = call.arguments.get("start", 0), call.arguments.get("step", 1)
    return counted(low, call.shape[0], start, step, call.dtype)


def _iota(low: Lowering, call: Call) -> Operand:
    return counted(low, call["length"], call["start"], call["step"], call.dtype)


def _to_copy(low: Lowering, call: Call) -> Operand:
    return low.cast(call["self"], call.dtype)


def _same(_: Lowering, call: Call) -> Operand:
    operand: Operand = call["self"]
    return operand


def _convert(low: Lowering, call: Call) -> Operand:
    return low.cast(call["a"], call.dtype)


def _held(_: Lowering, call: Call) -> Operand:
    operand: Operand = call["self"]
    return Held(operand.tensor.clone()) if isinstance(operand, Held) else operand


RULES: Rules = {
    aten.full.default: _filled(),
    aten.full_like.default: _filled(),
    aten.new_full.default: _filled(),
    aten.scalar_tensor.default: _filled(),
    aten.zeros.default: _filled(0),
    aten.zeros_like.default: _filled(0),
    aten.new_zeros.default: _filled(0),
    aten.ones.default: _filled(1),
    aten.ones_like.default: _filled(1),
    aten.new_ones.default: _filled(1),
    aten.empty.memory_format: _filled(0),
    aten.empty_like.default: _filled(0),
    aten.new_empty.default: _filled(0),
    aten.new_empty_strided.default: _filled(0),
    aten.empty_strided.default: _filled(0),
    aten.fill.Scalar: _fill,
    aten.fill.Tensor: _fill,
    aten.copy.default: _copy,
    aten.arange.default: _arange,
    aten.arange.start: _arange,
    aten.arange.start_step: _arange,
    prims.iota.default: _iota,
    prims.convert_element_type.default: _convert,
    aten._to_copy.default: _to_copy,
    aten.clone.default: _same,
    aten.detach.default: _same,
    aten.alias.default: _same,
    aten.lift_fresh_copy.default: _held,
    aten.contiguous.default: _same,
}
