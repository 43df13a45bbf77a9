"""The operators a program may use: codes, attributes, shape rules and costs.

One table drives the decoder, the capture and the cost model. What an operator
*computes* is written in ``docs/spec/numerics.md`` and twice in code: in
``ml_verifier/kernels`` and, independently, in ``ml_verifier/oracle``.

A shape rule receives input types and attributes and returns the output types, or
raises ``ShapeError`` with what was expected and what came.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ml_verifier.types import MAX_ELEMENTS, DType, TensorType, f32, i64

AttributeValue: TypeAlias = int | float | tuple[int, ...]
Attributes: TypeAlias = Mapping[str, AttributeValue]
AttributeKind: TypeAlias = Literal["int", "ints", "float"]
ShapeRule: TypeAlias = Callable[
    [Sequence[TensorType], Attributes], tuple[TensorType, ...]
]
WorkRule: TypeAlias = Callable[
    [Sequence[TensorType], Sequence[TensorType], Attributes], int
]

MAX_INTEGER = 2**31 - 1  # kernels index windows with 32 bits
MAX_EXTRA_PADDING = 64  # beyond an input's own extent: kernels copy padding
TAP_MACS = 20  # one element of a pooling window: walked by columns, in the worst case
TRANSCENDENTAL_MACS = 32  # one correctly rounded exp, log or tanh, in MACs of time


class ShapeError(Exception):
    """An operator was given input types or attributes it does not take."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table.

    Attributes:
        code: Its byte in a program; never reused.
        name: Its name in listings and in the kernels' ``bind``.
        arity: Number of inputs.
        attributes: Name and kind of each attribute, in encoding order.
        infer: Shape rule.
        macs: Multiply-adds of one execution, from types and attributes alone.
        scratch: Bytes a kernel needs beside its inputs and outputs.
        traffic: Bytes it moves through that scratch.
        rounded: Correctly rounded exp, log or tanh evaluated per element of its largest
            tensor; a hostile input takes the slow, exact path at each of them.
    """

    code: int
    name: str
    arity: int
    attributes: tuple[tuple[str, AttributeKind], ...]
    infer: ShapeRule
    macs: WorkRule
    scratch: WorkRule
    traffic: WorkRule
    rounded: int


def integer(attributes: Attributes, name: str) -> int:
    """Return attribute ``name`` as an int."""
    value = attributes[name]
    if not isinstance(value, int):
        raise ShapeError(f"attribute {name}: expected an integer, got {value!r}")
    return value


def integers(attributes: Attributes, name: str, count: int = -1) -> tuple[int, ...]:
    """Return attribute ``name`` as a tuple of ``count`` ints (any, if negative)."""
    value = attributes[name]
    if not isinstance(value, tuple):
        raise ShapeError(f"attribute {name}: expected a list, got {value!r}")
    if count >= 0 and len(value) != count:
        raise ShapeError(f"attribute {name}: expected {count} numbers, got {value}")
    if any(number > MAX_INTEGER for number in value):
        raise ShapeError(
            f"attribute {name}: expected at most {MAX_INTEGER}, got {value}"
        )
    return value


def _expect(ok: object, expected: str, inputs: Sequence[TensorType]) -> None:
    if not ok:
        got = ", ".join(str(t) for t in inputs)
        raise ShapeError(f"expected {expected}, got ({got})")


def _is_f32(*types: TensorType) -> bool:
    return all(t.dtype is DType.F32 for t in types)


# ── shape rules ──────────────────────────────────────────────────────────────


def broadcast_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the numpy broadcast of two shapes."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    shape: list[int] = []
    for x, y in pairs:
        if x != y and 1 not in {x, y}:
            raise ShapeError(f"expected shapes that broadcast, got {a} and {b}")
        shape.append(y if x == 1 else x)
    return tuple(shape)


def _matmul(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    _expect(
        _is_f32(*t) and len(t[0].shape) == len(t[1].shape) == 2, "two f32 matrices", t
    )
    ta, tb = integer(a, "ta"), integer(a, "tb")
    _expect({ta, tb} <= {0, 1}, "ta and tb of 0 or 1", t)
    m, k = t[0].shape[::-1] if ta else t[0].shape
    k2, n = t[1].shape[::-1] if tb else t[1].shape
    _expect(k == k2, f"equal inner dimensions with ta={ta}, tb={tb}", t)
    return (f32(m, n),)


def _binary(t: Sequence[TensorType], _: Attributes) -> tuple[TensorType, ...]:
    _expect(_is_f32(*t), "two f32 tensors", t)
    return (f32(*broadcast_shape(t[0].shape, t[1].shape)),)


def _unary(t: Sequence[TensorType], _: Attributes) -> tuple[TensorType, ...]:
    _expect(_is_f32(*t), "an f32 tensor", t)
    return (t[0],)


def _same(t: Sequence[TensorType], _: Attributes) -> tuple[TensorType, ...]:
    _expect(_is_f32(*t) and t[0].shape == t[1].shape, "two f32 tensors of one shape", t)
    return (t[0],)


def _rows(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    _expect(all(x.shape for x in t), "rank of at least 1", t)
    return _unary(t, a) if len(t) == 1 else _same(t, a)


def _sum(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    axes, shape = integers(a, "axes"), t[0].shape
    keep = integer(a, "keepdim")
    ok = _is_f32(*t) and keep in {0, 1} and sorted(set(axes)) == list(axes)
    _expect(ok and all(x < len(shape) for x in axes), f"f32 and axes {axes} of it", t)
    if keep:
        return (f32(*(1 if i in axes else n for i, n in enumerate(shape))),)
    return (f32(*(n for i, n in enumerate(shape) if i not in axes)),)


def _nll_loss(t: Sequence[TensorType], _: Attributes) -> tuple[TensorType, ...]:
    ok = len(t[0].shape) == 2 and t[1] == i64(*t[0].shape[:1])
    _expect(_is_f32(t[0]) and ok, "f32[B, C] and i64[B]", t)
    return (f32(),)


def _nll_loss_backward(
    t: Sequence[TensorType], a: Attributes
) -> tuple[TensorType, ...]:
    ok = t[0] == f32() and t[1].dtype is DType.I64 and len(t[1].shape) == 1
    _expect(ok and integer(a, "classes") > 0, "f32[], i64[B] and classes > 0", t)
    return (f32(t[1].shape[0], integer(a, "classes")),)


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over [H, W]; raises ``ShapeError`` if it never fits."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def output(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return [OH, OW] of an input whose last two dimensions are [H, W]."""
        sizes: list[int] = []
        for i, extent in enumerate(shape[-2:]):
            if not (self.kernel[i] and self.stride[i] and self.dilation[i]):
                raise ShapeError(
                    f"kernel, stride and dilation must be positive: {self}"
                )
            if self.padding[i] > extent + MAX_EXTRA_PADDING:
                raise ShapeError(
                    f"expected padding of at most {extent + MAX_EXTRA_PADDING}: {self}"
                )
            span = self.dilation[i] * (self.kernel[i] - 1) + 1
            size = (extent + 2 * self.padding[i] - span) // self.stride[i] + 1
            if size <= 0:
                raise ShapeError(f"window {self} does not fit into {shape}")
            sizes.append(size)
        return sizes[0], sizes[1]


