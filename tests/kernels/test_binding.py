"""What ``bind`` refuses: each buffer that would corrupt memory, with a clear reason."""

from typing import Any

import numpy as np
import pytest

from ml_verifier import kernels
from ml_verifier.kernels import BindingError, KernelError, bind
from tests.kernels.cases import Array, Attributes, Case, assert_same, settings


def f32(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def i64(*shape: int) -> Array:
    return np.zeros(shape, np.int64)


NLL: Attributes = {"ignore": 3}
MATMUL: Attributes = {"ta": 0, "tb": 0}
CONV: Attributes = {
    "stride": (1, 1),
    "padding": (0, 0),
    "dilation": (1, 1),
    "groups": 1,
}
POOL: Attributes = {
    "kernel": (2, 2),
    "stride": (2, 2),
    "padding": (0, 0),
    "dilation": (1, 1),
}
MEAN: Attributes = {
    "kernel": (2, 2),
    "stride": (2, 2),
    "padding": (0, 0),
    "count_include_pad": 1,
}
SGD: Attributes = {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.0, "nesterov": 0}
READ_ONLY = f32(4)
READ_ONLY.flags.writeable = False
X = f32(1, 1, 4, 4)
NORM: Attributes = {"momentum": 0.5, "eps": 0.5}
ROWS: Attributes = {"axis": 0, "size": 5, "skip": 2**32 - 1}

REFUSED: list[tuple[str, dict[str, Any], list[Any], list[Any], str]] = [
    ("swish", {}, [f32(4)], [f32(4)], "no operator 'swish'"),
    ("relu", {}, [], [f32(4)], "expected 1 inputs, got 0"),
    ("relu", {}, [f32(4)], [], "expected 1 outputs, got 0"),
    ("relu", {"slope": 1}, [f32(4)], [f32(4)], "expected attributes"),
    ("relu", {}, [np.zeros(4)], [f32(4)], "input 0 must be float32, got float64"),
    ("relu", {}, [f32(4)], [i64(4)], "output 0 must be float32, got int64"),
    ("relu", {}, [f32(4)], [f32(5)], r"output 0 must have shape \(4,\), got \(5,\)"),
    ("relu", {}, [f32(8)[::2]], [f32(4)], "input 0 must be C-contiguous"),
    ("relu", {}, [f32(4)], [READ_ONLY], "output 0 is read-only"),
    ("relu", {}, [np.float32(1)], [f32()], "expected numpy arrays, got float32"),
    ("relu", {}, [np.ma.zeros(4, "f4")], [f32(4)], "expected numpy arrays"),
    ("relu", {}, [f32(4).astype(">f4")], [f32(4)], "input 0 must be float32"),
    ("matmul", MATMUL, [f32(2, 3), f32(4, 5)], [f32(2, 5)], "inner dimensions differ"),
    ("matmul", MATMUL, [f32(2), f32(2, 2)], [f32(2)], "expected two matrices"),
    ("matmul", {"ta": 2, "tb": 0}, [f32(2, 2), f32(2, 2)], [f32(2, 2)], "ta must be"),
    ("matmul", {"ta": 0.0, "tb": 0}, [f32(2, 2), f32(2, 2)], [f32(2, 2)], "an integer"),
    ("add", {}, [f32(2), f32(3)], [f32(3)], "do not broadcast"),
    ("add", {}, [f32(2, 1), f32(3)], [f32(3)], "output 0 must have shape"),
    ("sum", {"axes": (1, 0), "keepdim": 0}, [f32(2, 2)], [f32()], "not sorted axes"),
    ("sum", {"axes": (2,), "keepdim": 0}, [f32(2, 2)], [f32(2, 2)], "not sorted axes"),
    ("sum", {"axes": 0, "keepdim": 0}, [f32(2)], [f32()], "axes must be a tuple"),
    ("sum", {"axes": (0,), "keepdim": 0}, [f32(2, 3)], [f32(2)], "must have shape"),
    ("log_softmax", {}, [f32()], [f32()], "rank of at least 1"),
    ("log_softmax_backward", {}, [f32(2), f32(3)], [f32(2)], "input 1 must have shape"),
    ("nll_loss", NLL, [f32(2, 3), i64(3)], [f32(), f32()], "input 1 must have shape"),
    ("nll_loss", NLL, [f32(2, 3), f32(2)], [f32(), f32()], "input 1 must be int64"),
    ("nll_loss", NLL, [f32(2), i64(2)], [f32(), f32()], "logp"),
    (
        "nll_loss_backward",
        {**NLL, "classes": 3},
        [f32(), i64(2), f32()],
        [f32(2, 2)],
        "shape",
    ),
    (
        "nll_loss_backward",
        {**NLL, "classes": 0},
        [f32(), i64(2), f32()],
        [f32(2, 0)],
        "classes",
    ),
    ("conv2d", CONV, [X, f32(1, 2, 3, 3)], [f32(1, 1, 2, 2)], "groups=1"),
    ("conv2d", CONV, [X, f32(1, 1, 5, 5)], [f32(1, 1, 0, 0)], "never fits"),
    ("conv2d", CONV, [X, f32(1, 1, 3, 3)], [f32(1, 1, 4, 4)], "must have shape"),
    (
        "conv2d",
        {**CONV, "stride": (0, 1)},
        [X, f32(1, 1, 3, 3)],
        [f32(1, 1, 2, 2)],
        "stride must be at least 1",
    ),
    (
        "conv2d",
        {**CONV, "padding": (2**40, 0)},
        [X, f32(1, 1, 1, 1)],
        [f32(1)],
        "reach at most",
    ),
    (
        "conv2d_backward_input",
        {**CONV, "input_shape": (1, 1, 5, 5)},
        [f32(1, 1, 2, 2), f32(1, 1, 3, 3)],
        [f32(1, 1, 5, 5)],
        "input 0 must have shape",
    ),
    (
        "conv2d_backward_weight",
        {**CONV, "weight_shape": (1, 1, 3)},
        [f32(1, 1, 2, 2), X],
        [f32(1, 1, 3, 3)],
        "weight_shape must be a tuple of 4",
    ),
    ("max_pool2d", POOL, [X], [f32(1, 1, 2, 2), i64(1, 1, 2)], "output 1 must have"),
    ("max_pool2d", POOL, [X], [f32(1, 1, 2, 2), f32(1, 1, 2, 2)], "must be int64"),
    ("max_pool2d", POOL, [f32(4, 4)], [f32(2, 2), i64(2, 2)], r"\[N, C, H, W\]"),
    (
        "max_pool2d_backward",
        {"input_shape": (2, 1, 4, 4)},
        [f32(1, 1, 2, 2), i64(1, 1, 2, 2)],
        [f32(2, 1, 4, 4)],
        "not pooled from",
    ),
    ("avg_pool2d", {**MEAN, "kernel": (9, 9)}, [X], [f32(1, 1, 1, 1)], "never fits"),
    (
        "avg_pool2d_backward",
        {**MEAN, "input_shape": (1, 1, 4, 4)},
        [f32(1, 1, 3, 3)],
        [X],
        "input 0 must have shape",
    ),
    (
        "batch_norm",
        NORM,
        [f32(2, 3), *(f32(2) for _ in range(4))],
        [f32(2, 3), *(f32(3) for _ in range(4))],
        "input 1 must have shape",
    ),
    (
        "batch_norm_backward",
        {},
        [f32(2), f32(2), f32(2), f32(2), f32(2)],
        [f32(2), f32(2), f32(2)],
        r"x\[N, C, ...\]",
    ),
    ("bmm", MATMUL, [f32(2, 2), f32(2, 2)], [f32(2, 2)], r"a\[B..., M, K\]"),
    ("bmm", MATMUL, [f32(2, 2, 2), f32(3, 2, 2)], [f32(2, 2, 2)], r"a\[B..., M, K\]"),
    ("bmm", MATMUL, [f32(2, 2, 3), f32(2, 2, 3)], [f32(2, 2, 3)], "inner dimensions"),
    ("bmm", MATMUL, [f32(2, 2, 3), f32(2, 3, 4)], [f32(2, 4, 2)], "output 0 must have"),
    ("bmm", MATMUL, [i64(1, 2, 2), f32(1, 2, 2)], [f32(1, 2, 2)], "input 0 must be"),
    ("softmax", {"safe": 2}, [f32(4)], [f32(4)], "safe must be"),
    ("softmax", {"safe": 0}, [f32()], [f32()], "rank of at least 1"),
    ("softmax_backward", {}, [f32(4), f32(5)], [f32(4)], "input 1 must have shape"),
    (
        "layer_norm",
        {"eps": 0.5},
        [f32(2, 3), f32(3), f32(3)],
        [f32(2, 3), f32(2), f32(3)],
        "output 2 must have shape",
    ),
    (
        "layer_norm_backward",
        {},
        [f32(2, 2, 3), f32(2, 2, 3), f32(3), f32(4), f32(2, 2)],
        [f32(2, 2, 3), f32(3), f32(3)],
        "input 4 must have shape",
    ),
    (
        "sgd",
        SGD,
        [f32(4), f32(4), f32(3), f32()],
        [f32(4), f32(4)],
        "input 2 must have shape",
    ),
    (
        "sgd",
        {**SGD, "lr": 0.1},
        [f32(4), f32(4), f32(4), f32()],
        [f32(4), f32(4)],
        "lr must be exactly representable",
    ),
    (
        "sgd",
        {**SGD, "lr": (1, 2)},
        [f32(4), f32(4), f32(4), f32()],
        [f32(4), f32(4)],
        "lr must be a number",
    ),
    ("correction", {"beta": 0.5}, [f32(1)], [f32()], "input 0 must have shape"),
    ("reshape", {"shape": (5,)}, [f32(4)], [f32(5)], "does not hold the elements"),
    ("reshape", {"shape": (4,)}, [f32(4)], [i64(4)], "output 0 must be float32"),
    ("reshape", {"shape": (4,)}, [np.zeros(4, "i2")], [f32(4)], "are moved, got"),
    ("transpose", {"permutation": (0, 0)}, [f32(2, 2)], [f32(2, 2)], "permutation"),
    ("broadcast", {"shape": (3,)}, [f32(2)], [f32(3)], "does not broadcast"),
    ("broadcast", {"shape": (2,)}, [f32(1, 2)], [f32(2)], "does not broadcast"),
    ("constant", {"shape": (2,), "value": 0.1}, [], [f32(2)], "exactly representable"),
    ("take", {"axis": 1}, [f32(3), i64(2)], [f32(2)], r"axis must be in \[0, 0\]"),
    ("take", {"axis": 0}, [f32(), i64(2)], [f32(2)], "a scalar has no axis"),
    ("take", {"axis": 0}, [f32(3), f32(2)], [f32(2)], "input 1 must be int64"),
    ("take", {"axis": 0}, [f32(0), i64(2)], [f32(2)], "no empty inputs"),
    ("take", {"axis": 0}, [np.zeros(3), i64(2)], [f32(2)], "input 0 must be one of"),
    ("take", {"axis": 0}, [f32(3, 2), i64(4)], [f32(4)], "output 0 must have shape"),
    ("take", {"axis": 0}, [f32(3), i64(2)], [i64(2)], "output 0 must be float32"),
    ("scatter_rows", ROWS, [f32(4), i64(3)], [f32(5)], "does not have the axes"),
    ("scatter_rows", {**ROWS, "axis": 2}, [f32(4), i64()], [f32(4, 5)], "the axes"),
    ("scatter_rows", ROWS, [f32(4), i64(4)], [f32(4)], "output 0 must have shape"),
    ("scatter_rows", {**ROWS, "size": 0}, [f32(4), i64(4)], [f32(0)], "size must be"),
    ("scatter_rows", {**ROWS, "skip": 2**32}, [f32(4), i64(4)], [f32(5)], "skip must"),
    ("gather", {"axis": 0}, [f32(3, 2), i64(4, 1)], [f32(4, 1)], "not only in axis 0"),
    ("gather", {"axis": 0}, [f32(3, 2), i64(4)], [f32(4)], "not only in axis 0"),
    ("gather", {"axis": 0}, [f32(3), i64(4)], [f32(3)], "output 0 must have shape"),
    ("scatter", {"axis": 0}, [f32(3), i64(4), i64(4)], [f32(3)], "2 must be float32"),
    ("scatter", {"axis": 0}, [f32(3), i64(4), f32(3)], [f32(3)], "input 2 must have"),
    ("scatter_add", {"axis": 0}, [i64(3), i64(4), i64(4)], [i64(3)], "0 must be float"),
    ("sort", {"descending": 2}, [f32(3)], [f32(3), i64(3)], "descending must be in"),
    ("sort", {"descending": 0}, [f32(2, 16_385)], [f32(1), i64(1)], "at most 16384"),
    ("sort", {"descending": 0}, [f32(3)], [f32(3), f32(3)], "output 1 must be int64"),
    ("cumsum", {}, [f32()], [f32()], r"expected x\[..., C\]"),
    ("amax", {"keepdim": 0}, [f32(3, 0)], [f32(3)], "not empty"),
    ("amax", {"keepdim": 1}, [f32(3, 2)], [f32(3)], "output 0 must have shape"),
    ("argmax", {"keepdim": 0}, [f32(3, 2)], [f32(3)], "output 0 must be int64"),
]


@pytest.mark.parametrize(
    ("name", "attributes", "inputs", "outputs", "reason"),
    REFUSED,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)],
)
def test_refused(
    name: str,
    attributes: dict[str, Any],
    inputs: list[Any],
    outputs: list[Any],
    reason: str,
) -> None:
    with pytest.raises(BindingError, match=reason):
        bind(name, attributes, inputs, outputs)


