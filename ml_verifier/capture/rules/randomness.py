# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Draws of the counter generator: each call of a step has a stream of its own."""

import math
from collections.abc import Sequence

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Operand, Tensor
from ml_verifier.capture.rules.arithmetic import floats
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.types import DType

aten = torch.ops.aten


def drawn(
    low: Lowering, shape: Sequence[int], lowest: float = 0.0, highest: float = 1.0
) -> Tensor:
    """Return uniform numbers in [lowest, highest)."""
    return low.add(
        "uniform",
        low.add("seed"),
        low.add("step"),
        shape=tuple(shape),
        low=float(lowest),
        high=float(highest),
        stream=low.stream(),
    )


def normal(low: Lowering, shape: Sequence[int]) -> Tensor:
    """Return standard normal numbers, by Box and Muller from two uniform ones."""
    radius = low.add("sub", 1.0, drawn(low, shape))  # in (0, 1]
    radius = low.add("sqrt", low.add("mul", low.add("log", radius), -2.0))
    angle = low.add("mul", drawn(low, shape), 2 * math.pi)
    return low.add("mul", radius, low.add("cos", angle))


def _rand(low: Lowering, call: Call) -> Operand:
    return drawn(low, call.shape)


def _randn(low: Lowering, call: Call) -> Operand:
    return normal(low, call.shape)


def _uniform(low: Lowering, call: Call) -> Operand:
    return drawn(low, call.shape, call["from"], call["to"])


def _normal(low: Lowering, call: Call) -> Operand:
    scaled = low.add("mul", normal(low, call.shape), float(call["std"]))
    return low.add("add", scaled, float(call["mean"]))


def _randint(low: Lowering, call: Call) -> Operand:
    lowest, highest = call.arguments.get("low", 0), call["high"]
    if highest - lowest > 1 << 24:
        raise Unsupported("of more than 2^24 numbers: draw two and combine them")
    scaled = low.add("mul", drawn(low, call.shape), float(highest - lowest))
    found = low.cast(low.add("floor", scaled), DType.I64)
    return low.cast(low.add("int_add", found, lowest), call.dtype)


def _bernoulli(low: Lowering, call: Call) -> Operand:
    """Return 1 with probability p, else 0.

    Divided by p at once it is the mask of a dropout, which has an operator.
    """
    chance = call["p"]
    users = list(call.node.users)
    if users and all(
        user.target in {aten.div.Scalar, aten.div.Tensor} and user.args[1] == chance
        for user in users
    ):
        mask = low.cast(dropped(low, call.shape, 1 - chance), call.dtype)
        low.values.update(dict.fromkeys(users, mask))
        return mask
    return low.cast(low.add("lt", drawn(low, call.shape), float(chance)), call.dtype)


def _bernoulli_of(low: Lowering, call: Call) -> Operand:
    chances = floats(low, call["self"])
    return low.cast(low.add("lt", drawn(low, call.shape), chances), call.dtype)


def dropped(low: Lowering, shape: Sequence[int], p: float) -> Tensor:
    """Return a mask of 0 with probability p, else 1 / (1 - p)."""
    return low.add(
        "dropout_mask",
        low.add("seed"),
        low.add("step"),
        shape=tuple(shape),
        p=float(p),
        stream=low.stream(),
    )


def _native_dropout(low: Lowering, call: Call) -> Operand:
    x = floats(low, call["input"])
    if not call["train"] or call["p"] == 0:
        return x, low.filled(value=True, dtype=DType.BOOL, shape=low.shape(x))
    mask = dropped(low, low.shape(x), call["p"])
    return low.add("mul", x, mask), low.add("gt", mask, 0.0)


def _native_dropout_backward(low: Lowering, call: Call) -> Operand:
    mask = low.cast(call["mask"], DType.F32)
    kept = low.add("mul", floats(low, call["grad_output"]), mask)
    return low.add("mul", kept, float(call["scale"]))


def _refused(reason: str) -> Rule:
    def rule(_: Lowering, __: Call) -> Operand:
        raise Unsupported(reason)

    return rule


RULES: Rules = {
    aten.rand.default: _rand,
    aten.rand_like.default: _rand,
    aten.randn.default: _randn,
    aten.randn_like.default: _randn,
    aten.uniform.default: _uniform,
    aten.normal_functional.default: _normal,
    aten.randint.default: _randint,
    aten.randint.low: _randint,
    aten.randint_like.default: _randint,
    aten.randint_like.low_dtype: _randint,
    aten.bernoulli.p: _bernoulli,
    aten.bernoulli.default: _bernoulli_of,
    aten.native_dropout.default: _native_dropout,
    aten.native_dropout_backward.default: _native_dropout_backward,
    aten.randperm.default: _refused(
        "a permutation: use torch.rand(n).argsort(); the job orders the data"
    ),
    aten.multinomial.default: _refused(
        "use torch.argmax(logits - torch.log(-torch.log(torch.rand_like(logits))), -1)"
    ),
}