def _window(a: Attributes, kernel: tuple[int, ...] | None = None) -> Window:
    return Window(
        kernel=integers(a, "kernel", 2) if kernel is None else kernel,
        stride=integers(a, "stride", 2),
        padding=integers(a, "padding", 2),
        dilation=integers(a, "dilation", 2) if "dilation" in a else (1, 1),
    )


def _conv_output(
    x: tuple[int, ...], w: tuple[int, ...], a: Attributes
) -> tuple[int, ...]:
    groups = integer(a, "groups")
    fits = len(x) == len(w) == 4 and groups > 0 and all(x) and all(w)
    if not (fits and w[0] % groups == 0 and x[1] == w[1] * groups):
        raise ShapeError(
            f"expected x[N, C, H, W] and w[O, C/groups, kh, kw] with groups={groups}, "
            f"got {x} and {w}"
        )
    return (x[0], w[0], *_window(a, w[2:]).output(x))


def _conv2d(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    _expect(_is_f32(*t), "f32 x and w", t)
    return (f32(*_conv_output(t[0].shape, t[1].shape, a)),)


def _conv2d_backward_input(
    t: Sequence[TensorType], a: Attributes
) -> tuple[TensorType, ...]:
    shape = integers(a, "input_shape", 4)
    expected = _conv_output(shape, t[1].shape, a)
    _expect(_is_f32(*t) and t[0].shape == expected, f"g of shape {expected}", t)
    return (f32(*shape),)


def _conv2d_backward_weight(
    t: Sequence[TensorType], a: Attributes
) -> tuple[TensorType, ...]:
    shape = integers(a, "weight_shape", 4)
    expected = _conv_output(t[1].shape, shape, a)
    _expect(_is_f32(*t) and t[0].shape == expected, f"g of shape {expected}", t)
    return (f32(*shape),)


def _pool_output(x: tuple[int, ...], a: Attributes) -> tuple[int, ...]:
    window = _window(a)
    if len(x) != 4:
        raise ShapeError(f"expected x[N, C, H, W], got {x}")
    for kernel, padding in zip(window.kernel, window.padding, strict=True):
        if 2 * padding > kernel:
            raise ShapeError(f"padding {padding} exceeds half the kernel {kernel}")
    return (*x[:2], *window.output(x))


def _max_pool2d(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    _expect(_is_f32(*t), "f32 x", t)
    shape = _pool_output(t[0].shape, a)
    return (f32(*shape), i64(*shape))


def _max_pool2d_backward(
    t: Sequence[TensorType], a: Attributes
) -> tuple[TensorType, ...]:
    shape = integers(a, "input_shape", 4)
    ok = _is_f32(t[0]) and t[1] == i64(*t[0].shape) and len(t[0].shape) == 4
    _expect(
        ok and t[0].shape[:2] == shape[:2], f"f32 g and i64 indices into {shape}", t
    )
    return (f32(*shape),)


def _avg_pool2d(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    _expect(_is_f32(*t) and integer(a, "count_include_pad") in {0, 1}, "f32 x", t)
    return (f32(*_pool_output(t[0].shape, a)),)


def _avg_pool2d_backward(
    t: Sequence[TensorType], a: Attributes
) -> tuple[TensorType, ...]:
    shape = integers(a, "input_shape", 4)
    ok = _is_f32(*t) and integer(a, "count_include_pad") in {0, 1}
    _expect(ok and t[0].shape == _pool_output(shape, a), f"g pooled from {shape}", t)
    return (f32(*shape),)


def _channels(shape: tuple[int, ...]) -> TensorType:
    """Return the type of one value per channel of x[N, C, ...]."""
    if len(shape) < 2 or not all(shape):
        raise ShapeError(f"expected x[N, C, ...], got {shape}")
    return f32(shape[1])


def _batch_norm(t: Sequence[TensorType], _: Attributes) -> tuple[TensorType, ...]:
    channels = _channels(t[0].shape)
    ok = _is_f32(*t) and all(x == channels for x in t[1:])
    _expect(ok, "x[N, C, ...] and four [C]", t)
    _expect(t[0].size // channels.size > 1, "more than one value per channel", t)
    return (t[0], channels, channels, channels, channels)


def _batch_norm_backward(
    t: Sequence[TensorType], _: Attributes
) -> tuple[TensorType, ...]:
    channels = _channels(t[0].shape)
    ok = _is_f32(*t) and t[0] == t[1] and all(x == channels for x in t[2:])
    _expect(ok, "g, x[N, C, ...], three [C]", t)
    return (t[1], channels, channels)


def _sgd(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    _expect(_is_f32(*t) and t[0] == t[1] == t[2], "p, g, m of one shape", t)
    _expect(integer(a, "nesterov") in {0, 1}, "nesterov of 0 or 1", t)
    return (t[0], t[0])


def _adamw(t: Sequence[TensorType], _: Attributes) -> tuple[TensorType, ...]:
    ok = t[0] == t[1] == t[2] == t[3] and t[4] == t[5] == f32()
    _expect(_is_f32(*t) and ok, "p, g, m, v of one shape and two scalars", t)
    return (t[0], t[0], t[0])


def _correction(t: Sequence[TensorType], _: Attributes) -> tuple[TensorType, ...]:
    _expect(t[0] == f32(), "an f32 scalar", t)
    return (f32(),)


def _reshape(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    shape = integers(a, "shape")
    _expect(math.prod(shape) == t[0].size, f"as many elements as {shape}", t)
    return (TensorType(t[0].dtype, shape),)


def _transpose(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    order = integers(a, "permutation")
    _expect(sorted(order) == list(range(len(t[0].shape))), f"rank for {order}", t)
    return (TensorType(t[0].dtype, tuple(t[0].shape[i] for i in order)),)


def _broadcast(t: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    shape = integers(a, "shape")
    _expect(
        broadcast_shape(t[0].shape, shape) == shape, f"a shape that fits {shape}", t
    )
    return (TensorType(t[0].dtype, shape),)


def _constant(_: Sequence[TensorType], a: Attributes) -> tuple[TensorType, ...]:
    return (f32(*integers(a, "shape")),)


# ── work and scratch ─────────────────────────────────────────────────────────


def _nothing(_i: Sequence[TensorType], _o: Sequence[TensorType], _: Attributes) -> int:
    return 0


def _per_element(macs: int) -> WorkRule:
    def rule(
        inputs: Sequence[TensorType], outputs: Sequence[TensorType], _: Attributes
    ) -> int:
        return macs * max(t.size for t in (*inputs, *outputs))

    return rule


def _matmul_macs(
    inputs: Sequence[TensorType], outputs: Sequence[TensorType], a: Attributes
) -> int:
    return outputs[0].size * inputs[0].shape[0 if a["ta"] else 1]


def _conv(
    pick: Callable[[Sequence[TensorType], Sequence[TensorType]], Sequence[TensorType]],
) -> tuple[WorkRule, WorkRule, WorkRule]:
    """Return MACs, scratch and traffic of a convolution; ``pick`` finds (x, w, y)."""

    def macs(
        inputs: Sequence[TensorType], outputs: Sequence[TensorType], _: Attributes
    ) -> int:
        _x, w, y = pick(inputs, outputs)
        return y.size * math.prod(w.shape[1:])

    def scratch(
        inputs: Sequence[TensorType], outputs: Sequence[TensorType], a: Attributes
    ) -> int:
        """Bytes of one sample's columns, planes and gradients, and a transposed g."""
        _x, w, y = pick(inputs, outputs)
        sample = traffic(inputs, outputs, a) // y.shape[0]
        return sample + 4 * (w.size + 4 * y.size // y.shape[0] + y.size)

    def traffic(
        inputs: Sequence[TensorType], outputs: Sequence[TensorType], a: Attributes
    ) -> int:
        """Bytes of all samples' columns [C * kh * kw, L] and padded planes of x."""
        x, w, y = pick(inputs, outputs)
        columns = integer(a, "groups") * math.prod((*w.shape[1:], *y.shape[2:]))
        height, width = (
            extent + 2 * padding
            for extent, padding in zip(
                x.shape[2:], integers(a, "padding", 2), strict=True
            )
        )
        return 4 * y.shape[0] * (columns + x.shape[1] * height * width)

    return macs, scratch, traffic


def _pool_macs(
    inputs: Sequence[TensorType], outputs: Sequence[TensorType], a: Attributes
) -> int:
    pooled = min(inputs[0].size, outputs[0].size)
    taps = pooled * math.prod(integers(a, "kernel", 2))
    return TAP_MACS * taps + outputs[0].size


_MOVE = _per_element(1)
_CONV = _conv(lambda i, o: (i[0], i[1], o[0]))
_CONV_INPUT = _conv(lambda i, o: (o[0], i[1], i[0]))
_CONV_WEIGHT = _conv(lambda i, o: (i[1], o[0], i[0]))
_TRANSCENDENTAL = _per_element(TRANSCENDENTAL_MACS)
_GEOMETRY: tuple[tuple[str, AttributeKind], ...] = (
    ("stride", "ints"),
    ("padding", "ints"),
    ("dilation", "ints"),
)
_CONV_ATTRIBUTES: tuple[tuple[str, AttributeKind], ...] = (
    *_GEOMETRY,
    ("groups", "int"),
)
_INPUT_SHAPE: tuple[tuple[str, AttributeKind], ...] = (("input_shape", "ints"),)
_AVG: tuple[tuple[str, AttributeKind], ...] = (
    ("kernel", "ints"),
    ("stride", "ints"),
    ("padding", "ints"),
    ("count_include_pad", "int"),
)
_SHAPE: tuple[tuple[str, AttributeKind], ...] = (("shape", "ints"),)


def _row(  # noqa: PLR0913 - a table row has this many columns
    code: int,
    name: str,
    arity: int,
    infer: ShapeRule,
    macs: WorkRule = _MOVE,
    attributes: tuple[tuple[str, AttributeKind], ...] = (),
    scratch: WorkRule = _nothing,
    traffic: WorkRule = _nothing,
    *,
    rounded: int = 0,
) -> Operator:
    rules = (infer, macs, scratch, traffic)
    return Operator(code, name, arity, attributes, *rules, rounded)


_TABLE = (
    _row(1, "matmul", 2, _matmul, _matmul_macs, (("ta", "int"), ("tb", "int"))),
    _row(2, "add", 2, _binary),
    _row(3, "sub", 2, _binary),
    _row(4, "mul", 2, _binary),
    _row(5, "div", 2, _binary),
    _row(6, "relu", 1, _unary),
    _row(7, "relu_backward", 2, _same),
    _row(8, "exp", 1, _unary, _TRANSCENDENTAL, rounded=1),
    _row(9, "log", 1, _unary, _TRANSCENDENTAL, rounded=1),
    _row(10, "tanh", 1, _unary, _TRANSCENDENTAL, rounded=1),
    _row(11, "sigmoid", 1, _unary, _TRANSCENDENTAL, rounded=1),
    _row(12, "sqrt", 1, _unary, _per_element(4)),
    _row(13, "tanh_backward", 2, _same),
    _row(14, "sigmoid_backward", 2, _same),
    _row(15, "sum", 1, _sum, _MOVE, (("axes", "ints"), ("keepdim", "int"))),
    _row(16, "log_softmax", 1, _rows, _TRANSCENDENTAL, rounded=1),
    _row(17, "log_softmax_backward", 2, _rows, _TRANSCENDENTAL, rounded=1),
    _row(18, "nll_loss", 2, _nll_loss),
    _row(19, "nll_loss_backward", 2, _nll_loss_backward, _MOVE, (("classes", "int"),)),
    _row(20, "conv2d", 2, _conv2d, _CONV[0], _CONV_ATTRIBUTES, *_CONV[1:]),
    _row(
        21,
        "conv2d_backward_input",
        2,
        _conv2d_backward_input,
        _CONV_INPUT[0],
        _INPUT_SHAPE + _CONV_ATTRIBUTES,
        *_CONV_INPUT[1:],
    ),
    _row(
        22,
        "conv2d_backward_weight",
        2,
        _conv2d_backward_weight,
        _CONV_WEIGHT[0],
        (("weight_shape", "ints"), *_CONV_ATTRIBUTES),
        *_CONV_WEIGHT[1:],
    ),
    _row(
        23, "max_pool2d", 1, _max_pool2d, _pool_macs, (("kernel", "ints"), *_GEOMETRY)
    ),
    _row(24, "max_pool2d_backward", 2, _max_pool2d_backward, _MOVE, _INPUT_SHAPE),
    _row(25, "avg_pool2d", 1, _avg_pool2d, _pool_macs, _AVG),
    _row(
        26,
        "avg_pool2d_backward",
        1,
        _avg_pool2d_backward,
        _pool_macs,
        _INPUT_SHAPE + _AVG,
    ),
    _row(
        27,
        "batch_norm",
        5,
        _batch_norm,
        _per_element(4),
        (("momentum", "float"), ("eps", "float")),
    ),
    _row(28, "batch_norm_backward", 5, _batch_norm_backward, _per_element(8)),
    _row(
        29,
        "sgd",
        3,
        _sgd,
        _per_element(4),
        (
            ("lr", "float"),
            ("momentum", "float"),
            ("weight_decay", "float"),
            ("nesterov", "int"),
        ),
    ),
    _row(
        30,
        "adamw",
        6,
        _adamw,
        _per_element(16),
        (
            ("lr", "float"),
            ("beta1", "float"),
            ("beta2", "float"),
            ("eps", "float"),
            ("weight_decay", "float"),
        ),
    ),
    _row(31, "correction", 1, _correction, _MOVE, (("beta", "float"),)),
    _row(32, "reshape", 1, _reshape, _MOVE, _SHAPE),
    _row(33, "transpose", 1, _transpose, _per_element(4), (("permutation", "ints"),)),
    _row(34, "broadcast", 1, _broadcast, _MOVE, _SHAPE),
    _row(35, "constant", 0, _constant, _MOVE, (*_SHAPE, ("value", "float"))),
)

BY_CODE: Mapping[int, Operator] = {row.code: row for row in _TABLE}
BY_NAME: Mapping[str, Operator] = {row.name: row for row in _TABLE}


def infer(
    operator: Operator, inputs: Sequence[TensorType], attributes: Attributes
) -> tuple[TensorType, ...]:
    """Return the output types of one node.

    Raises:
        ShapeError: The operator does not take these inputs or attributes, or an
            output would exceed ``MAX_ELEMENTS``.
    """
    if len(inputs) != operator.arity:
        raise ShapeError(f"expected {operator.arity} inputs, got {len(inputs)}")
    outputs = operator.infer(inputs, attributes)
    for output in outputs:
        if not 0 < output.size <= MAX_ELEMENTS:
            raise ShapeError(f"expected 1..{MAX_ELEMENTS} elements, got {output}")
    if operator.scratch(inputs, outputs, attributes) > 4 * MAX_ELEMENTS:
        raise ShapeError(f"needs more than {4 * MAX_ELEMENTS} bytes of scratch")
    return outputs