def test_overlapping_buffers_are_refused() -> None:
    arena = f32(12)
    with pytest.raises(BindingError, match="output 0 shares memory with input 0"):
        bind("relu", {}, [arena[:8]], [arena[4:]])
    with pytest.raises(BindingError, match="output 0 shares memory with input 0"):
        bind("relu", {}, [arena], [arena])
    state = [f32(12) for _ in range(3)]
    with pytest.raises(BindingError, match="output 1 shares memory with output 0"):
        bind("sgd", SGD, [*state, f32()], [arena, arena])
    with pytest.raises(BindingError, match="output 0 shares memory with input 0"):
        bind("sgd", SGD, [arena[:8], f32(8), f32(8), f32()], [arena[4:], f32(8)])


SQUARES = f32(2, 2, 2), f32(2, 2, 2)
FROZEN = f32(2, 2, 2)
FROZEN.flags.writeable = False
FOREIGN = np.lib.stride_tricks.as_strided(f32(8), (2, 2, 2), (400, 8, 4))
BACKWARDS = f32(2, 2, 2)[::-1]
ODD = np.zeros((2, 2, 3), "f4").view("u1")[:, :, 2:10].view("f4")
TWICE: Array = np.ndarray((2, 2, 2), np.float32, f32(8), strides=(8, 4, 4))


