"""Small real jobs that the tests of this folder share."""

import functools

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from ml_verifier.capture import Captured, capture
from ml_verifier.data import Dataset, encode_records

BATCH = 4
RECORDS = 11
SEED = 7


class Mlp(nn.Sequential):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


class Cnn(nn.Module):
    """Convolutions, batch norm, both poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.head = nn.Linear(6, 3)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 1, 8, 8] -> logits[B, 3]."""
        x = torch.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = nn.functional.avg_pool2d(torch.tanh(self.second(x)), 2)
        logits: torch.Tensor = self.head(x.flatten(1))
        return logits


def sample(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch of zeros; capture looks at shapes only."""
    return torch.zeros(BATCH, *shape), torch.zeros(BATCH, dtype=torch.int64)


@functools.cache
def mlp_job() -> Captured:
    """An MLP under SGD with momentum."""
    model = Mlp()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return capture(model, nn.CrossEntropyLoss(), optimiser, sample((6,)))


@functools.cache
def cnn_job() -> Captured:
    """A CNN under AdamW."""
    model = Cnn()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return capture(model, nn.functional.cross_entropy, optimiser, sample((1, 8, 8)))


def dataset(job: Captured, *, records: int = RECORDS, classes: int = 3) -> Dataset:
    """Deterministic records for a job."""
    generator = np.random.default_rng(1)
    shape = job.program.fields[0].type.shape
    x = generator.standard_normal((records, *shape), np.float32)
    y = generator.integers(0, classes, records)
    return Dataset(job.program, encode_records(job.program, [x, y]))
