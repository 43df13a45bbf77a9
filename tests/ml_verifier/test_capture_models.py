"""Whole models: captured as they are, they train as torch trains them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
import transformers  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor, nn
from typing_extensions import override

from ml_verifier import kernels, oracle
from ml_verifier.capture import capture
from ml_verifier.engine import Engine
from ml_verifier.program import Constant
from ml_verifier.rng import initial_tensors
from ml_verifier.types import DType
from tests.ml_verifier.harness import (
    SEED,
    arbitrary,
    captured,
    check_model,
    columns_of,
    engine_of,
    stepped,
)
from tests.ml_verifier.models import (
    BasicBlock,
    Bottleneck,
    Cells,
    Gpt,
    Masked,
    RecurrentLanguageModel,
    ResNet,
    ViT,
)

Model = tuple[
    nn.Module, Callable[..., Tensor] | None, Sequence[Tensor] | Mapping[str, Tensor]
]

_GENERATOR = torch.Generator().manual_seed(9)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_GENERATOR)


def tokens(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=_GENERATOR)


def by_token(output: Any, target: Tensor) -> Tensor:  # noqa: ANN401 - a tensor or a model's output
    """Cross entropy of each token."""
    logits = getattr(output, "logits", output)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def gpt2(attention: str) -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=13,
        n_positions=16,
        n_embd=8,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation=attention,  # type: ignore[call-arg,unused-ignore]  # its annotations leave it out
    )
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


def llama(attention: str) -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=13,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        attn_implementation=attention,  # type: ignore[call-arg,unused-ignore]  # its annotations leave it out
    )
    model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def squared(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target) ** 2).mean()


def frozen_batch_norm() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    )
    model.append(nn.Linear(4 * 36, 5))
    model[1].get_buffer("running_mean").uniform_(-1, 1, generator=_GENERATOR)
    model[1].get_buffer("running_var").uniform_(1, 2, generator=_GENERATOR)
    model[1].eval()
    return model


class Pair(nn.Module):
    """nn.Transformer from one tensor: the target is the input, shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, T, 8] -> [B, T, 8]."""
        mask = self.transformer.generate_square_subsequent_mask(x.shape[1])
        y: Tensor = self.transformer(x, x.roll(1, 1), tgt_mask=mask, tgt_is_causal=True)
        return y


class Decoder(nn.Module):
    """A decoder layer over a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    @override
    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """x[B, T, 8], memory[B, S, 8] -> [B, T, 8]."""
        y: Tensor = self.layer(x, memory)
        return y


class Noise(nn.Module):
    """Draws of four kinds, each times its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(4, 4000))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[1, 1] -> draws[4, 4000], each times its weight."""
        coin = torch.bernoulli(torch.full((4000,), 0.25))
        dice = torch.randint(1, 7, (4000,)).float()
        draws = (torch.rand(4000), torch.randn(4000), coin, dice)
        total: Tensor = (torch.stack(draws) * self.w).sum() + x.sum()
        return total


