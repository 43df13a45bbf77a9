"""Kernels and oracle agree to the bit, for every operator, on hostile values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ml_verifier import kernels
from ml_verifier.memory import FACTS
from ml_verifier.operators import BY_NAME
from tests.kernels.cases import (
    Array,
    Attributes,
    Case,
    check,
    floats,
    lengths,
    positive,
    shapes,
    values,
)

FEW = settings(max_examples=25)
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
UNARY = (
    *("relu", "exp", "log", "tanh", "sigmoid", "sqrt", "erf", "sin", "cos"),
    *("neg", "abs", "sign", "floor", "ceil", "trunc", "round", "rsqrt"),
    *("gelu", "gelu_tanh", "silu"),
)
BACKWARD = (
    *("relu_backward", "tanh_backward", "sigmoid_backward"),
    *("gelu_backward", "gelu_tanh_backward", "silu_backward"),
)


@st.composite
def matmuls(draw: st.DrawFn) -> Case:
    m, n = (draw(st.one_of(st.integers(1, 9), st.integers(10, 45))) for _ in range(2))
    k = draw(st.one_of(st.integers(1, 20), st.sampled_from([255, 256, 257, 511, 530])))
    ta, tb = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    a = draw(floats((k, m) if ta else (m, k)))
    b = draw(floats((n, k) if tb else (k, n)))
    return Case("matmul", (a, b), {"ta": ta, "tb": tb})


@FEW
@given(matmuls())
def test_matmul(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("m", "n", "k"), [(20, 1100, 300), (150, 40, 520), (1, 600, 9)]
)
@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_matmul_of_several_blocks(m: int, n: int, k: int, ta: int, tb: int) -> None:
    a = values(m, (k, m) if ta else (m, k), "plain")
    b = values(n, (n, k) if tb else (k, n), "plain")
    check(Case("matmul", (a, b), {"ta": ta, "tb": tb}))


@st.composite
def broadcasts(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    operands: list[Any] = []
    for _ in range(2):
        thinned = [draw(st.sampled_from((n, n, 1))) for n in shape]
        operands.append(draw(floats(thinned[draw(st.integers(0, len(shape))) :])))
    name = draw(st.sampled_from(BINARY))
    return Case(name, operands)


@given(broadcasts())
def test_binary_broadcasting(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("name", BINARY)
@FEW
@given(data=st.data(), n=lengths)
def test_binary_flat(name: str, data: st.DataObject, n: int) -> None:
    check(Case(name, (data.draw(floats((n,))), data.draw(floats((n,))))))


@pytest.mark.parametrize("name", UNARY)
@FEW
@given(data=st.data(), n=lengths)
def test_unary(name: str, data: st.DataObject, n: int) -> None:
    check(Case(name, (data.draw(floats((n,))),)))


@pytest.mark.parametrize("name", BACKWARD)
@FEW
@given(data=st.data(), n=lengths)
def test_unary_backward(name: str, data: st.DataObject, n: int) -> None:
    check(Case(name, (data.draw(floats((n,))), data.draw(floats((n,))))))


@given(st.data(), shapes, st.booleans())
def test_sum_over_axes(data: st.DataObject, shape: tuple[int, ...], keep: bool) -> None:  # noqa: FBT001  hypothesis passes it
    axes = data.draw(
        st.sets(st.integers(0, len(shape) - 1)) if shape else st.just(set())
    )
    x = data.draw(floats(shape))
    check(Case("sum", (x,), {"axes": tuple(sorted(axes)), "keepdim": int(keep)}))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((700,), (0,)),
        ((70, 133), (0,)),
        ((70, 133), (1,)),
        ((3, 5, 45), (0, 2)),
        ((33, 2, 7, 9), (0, 2, 3)),
        ((40, 3, 65), (0,)),
    ],
)
@FEW
@given(data=st.data())
def test_long_sums(
    shape: tuple[int, ...], axes: tuple[int, ...], data: st.DataObject
) -> None:
    check(Case("sum", (data.draw(floats(shape)),), {"axes": axes, "keepdim": 0}))


rows = st.tuples(st.integers(1, 6), st.one_of(st.integers(1, 12), st.integers(13, 90)))


@FEW
@given(st.data(), rows)
def test_log_softmax(data: st.DataObject, shape: tuple[int, int]) -> None:
    check(Case("log_softmax", (data.draw(floats(shape)),)))


@FEW
@given(st.data(), rows)
def test_log_softmax_backward(data: st.DataObject, shape: tuple[int, int]) -> None:
    check(
        Case(
            "log_softmax_backward", (data.draw(floats(shape)), data.draw(floats(shape)))
        )
    )


def test_log_softmax_of_a_row_longer_than_a_block() -> None:
    x = np.linspace(-30, 30, 3 * 2500, dtype=np.float32).reshape(3, 2500)
    check(Case("log_softmax", (x,)))
    check(Case("log_softmax_backward", (x, x)))


@st.composite
def targets(draw: st.DrawFn, rows: int, classes: int) -> Array:
    slack = draw(st.sampled_from([0, 0, 0, 1]))
    found = draw(
        st.lists(st.integers(-slack, classes - 1 + slack), min_size=rows, max_size=rows)
    )
    return np.array(found, np.int64)


@given(st.data(), st.integers(1, 80), st.integers(1, 12))
def test_nll_loss(data: st.DataObject, batch: int, classes: int) -> None:
    target = data.draw(targets(batch, classes))
    ignore = {"ignore": data.draw(st.sampled_from([0, 1, 2**32 - 1, 2**32 - 100]))}
    check(Case("nll_loss", (data.draw(floats((batch, classes))), target), ignore))
    gradient, count = data.draw(floats(())), data.draw(floats(()))
    attributes = {"classes": classes, **ignore}
    check(Case("nll_loss_backward", (gradient, target, count), attributes))


def test_ignored_targets_are_neither_counted_nor_out_of_range() -> None:
    target = np.array([1, -100, 0], np.int64)
    logp = np.array([[-1, -2], [-3, -4], [-5, -6]], np.float32)
    case = Case("nll_loss", (logp, target), {"ignore": 2**32 - 100})
    check(case)
    assert [float(x) for x in case.run(kernels)[1]] == [3.5, 2.0]


@pytest.mark.parametrize("out", [-1, 3, 2**62, -(2**63)])
def test_a_target_out_of_range_traps(out: int) -> None:
    target = np.array([0, out], np.int64)
    case = Case("nll_loss", (np.zeros((2, 3), np.float32), target), {"ignore": 9})
    check(case)
    assert case.run(kernels)[0] == 1


geometry = st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Array, Array, Array, Attributes]:
    """x, w, a gradient of the output, and the attributes."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, outputs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    if draw(st.booleans()):
        outputs = groups * draw(st.sampled_from([7, 15, 17, 33]))
    sides = [draw(geometry) for _ in range(2)]
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    plane = [
        max(1, draw(st.integers(1, 12)), d * (k - 1) + 1 - 2 * p)
        for k, (_, p, d) in zip(kernel, sides, strict=True)
    ]
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, (s, p, d) in zip(plane, kernel, sides, strict=True)
    ]
    samples = draw(st.integers(1, 3))
    stride, padding, dilation = (tuple(side[i] for side in sides) for i in range(3))
    attributes = {"stride": stride, "padding": padding, "dilation": dilation}
    kinds = [draw(st.sampled_from(("plain", "special", "tiny", "wide", "integers")))]
    x = draw(floats((samples, channels, *plane), kinds))
    w = draw(floats((outputs, channels // groups, *kernel), kinds))
    g = draw(floats((samples, outputs, *size), kinds))
    return x, w, g, {**attributes, "groups": groups}


def check_convolution(x: Array, w: Array, g: Array, attributes: Attributes) -> None:
    check(Case("conv2d", (x, w), attributes))
    given_input = {**attributes, "input_shape": x.shape}
    check(Case("conv2d_backward_input", (g, w), given_input))
    given_weight = {**attributes, "weight_shape": w.shape}
    check(Case("conv2d_backward_weight", (g, x), given_weight))


@FEW
@given(convolutions())
def test_convolutions(drawn: tuple[Array, Array, Array, Attributes]) -> None:
    check_convolution(*drawn)


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        # More than 256 taps, outputs or positions: several depth blocks.
        ((1, 30, 4, 4), (3, 30, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),
        ((1, 2, 5, 4), (300, 2, 2, 2), ((1, 1), (0, 0), (1, 1), 1)),
        ((2, 1, 19, 23), (3, 1, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),
        # Rows of outputs longer than a strip, and an image of one column.
        ((1, 1, 2, 1100), (2, 1, 2, 3), ((1, 1), (0, 1), (1, 1), 1)),
        ((1, 1, 40, 1), (2, 1, 5, 1), ((2, 1), (2, 0), (1, 1), 1)),
        # Padding and dilation far wider than the image: the grid is im2col.
        ((1, 2, 3, 3), (2, 2, 2, 2), ((1, 1), (50, 40), (100, 80), 1)),
        ((1, 1, 2, 2), (2, 1, 1, 1), ((60, 60), (60, 60), (1, 1), 1)),
        ((1, 3, 9, 9), (6, 1, 3, 3), ((4, 5), (1, 2), (1, 1), 3)),
        # A kernel of more taps than are added together; columns far from each other.
        ((1, 1, 13, 14), (2, 1, 12, 11), ((1, 1), (1, 1), (1, 1), 1)),
        ((1, 1, 1, 60), (2, 1, 1, 3), ((1, 1), (0, 0), (1, 29), 1)),
    ],
)
def test_convolutions_at_the_edges(
    x: tuple[int, ...], w: tuple[int, ...], attributes: tuple[Any, ...]
) -> None:
    names = ("stride", "padding", "dilation", "groups")
    given = dict(zip(names, attributes, strict=True))
    random = np.random.default_rng(1)
    left, right = (random.standard_normal(s).astype(np.float32) for s in (x, w))
    case = Case("conv2d", (left, right), given)
    shape = case.outputs()[0].shape
    check_convolution(left, right, random.standard_normal(shape).astype("f4"), given)


@pytest.mark.parametrize("kernel", [(2, 3), (3, 3), (1, 5), (4, 2)])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("width", [*range(5, 18), *range(24, 36)])
def test_convolutions_of_every_width(
    width: int, padding: int, kernel: tuple[int, int]
) -> None:
    """Vectors, strips and paddings meet at every offset."""
    random = np.random.default_rng(width)
    x = random.standard_normal((1, 2, 5, width)).astype("f4")
    w = random.standard_normal((1, 2, *kernel)).astype("f4")
    given: Attributes = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
    given["padding"] = (padding, padding)
    g = random.standard_normal(Case("conv2d", (x, w), given).outputs()[0].shape)
    check_convolution(x, w, g.astype("f4"), given)


@pytest.mark.parametrize("width", range(26, 34))
def test_convolutions_across_strips(width: int) -> None:
    """Outputs on both sides of a strip's edge feed the same inputs."""
    random = np.random.default_rng(width)
    x = random.standard_normal((1, 1, 42, width)).astype("f4")
    w = random.standard_normal((2, 1, 3, 3)).astype("f4")
    given: Attributes = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
    given["padding"] = (width % 2, width % 2)
    g = random.standard_normal(Case("conv2d", (x, w), given).outputs()[0].shape)
    check_convolution(x, w, g.astype("f4"), given)


F32 = st.floats(-2, 2, width=32)


@given(
    st.data(), st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(1, 40)), F32
)
def test_batch_norm(
    data: st.DataObject, shape: tuple[int, int, int], momentum: float
) -> None:
    eps = data.draw(st.sampled_from([0.0, 2.0**-17, 0.5]))
    x, g = data.draw(floats(shape)), data.draw(floats(shape))
    channel = [data.draw(floats(shape[1:2])) for _ in range(4)]
    check(Case("batch_norm", (x, *channel), {"momentum": momentum, "eps": eps}))
    check(Case("batch_norm_backward", (g, x, *channel[:3])))


@pytest.mark.parametrize("nesterov", [0, 1])
@given(data=st.data(), n=lengths, lr=F32, momentum=F32, decay=F32)
@FEW
def test_sgd(
    nesterov: int,
    data: st.DataObject,
    n: int,
    lr: float,
    momentum: float,
    decay: float,
) -> None:
    inputs = [data.draw(floats((n,))) for _ in range(3)] + [data.draw(floats(()))]
    attributes = {"lr": lr, "momentum": momentum, "weight_decay": decay}
    check(Case("sgd", inputs, {**attributes, "nesterov": nesterov}))


@given(st.data(), lengths, F32, F32, F32)
def test_adamw(
    data: st.DataObject, n: int, lr: float, beta: float, decay: float
) -> None:
    inputs = [data.draw(floats((n,))) for _ in range(4)]
    inputs[3] = positive(inputs[3])
    corrections = [positive(data.draw(floats(()))) for _ in range(3)]
    attributes = {
        "lr": lr,
        "beta1": beta,
        "beta2": float(np.float32(0.999)),
        "eps": float(np.float32(1e-8)),
        "weight_decay": decay,
    }
    check(Case("adamw", (*inputs, *corrections), attributes))


@given(st.data(), F32)
def test_correction(data: st.DataObject, beta: float) -> None:
    check(Case("correction", (data.draw(floats(())),), {"beta": beta}))


@given(st.data(), shapes, st.booleans())
def test_movement(data: st.DataObject, shape: tuple[int, ...], whole: bool) -> None:  # noqa: FBT001  hypothesis passes it
    x = data.draw(floats(shape))
    if whole:
        x = x.astype(np.float64).view(np.int64)
    order = data.draw(st.permutations(range(len(shape))))
    check(Case("transpose", (x,), {"permutation": tuple(order)}))
    check(Case("reshape", (x,), {"shape": (x.size,)}))
    thinned = np.ascontiguousarray(x[tuple(slice(0, 1) for _ in shape[:2])])
    check(Case("broadcast", (thinned,), {"shape": (2, *shape)}))
    check(Case("constant", (), {"shape": shape, "value": 1.5}))


def test_every_operator_is_tested() -> None:
    folder = Path(__file__).parent
    source = "".join(p.read_text() for p in sorted(folder.glob("test_agreement*.py")))
    computed = set(BY_NAME) - set(FACTS)
    assert [name for name in computed if f'"{name}"' not in source] == []