@pytest.mark.parametrize(
    ("inputs", "output", "reason"),
    [
        ([FOREIGN, SQUARES[1]], f32(2, 2, 2), "no view of an array that holds"),
        ([SQUARES[0], FOREIGN[:, :, ::-1][:, :, ::-1]], f32(2, 2, 2), "no view"),
        (SQUARES, FOREIGN, "no view of an array that holds"),
        ([BACKWARDS, SQUARES[1]], f32(2, 2, 2), "strides of whole elements"),
        (SQUARES, BACKWARDS, "strides of whole elements"),
        ([ODD, SQUARES[1]], f32(2, 2, 2), "aligned"),
        (SQUARES, FROZEN, "output 0 is read-only"),
        (SQUARES, np.broadcast_to(f32(2, 2), (2, 2, 2)), "output 0 is read-only"),
        (SQUARES, TWICE, "output 0 may hold an element twice"),
        ([f32(2, 2, 4)[:, :, ::2], SQUARES[1]], f32(2, 2, 2), "must be one element"),
        (SQUARES, f32(2, 2, 4)[:, :, ::2], "must be one element"),
    ],
)
def test_views_that_are_refused(
    inputs: list[Array], output: Array, reason: str
) -> None:
    with pytest.raises(BindingError, match=reason):
        bind("bmm", MATMUL, inputs, [output])


