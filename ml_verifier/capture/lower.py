# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Lowering of an aten graph to the operators of ``ml_verifier.operators``.

A table maps each aten operator to a rule. A rule that meets an option it cannot express
raises ``Unsupported``; the walk goes on, so that every problem is reported at once.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from ml_verifier.capture.builder import Builder
from ml_verifier.capture.source import BACKWARD, location
from ml_verifier.capture.trace import Traced
from ml_verifier.operators import AttributeValue, ShapeError

aten = torch.ops.aten


class Unsupported(Exception):
    """A call has no reproducible operator; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the program, or its transpose that no node has computed yet."""

    number: int
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What the traced step yields, as value numbers."""

    loss: int
    gradients: Mapping[str, int]
    buffers: Mapping[str, int]


Operand: TypeAlias = Value | tuple[Value | None, ...] | float | int | None
Rule: TypeAlias = Callable[["Lowering", Node, Sequence[Any]], Operand]


class Lowering:
    """One walk over a traced graph."""

    def __init__(self, builder: Builder, slots: Mapping[str, int]) -> None:
        self.builder = builder
        self.problems: list[str] = []
        self.values: dict[Node, Operand] = {}
        self._slots = slots

    def run(self, traced: Traced, fields: Sequence[int]) -> Result:
        """Lower every call; problems are collected, not raised.

        Args:
            traced: The graph.
            fields: The values that take the places of the sample's tensors.
        """
        placeholders = [n for n in traced.graph.nodes if n.op == "placeholder"]
        names = iter(traced.inputs)
        for node, number in zip(
            placeholders,
            [*(self._slots.get(n) for n in names), *fields],
            strict=True,
        ):
            self.values[node] = None if number is None else Value(number)
        outputs: Sequence[Any] = ()
        for node in traced.graph.nodes:
            if node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "get_attr":
                self.values[node] = None
                self._problem(node, f"constant tensor {node.target}: not supported yet")
            elif node.op == "output":
                outputs = node.args[0]
        forward = [p for p in self.problems if BACKWARD not in p]
        self.problems = forward or self.problems
        if self.problems:
            return Result(0, {}, {})
        trained = len(traced.trained)
        return Result(
            loss=self.number(next(iter(outputs))),
            gradients=dict(
                zip(
                    traced.trained,
                    (self.number(n) for n in outputs[1 : 1 + trained]),
                    strict=True,
                )
            ),
            buffers={
                name: self.number(node)
                for name, node in zip(
                    traced.buffers, outputs[1 + trained :], strict=True
                )
                if name in self._slots
            },
        )

    def _call(self, node: Node) -> Operand:
        arguments = [
            self.values.get(a) if isinstance(a, Node) else a for a in node.args
        ]
        rule = RULES.get(node.target)
        if rule is None:
            self._problem(node, f"{node.target}: no reproducible kernel yet")
            return None
        if any(a is None for a in self._tensor_arguments(node)):
            return None  # an operand is a batch counter or was reported already
        try:
            return rule(self, node, arguments)
        except (Unsupported, ShapeError) as error:
            self._problem(node, f"{node.target}: {error}")
            return None

    def _tensor_arguments(self, node: Node) -> list[Operand]:
        if node.target is aten.native_batch_norm_backward.default:
            return [self.values[a] for a in node.args[:2] if isinstance(a, Node)]
        return [self.values[a] for a in node.args if isinstance(a, Node)]

    def _problem(self, node: Node, text: str) -> None:
        line = f"{text} ({location(node)})"
        if line not in self.problems:
            self.problems.append(line)

    # ── helpers of the rules ────────────────────────────────────────────────

    def number(self, operand: object) -> int:
        """Return an operand as a value number; computes a pending transpose."""
        value = self.values[operand] if isinstance(operand, Node) else operand
        if isinstance(value, (int, float)):
            return self.builder.constant(value)
        if not isinstance(value, Value):
            raise Unsupported(f"expected one tensor, got {value!r}")
        if value.transposed:
            return self.builder.add("transpose", value.number, permutation=(1, 0))
        return value.number

    def shape(self, operand: object) -> tuple[int, ...]:
        """Return an operand's shape."""
        if isinstance(operand, Value):
            shape = self.builder.types[operand.number].shape
            return shape[::-1] if operand.transposed else shape
        return ()

    def add(self, name: str, *operands: object, **attributes: AttributeValue) -> Value:
        """Append a node over operands; return its first output."""
        inputs = (self.number(operand) for operand in operands)
        return Value(self.builder.add(name, *inputs, **attributes))

    def reshape(self, operand: object, shape: Sequence[int]) -> Value:
        """View an operand in another shape; -1 is derived."""
        known = tuple(int(n) for n in shape)
        if -1 in known:
            rest = -math.prod(known)
            size = math.prod(self.shape(operand))
            known = tuple(size // rest if n == -1 else n for n in known)
        if self.shape(operand) == known:
            return Value(self.number(operand))
        return self.add("reshape", operand, shape=known)


def output_shape(node: Node) -> tuple[int, ...]:
    """Return the shape that torch says a call yields."""
    return tuple(node.meta["val"].shape)


def argument(arguments: Sequence[Any], index: int, default: object = None) -> Any:  # noqa: ANN401 - whatever the schema has
    """Return a positional argument or its default, as the aten schema has it."""
    return arguments[index] if index < len(arguments) else default


# ── rules: arithmetic ────────────────────────────────────────────────────────


def _elementwise(name: str) -> Rule:
    def rule(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
        return low.add(name, *a)

    return rule


def _scaled(name: str) -> Rule:
    """Add or subtract with torch's ``alpha``."""

    def rule(low: Lowering, node: Node, a: Sequence[Any]) -> Operand:
        alpha = node.kwargs.get("alpha", argument(a, 2, 1))
        other = a[1] if alpha == 1 else low.add("mul", a[1], alpha)
        return low.add(name, a[0], other)

    return rule


def _neg(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    return low.add("mul", a[0], -1.0)


def _square(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    if a[1] != 2:
        raise Unsupported(f"exponent {a[1]}: only 2 so far; write it as products")
    return low.add("mul", a[0], a[0])


def _axes(low: Lowering, a: Sequence[Any]) -> tuple[int, ...]:
    rank = len(low.shape(a[0]))
    axes = argument(a, 1) or range(rank)
    return tuple(sorted(axis % rank for axis in axes))


def _sum(low: Lowering, _: Node, a: Sequence[Any]) -> Value:
    axes = _axes(low, a)
    if not axes:
        return Value(low.number(a[0]))
    return low.add("sum", a[0], axes=axes, keepdim=int(argument(a, 2, 0)))


def _mean(low: Lowering, node: Node, a: Sequence[Any]) -> Operand:
    count = math.prod(low.shape(a[0])[axis] for axis in _axes(low, a))
    return low.add("div", _sum(low, node, a), float(count))


def _threshold_backward(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    if a[2] != 0:
        raise Unsupported(f"threshold {a[2]}: only ReLU")
    return low.add("relu_backward", a[0], a[1])


def _mse(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    _mean_only(argument(a, 2, 1))
    difference = low.add("sub", a[0], a[1])
    squares = low.add("mul", difference, difference)
    rank, size = len(low.shape(squares)), math.prod(low.shape(squares))
    total = low.add("sum", squares, axes=tuple(range(rank)), keepdim=0)
    return low.add("div", total, float(size))


def _mse_backward(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    _mean_only(a[3])
    difference = low.add("sub", a[1], a[2])
    scale = low.add("mul", a[0], 2.0 / math.prod(low.shape(difference)))
    return low.add("mul", difference, scale)


def _mean_only(reduction: int) -> None:
    if reduction != 1:
        raise Unsupported('use reduction="mean"')


# ── rules: matrices ──────────────────────────────────────────────────────────


def _mm(low: Lowering, _: Node, a: Sequence[Any]) -> Value:
    left, right = a[0], a[1]
    return Value(
        low.builder.add(
            "matmul",
            left.number,
            right.number,
            ta=int(left.transposed),
            tb=int(right.transposed),
        )
    )


def _addmm(low: Lowering, node: Node, a: Sequence[Any]) -> Operand:
    if node.kwargs:
        raise Unsupported("beta and alpha other than 1: scale the operands yourself")
    return low.add("add", _mm(low, node, a[1:]), a[0])


def _t(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    if len(low.shape(a[0])) < 2:
        return Value(low.number(a[0]))
    return Value(a[0].number, not a[0].transposed)


def _transpose(low: Lowering, node: Node, a: Sequence[Any]) -> Operand:
    rank = len(low.shape(a[0]))
    order = list(range(rank))
    first, second = a[1] % rank, a[2] % rank
    order[first], order[second] = second, first
    return _t(low, node, a) if rank == 2 else _permuted(low, a[0], order)


def _permute(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    return _permuted(low, a[0], [axis % len(a[1]) for axis in a[1]])


def _permuted(low: Lowering, operand: object, order: Sequence[int]) -> Value:
    return low.add("transpose", operand, permutation=tuple(order))


# ── rules: movement ──────────────────────────────────────────────────────────


def _same(_: Lowering, __: Node, a: Sequence[Any]) -> Operand:
    value: Operand = a[0]
    return value


def _view(low: Lowering, node: Node, a: Sequence[Any]) -> Operand:
    return low.reshape(a[0], output_shape(node))


def _expand(low: Lowering, node: Node, a: Sequence[Any]) -> Operand:
    shape = output_shape(node)
    if shape == low.shape(a[0]):
        operand: Operand = a[0]
        return operand
    return low.add("broadcast", a[0], shape=shape)


def _filled(value: float | None) -> Rule:
    def rule(low: Lowering, node: Node, a: Sequence[Any]) -> Operand:
        if node.meta["val"].dtype is not torch.float32:
            raise Unsupported(f"constant of {node.meta['val'].dtype}: use float32")
        fill = a[-1] if value is None else value
        return Value(low.builder.constant(float(fill), output_shape(node)))

    return rule


def _getitem(_: Lowering, __: Node, a: Sequence[Any]) -> Operand:
    outputs, index = a
    value: Operand = outputs[index]
    return value


# ── rules: classification loss ───────────────────────────────────────────────


def _log_softmax(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    _last_axis(low, a[0], a[1])
    return low.add("log_softmax", a[0])


def _log_softmax_backward(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    _last_axis(low, a[1], a[2])
    return low.add("log_softmax_backward", a[0], a[1])


def _last_axis(low: Lowering, operand: object, axis: int) -> None:
    if axis % len(low.shape(operand)) != len(low.shape(operand)) - 1:
        raise Unsupported(f"dim={axis}: move the classes to the last dimension")


def _nll_loss(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    _plain_nll(a[2], a[3])
    loss = low.add("nll_loss", a[0], a[1], ignore=_ignored(a[4]))
    return loss, Value(loss.number + 1)


def _ignored(target: int) -> int:
    """A target as the attribute holds it: 32 bits in two's complement."""
    return target % 2**32


def _nll_loss_backward(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    _plain_nll(a[3], a[4])
    return low.add(
        "nll_loss_backward",
        *(a[0], a[2], a[6]),
        classes=low.shape(a[1])[1],
        ignore=_ignored(a[5]),
    )


def _plain_nll(weight: object, reduction: int) -> None:
    if weight is not None:
        raise Unsupported("class weights: leave weight unset")
    _mean_only(reduction)


# ── rules: convolution, pooling, normalisation ───────────────────────────────


def _conv_attributes(a: Sequence[Any]) -> dict[str, Any]:
    """Read (stride, padding, dilation, transposed, output padding, groups)."""
    stride, padding, dilation, transposed, output_padding, groups = a
    if transposed or any(output_padding) or len(stride) != 2:
        raise Unsupported("only ordinary 2-D convolution so far")
    return {
        "stride": tuple(stride),
        "padding": tuple(padding),
        "dilation": tuple(dilation),
        "groups": groups,
    }


def _convolution(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    y = low.add("conv2d", a[0], a[1], **_conv_attributes(a[3:9]))
    if a[2] is None:
        return y
    bias = low.reshape(a[2], (low.shape(a[2])[0], 1, 1))
    return low.add("add", y, bias)


def _convolution_backward(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    g, x, w = a[0], a[1], a[2]
    attributes = _conv_attributes(a[4:10])
    needs_input, needs_weight, needs_bias = a[10]
    return (
        low.add("conv2d_backward_input", g, w, input_shape=low.shape(x), **attributes)
        if needs_input
        else None,
        low.add("conv2d_backward_weight", g, x, weight_shape=low.shape(w), **attributes)
        if needs_weight
        else None,
        low.add("sum", g, axes=(0, 2, 3), keepdim=0) if needs_bias else None,
    )


def _pool_attributes(a: Sequence[Any]) -> dict[str, Any]:
    """Read (kernel, stride, padding); an empty stride means the kernel."""
    kernel = tuple(a[0])
    return {
        "kernel": kernel,
        "stride": tuple(argument(a, 1) or kernel),
        "padding": tuple(argument(a, 2) or (0, 0)),
    }


def _max_pool(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    if argument(a, 5, 0):
        raise Unsupported("ceil_mode=True: pad the input instead")
    dilation = tuple(argument(a, 4) or (1, 1))
    first = low.add("max_pool2d", a[0], dilation=dilation, **_pool_attributes(a[1:4]))
    return first, Value(first.number + 1)


def _max_pool_backward(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    return low.add("max_pool2d_backward", a[0], a[7], input_shape=low.shape(a[1]))


def _avg_attributes(a: Sequence[Any]) -> dict[str, Any]:
    """Read (kernel, stride, padding, ceil mode, include padding, divisor)."""
    if argument(a, 3, 0) or argument(a, 5) is not None:
        raise Unsupported("ceil_mode and divisor_override: leave them unset")
    return {
        **_pool_attributes(a),
        "count_include_pad": int(argument(a, 4, 1)),
    }


def _avg_pool(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    return low.add("avg_pool2d", a[0], **_avg_attributes(a[1:]))


def _avg_pool_backward(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    return low.add(
        "avg_pool2d_backward",
        a[0],
        input_shape=low.shape(a[1]),
        **_avg_attributes(a[2:]),
    )


def _batch_norm(low: Lowering, node: Node, a: Sequence[Any]) -> Operand:
    x, w, b, running_mean, running_var, training, momentum, eps = a
    if not training or w is None or running_mean is None:
        raise Unsupported("use affine=True, track_running_stats=True in training mode")
    first = low.add(
        "batch_norm",
        x,
        w,
        b,
        running_mean,
        running_var,
        momentum=float(momentum),
        eps=float(eps),
    ).number
    # torch writes the running statistics behind the graph's back: from here on, the
    # buffers that were read are the updated ones.
    for offset, argument_node in ((3, node.args[3]), (4, node.args[4])):
        if isinstance(argument_node, Node):
            low.values[argument_node] = Value(first + offset)
    return Value(first), Value(first + 1), Value(first + 2)


def _batch_norm_backward(low: Lowering, _: Node, a: Sequence[Any]) -> Operand:
    g, x, w = a[0], a[1], a[2]
    first = low.add("batch_norm_backward", g, x, w, a[5], a[6]).number
    return Value(first), Value(first + 1), Value(first + 2)


RULES: dict[Any, Rule] = {
    operator.getitem: _getitem,
    aten.add.Tensor: _scaled("add"),
    aten.sub.Tensor: _scaled("sub"),
    aten.mul.Tensor: _elementwise("mul"),
    aten.div.Tensor: _elementwise("div"),
    aten.add.Scalar: _scaled("add"),
    aten.sub.Scalar: _scaled("sub"),
    aten.mul.Scalar: _elementwise("mul"),
    aten.div.Scalar: _elementwise("div"),
    aten.neg.default: _neg,
    aten.pow.Tensor_Scalar: _square,
    aten.relu.default: _elementwise("relu"),
    aten.threshold_backward.default: _threshold_backward,
    aten.exp.default: _elementwise("exp"),
    aten.log.default: _elementwise("log"),
    aten.sqrt.default: _elementwise("sqrt"),
    aten.tanh.default: _elementwise("tanh"),
    aten.tanh_backward.default: _elementwise("tanh_backward"),
    aten.sigmoid.default: _elementwise("sigmoid"),
    aten.sigmoid_backward.default: _elementwise("sigmoid_backward"),
    aten.sum.default: _sum,
    aten.sum.dim_IntList: _sum,
    aten.mean.default: _mean,
    aten.mean.dim: _mean,
    aten.mse_loss.default: _mse,
    aten.mse_loss_backward.default: _mse_backward,
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.t.default: _t,
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.clone.default: _same,
    aten.detach.default: _same,
    aten.alias.default: _same,
    aten.view.default: _view,
    aten._unsafe_view.default: _view,  # noqa: SLF001 - the name of a public operator
    aten.reshape.default: _view,
    aten.unsqueeze.default: _view,
    aten.squeeze.dim: _view,
    aten.squeeze.dims: _view,
    aten.expand.default: _expand,
    aten.ones_like.default: _filled(1.0),
    aten.zeros_like.default: _filled(0.0),
    aten.full.default: _filled(None),
    aten.scalar_tensor.default: _filled(None),
    aten._log_softmax.default: _log_softmax,  # noqa: SLF001
    aten._log_softmax_backward_data.default: _log_softmax_backward,  # noqa: SLF001
    aten.nll_loss_forward.default: _nll_loss,
    aten.nll_loss_backward.default: _nll_loss_backward,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
    aten.avg_pool2d.default: _avg_pool,
    aten.avg_pool2d_backward.default: _avg_pool_backward,
    aten.native_batch_norm.default: _batch_norm,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
}
