"""The models that training is measured on, as users write them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


def mlp() -> nn.Module:
    """784-512-10."""
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))


class Cnn(nn.Module):
    """Two convolutions, batch norm, pooling, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.head = nn.Linear(32 * 49, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 1, 28, 28] -> logits[B, 10]."""
        x = torch.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        return self.head(torch.relu(self.second(x)).flatten(1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, C, H, W] -> y[B, C', H/stride, W/stride]."""
        y = functional.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return functional.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-18's eight blocks on 32x32 images, a quarter as wide."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        inputs = width
        for stage in range(4):
            for index in range(2):
                stride = 2 if stage and not index else 1
                blocks.append(BasicBlock(inputs, width << stage, stride))
                inputs = width << stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 3, 32, 32] -> logits[B, 10]."""
        x = self.blocks(functional.relu(self.norm(self.stem(x))))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, T, D] -> y[B, T, D]."""
        b, t, d = x.shape
        q, k, v = (
            part.view(b, t, self.heads, d // self.heads).transpose(1, 2)
            for part in self.qkv(self.first(x)).split(d, 2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.down(functional.gelu(self.up(self.second(x))))


class Gpt(nn.Module):
    """A decoder-only language model over 4,096 tokens."""

    VOCABULARY, CONTEXT = 4096, 128

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(self.VOCABULARY, width)
        self.places = nn.Embedding(self.CONTEXT, width)
        blocks = (Block(width, heads, causal=True) for _ in range(layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token numbers i64[B, T] -> logits[B, T, V]."""
        places = torch.arange(tokens.shape[1])
        x = self.tokens(tokens) + self.places(places)
        return self.head(self.norm(self.blocks(x)))


class Vit(nn.Module):
    """A vision transformer on 32x32 images in 4x4 patches."""

    def __init__(self, width: int = 192, heads: int = 3, layers: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.summary = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, 65, width))
        blocks = (Block(width, heads, causal=False) for _ in range(layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, 3, 32, 32] -> logits[B, 10]."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.summary.expand(len(x), -1, -1), x], dim=1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


def token_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over every position."""
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten())


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Subject:
    """A model, its loss and the shape of its data.

    Attributes:
        name: In figures.
        build: Makes the model.
        loss: Of (output, target).
        batch: Records per step.
        shape: Of one input; empty: tokens of ``Gpt.CONTEXT``.
    """

    name: str
    build: Callable[[], nn.Module]
    loss: Loss
    batch: int
    shape: tuple[int, ...] = ()

    def data(self, records: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return made-up inputs and targets."""
        generator = torch.Generator().manual_seed(0)
        if self.shape:
            x = torch.randn(records, *self.shape, generator=generator)
            return x, torch.randint(10, (records,), generator=generator)
        size = (records, Gpt.CONTEXT + 1)
        tokens = torch.randint(Gpt.VOCABULARY, size, generator=generator)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _image(
    name: str, build: Callable[[], nn.Module], batch: int, *shape: int
) -> Subject:
    return Subject(name, build, nn.CrossEntropyLoss(), batch, shape)


def _gpt(width: int, heads: int, layers: int, batch: int) -> Subject:
    return Subject(
        f"gpt_d{width}", lambda: Gpt(width, heads, layers), token_loss, batch
    )


SUBJECTS = (
    _image("mlp_b32", mlp, 32, 784),
    _image("mlp_b512", mlp, 512, 784),
    _image("cnn", Cnn, 32, 1, 28, 28),
    _image("resnet", ResNet, 16, 3, 32, 32),
    _gpt(128, 4, 2, 8),
    _gpt(384, 6, 4, 4),
    _gpt(768, 12, 2, 4),
    _image("vit", Vit, 16, 3, 32, 32),
)


def parameters(model: nn.Module) -> int:
    """Return how many numbers a model trains."""
    return sum(math.prod(p.shape) for p in model.parameters() if p.requires_grad)
