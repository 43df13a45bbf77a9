"""Attention and rotary positions in the ways people write them."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from tests.ml_verifier.functions.inputs import Cases, cube, normal

q, k, v = (normal(2, 2, 5, 4) for _ in range(3))
causal = torch.ones(5, 5).tril().bool()


def _rotated(a: Tensor) -> Tensor:
    """Rotary embedding by halves."""
    angles = torch.arange(5.0)[:, None] * 10000.0 ** -torch.tensor([0.0, 0.5])
    cos, sin = (
        torch.cat((angles, angles), -1).cos(),
        torch.cat((angles, angles), -1).sin(),
    )
    turned = torch.cat((-a[..., 2:], a[..., :2]), -1)
    return a * cos + turned * sin


def _interleaved(a: Tensor) -> Tensor:
    """Rotary embedding by pairs."""
    angles = torch.arange(5.0)[:, None] / torch.tensor([1.0, 7.0])
    even, odd = a[..., 0::2], a[..., 1::2]
    turned = (
        even * angles.cos() - odd * angles.sin(),
        even * angles.sin() + odd * angles.cos(),
    )
    return torch.stack(turned, -1).flatten(-2)


def _hand(mask: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def attention(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.softmax(mask(a @ b.transpose(-2, -1) / 2.0), -1) @ c

    return attention


ATTENTION: Cases = {
    "sdpa": (F.scaled_dot_product_attention, (q, k, v)),
    "sdpa_causal": (
        lambda a, b, c: F.scaled_dot_product_attention(a, b, c, is_causal=True),
        (q, k, v),
    ),
    "sdpa_bool": (
        lambda a, b, c: F.scaled_dot_product_attention(a, b, c, attn_mask=causal),
        (q, k, v),
    ),
    "sdpa_additive": (
        lambda a, b, c: F.scaled_dot_product_attention(
            a, b, c, attn_mask=torch.zeros(5, 5).masked_fill(~causal, -math.inf)
        ),
        (q, k, v),
    ),
    "sdpa_empty_row": (
        lambda a, b, c: F.scaled_dot_product_attention(
            a, b, c, attn_mask=causal.flip(0).triu(1)
        ),
        (q, k, v),
    ),
    "sdpa_scale": (
        lambda a, b, c: F.scaled_dot_product_attention(a, b, c, scale=0.3),
        (q, k, v),
    ),
    "sdpa_grouped": (
        lambda a, b, c: F.scaled_dot_product_attention(a, b, c, enable_gqa=True),
        (normal(2, 4, 5, 4), k, v),
    ),
    "masked_fill": (_hand(lambda s: s.masked_fill(~causal, -math.inf)), (q, k, v)),
    "tril_zero": (
        _hand(lambda s: s.masked_fill(torch.tril(torch.ones(5, 5)) == 0, -1e9)),
        (q, k, v),
    ),
    "triu_added": (
        _hand(lambda s: s + torch.full((5, 5), -math.inf).triu(1)),
        (q, k, v),
    ),
    "where": (
        _hand(lambda s: torch.where(causal, s, torch.finfo(s.dtype).min)),
        (q, k, v),
    ),
    "positions": (
        _hand(
            lambda s: s.masked_fill(
                torch.arange(5)[:, None] < torch.arange(5), -math.inf
            )
        ),
        (q, k, v),
    ),
    "alibi": (
        _hand(lambda s: s + (torch.arange(5) - torch.arange(5)[:, None]) * 0.5),
        (q, k, v),
    ),
    "einsum": (
        lambda a, b, c: torch.einsum(
            "bhqk,bhkd->bqhd", torch.einsum("bhqd,bhkd->bhqk", a, b).softmax(-1), c
        ),
        (q, k, v),
    ),
    "baddbmm": (
        lambda a, b: torch.baddbmm(
            torch.zeros(2, 3, 3), a, b.mT, beta=0, alpha=0.5
        ).softmax(-1),
        (cube, normal(2, 3, 4)),
    ),
    "rope": (_rotated, (q,)),
    "rope_pairs": (_interleaved, (q,)),
}