def test_batch_axes_that_do_not_merge_are_refused() -> None:
    x = f32(2, 3, 4, 6, 6)
    with pytest.raises(BindingError, match="3 separate batch axes"):
        bind("bmm", MATMUL, [x.transpose(2, 1, 0, 3, 4)] * 2, [f32(4, 3, 2, 6, 6)])


def test_a_view_that_overlaps_is_refused() -> None:
    arena = f32(3, 2, 2)
    with pytest.raises(BindingError, match="output 0 shares memory with input 0"):
        bind("bmm", MATMUL, [arena[:2].mT, arena[:2]], [arena[1:]])


def test_neighbouring_buffers_of_one_arena_are_fine() -> None:
    arena = np.array([1, -1, 9, 9], np.float32)
    assert bind("relu", {}, [arena[:2]], [arena[2:]])() == 0
    assert arena.tolist() == [1, -1, 1, 0]


ADAMW: Attributes = {"lr": 0.5, "beta1": 0.5, "beta2": 0.75, "eps": 0.25}
DECAY: Attributes = {"weight_decay": 0.5}
# Moments and scalars of each optimiser, beside p and g.
OPTIMISERS: list[tuple[str, Attributes, int, int]] = [
    ("sgd", SGD, 1, 1),
    ("sgd", {**SGD, **DECAY, "nesterov": 1}, 1, 1),
    ("adamw", {**ADAMW, **DECAY}, 2, 3),
    ("lion", {"lr": 0.5, "beta1": 0.5, "beta2": 0.75, **DECAY}, 1, 1),
]


