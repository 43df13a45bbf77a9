"""Models as their users write them, tiny."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn
from typing_extensions import override


class BasicBlock(nn.Module):
    """The block of ResNet-18."""

    expansion = 1

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample = _shortcut(inner, outer, stride)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, C, H, W] -> [B, C', H', W']."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)  # type: ignore[no-any-return]  # torch's layers are untyped


class Bottleneck(nn.Module):
    """The block of ResNet-50."""

    expansion = 4

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, stride, 1, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.conv3 = nn.Conv2d(outer, outer * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inner, outer * 4, stride)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, C, H, W] -> [B, C', H', W']."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)  # type: ignore[no-any-return]


def _shortcut(inner: int, outer: int, stride: int) -> nn.Module | None:
    if inner == outer and stride == 1:
        return None
    conv = nn.Conv2d(inner, outer, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer))


class ResNet(nn.Module):
    """Stem, two stages, global pool, head."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        wide = 4 * block.expansion
        self.layer1 = nn.Sequential(block(4, 4), block(wide, 4))
        self.layer2 = nn.Sequential(block(wide, 8, 2), block(8 * block.expansion, 8))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * block.expansion, 5)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, 3, H, W] -> logits[B, 5]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(torch.flatten(x, 1))
        return logits


class ViT(nn.Module):
    """Patches, a class token, learned positions, encoder blocks."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 5, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            2,
            16,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, 3, 8, 8] -> logits[B, 5]."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1) + self.positions
        logits: Tensor = self.head(self.norm(self.encoder(x))[:, 0])
        return logits


class Attention(nn.Module):
    """Causal self-attention as nanoGPT writes it, with its mask in a buffer."""

    def __init__(self, width: int, heads: int, block: int, dropout: float) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.heads = heads
        mask = torch.tril(torch.ones(block, block)).view(1, 1, block, block)
        self.register_buffer("bias", mask)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, T, D] -> [B, T, D]."""
        b, t, d = x.shape
        q, k, v = (
            part.view(b, t, self.heads, d // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(d, dim=2)
        )
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        mask = self.get_buffer("bias")[:, :, :t, :t]
        scores = scores.masked_fill(mask == 0, float("-inf"))
        y = self.dropout(F.softmax(scores, dim=-1)) @ v
        y = y.transpose(1, 2).contiguous().view(b, t, d)
        out: Tensor = self.c_proj(y)
        return out


class Block(nn.Module):
    """Attention and an MLP, both with a residual."""

    def __init__(self, width: int, heads: int, block: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, block, dropout)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, T, D] -> [B, T, D]."""
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Gpt(nn.Module):
    """A small GPT with tied embeddings."""

    def __init__(
        self,
        *,
        vocabulary: int = 11,
        block: int = 300,
        width: int = 8,
        heads: int = 2,
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(block, width)
        blocks = (Block(width, heads, block, dropout) for _ in range(layers))
        self.h = nn.ModuleList(blocks)
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        """tokens[B, T] -> logits[B, T, V]."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.wte(tokens) + self.wpe(positions)
        for block in self.h:
            x = block(x)
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits


RECURRENT: dict[str, Callable[..., nn.Module]] = {
    "RNN": nn.RNN,
    "GRU": nn.GRU,
    "LSTM": nn.LSTM,
}


class RecurrentLanguageModel(nn.Module):
    """Embedding, a recurrent stack, head."""

    def __init__(
        self, kind: str, *, layers: int = 1, bidirectional: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=0)
        self.recurrent = RECURRENT[kind](
            6, 5, num_layers=layers, bidirectional=bidirectional, batch_first=True
        )
        self.head = nn.Linear(10 if bidirectional else 5, 11)

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        """tokens[B, T] -> logits[B, T, V]."""
        x, _ = self.recurrent(self.embedding(tokens))
        logits: Tensor = self.head(x)
        return logits


class Cells(nn.Module):
    """A loop over cells, as one writes it by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.rnn = (
            nn.LSTMCell(4, 5),
            nn.GRUCell(5, 5),
            nn.RNNCell(5, 3),
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, T, 4] -> [B, 3]."""
        h, c = x.new_zeros(len(x), 5), x.new_zeros(len(x), 5)
        g, r = x.new_zeros(len(x), 5), x.new_zeros(len(x), 3)
        for t in range(x.shape[1]):
            h, c = self.lstm(x[:, t], (h, c))
            g = self.gru(h, g)
            r = self.rnn(g, r)
        return r


class RmsNorm(nn.Module):
    """Root mean square norm, as Llama writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[..., D] -> [..., D]."""
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(x.dtype)


class Masked(nn.Module):
    """Multi-head attention with both kinds of masks."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = RmsNorm(8)

    @override
    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """x[B, T, 8], padding[B, T] of 0 and 1 -> [B, T, 8]."""
        causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        y, _ = self.attention(
            x,
            x,
            x,
            key_padding_mask=padding == 0,
            attn_mask=causal != 0,
            need_weights=False,
        )
        out: Tensor = self.norm(y + x)
        return out
