"""Golden cases: every operator on inputs that anyone can regenerate.

A case's number is its place in ``GOLDEN`` and the Philox key of its inputs, so that new
cases go to the end.
"""

from collections.abc import Sequence

import numpy as np

from ml_verifier.conformance.case import Attributes
from ml_verifier.conformance.inputs import Floats, Golden, Indices
from ml_verifier.conformance.movement import MANY, MOVEMENT, RANDOMNESS


def single(value: float) -> float:
    """Return the nearest float32."""
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
    Golden("bmm", (Floats((2, 3, 37, 40)), Floats((2, 3, 40, 41))), {"ta": 0, "tb": 0}),
    Golden("bmm", (Floats((5, 20, 300)), Floats((5, 33, 300))), {"ta": 0, "tb": 1}),
    Golden("bmm", (Floats((3, 70, 17)), Floats((3, 70, 9))), {"ta": 1, "tb": 0}),
    Golden("bmm", (Floats((3, 70, 17)), Floats((3, 9, 70))), {"ta": 1, "tb": 1}),
    Golden("softmax", (Floats((4, 3, 45), -60.0, 60.0),), {"safe": 0}),
    Golden("softmax", (Floats((3, 1100)),), {"safe": 1}),
    Golden("softmax_backward", _pair(9, 45), {}),
    Golden(
        "layer_norm",
        (Floats((5, 9, 75)), Floats((75,)), Floats((75,))),
        {"eps": single(1e-5)},
    ),
    Golden(
        "layer_norm_backward",
        (*_pair(5, 9, 75), Floats((75,)), *_pair(45)),
        {},
    ),
    Golden("take", (Floats((3, 9, 5)), Indices((4, 2), 9)), {"axis": 1}),
    Golden("take", (Floats((70,)), Indices((40,), 70)), {"axis": 0}),
    Golden(
        "scatter_rows",
        (Floats((300, 70)), Indices((300,), 20)),
        {"axis": 0, "size": 20, "skip": 3},
    ),
    Golden(
        "scatter_rows",
        (Floats((2, 5, 4, 3)), Indices((5, 4), 6)),
        {"axis": 1, "size": 6, "skip": 2**32 - 1},
    ),
    Golden("gather", (Floats((7, 9)), Indices((7, 4), 9)), {"axis": 1}),
    Golden("gather", (Floats((7, 9, 2)), Indices((3, 9, 2), 7)), {"axis": 0}),
    Golden(
        "scatter_add",
        (Floats((7, 9)), Indices((7, 40), 9), Floats((7, 40))),
        {"axis": 1},
    ),
    Golden(
        "scatter",
        (Floats((7, 9)), Indices((20, 9), 7), Floats((20, 9))),
        {"axis": 0},
    ),
    Golden("sort", (Floats((5, 20)),), {"descending": 0}),
    Golden("sort", (Floats((3, 500)),), {"descending": 1}),
    Golden("cumsum", (Floats((11, 70)),), {}),
    Golden("amax", (Floats((11, 70)),), {"keepdim": 0}),
    Golden("argmax", (Floats((11, 70)),), {"keepdim": 1}),
    Golden("erf", (Floats((N,), -4.0, 4.0),), {}),
    Golden("sin", (Floats((N,), -100.0, 100.0),), {}),
    Golden("cos", (Floats((N,), -100.0, 100.0),), {}),
    Golden("sin", (Floats((N,), -1e30, 1e30),), {}),
    Golden("cos", (Floats((N,), -1e30, 1e30),), {}),
    Golden("neg", (Floats((N,)),), {}),
    Golden("abs", (Floats((N,)),), {}),
    Golden("sign", (Floats((N,)),), {}),
    Golden("floor", (Floats((N,), -9.0, 9.0),), {}),
    Golden("ceil", (Floats((N,), -9.0, 9.0),), {}),
    Golden("trunc", (Floats((N,), -9.0, 9.0),), {}),
    Golden("round", (Floats((N,), -9.0, 9.0),), {}),
    Golden("rsqrt", (Floats((N,)),), {}),
    Golden("maximum", (Floats((7, 1, 33)), Floats((5, 33))), {}),
    Golden("minimum", (Floats((7, 5, 33)), Floats((5, 1))), {}),
    *MOVEMENT,
    Golden("gelu", (Floats((N,), -6.0, 6.0),), {}),
    Golden("gelu_backward", (Floats((N,)), Floats((N,), -6.0, 6.0)), {}),
    Golden("gelu_tanh", (Floats((N,), -6.0, 6.0),), {}),
    Golden("gelu_tanh_backward", (Floats((N,)), Floats((N,), -6.0, 6.0)), {}),
    Golden("silu", (Floats((N,), -100.0, 100.0),), {}),
    Golden("silu_backward", (Floats((N,)), Floats((N,), -100.0, 100.0)), {}),
    *RANDOMNESS,
)

BIG = 100_003
IMAGES, FILTERS, MAPS = (3, 8, 20, 21), (24, 8, 3, 3), (3, 24, 20, 21)

# Large enough to be shared among threads; plain inputs only.
LARGE: Sequence[Golden] = (
    Golden("matmul", (Floats((301, 513)), Floats((257, 513))), {"ta": 0, "tb": 1}),
    Golden("matmul", (Floats((513, 10)), Floats((513, 999))), {"ta": 1, "tb": 0}),
    Golden("matmul", (Floats((999, 300)), Floats((300, 10))), {"ta": 0, "tb": 0}),
    Golden("conv2d", (Floats(IMAGES), Floats(FILTERS)), SAME),
    Golden(
        "conv2d_backward_input",
        (Floats(MAPS), Floats(FILTERS)),
        {**SAME, "input_shape": IMAGES},
    ),
    Golden(
        "conv2d_backward_weight",
        (Floats(MAPS), Floats(IMAGES)),
        {**SAME, "weight_shape": FILTERS},
    ),
    Golden("add", (Floats((300, 700)), Floats((700,))), {}),
    Golden("div", _pair(BIG), {}),
    Golden("exp", (Floats((BIG,), -100.0, 90.0),), {}),
    Golden("sum", (Floats((300, 700)),), {"axes": (0,), "keepdim": 0}),
    Golden("sum", (Floats((300, 700)),), {"axes": (1,), "keepdim": 0}),
    Golden("log_softmax", (Floats((3000, 50)),), {}),
    Golden("max_pool2d", (Floats(MAPS),), MAX),
    Golden(
        "batch_norm",
        (Floats(MAPS), *(Floats((24,)) for _ in range(3)), Floats((24,), 0.0, 1.0)),
        {"momentum": single(0.1), "eps": single(1e-5)},
    ),
    Golden(
        "sgd",
        (*(Floats((BIG,)) for _ in range(3)), Floats((), 0.0, 1.0)),
        {**SGD, "nesterov": 1},
    ),
    Golden("transpose", (Floats((300, 700)),), {"permutation": (1, 0)}),
    Golden("bmm", (Floats((12, 100, 64)), Floats((12, 100, 64))), {"ta": 0, "tb": 1}),
    Golden("bmm", (Floats((1, 200, 70)), Floats((1, 70, 90))), {"ta": 0, "tb": 0}),
    Golden("softmax", (Floats((700, 100)),), {"safe": 0}),
    Golden("softmax_backward", _pair(700, 100), {}),
    Golden(
        "layer_norm",
        (Floats((700, 100)), Floats((100,)), Floats((100,))),
        {"eps": single(1e-5)},
    ),
    Golden("layer_norm_backward", (*_pair(700, 100), Floats((100,)), *_pair(700)), {}),
    *MANY,
)