@pytest.mark.parametrize("n", [5, 100_003])
@pytest.mark.parametrize("over", [0, 1], ids=["parameter", "gradient"])
@pytest.mark.parametrize(("name", "attributes", "moments", "scalars"), OPTIMISERS)
def test_an_optimiser_may_write_what_it_reads(
    name: str, attributes: Attributes, moments: int, scalars: int, over: int, n: int
) -> None:
    """The parameter over itself or over the gradient, each moment over itself."""
    random = np.random.default_rng(5)
    state = [np.abs(random.standard_normal(n)).astype("f4") for _ in range(2 + moments)]
    state[1][::2] *= -1
    half = np.asarray(np.float32(0.5))
    case = Case(name, (*state, *[half] * scalars), attributes)
    expected = case.run(kernels)
    for isa in kernels.isas():
        inputs = [array.copy() for array in state]
        written = [inputs[over], *inputs[2:]]
        with settings(isa=isa):
            assert bind(name, attributes, (*inputs, *[half] * scalars), written)() == 0
        assert_same((0, written), expected)


def test_more_scratch_than_any_program_may_use_is_refused() -> None:
    shape = (1 << 16, 1, 1, 1)
    huge = np.broadcast_to(np.float32(0), (1 << 16, 1 << 16, 1, 1))
    assert huge.nbytes > 1 << 33
    w = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), huge.shape, (0,) * 4)
    with pytest.raises(BindingError, match="C-contiguous"):
        bind("conv2d", CONV, [f32(1, 1 << 16, 1, 1), w], [f32(1, *shape[:1], 1, 1)])


def test_deep_loop_nests_are_refused() -> None:
    shape = (2, 1, 2, 1, 2, 1, 2, 1, 2, 1)
    other = (1, 2, 1, 2, 1, 2, 1, 2, 1, 2)
    with pytest.raises(BindingError, match="at most 8"):
        bind("add", {}, [f32(*shape), f32(*other)], [f32(*(2 for _ in shape))])
    axes = tuple(range(0, 10, 2))
    with pytest.raises(BindingError, match="alternates"):
        bind(
            "sum",
            {"axes": axes, "keepdim": 1},
            [f32(*(2 for _ in range(11)))],
            [f32(*(1 if i in axes else 2 for i in range(11)))],
        )


def test_refusals_are_one_family() -> None:
    assert issubclass(BindingError, KernelError)
    assert issubclass(BindingError, ValueError)
