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


class Block(nn.Module):
    """Causal attention and a GELU layer, each behind a layer norm and a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.second_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, T, D] -> [B, T, D]."""
        batch, length, width = x.shape
        query, key, value = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.attention(self.first_norm(x)).split(width, 2)
        )
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True
        )
        x = x + self.mix(mixed.transpose(1, 2).reshape(batch, length, width))
        hidden = nn.functional.gelu(self.up(self.second_norm(x)))
        result: torch.Tensor = x + self.down(hidden)
        return result


class Gpt(nn.Module):
    """Two blocks between embeddings and logits."""

    def __init__(self, vocabulary: int, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, T] -> logits[B, T, vocabulary]."""
        hidden = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        logits: torch.Tensor = self.head(self.norm(self.blocks(hidden)))
        return logits


def token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


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


def gpt_adamw() -> Captured:
    model = Gpt(vocabulary=48, length=12, width=32, heads=4)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    sample = torch.zeros(2, 4, 12, dtype=torch.int64)
    return capture(model, token_loss, optimiser, tuple(sample))


MODELS: Mapping[str, Callable[[], Captured]] = {
    "mlp_adamw": mlp_adamw,
    "cnn_sgd": cnn_sgd,
    "gpt_adamw": gpt_adamw,
}


def main() -> None:
    PROGRAMS.mkdir(exist_ok=True)
    for training in TRAININGS:
        encoded = MODELS[training.name]().program.encoded
        training.path.write_bytes(encoded)
        sys.stdout.write(f"{training.path}: {len(encoded)} bytes\n")


if __name__ == "__main__":
    main()
