"""Threads, instruction sets, forks and the host's floating-point mode change no bit."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ml_verifier import kernels
from ml_verifier.kernels import KernelError
from tests.kernels.cases import (
    Array,
    Attributes,
    Case,
    assert_same,
    bits,
    settings,
    values,
)

RANDOM = np.random.default_rng(3)
SAME: Attributes = {
    "stride": (1, 1),
    "padding": (1, 1),
    "dilation": (1, 1),
    "groups": 1,
}
X, W, Y = (5, 8, 20, 21), (24, 8, 3, 3), (5, 24, 20, 21)
BIG = 150_001


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def optimiser(count: int) -> list[Array]:
    return [np.abs(normal(BIG)) for _ in range(count)]


HALF = np.asarray(np.float32(0.5))
NUMBER: Attributes = {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.25}
# Large enough to be shared among threads.
LARGE = [
    Case("matmul", (normal(301, 513), normal(257, 513)), {"ta": 0, "tb": 1}),
    Case("matmul", (normal(513, 10), normal(513, 999)), {"ta": 1, "tb": 0}),
    Case("matmul", (normal(999, 300), normal(300, 10)), {"ta": 0, "tb": 0}),
    Case("conv2d", (normal(*X), normal(*W)), SAME),
    Case("conv2d", (normal(1, *X[1:]), normal(*W)), SAME),
    Case("conv2d_backward_input", (normal(*Y), normal(*W)), {**SAME, "input_shape": X}),
    Case(
        "conv2d_backward_input",
        (normal(1, *Y[1:]), normal(*W)),
        {**SAME, "input_shape": (1, *X[1:])},
    ),
    Case(
        "conv2d_backward_weight", (normal(*Y), normal(*X)), {**SAME, "weight_shape": W}
    ),
    *(Case(name, (normal(BIG),)) for name in ("relu", "exp", "tanh", "sigmoid")),
    *(Case(name, (normal(BIG), normal(BIG))) for name in ("add", "mul", "div")),
    Case("add", (normal(300, 700), normal(700))),
    Case("sum", (normal(300, 700),), {"axes": (0,), "keepdim": 0}),
    Case("sum", (normal(300, 700),), {"axes": (1,), "keepdim": 0}),
    Case("log_softmax", (normal(3000, 50),)),
    Case("sgd", [*optimiser(3), HALF], {**NUMBER, "nesterov": 1}),
    Case(
        "adamw",
        [*optimiser(4), HALF, np.asarray(np.float32(0.25)), HALF],
        {"lr": 0.5, "beta1": 0.5, "beta2": 0.75, "eps": 0.25, "weight_decay": 0.5},
    ),
    Case(
        "batch_norm",
        (normal(*Y), *(np.abs(normal(24)) for _ in range(4))),
        {"momentum": 0.5, "eps": 0.25},
    ),
    Case(
        "max_pool2d",
        (normal(*Y),),
        {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)},
    ),
    Case("transpose", (normal(300, 700),), {"permutation": (1, 0)}),
]
IDS = [f"{i}-{case.name}" for i, case in enumerate(LARGE)]


@pytest.mark.parametrize("case", LARGE, ids=IDS)
def test_threads_and_instruction_sets_give_the_same_bits(case: Case) -> None:
    with settings(threads=1):
        expected = case.run(kernels)
    for threads in (2, 3, 7):
        with settings(threads=threads):
            assert_same(case.run(kernels), expected)
    for isa in kernels.isas():
        with settings(isa=isa, threads=2):
            assert_same(case.run(kernels), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_flushed_denormals_of_the_host_do_not_leak_in(threads: int) -> None:
    tiny = values(1, (BIG,), "tiny")
    cases = [Case("add", (tiny, tiny)), Case("mul", (tiny, normal(BIG)))]
    cases += [Case("exp", (np.full(BIG, -100, np.float32),)), LARGE[0]]
    with settings(threads=threads):
        expected = [case.run(kernels) for case in cases]
        assert torch.set_flush_denormal(True)
        try:
            found = [case.run(kernels) for case in cases]
            leaked = torch.tensor([2.0**-149]) + torch.tensor([2.0**-149])
        finally:
            torch.set_flush_denormal(False)
    assert leaked.item() == 0.0, "the host's mode did not flush: nothing was tested"
    for a, b in zip(found, expected, strict=True):
        assert_same(a, b)


def test_the_hosts_floating_point_mode_is_restored() -> None:
    assert torch.set_flush_denormal(True)
    try:
        Case("relu", (normal(10),)).run(kernels)
        leaked = torch.tensor([2.0**-149]) + torch.tensor([2.0**-149])
    finally:
        torch.set_flush_denormal(False)
    assert leaked.item() == 0.0


def test_python_threads_may_call_at_once() -> None:
    cases = LARGE[:8]
    expected = [bits(case.run(kernels)[1]) for case in cases]
    with settings(threads=2), ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = list(pool.map(lambda case: bits(case.run(kernels)[1]), cases))
            assert found == expected


FORK = """
import os, sys
import numpy as np
from ml_verifier import kernels
kernels.set_threads(3)
a = np.random.default_rng(0).standard_normal((300, 600)).astype("f4")
y = np.zeros((300, 300), "f4")
call = kernels.bind("matmul", {"ta": 0, "tb": 1}, [a, a], [y])
assert call() == 0
expected = y.tobytes()
for _ in range(3):
    y[:] = 0
    child = os.fork()
    assert call() == 0 and y.tobytes() == expected
    if child == 0:
        kernels.set_threads(2)
        y[:] = 0
        assert call() == 0 and y.tobytes() == expected
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_fork_starts_its_own_threads() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    subprocess.run(command, check=True, timeout=60)  # noqa: S603  our own interpreter


def test_threads_are_counted() -> None:
    with settings(threads=3):
        assert kernels.threads() == 3


@pytest.mark.parametrize("n", [0, -1, 257])
def test_threads_out_of_range_are_refused(n: int) -> None:
    before = kernels.threads()
    with pytest.raises(KernelError, match="1 to 256"):
        kernels.set_threads(n)
    assert kernels.threads() == before


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(KernelError, match="no instruction set 'sse9'"):
        kernels.set_isa("sse9")


def test_the_best_instruction_set_is_used_and_portable_always_there() -> None:
    assert kernels.isa() == kernels.isas()[0]
    assert kernels.isas()[-1] == "portable"


def test_a_bound_call_repeats_on_new_contents() -> None:
    x, y = np.array([1, -1], np.float32), np.empty(2, np.float32)
    call = kernels.bind("relu", {}, [x], [y])
    assert (call(), y.tolist()) == (0, [1.0, 0.0])
    x[:] = -3, 4
    assert (call(), y.tolist()) == (0, [0.0, 4.0])


def test_a_bound_call_keeps_its_buffers_alive() -> None:
    y = np.empty(BIG, np.float32)
    call = kernels.bind("relu", {}, [np.ones(BIG, np.float32)], [y])
    junk = [np.zeros(BIG, np.float32) for _ in range(4)]
    assert call() == 0
    assert len(junk) == 4
    assert y.min() == 1
