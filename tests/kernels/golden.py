"""Cases with inputs that anyone can regenerate: the golden vectors of the operators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_verifier import oracle
from ml_verifier.kernels import AttributeValue
from tests.kernels.cases import Array, Attributes, Case


@dataclass(frozen=True)
class Floats:
    """Uniform float32 values."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0

    def make(self, case: int, position: int) -> Array:
        out = np.empty(self.shape, np.float32)
        oracle.philox_uniform(out, case, position, 0, self.low, self.high)
        return out


@dataclass(frozen=True)
class Indices:
    """Uniform int64 values below a bound."""

    shape: tuple[int, ...]
    below: int

    def make(self, case: int, position: int) -> Array:
        unit = Floats(self.shape, 0.0, 1.0).make(case, position)
        return np.floor(unit * np.float32(self.below)).astype(np.int64)


@dataclass(frozen=True)
class Golden:
    """An operator on generated inputs."""

    name: str
    inputs: Sequence[Floats | Indices]
    attributes: Mapping[str, AttributeValue]

    def case(self, number: int) -> Case:
        made = [spec.make(number, i) for i, spec in enumerate(self.inputs)]
        return Case(self.name, made, self.attributes)

    def describe(self) -> dict[str, Any]:
        return {
            "operator": self.name,
            "attributes": dict(self.attributes),
            "inputs": [vars(spec) for spec in self.inputs],
        }


def single(value: float) -> float:
    return float(np.float32(value))


CONV: Attributes = {
    "stride": (2, 1),
    "padding": (1, 2),
    "dilation": (1, 2),
    "groups": 2,
}
X, W, Y = (3, 4, 11, 13), (6, 2, 3, 3), (3, 6, 6, 13)
SAME: Attributes = {
    "stride": (1, 1),
    "padding": (1, 1),
    "dilation": (1, 1),
    "groups": 1,
}
WIDE, NARROW, OUT = (2, 30, 18, 17), (17, 30, 3, 3), (2, 17, 18, 17)
MAX: Attributes = {
    "kernel": (3, 2),
    "stride": (2, 2),
    "padding": (1, 1),
    "dilation": (1, 2),
}
AVERAGE: Attributes = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 1)}
ADAMW: Attributes = {
    "lr": single(1e-3),
    "beta1": single(0.9),
    "beta2": single(0.999),
    "eps": single(1e-8),
    "weight_decay": single(0.01),
}
SGD: Attributes = {
    "lr": single(0.1),
    "momentum": single(0.9),
    "weight_decay": single(1e-4),
}
N = 1000
SGD_INPUTS = (*(Floats((N,)) for _ in range(3)), Floats((), 0.0, 1.0))


def _pair(*shape: int) -> tuple[Floats, Floats]:
    return Floats(shape), Floats(shape)


GOLDEN: Sequence[Golden] = (
    Golden("matmul", (Floats((37, 600)), Floats((600, 41))), {"ta": 0, "tb": 0}),
    Golden("matmul", (Floats((37, 600)), Floats((10, 600))), {"ta": 0, "tb": 1}),
    Golden("matmul", (Floats((130, 70)), Floats((130, 33))), {"ta": 1, "tb": 0}),
    Golden("matmul", (Floats((130, 70)), Floats((33, 130))), {"ta": 1, "tb": 1}),
    Golden("add", (Floats((7, 1, 33)), Floats((5, 33))), {}),
    Golden("sub", (Floats((7, 5, 33)), Floats((5, 1))), {}),
    Golden("mul", _pair(N), {}),
    Golden("div", _pair(N), {}),
    Golden("relu", (Floats((N,)),), {}),
    Golden("relu_backward", _pair(N), {}),
    Golden("exp", (Floats((N,), -100.0, 90.0),), {}),
    Golden("log", (Floats((N,), -1.0, 90.0),), {}),
    Golden("tanh", (Floats((N,), -10.0, 10.0),), {}),
    Golden("sigmoid", (Floats((N,), -100.0, 100.0),), {}),
    Golden("sqrt", (Floats((N,)),), {}),
    Golden("tanh_backward", _pair(N), {}),
    Golden("sigmoid_backward", _pair(N), {}),
    Golden("sum", (Floats((70, 45)),), {"axes": (0,), "keepdim": 0}),
    Golden("sum", (Floats((7, 5, 6, 9)),), {"axes": (0, 2, 3), "keepdim": 1}),
    Golden("log_softmax", (Floats((9, 45)),), {}),
    Golden("log_softmax_backward", _pair(9, 45), {}),
    Golden("nll_loss", (Floats((70, 10)), Indices((70,), 10)), {"ignore": 3}),
    Golden(
        "nll_loss_backward",
        (Floats(()), Indices((70,), 10), Floats((), 60.0, 70.0)),
        {"classes": 10, "ignore": 2**32 - 100},
    ),
    Golden("conv2d", (Floats(X), Floats(W)), CONV),
    Golden("conv2d", (Floats(WIDE), Floats(NARROW)), SAME),
    Golden("conv2d_backward_input", (Floats(Y), Floats(W)), {**CONV, "input_shape": X}),
    Golden(
        "conv2d_backward_input",
        (Floats(OUT), Floats(NARROW)),
        {**SAME, "input_shape": WIDE},
    ),
    Golden(
        "conv2d_backward_weight", (Floats(Y), Floats(X)), {**CONV, "weight_shape": W}
    ),
    Golden(
        "conv2d_backward_weight",
        (Floats(OUT), Floats(WIDE)),
        {**SAME, "weight_shape": NARROW},
    ),
    Golden("max_pool2d", (Floats(X),), MAX),
    Golden(
        "max_pool2d_backward",
        (Floats((3, 4, 5, 6)), Indices((3, 4, 5, 6), 143)),
        {"input_shape": X},
    ),
    Golden("avg_pool2d", (Floats(X),), {**AVERAGE, "count_include_pad": 0}),
    Golden(
        "avg_pool2d_backward",
        (Floats((3, 4, 6, 14)),),
        {**AVERAGE, "count_include_pad": 1, "input_shape": X},
    ),
    Golden(
        "batch_norm",
        (Floats(X), *(Floats((4,)) for _ in range(3)), Floats((4,), 0.0, 1.0)),
        {"momentum": single(0.1), "eps": single(1e-5)},
    ),
    Golden("batch_norm_backward", (*_pair(*X), *(Floats((4,)) for _ in range(3))), {}),
    Golden("sgd", SGD_INPUTS, {**SGD, "nesterov": 0}),
    Golden("sgd", SGD_INPUTS, {**SGD, "nesterov": 1}),
    Golden(
        "adamw",
        (
            *(Floats((N,)) for _ in range(3)),
            Floats((N,), 0.0, 1.0),
            *(Floats((), 0.0, 1.0) for _ in range(3)),
        ),
        ADAMW,
    ),
    Golden("correction", (Floats((), 0.0, 1.0),), {"beta": single(0.999)}),
    Golden("reshape", (Floats((7, 5)),), {"shape": (5, 7)}),
    Golden("transpose", (Floats((7, 5, 3)),), {"permutation": (2, 0, 1)}),
    Golden("broadcast", (Floats((7, 1)),), {"shape": (3, 7, 5)}),
    Golden("constant", (), {"shape": (3, 4), "value": 0.5}),
)
