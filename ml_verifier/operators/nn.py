"""Softmax, losses and normalisation."""

from ml_verifier.operators.arithmetic import same, unary
from ml_verifier.operators.base import (
    MOVE,
    TRANSCENDENTAL,
    Attributes,
    Operator,
    ShapeError,
    Types,
    expect,
    integer,
    is_f32,
    per_element,
    row,
)
from ml_verifier.types import DType, TensorType, f32, i64


def _rows(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(all(x.shape for x in t), "rank of at least 1", t)
    return unary(t, a) if len(t) == 1 else same(t, a)


def _nll_loss(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    ok = len(t[0].shape) == 2 and t[1] == i64(*t[0].shape[:1])
    expect(is_f32(t[0]) and ok, "f32[B, C] and i64[B]", t)
    _check_ignored(t, a)
    return (f32(), f32())


def _nll_loss_backward(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    ok = t[0] == f32() and t[1].dtype is DType.I64 and len(t[1].shape) == 1
    ok = ok and t[2] == f32() and integer(a, "classes") > 0
    expect(ok, "f32[], i64[B], f32[] and classes > 0", t)
    _check_ignored(t, a)
    return (f32(t[1].shape[0], integer(a, "classes")),)


def _check_ignored(t: Types, a: Attributes) -> None:
    expect(integer(a, "ignore") < 2**32, "an ignored target of 32 bits", t)


def _channels(shape: tuple[int, ...]) -> TensorType:
    """Return the type of one value per channel of x[N, C, ...]."""
    if len(shape) < 2 or not all(shape):
        raise ShapeError(f"expected x[N, C, ...], got {shape}")
    return f32(shape[1])


def _batch_norm(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    channels = _channels(t[0].shape)
    ok = is_f32(*t) and all(x == channels for x in t[1:])
    expect(ok, "x[N, C, ...] and four [C]", t)
    expect(t[0].size // channels.size > 1, "more than one value per channel", t)
    return (t[0], channels, channels, channels, channels)


def _batch_norm_backward(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    channels = _channels(t[0].shape)
    ok = is_f32(*t) and t[0] == t[1] and all(x == channels for x in t[2:])
    expect(ok, "g, x[N, C, ...], three [C]", t)
    return (t[1], channels, channels)


ROWS: tuple[Operator, ...] = (
    row(16, "log_softmax", 1, _rows, TRANSCENDENTAL, rounded=1),
    row(17, "log_softmax_backward", 2, _rows, TRANSCENDENTAL, rounded=1),
    row(18, "nll_loss", 2, _nll_loss, MOVE, (("ignore", "int"),)),
    row(
        19,
        "nll_loss_backward",
        3,
        _nll_loss_backward,
        MOVE,
        (("classes", "int"), ("ignore", "int")),
    ),
    row(
        27,
        "batch_norm",
        5,
        _batch_norm,
        per_element(4),
        (("momentum", "float"), ("eps", "float")),
    ),
    row(28, "batch_norm_backward", 5, _batch_norm_backward, per_element(8)),
)
