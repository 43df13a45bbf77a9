"""Views, slices, joins, padding and new tensors."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from tests.ml_verifier.functions.inputs import (
    MASK,
    Cases,
    column,
    cube,
    image,
    line,
    normal,
    row,
    x,
    y,
)


def _written(a: Tensor, b: Tensor) -> Tensor:
    a = a.clone()
    a[:, 1:3] = b
    return a * x


def _strided(a: Tensor, b: Tensor) -> Tensor:
    a = a.clone()
    a[:, ::2] = b
    return a * x


def _row(a: Tensor, b: Tensor) -> Tensor:
    out = torch.zeros(4, 4)
    out[:3] = a
    out[3] = b
    return out * out


MOVEMENT: Cases = {
    "view": (lambda a: a.view(2, 12).reshape(3, -1) * column, (cube,)),
    "squeeze": (lambda a: a.unsqueeze(1).squeeze(1).unsqueeze(-1), (x,)),
    "permute": (lambda a: a.permute(2, 0, 1), (cube,)),
    "transpose": (lambda a: a.transpose(0, 2).contiguous().view(4, 6), (cube,)),
    "mT": (lambda a: a.mT * 2 + a.mT, (cube,)),
    "expand": (lambda a: a.expand(2, 3, 4) * cube, (row,)),
    "repeat": (lambda a: a.repeat(2, 3) * a.repeat(2, 3).flip(0), (x,)),
    "repeat_interleave": (lambda a: a.repeat_interleave(2, 1), (x,)),
    "tile": (lambda a: torch.tile(a, (2, 2)), (row,)),
    "slice": (lambda a: a[1:, ::2] * a[:2, 1::2], (x,)),
    "slice_strided": (lambda a: a[:, :, 1::3], (normal(2, 3, 7),)),
    "select": (lambda a: a[0] * a[:, 1].sum() + a[-1], (x,)),
    "narrow": (lambda a: a.narrow(1, 1, 2), (x,)),
    "ellipsis": (lambda a: a[..., None, 1:], (cube,)),
    "write_slice": (_written, (x, normal(3, 2))),
    "write_strided": (_strided, (x, normal(3, 2))),
    "write_row": (_row, (x, row)),
    "split": (lambda a: torch.cat(a.split(2, 1)[::-1], 1) * x, (x,)),
    "split_sizes": (lambda a: a.split([1, 3], 1)[1], (x,)),
    "chunk": (lambda a: a.chunk(2, -1)[0] * a.chunk(2, -1)[1], (x,)),
    "unbind": (lambda a: a.unbind(0)[0] * a.unbind(0)[2], (x,)),
    "stack": (lambda a, b: torch.stack((a, b), 1), (x, y)),
    "cat_many": (lambda a: torch.cat([a * i for i in range(11)], 1), (x,)),
    "flip": (lambda a: a.flip(0, 1) * x, (x,)),
    "roll": (lambda a: a.roll(1, 1) * x + a.roll((1, 2), (0, 1)), (x,)),
    "roll_flat": (lambda a: a.roll(5), (x,)),
    "rot90": (lambda a: torch.rot90(a, 1, (0, 1)), (x,)),
    "tril_triu": (lambda a: a.tril() + 2 * a.triu(1), (x,)),
    "diagonal": (lambda a: a.diagonal() * a.diagonal(1, 0, 1)[:3], (x,)),
    "diag_embed": (torch.diag_embed, (x,)),
    "trace": (torch.trace, (normal(4, 4),)),
    "unfold": (lambda a: a.unfold(2, 3, 2), (line,)),
    "movedim": (lambda a: a.movedim(0, -1).swapaxes(0, 1), (cube,)),
    "meshgrid": (
        lambda a, b: torch.stack(torch.meshgrid(a, b, indexing="ij")),
        (row, normal(3)),
    ),
    "pad": (lambda a: F.pad(a, (1, 2, 0, 1), value=0.5), (x,)),
    "pad_negative": (lambda a: F.pad(a, (-1, 2)), (x,)),
    "pad_reflect": (lambda a: F.pad(a, (1, 2, 3, 0), mode="reflect"), (image,)),
    "pad_replicate": (lambda a: F.pad(a, (1, 2), mode="replicate"), (line,)),
    "pad_circular": (lambda a: F.pad(a, (1, 2, 0, 1), mode="circular"), (image,)),
    "pixel_shuffle": (lambda a: F.pixel_shuffle(a, 2), (image,)),
    "pixel_unshuffle": (lambda a: F.pixel_unshuffle(a, 3), (image,)),
    "im2col": (lambda a: F.unfold(a, 3, stride=2), (image,)),
    "col2im": (lambda a: F.fold(a, (4, 4), 2, stride=2), (normal(1, 8, 4),)),
}

CREATION: Cases = {
    "arange": (lambda a: a * torch.arange(4) + torch.arange(1.0, 3.0, 0.5), (x,)),
    "linspace": (lambda a: a * torch.linspace(-1, 2, 4), (x,)),
    "full_like": (lambda a: a * torch.full_like(a, 3) + a.new_zeros(4), (x,)),
    "ones_zeros": (
        lambda a: a * torch.ones(4) + torch.zeros_like(a) + a.new_ones(()),
        (x,),
    ),
    "eye": (lambda a: a @ torch.eye(4), (x,)),
    "new_full": (lambda a: a * a.new_full((3, 1), 0.5), (x,)),
    "tensor": (lambda a: a * torch.tensor([1.0, -2.0, 0.5, 3.0]), (x,)),
    "tensor_scalar": (lambda a: a * torch.tensor(2.5) + torch.tensor(3), (x,)),
    "held_mask": (lambda a: a * torch.ones(3, 4).tril(), (x,)),
    "big_mask": (lambda a: a.masked_fill(MASK[0, 0, :3, :4] == 0, -1e9), (x,)),
    "casts": (lambda a: a * (a * 3).long(), (x,)),
    "bool_cast": (lambda a: a * a.bool() + a * (a * 3).int().float(), (x,)),
    "one_hot": (lambda a: a * F.one_hot(torch.tensor([0, 2, 1]), 4), (x,)),
    "bf16": (lambda a: a.bfloat16().float() * 2, (torch.arange(12.0).view(3, 4),)),
    "bf16_product": (
        lambda a, b: (a.bfloat16() @ b.bfloat16()).float(),
        (torch.ones(3, 4), torch.arange(8.0).view(4, 2)),
    ),
}
