"""The operators compute what their names say: approximate agreement with torch."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from ml_verifier import kernels
from ml_verifier.kernels import AttributeValue
from tests.kernels.cases import Array, Attributes, Case

RANDOM = np.random.default_rng(11)


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def run(name: str, *inputs: Array, **attributes: AttributeValue) -> list[Array]:
    status, outputs = Case(name, inputs, attributes).run(kernels)
    assert status == 0
    return outputs


def close(found: Array, expected: torch.Tensor, tolerance: float = 2e-5) -> None:
    want = expected.detach().numpy()
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=tolerance, atol=tolerance)


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.copy()).requires_grad_()


def backward(y: torch.Tensor, g: Array | None) -> None:
    gradient = None if g is None else torch.from_numpy(g)
    y.backward(gradient)  # type: ignore[no-untyped-call]  # torch leaves it untyped


@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_matmul(ta: int, tb: int) -> None:
    a, b = (
        normal(*((300, 40) if ta else (40, 300))),
        normal(*((30, 300) if tb else (300, 30))),
    )
    left, right = (torch.from_numpy(x) for x in (a, b))
    expected = (left.T if ta else left) @ (right.T if tb else right)
    close(run("matmul", a, b, ta=ta, tb=tb)[0], expected, 1e-4)


UNARY: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "relu": (torch.relu, "input"),
    "tanh": (torch.tanh, "output"),
    "sigmoid": (torch.sigmoid, "output"),
    "exp": (torch.exp, ""),
    "log": (torch.log, ""),
    "sqrt": (torch.sqrt, ""),
    "gelu": (functional.gelu, "input"),
    "gelu_tanh": (partial(functional.gelu, approximate="tanh"), "input"),
    "silu": (functional.silu, "input"),
    "erf": (torch.erf, ""),
    "sin": (torch.sin, ""),
    "cos": (torch.cos, ""),
    "neg": (torch.neg, ""),
    "abs": (torch.abs, ""),
    "sign": (torch.sign, ""),
    "floor": (torch.floor, ""),
    "ceil": (torch.ceil, ""),
    "trunc": (torch.trunc, ""),
    "round": (torch.round, ""),
    "rsqrt": (torch.rsqrt, ""),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary_and_its_gradient(name: str) -> None:
    function, saved = UNARY[name]
    x, g = normal(100), normal(100)
    x = np.abs(x) + np.float32(0.1) if name in {"log", "sqrt", "rsqrt"} else x
    t = tensor(x)
    y = function(t)
    close(run(name, x)[0], y)
    if not saved:
        return
    backward(y, g)
    kept = x if saved == "input" else y.detach().numpy()
    assert t.grad is not None
    close(run(f"{name}_backward", g, kept)[0], t.grad)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum", "minimum"])
def test_binary(name: str) -> None:
    a, b = normal(4, 1, 5), np.abs(normal(3, 1)) + np.float32(1)
    expected = getattr(torch, name)(torch.from_numpy(a), torch.from_numpy(b))
    close(run(name, a, b)[0], expected)


@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keep", [0, 1])
def test_sum(axes: tuple[int, ...], keep: int) -> None:
    x = normal(5, 6, 7)
    expected = torch.from_numpy(x)
    if axes:
        expected = expected.sum(axes, keepdim=bool(keep))
    close(run("sum", x, axes=axes, keepdim=keep)[0], expected)


def test_cross_entropy_and_its_gradient() -> None:
    x, target = normal(20, 7), RANDOM.integers(0, 7, 20)
    t = tensor(x)
    loss = functional.cross_entropy(t, torch.from_numpy(target))
    backward(loss, None)
    (logp,) = run("log_softmax", x)
    found, count = run("nll_loss", logp, target, ignore=2**32 - 100)
    close(found, loss)
    one = np.asarray(np.float32(1))
    (g,) = run("nll_loss_backward", one, target, count, classes=7, ignore=2**32 - 100)
    assert t.grad is not None
    close(run("log_softmax_backward", g, logp)[0], t.grad)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 1), (1, 1), (1, 1), 1),
        ((2, 3), (0, 2), (1, 1), 2),
        ((1, 2), (3, 1), (2, 1), 4),
    ],
)
def test_convolution_and_its_gradients(
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> None:
    x, w = normal(3, 4, 12, 11), normal(8, 4 // groups, 3, 2)
    tx, tw = tensor(x), tensor(w)
    y = functional.conv2d(tx, tw, None, stride, padding, dilation, groups)
    attributes: Attributes = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    close(run("conv2d", x, w, **attributes)[0], y)
    g = normal(*y.shape)
    backward(y, g)
    assert tx.grad is not None
    assert tw.grad is not None
    given_x = run("conv2d_backward_input", g, w, input_shape=x.shape, **attributes)
    close(given_x[0], tx.grad)
    given_w = run("conv2d_backward_weight", g, x, weight_shape=w.shape, **attributes)
    close(given_w[0], tw.grad, 1e-4)


@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_bmm(ta: int, tb: int) -> None:
    a = normal(2, 3, *((70, 20) if ta else (20, 70)))
    b = normal(2, 3, *((30, 70) if tb else (70, 30)))
    left, right = (torch.from_numpy(x) for x in (a, b))
    expected = (left.mT if ta else left) @ (right.mT if tb else right)
    close(run("bmm", a, b, ta=ta, tb=tb)[0], expected, 1e-4)


@pytest.mark.parametrize("safe", [0, 1])
def test_softmax_and_its_gradient(safe: int) -> None:
    x, g = normal(4, 5, 30), normal(4, 5, 30)
    x[1, 2, 3:] = -np.inf
    if safe:
        x[0, 4] = -np.inf
    t = tensor(x)
    y = torch.ops.aten._safe_softmax(t, -1) if safe else torch.softmax(t, -1)
    (found,) = run("softmax", x, safe=safe)
    close(found, y)
    backward(y, g)
    assert t.grad is not None
    close(run("softmax_backward", g, found)[0], t.grad)


def test_layer_norm_and_its_gradients() -> None:
    x, g, w, b = normal(6, 7, 40), normal(6, 7, 40), normal(40), normal(40)
    eps = float(np.float32(1e-5))
    tx, tw, tb = tensor(x), tensor(w), tensor(b)
    expected = functional.layer_norm(tx, (40,), tw, tb, eps)
    backward(expected, g)
    y, mean, rstd = run("layer_norm", x, w, b, eps=eps)
    close(y, expected)
    dx, dw, db = run("layer_norm_backward", g, x, w, mean, rstd)
    for found, of in ((dx, tx), (dw, tw), (db, tb)):
        assert of.grad is not None
        close(found, of.grad, 1e-4)


def test_max_pool_and_its_gradient() -> None:
    x = normal(2, 3, 11, 10)
    t = tensor(x)
    y, index = functional.max_pool2d(
        t, (3, 2), (2, 1), (1, 1), (1, 2), return_indices=True
    )
    found, where = run(
        "max_pool2d", x, kernel=(3, 2), stride=(2, 1), padding=(1, 1), dilation=(1, 2)
    )
    close(found, y)
    assert (where == index.numpy()).all()
    g = normal(*y.shape)
    backward(y, g)
    assert t.grad is not None
    close(run("max_pool2d_backward", g, where, input_shape=x.shape)[0], t.grad)


@pytest.mark.parametrize("include", [0, 1])
def test_average_pool_and_its_gradient(include: int) -> None:
    x = normal(2, 3, 11, 10)
    t = tensor(x)
    y = functional.avg_pool2d(
        t, (3, 2), (2, 1), (1, 1), count_include_pad=bool(include)
    )
    window: Attributes = {
        "kernel": (3, 2),
        "stride": (2, 1),
        "padding": (1, 1),
        "count_include_pad": include,
    }
    close(run("avg_pool2d", x, **window)[0], y)
    g = normal(*y.shape)
    backward(y, g)
    assert t.grad is not None
    close(run("avg_pool2d_backward", g, input_shape=x.shape, **window)[0], t.grad)


def test_batch_norm_and_its_gradients() -> None:
    x, g = normal(6, 3, 5, 4), normal(6, 3, 5, 4)
    w, b, rm = normal(3), normal(3), normal(3)
    rv = np.abs(normal(3))
    momentum, eps = float(np.float32(0.1)), float(np.float32(1e-5))
    tx, tw, tb = tensor(x), tensor(w), tensor(b)
    mean_after, variance_after = (
        torch.from_numpy(rm.copy()),
        torch.from_numpy(rv.copy()),
    )
    expected = functional.batch_norm(
        tx,
        mean_after,
        variance_after,
        tw,
        tb,
        training=True,
        momentum=momentum,
        eps=eps,
    )
    backward(expected, g)
    y, mean, rstd, next_mean, next_variance = run(
        "batch_norm", x, w, b, rm, rv, momentum=momentum, eps=eps
    )
    close(y, expected)
    close(next_mean, mean_after)
    close(next_variance, variance_after)
    dx, dw, db = run("batch_norm_backward", g, x, w, mean, rstd)
    for found, of in ((dx, tx), (dw, tw), (db, tb)):
        assert of.grad is not None
        close(found, of.grad, 1e-4)


@pytest.mark.parametrize("nesterov", [0, 1])
def test_sgd(nesterov: int) -> None:
    p, m = normal(50), np.zeros(50, np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(p.copy()))
    step = torch.optim.SGD(
        [parameter], 0.125, 0.75, weight_decay=0.25, nesterov=bool(nesterov)
    )
    for _ in range(3):
        g = normal(50)
        parameter.grad = torch.from_numpy(g.copy())
        step.step()
        p, m = run(
            "sgd",
            p,
            g,
            m,
            np.asarray(np.float32(0.5)),
            lr=0.25,
            momentum=0.75,
            weight_decay=0.25,
            nesterov=nesterov,
        )
    close(p, parameter)


def test_adamw_with_its_corrections() -> None:
    p, m, v = normal(50), np.zeros(50, np.float32), np.zeros(50, np.float32)
    c1 = c2 = np.asarray(np.float32(0))
    half = np.asarray(np.float32(0.5))
    beta1, beta2, eps = (float(np.float32(x)) for x in (0.9, 0.999, 1e-8))
    parameter = torch.nn.Parameter(torch.from_numpy(p.copy()))
    step = torch.optim.AdamW([parameter], 0.125, (beta1, beta2), eps, 0.25)
    attributes = {"lr": 0.25, "beta1": beta1, "beta2": beta2, "eps": eps}
    for _ in range(4):
        g = normal(50)
        parameter.grad = torch.from_numpy(g.copy())
        step.step()
        (c1,), (c2,) = (
            run("correction", c1, beta=beta1),
            run("correction", c2, beta=beta2),
        )
        p, m, v = run(
            "adamw", p, g, m, v, c1, c2, half, weight_decay=0.25, **attributes
        )
    close(p, parameter)


def test_movement() -> None:
    x = normal(2, 3, 4)
    np.testing.assert_array_equal(
        run("transpose", x, permutation=(2, 0, 1))[0], x.transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(run("reshape", x, shape=(6, 4))[0], x.reshape(6, 4))
    np.testing.assert_array_equal(
        run("broadcast", x, shape=(5, 2, 3, 4))[0], np.broadcast_to(x, (5, 2, 3, 4))
    )
    np.testing.assert_array_equal(
        run("constant", shape=(2, 2), value=0.5)[0], np.full((2, 2), 0.5, np.float32)
    )