class Half(nn.Module):
    """Layers in bf16, by autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """x[B, 6] -> logits[B, 3]."""
        with torch.autocast("cpu", torch.bfloat16):
            logits: Tensor = self.layers(x)
        return logits.float()


def text(high: int, *shape: int) -> tuple[Tensor, Tensor]:
    return tokens(high, *shape), tokens(high, *shape)


MODELS: dict[str, Callable[[], Model]] = {
    "mlp": lambda: (
        nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        (normal(4, 6), tokens(3, 4)),
    ),
    "resnet_basic": lambda: (
        ResNet(BasicBlock),
        nn.CrossEntropyLoss(),
        (normal(3, 3, 24, 24), tokens(5, 3)),
    ),
    "resnet_bottleneck": lambda: (
        ResNet(Bottleneck),
        nn.CrossEntropyLoss(),
        (normal(3, 3, 24, 24), tokens(5, 3)),
    ),
    "frozen_batch_norm": lambda: (
        frozen_batch_norm(),
        nn.CrossEntropyLoss(),
        (normal(3, 3, 8, 8), tokens(5, 3)),
    ),
    "norms": lambda: (
        nn.Sequential(
            nn.Conv1d(3, 4, 3),
            nn.BatchNorm1d(4, affine=False),
            nn.GroupNorm(2, 4),
            nn.InstanceNorm1d(4, affine=True),
            nn.BatchNorm1d(4, track_running_stats=False),
            nn.RMSNorm(6),
        ),
        squared,
        (normal(3, 3, 8), normal(3, 4, 6)),
    ),
    "autoencoder": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.Mish(),
            nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.AvgPool2d(2),
            nn.PReLU(3),
            nn.Conv2d(3, 1, 3, padding=1, padding_mode="reflect"),
        ),
        nn.SmoothL1Loss(),
        (normal(2, 1, 8, 8), normal(2, 1, 8, 8)),
    ),
    "vit": lambda: (ViT(), nn.CrossEntropyLoss(), (normal(3, 3, 8, 8), tokens(5, 3))),
    "gpt": lambda: (Gpt(), by_token, text(11, 2, 6)),
    "encoder_layer": lambda: (
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        squared,
        (normal(2, 5, 8), normal(2, 5, 8)),
    ),
    "decoder_layer": lambda: (
        Decoder(),
        squared,
        (normal(2, 5, 8), normal(2, 4, 8), normal(2, 5, 8)),
    ),
    "transformer": lambda: (Pair(), squared, (normal(2, 4, 8), normal(2, 4, 8))),
    "attention_masks": lambda: (
        Masked(),
        squared,
        (normal(2, 4, 8), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]), normal(2, 4, 8)),
    ),
    "rnn": lambda: (RecurrentLanguageModel("RNN"), by_token, text(11, 2, 4)),
    "gru": lambda: (RecurrentLanguageModel("GRU", layers=2), by_token, text(11, 2, 4)),
    "lstm": lambda: (
        RecurrentLanguageModel("LSTM", layers=2, bidirectional=True),
        by_token,
        text(11, 2, 4),
    ),
    "cells": lambda: (Cells(), squared, (normal(2, 3, 4), normal(2, 3))),
    "gpt2_eager": lambda: (gpt2("eager"), by_token, text(13, 2, 5)),
    "gpt2_sdpa": lambda: (gpt2("sdpa"), by_token, text(13, 2, 5)),
    "gpt2_labels": lambda: (gpt2("sdpa"), None, text(13, 2, 5)),
    "gpt2_named": lambda: (
        gpt2("sdpa"),
        None,
        {
            "input_ids": tokens(13, 2, 5),
            "attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
            "labels": tokens(13, 2, 5),
        },
    ),
    "llama_eager": lambda: (llama("eager"), by_token, text(13, 2, 5)),
    "llama_sdpa": lambda: (llama("sdpa"), None, text(13, 2, 5)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_that_of_torch(name: str) -> None:
    torch.manual_seed(4)
    model, loss, sample = MODELS[name]()
    check_model(model, loss, sample)


@pytest.mark.parametrize(
    "name", ["resnet_basic", "vit", "lstm", "gpt2_sdpa", "llama_sdpa"]
)
def test_ten_steps_are_the_same_bits_twice(name: str) -> None:
    torch.manual_seed(4)
    model, loss, sample = MODELS[name]()
    job = captured(model, loss, sample)
    columns = columns_of(sample)
    states: list[list[bytes]] = []
    for _ in range(2):
        engine = engine_of(job, model)
        for position in range(10):
            assert engine.step(columns, range(len(columns[0])), SEED, position)
        states.append([tensor.tobytes() for tensor in engine.tensors])
    assert states[0] == states[1]


def test_kernels_and_oracle_agree_about_a_gpt() -> None:
    torch.manual_seed(4)
    model = Gpt(dropout=0.2)
    sample = text(11, 2, 6)
    job = captured(model, by_token, sample)
    fast, slow = (stepped(job, model, sample, b) for b in (kernels, oracle))
    assert fast.loss == slow.loss
    for name, gradient in fast.gradients.items():
        assert gradient.tobytes() == slow.gradients[name].tobytes(), name


def test_tied_weights_are_one_slot() -> None:
    names = [
        slot.name for slot in captured(Gpt(), by_token, text(11, 2, 6)).program.slots
    ]
    assert "wte.weight" in names
    assert "lm_head.weight" not in names


def test_dropout_draws_anew_in_each_layer_and_step() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    model.append(nn.Linear(1000, 1, bias=False))
    nn.init.ones_(model.get_parameter("2.weight"))
    sample = (torch.ones(1, 1000), torch.zeros(1, 1))
    job = captured(model, lambda y, t: (y - t).sum(), sample)
    draws = [
        n.attributes["stream"]
        for n in job.program.nodes
        if n.operator.name == "dropout_mask"
    ]
    assert draws == [0, 1]
    engine = engine_of(job, model)
    momentum = [slot.name for slot in job.program.slots].index(
        "optimiser.momentum.2.weight"
    )
    masks: list[np.ndarray] = []
    for position in range(2):
        assert engine.step(columns_of(sample), [0], SEED, position)
        masks.append(engine.tensors[momentum].copy())
    second = masks[1] - np.float32(0.5) * masks[0]
    assert set(np.unique(masks[0])) == {0.0, 4.0}
    assert 0.2 < np.count_nonzero(masks[0]) / 1000 < 0.3
    assert not np.array_equal(masks[0], second)


def test_random_numbers_have_their_distributions() -> None:
    model = Noise()
    sample = (torch.zeros(1, 1), torch.zeros(1, 1))
    found = stepped(captured(model, lambda y, _: y, sample), model, sample)
    uniform, normals, coin, dice = found.gradients["w"]
    assert 0 <= uniform.min() < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02
    assert abs(normals.mean()) < 0.05
    assert abs(normals.std() - 1) < 0.05
    assert set(coin) == {0.0, 1.0}
    assert abs(coin.mean() - 0.25) < 0.03
    assert set(dice) == set(range(1, 7))


def test_autocast_stores_bf16_and_sums_in_f32() -> None:
    torch.manual_seed(4)
    sample = (normal(4, 6), tokens(3, 4))
    job = check_model(Half(), nn.CrossEntropyLoss(), sample, tolerance=0.02)
    assert any(n.operator.name == "cast" for n in job.program.nodes)


def test_parameters_may_be_bf16() -> None:
    model = Gpt().bfloat16()
    optimiser = torch.optim.AdamW(model.parameters())
    job = capture(model, by_token, optimiser, text(11, 2, 6), {"*": Constant(0.5)})
    assert {slot.type.dtype for slot in job.program.slots} == {DType.F32, DType.BF16}
    engine = Engine(job.program)
    engine.load(initial_tensors(job.program, SEED))
    assert engine.step(columns_of(text(11, 2, 6)), [0, 1], SEED, 0)
    assert float(engine.tensors[0]) == pytest.approx(math.log(11), rel=0.02)


def test_capture_is_the_same_every_time() -> None:
    model = Gpt(dropout=0.1)
    sample = text(11, 2, 6)
    optimiser = torch.optim.AdamW(model.parameters())
    jobs = [
        capture(model, by_token, optimiser, sample, arbitrary(model)) for _ in range(2)
    ]
    assert jobs[0].program.root == jobs[1].program.root
