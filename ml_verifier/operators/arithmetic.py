"""Matrix products, elementwise arithmetic and sums."""

from ml_verifier.operators.base import (
    MOVE,
    TRANSCENDENTAL,
    Attributes,
    Operator,
    Types,
    broadcast_shape,
    expect,
    integer,
    integers,
    is_f32,
    per_element,
    row,
)
from ml_verifier.types import TensorType, f32


def _matmul(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(
        is_f32(*t) and len(t[0].shape) == len(t[1].shape) == 2, "two f32 matrices", t
    )
    ta, tb = integer(a, "ta"), integer(a, "tb")
    expect({ta, tb} <= {0, 1}, "ta and tb of 0 or 1", t)
    m, k = t[0].shape[::-1] if ta else t[0].shape
    k2, n = t[1].shape[::-1] if tb else t[1].shape
    expect(k == k2, f"equal inner dimensions with ta={ta}, tb={tb}", t)
    return (f32(m, n),)


def _matmul_macs(inputs: Types, outputs: Types, a: Attributes) -> int:
    return outputs[0].size * inputs[0].shape[0 if a["ta"] else 1]


def binary(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    """Two f32 tensors that broadcast."""
    expect(is_f32(*t), "two f32 tensors", t)
    return (f32(*broadcast_shape(t[0].shape, t[1].shape)),)


def unary(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    """One f32 tensor, unchanged in shape."""
    expect(is_f32(*t), "an f32 tensor", t)
    return (t[0],)


def same(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    """Two f32 tensors of one shape."""
    expect(is_f32(*t) and t[0].shape == t[1].shape, "two f32 tensors of one shape", t)
    return (t[0],)


def _sum(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    axes, shape = integers(a, "axes"), t[0].shape
    keep = integer(a, "keepdim")
    ok = is_f32(*t) and keep in {0, 1} and sorted(set(axes)) == list(axes)
    expect(ok and all(x < len(shape) for x in axes), f"f32 and axes {axes} of it", t)
    if keep:
        return (f32(*(1 if i in axes else n for i, n in enumerate(shape))),)
    return (f32(*(n for i, n in enumerate(shape) if i not in axes)),)


ROWS: tuple[Operator, ...] = (
    row(1, "matmul", 2, _matmul, _matmul_macs, (("ta", "int"), ("tb", "int"))),
    row(2, "add", 2, binary),
    row(3, "sub", 2, binary),
    row(4, "mul", 2, binary),
    row(5, "div", 2, binary),
    row(6, "relu", 1, unary),
    row(7, "relu_backward", 2, same),
    row(8, "exp", 1, unary, TRANSCENDENTAL, rounded=1),
    row(9, "log", 1, unary, TRANSCENDENTAL, rounded=1),
    row(10, "tanh", 1, unary, TRANSCENDENTAL, rounded=1),
    row(11, "sigmoid", 1, unary, TRANSCENDENTAL, rounded=1),
    row(12, "sqrt", 1, unary, per_element(4)),
    row(13, "tanh_backward", 2, same),
    row(14, "sigmoid_backward", 2, same),
    row(15, "sum", 1, _sum, MOVE, (("axes", "ints"), ("keepdim", "int"))),
)
