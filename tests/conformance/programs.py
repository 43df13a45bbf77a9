"""The models of the conformance trainings; ``make conformance-programs`` stores them.

The stored bytes are what conformance is about: models and capture may change without
them. Storing them anew changes the pinned hash, so ``make vectors`` belongs after it.
"""

import sys
from collections.abc import Callable, Mapping

import torch
from torch import nn
from typing_extensions import override

from ml_verifier.capture import Captured, capture
from ml_verifier.conformance.trainings import PROGRAMS, TRAININGS


class Cnn(nn.Module):
    """Strided and grouped convolution, batch norm, both poolings, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.third = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.last_norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(64, 10)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 3, 14, 14] -> logits[B, 10]."""
        x = torch.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = torch.tanh(self.second(x)) + x
        x = torch.relu(self.last_norm(self.third(x)))
        x = nn.functional.avg_pool2d(x, 2)
        logits: torch.Tensor = self.head(x.flatten(1))
        return logits


def mlp_adamw() -> Captured:
    model = nn.Sequential(
        nn.Linear(300, 48), nn.Tanh(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10)
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    sample = torch.zeros(32, 300), torch.zeros(32, dtype=torch.int64)
    return capture(model, nn.CrossEntropyLoss(), optimiser, sample)


def cnn_sgd() -> Captured:
    model = Cnn()
    optimiser = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3
    )
    sample = torch.zeros(8, 3, 14, 14), torch.zeros(8, dtype=torch.int64)
    return capture(model, nn.functional.cross_entropy, optimiser, sample)


def mlp_sgd() -> Captured:
    model = nn.Sequential(nn.Linear(17, 33), nn.Sigmoid(), nn.Linear(33, 7))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    sample = torch.zeros(16, 17), torch.zeros(16, dtype=torch.int64)
    return capture(model, nn.CrossEntropyLoss(), optimiser, sample)


MODELS: Mapping[str, Callable[[], Captured]] = {
    "mlp_adamw": mlp_adamw,
    "cnn_sgd": cnn_sgd,
    "mlp_sgd": mlp_sgd,
}


def main() -> None:
    PROGRAMS.mkdir(exist_ok=True)
    for training in TRAININGS:
        encoded = MODELS[training.name]().program.encoded
        training.path.write_bytes(encoded)
        sys.stdout.write(f"{training.path}: {len(encoded)} bytes\n")


if __name__ == "__main__":
    main()
