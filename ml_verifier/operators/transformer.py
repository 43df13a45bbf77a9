"""What a transformer needs beside the rest: batched products, softmax, layer norm."""

import math

from ml_verifier.operators.arithmetic import same
from ml_verifier.operators.base import (
    TRANSCENDENTAL_MACS,
    Attributes,
    Operator,
    Types,
    WorkRule,
    expect,
    integer,
    is_f32,
    row,
)
from ml_verifier.types import TensorType, f32

ROW_MACS = 128  # folding a row's lanes and the arithmetic of its scalars
LANES = 32


def _bmm(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    ranks = {len(x.shape) for x in t}
    ok = is_f32(*t) and len(ranks) == 1 and min(ranks) >= 3
    expect(ok and t[0].shape[:-2] == t[1].shape[:-2], "a[B..., M, K], b[B..., K, N]", t)
    ta, tb = integer(a, "ta"), integer(a, "tb")
    expect({ta, tb} <= {0, 1}, "ta and tb of 0 or 1", t)
    m, k = t[0].shape[:-3:-1] if ta else t[0].shape[-2:]
    k2, n = t[1].shape[:-3:-1] if tb else t[1].shape[-2:]
    expect(k == k2, f"equal inner dimensions with ta={ta}, tb={tb}", t)
    return (f32(*t[0].shape[:-2], m, n),)


def _bmm_macs(inputs: Types, outputs: Types, a: Attributes) -> int:
    return outputs[0].size * inputs[0].shape[-2 if a["ta"] else -1]


def _softmax(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(is_f32(*t) and t[0].shape, "f32 of rank at least 1", t)
    expect(integer(a, "safe") in {0, 1}, "safe of 0 or 1", t)
    return (t[0],)


def _softmax_backward(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(all(x.shape for x in t), "rank of at least 1", t)
    return same(t, a)


def _rows(x: TensorType) -> TensorType:
    """Return the type of one value per row of x[..., C]."""
    return f32(math.prod(x.shape[:-1]))


def _layer_norm(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    ok = is_f32(*t) and t[0].shape and t[1] == t[2] == f32(*t[0].shape[-1:])
    expect(ok, "x[..., C] and two [C]", t)
    return (t[0], _rows(t[0]), _rows(t[0]))


def _layer_norm_backward(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    ok = is_f32(*t) and t[0].shape and t[0] == t[1]
    ok = ok and t[2] == f32(*t[0].shape[-1:]) and t[3] == t[4] == _rows(t[0])
    expect(ok, "g, x[..., C], w[C] and two of one value per row", t)
    return (t[1], t[2], t[2])


def _by_rows(macs: int) -> WorkRule:
    """Return the rule: ``macs`` per element of the first input, and its rows' own."""

    def rule(inputs: Types, _: Types, __: Attributes) -> int:
        return macs * inputs[0].size + ROW_MACS * _rows(inputs[0]).size

    return rule


def _lane_bytes(inputs: Types, _: Types, __: Attributes) -> int:
    """Bytes of the lanes of two sums down each column."""
    return 8 * min(LANES, _rows(inputs[0]).size) * inputs[0].shape[-1]


ROWS: tuple[Operator, ...] = (
    row(56, "bmm", 2, _bmm, _bmm_macs, (("ta", "int"), ("tb", "int"))),
    row(
        57,
        "softmax",
        1,
        _softmax,
        _by_rows(TRANSCENDENTAL_MACS),
        (("safe", "int"),),
        rounded=1,
    ),
    row(58, "softmax_backward", 2, _softmax_backward, _by_rows(4)),
    row(59, "layer_norm", 3, _layer_norm, _by_rows(4), (("eps", "float"),)),
    row(
        60,
        "layer_norm_backward",
        5,
        _layer_norm_backward,
        _by_rows(8),
        (),
        _lane_bytes,
        _lane_bytes,
    ),
)
