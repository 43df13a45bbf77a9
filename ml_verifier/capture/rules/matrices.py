# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Products of matrices; transposed operands are read as they lie."""

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rules
from ml_verifier.capture.operands import Operand, Tensor, Value
from ml_verifier.capture.rules.arithmetic import combined, floats
from ml_verifier.types import DType

aten = torch.ops.aten


def product(low: Lowering, left: Operand, right: Operand) -> Tensor:
    """Return left @ right of two matrices, or of two equal stacks of matrices."""
    left, right = floats(low, left), floats(low, right)
    flags = [int(isinstance(x, Value) and x.transposed) for x in (left, right)]
    plain = [Value(x.number) if isinstance(x, Value) else x for x in (left, right)]
    name = "matmul" if low.rank(left) == 2 else "bmm"
    return low.add(name, *plain, ta=flags[0], tb=flags[1])


def _mm(low: Lowering, call: Call) -> Operand:
    return product(low, call["self"], call["mat2"])


def _with(low: Lowering, call: Call, found: Tensor) -> Operand:
    """Return beta * self + alpha * found."""
    if call["alpha"] != 1:
        found = combined(low, "mul", found, float(call["alpha"]), DType.F32)
    if call["beta"] == 0:
        return found
    added = call["self"]
    if call["beta"] != 1:
        added = combined(low, "mul", added, float(call["beta"]), DType.F32)
    return low.add("add", found, floats(low, added))


def _addmm(low: Lowering, call: Call) -> Operand:
    return _with(low, call, product(low, call["mat1"], call["mat2"]))


def _baddbmm(low: Lowering, call: Call) -> Operand:
    return _with(low, call, product(low, call["batch1"], call["batch2"]))


def _mv(low: Lowering, call: Call) -> Operand:
    column = low.reshape(call["vec"], (-1, 1))
    return low.reshape(product(low, call["self"], column), call.shape)


def _dot(low: Lowering, call: Call) -> Operand:
    row = low.reshape(call["self"], (1, -1))
    column = low.reshape(call["tensor"], (-1, 1))
    return low.reshape(product(low, row, column), ())


RULES: Rules = {
    aten.mm.default: _mm,
    aten.bmm.default: _mm,
    aten.addmm.default: _addmm,
    aten.baddbmm.default: _baddbmm,
    aten.mv.default: _mv,
    aten.dot.default: _dot,
}
