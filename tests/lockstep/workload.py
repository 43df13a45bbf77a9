"""A tiny job that the tests train: a linear classifier on made-up points."""

import numpy as np

from lockstep.training import Work
from ml_verifier.data import Dataset, encode_records
from ml_verifier.operators import BY_NAME
from ml_verifier.program import Constant, Field, Node, Program, Slot, Uniform, build
from ml_verifier.types import f32, i64

IGNORE = 2**32 - 100  # -100, as torch has it
BATCH, FEATURES, CLASSES, RECORDS = 4, 3, 2, 10


def program(rate: float = 0.5) -> Program:
    """Softmax regression with SGD; values 0..2 slots, 3..4 fields, then nodes."""
    slots = (
        Slot("loss", f32(), Constant(0.0)),
        Slot("weight", f32(CLASSES, FEATURES), Uniform(-0.5, 0.5)),
        Slot("weight.momentum", f32(CLASSES, FEATURES), Constant(0.0)),
    )
    fields = (Field("x", f32(FEATURES)), Field("y", i64()))
    nodes = (
        Node(BY_NAME["matmul"], (3, 1), {"ta": 0, "tb": 1}),  # 5: x w^T
        Node(BY_NAME["log_softmax"], (5,), {}),  # 6
        Node(BY_NAME["nll_loss"], (6, 4), {"ignore": IGNORE}),  # 7 and 8, their number
        Node(BY_NAME["constant"], (), {"shape": (), "value": 1.0}),  # 9
        Node(
            BY_NAME["nll_loss_backward"],
            (9, 4, 8),
            {"classes": CLASSES, "ignore": IGNORE},
        ),  # 10
        Node(BY_NAME["log_softmax_backward"], (10, 6), {}),  # 11
        Node(BY_NAME["matmul"], (11, 3), {"ta": 1, "tb": 0}),  # 12: dw
        Node(
            BY_NAME["sgd"],
            (1, 12, 2, 9),
            {
                "lr": float(np.float32(rate)),
                "momentum": 0.5,
                "weight_decay": 0.0,
                "nesterov": 0,
            },
        ),  # 13, 14
    )
    return build(BATCH, slots, fields, nodes, (7, 13, 14))


def work(steps: int = 40, commit_every: int = 1, rate: float = 0.5) -> Work:
    made = program(rate)
    points = np.random.default_rng(1).normal(size=(RECORDS, FEATURES))
    labels = (points[:, 0] > 0).astype(np.int64)
    data = encode_records(made, [points.astype(np.float32), labels])
    return Work(made, 7, Dataset(made, data), steps, commit_every)
