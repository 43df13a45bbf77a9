"""Functions that programs are compared with torch over, by families."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

Case: TypeAlias = tuple[Callable[..., Tensor], Sequence[Tensor]]
Cases: TypeAlias = dict[str, Case]

_GENERATOR = torch.Generator().manual_seed(5)


def normal(*shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=_GENERATOR)


def positive(*shape: int) -> Tensor:
    """Numbers in (0.2, 2.2)."""
    return torch.rand(*shape, generator=_GENERATOR) * 2 + 0.2


def share(*shape: int) -> Tensor:
    """Numbers in (0.05, 0.95)."""
    return torch.rand(*shape, generator=_GENERATOR) * 0.9 + 0.05


def whole(high: int, *shape: int) -> Tensor:
    """Integers below ``high``."""
    return torch.randint(high, shape, generator=_GENERATOR)


x, y = normal(3, 4), normal(3, 4)
row, column = normal(4), normal(3, 1)
cube = normal(2, 3, 4)
image = normal(2, 4, 6, 6)
MASK = torch.tril(torch.ones(1, 1, 300, 300))
SHARES = share(3, 4)
normal_6_5 = normal(6, 5)
whole_2_6_6 = whole(4, 2, 6, 6)
line = normal(2, 4, 9)


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


def _masked(a: Tensor) -> Tensor:
    a = a * 1.0
    a[a > 0.5] = 0.25
    return a


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    a = a * 2
    a[i3, i3] = b
    return a * x


ARITHMETIC: Cases = {
    "add": (lambda a, b: a + b, (x, row)),
    "add_alpha": (lambda a, b: torch.add(a, b, alpha=3), (x, y)),
    "sub_broadcast": (lambda a, b: a - b, (column, row)),
    "rsub": (lambda a: 2 - a, (x,)),
    "mul_both": (lambda a, b: a * b * 1.0, (x, column)),
    "div": (lambda a, b: a / (b * b + 1), (x, y)),
    "divided_number": (lambda a: 3.0 / a, (positive(3, 4),)),
    "neg_abs_sign": (lambda a: -a.abs() + a * a.sign(), (x,)),
    "exp_log": (lambda a: torch.log(torch.exp(a) + 1), (x,)),
    "expm1": (lambda a: torch.expm1(a * 0.01) + torch.expm1(a), (x,)),
    "log1p": (
        lambda a: torch.log1p(a) + torch.log1p(a * 1e-6) * 1e5,
        (positive(3, 4),),
    ),
    "log2_log10": (lambda a: torch.log2(a) + torch.log10(a), (positive(3, 4),)),
    "exp2": (torch.exp2, (x,)),
    "sqrt_rsqrt": (lambda a: a.sqrt() + a.rsqrt(), (positive(3, 4),)),
    "square": (torch.square, (x,)),
    "reciprocal": (torch.reciprocal, (positive(3, 4),)),
    "pow_3": (lambda a: a**3 + a.pow(5), (x,)),
    "pow_half": (lambda a: a**0.5 + a**1.5 + a**-0.5 + a**-2, (positive(3, 4),)),
    "pow_0": (lambda a: a**0 + a**1, (x,)),
    "erf_erfc": (lambda a: torch.erf(a) + 2 * torch.erfc(a), (x,)),
    "sin_cos_tan": (lambda a: a.sin() * a.cos() + torch.tan(a * 0.5), (x,)),
    "sinh_cosh": (lambda a: torch.sinh(a) + torch.cosh(a), (x,)),
    "floor_ceil": (lambda a: a * (a.floor() + a.ceil() + a.trunc() + a.round()), (x,)),
    "frac": (torch.frac, (x,)),
    "maximum": (torch.maximum, (x, y)),
    "minimum": (torch.minimum, (x, y)),
    "clamp": (lambda a: a.clamp(-0.5, 0.7), (x,)),
    "clamp_min": (lambda a: a.clamp(min=0.1), (x,)),
    "clamp_tensor": (lambda a, b: torch.clamp(a, max=b), (x, y)),
    "remainder": (lambda a: torch.remainder(a, 0.7), (x,)),
    "fmod": (lambda a: torch.fmod(a, 0.7), (x,)),
    "floor_div": (lambda a: a * torch.div(a, 0.3, rounding_mode="floor"), (x,)),
    "addcmul": (lambda a, b, c: torch.addcmul(a, b, c, value=0.5), (x, y, row)),
    "addcdiv": (lambda a, b: torch.addcdiv(a, b, b * b + 1, value=0.5), (x, y)),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.3), (x, y)),
    "logit": (torch.logit, (share(3, 4),)),
    "xlogy": (torch.xlogy, (positive(3, 4), positive(3, 4))),
    "logaddexp": (torch.logaddexp, (x, y)),
    "in_place": (lambda a: a.clone().mul_(2).add_(1).relu_(), (x,)),
    "integers": (
        lambda a: a * (torch.arange(12).reshape(3, 4) // 5 % 3 + 1 - torch.arange(4)),
        (x,),
    ),
    "hypot": (lambda a, b: torch.sqrt(a.square() + b.square()), (x, y)),
    "nan_to_num": (torch.nan_to_num, (x,)),
}

ACTIVATIONS: Cases = {
    name: (function, (normal(4, 5),))
    for name, function in {
        "relu": torch.relu,
        "relu6": F.relu6,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "gelu": F.gelu,
        "gelu_tanh": lambda a: F.gelu(a, approximate="tanh"),
        "silu": F.silu,
        "leaky_relu": lambda a: F.leaky_relu(a, 0.1),
        "elu": F.elu,
        "celu": lambda a: F.celu(a, 0.7),
        "selu": F.selu,
        "softplus": F.softplus,
        "softplus_beta": lambda a: F.softplus(a, beta=3, threshold=1),
        "hardtanh": F.hardtanh,
        "hardswish": F.hardswish,
        "hardsigmoid": F.hardsigmoid,
        "mish": F.mish,
        "logsigmoid": F.logsigmoid,
        "softsign": F.softsign,
        "tanhshrink": F.tanhshrink,
        "hardshrink": lambda a: F.hardshrink(a, 0.3),
        "softshrink": lambda a: F.softshrink(a, 0.3),
        "threshold": lambda a: F.threshold(a, 0.2, 5.0),
        "glu": lambda a: F.glu(a[:, :4]),
        "softmax": lambda a: F.softmax(a, -1),
        "softmax_first": lambda a: F.softmax(a, 0),
        "softmin": lambda a: F.softmin(a, -1),
        "log_softmax": lambda a: F.log_softmax(a, 0),
        "normalize": lambda a: F.normalize(a, dim=1),
    }.items()
}
ACTIVATIONS["prelu"] = (F.prelu, (normal(2, 3, 4), normal(3)))
ACTIVATIONS["swiglu"] = (lambda a, b: F.silu(a) * b, (x, y))

REDUCTIONS: Cases = {
    "sum": (lambda a: a.sum() + a.sum(0).sum(), (x,)),
    "sum_axes": (lambda a: a.sum((0, 2), keepdim=True), (cube,)),
    "mean": (lambda a: a.mean() * a.mean(-1), (x,)),
    "var": (lambda a: a.var() + a.var(0) + a.var(1, correction=0).sum(), (x,)),
    "std": (lambda a: a.std(-1, keepdim=True), (x,)),
    "var_mean": (lambda a: torch.cat(torch.var_mean(a, 1)), (x,)),
    "norm_2": (lambda a: a.norm() + torch.linalg.vector_norm(a, dim=1).sum(), (x,)),
    "norm_1": (lambda a: a.norm(p=1, dim=0), (x,)),
    "norm_inf": (lambda a: a.norm(p=math.inf, dim=0), (x,)),
    "max": (lambda a: a.max() * a, (x,)),
    "max_dim": (lambda a: a.max(0).values * a.max(1, keepdim=True).values, (x,)),
    "min_dim": (lambda a: a.min(1).values + a.min(), (x,)),
    "max_indices": (lambda a: a.gather(1, a.max(1, keepdim=True).indices), (x,)),
    "amax": (lambda a: a.amax((0, 2)), (cube,)),
    "amin": (lambda a: a.amin(1, keepdim=True), (x,)),
    "argmax": (lambda a: a[torch.arange(3), a.argmax(1)], (x,)),
    "argmin": (lambda a: a[torch.arange(3), a.argmin(-1)], (x,)),
    "logsumexp": (lambda a: a.logsumexp(1) + a.logsumexp((0, 1)), (x,)),
    "cumsum": (lambda a: a.cumsum(0) * a.cumsum(1), (x,)),
    "cumsum_integers": (
        lambda a: a * torch.ones(3, 4, dtype=torch.int64).cumsum(1),
        (x,),
    ),
    "count": (lambda a: a * (a > 0).sum(1, keepdim=True), (x,)),
    "any_all": (
        lambda a: a * (a > 1).any(1, keepdim=True) + a * (a > -1).all(0),
        (x,),
    ),
    "prod": (lambda a: a.prod(1), (x,)),
    "sort": (lambda a: a.sort(1).values * torch.arange(4), (x,)),
    "sort_falling": (lambda a: a.sort(0, descending=True).values * x, (x,)),
    "argsort": (lambda a: a.gather(1, a.argsort(1)) * torch.arange(4), (x,)),
    "topk": (lambda a: a.topk(2, -1).values * torch.arange(1, 3), (x,)),
    "topk_smallest": (lambda a: a.topk(2, 0, largest=False).values, (x,)),
}

MATRICES: Cases = {
    "matmul": (lambda a, b: a @ b.T, (x, y)),
    "matmul_transposed": (lambda a, b: a.T @ b, (x, y)),
    "matmul_vector": (lambda a, b: a @ b, (x, row)),
    "vector_matmul": (lambda a, b: b @ a, (x, normal(3))),
    "dot": (torch.dot, (row, normal(4))),
    "outer": (torch.outer, (row, normal(3))),
    "addmm": (
        lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2),
        (normal(3), x, normal(4, 3)),
    ),
    "bmm": (torch.bmm, (cube, normal(2, 4, 3))),
    "bmm_transposed": (lambda a, b: a @ b.transpose(-1, -2), (cube, normal(2, 5, 4))),
    "baddbmm": (
        lambda c, a, b: torch.baddbmm(c, a, b, beta=0.5, alpha=0.3),
        (normal(2, 3, 3), cube, normal(2, 4, 3)),
    ),
    "matmul_broadcast": (lambda a, b: a @ b, (normal(2, 1, 3, 4), normal(5, 4, 2))),
    "linear": (F.linear, (cube, normal(5, 4), normal(5))),
    "einsum_product": (lambda a, b: torch.einsum("ij,kj->ik", a, b), (x, y)),
    "einsum_heads": (
        lambda a, b: torch.einsum("bqhd,bkhd->bhqk", a, b),
        (normal(2, 3, 2, 4), normal(2, 5, 2, 4)),
    ),
    "einsum_outer": (lambda a, b: torch.einsum("i,j->ij", a, b), (row, normal(3))),
    "einsum_trace": (lambda a: torch.einsum("ii->i", a), (normal(4, 4),)),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=1), (cube, normal(4, 2))),
    "cosine": (F.cosine_similarity, (x, y)),
}

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


LOGIC: Cases = {
    "where": (lambda a, b: torch.where(a > b, a, b * 2), (x, y)),
    "where_number": (lambda a: torch.where(a > 0, a, -1.0), (x,)),
    "masked_fill": (lambda a: a.masked_fill(a < 0.3, 7.0), (x,)),
    "masked_write": (_masked, (x,)),
    "logic": (
        lambda a, b: a * ((a > 0) & (b > 0) | ~(a < b) ^ (a == b)).float(),
        (x, y),
    ),
    "logical": (
        lambda a, b: a * torch.logical_and(a > 0, torch.logical_not(b > 0)),
        (x, y),
    ),
    "isfinite": (lambda a: torch.where(a.isfinite() & ~a.isnan(), a, 0.0), (x,)),
    "isinf": (lambda a: torch.where((a / 0.0).isinf(), a, 0.0), (x,)),
    "ne_ge_le": (lambda a: a * (a.ne(0) & a.ge(-1) & a.le(1)), (x,)),
    "integer_mask": (lambda a: a * (torch.arange(4) != 2), (x,)),
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


i3 = torch.tensor([2, 0, 1])
negative = torch.tensor([-1, 0, -3])
table = torch.tensor([[0, 3, 1], [2, 2, -1]])

INDEXING: Cases = {
    "rows": (lambda a: a[i3] * x, (x,)),
    "rows_negative": (lambda a: a[negative], (x,)),
    "columns": (lambda a: a[:, table.abs()], (x,)),
    "pairs": (lambda a: a[i3, negative + 1], (x,)),
    "apart": (lambda a: a[i3[:2], :, i3[1:]], (normal(3, 2, 4),)),
    "inner_pairs": (lambda a: a[:, i3, i3], (normal(2, 3, 4),)),
    "number_and_tensor": (lambda a: a[1, i3], (x,)),
    "computed": (lambda a: a[torch.arange(3), a.argmax(-1) - 4], (x,)),
    "index_select": (lambda a: a.index_select(1, i3), (x,)),
    "gather": (lambda a: a.gather(0, torch.tensor([[0, 2, 1, 1]])), (x,)),
    "gather_short": (lambda a: a.gather(1, torch.tensor([[3], [1]])), (x,)),
    "take_along": (lambda a: torch.take_along_dim(a, a.argsort(1), 1), (x,)),
    "scatter": (lambda a, b: a.scatter(1, i3[:, None], b), (x, normal(3, 1))),
    "scatter_value": (lambda a: a.scatter(1, i3[:, None], 9.0), (x,)),
    "scatter_add": (
        lambda a, b: a.scatter_add(0, torch.tensor([[0, 2, 1, 1]]), b),
        (x, normal(1, 4)),
    ),
    "scatter_add_repeated": (
        lambda a, b: a.scatter_add(1, torch.tensor([[1, 1, 2]] * 3), b),
        (x, normal(3, 3)),
    ),
    "index_add": (
        lambda a, b: a.index_add(0, torch.tensor([1, 1]), b, alpha=2),
        (x, normal(2, 4)),
    ),
    "index_copy": (lambda a, b: a.index_copy(1, i3[:2], b), (x, normal(3, 2))),
    "index_fill": (lambda a: a.index_fill(1, i3[:2], 4.0), (x,)),
    "index_put": (lambda a, b: a.index_put((i3, i3), b), (x, normal(3))),
    "index_put_add": (
        lambda a, b: a.index_put((torch.tensor([1, 1, 0]),), b, accumulate=True),
        (x, y),
    ),
    "write_pairs": (_pairs, (x, normal(3))),
    "embedding": (lambda a: F.embedding(table.abs() % 3, a), (x,)),
    "embedding_padding": (
        lambda a: F.embedding(table.abs() % 3, a, padding_idx=2),
        (x,),
    ),
}


classes = whole(5, 6)
ignoring = torch.tensor([0, 4, -100, 2, -100, 1])
logits = normal(6, 5)

LOSSES: Cases = {
    **{
        f"{name}_{reduction}": (
            lambda a, b, f=function, r=reduction: f(a, b, reduction=r),
            (x, y),
        )
        for name, function in {
            "mse": F.mse_loss,
            "l1": F.l1_loss,
            "smooth_l1": F.smooth_l1_loss,
            "huber": F.huber_loss,
        }.items()
        for reduction in ("mean", "sum", "none")
    },
    **{
        f"cross_entropy_{name}": (
            lambda a, o=options: F.cross_entropy(a, classes, **o),
            (logits,),
        )
        for name, options in {
            "mean": {},
            "sum": {"reduction": "sum"},
            "none": {"reduction": "none"},
            "smooth": {"label_smoothing": 0.1},
            "weights": {"weight": torch.tensor([1.0, 2.0, 0.5, 1.5, 3.0])},
            "weights_smooth": {
                "weight": torch.tensor([1.0, 2.0, 0.5, 1.5, 3.0]),
                "label_smoothing": 0.2,
            },
            "ignore_class": {"ignore_index": 2},
            "weights_sum": {
                "weight": torch.tensor([1.0, 2.0, 0.5, 1.5, 3.0]),
                "reduction": "sum",
            },
        }.items()
    },
    "cross_entropy_ignoring": (lambda a: F.cross_entropy(a, ignoring), (logits,)),
    "cross_entropy_ignoring_sum": (
        lambda a: F.cross_entropy(a, ignoring, reduction="sum", label_smoothing=0.1),
        (logits,),
    ),
    "cross_entropy_shares": (
        lambda a: F.cross_entropy(a, F.softmax(normal_6_5, 1)),
        (logits,),
    ),
    "cross_entropy_2d": (
        lambda a: F.cross_entropy(a, whole_2_6_6, reduction="sum"),
        (image,),
    ),
    "cross_entropy_2d_mean": (lambda a: F.cross_entropy(a, whole_2_6_6), (image,)),
    "cross_entropy_one": (lambda a: F.cross_entropy(a, torch.tensor(3)), (normal(5),)),
    "nll": (lambda a: F.nll_loss(F.log_softmax(a, 1), classes), (logits,)),
    "bce": (lambda a: F.binary_cross_entropy(a, SHARES), (share(3, 4),)),
    "bce_weight_sum": (
        lambda a: F.binary_cross_entropy(
            a, SHARES, weight=torch.ones(4) * 2, reduction="sum"
        ),
        (share(3, 4),),
    ),
    "bce_logits": (lambda a: F.binary_cross_entropy_with_logits(a, SHARES), (x,)),
    "bce_logits_weights": (
        lambda a: F.binary_cross_entropy_with_logits(
            a, SHARES, pos_weight=torch.tensor([1.0, 2.0, 3.0, 0.5])
        ),
        (x,),
    ),
    "kl": (
        lambda a: F.kl_div(F.log_softmax(a, 1), SHARES, reduction="batchmean"),
        (x,),
    ),
    "kl_log": (
        lambda a: F.kl_div(
            F.log_softmax(a, 1), SHARES.log(), log_target=True, reduction="sum"
        ),
        (x,),
    ),
    "margin": (
        lambda a, b: F.margin_ranking_loss(a, b, torch.ones(3, 4), margin=0.3),
        (x, y),
    ),
    "hinge_embedding": (lambda a: F.hinge_embedding_loss(a, torch.ones(3, 4)), (x,)),
    "cosine_embedding": (
        lambda a, b: F.cosine_embedding_loss(a, b, torch.ones(3)),
        (x, y),
    ),
    "triplet": (
        lambda a, b: F.triplet_margin_loss(a, b, a.flip(0).detach()),
        (x, y),
    ),
    "soft_margin": (lambda a: F.soft_margin_loss(a, torch.ones(3, 4)), (x,)),
    "poisson": (lambda a: F.poisson_nll_loss(a, SHARES), (x,)),
    "multi_margin": (
        lambda a: F.multilabel_soft_margin_loss(a, (SHARES > 0.5).float()),
        (x,),
    ),
}

kernel = normal(6, 4, 3, 3)

WINDOWS: Cases = {
    "conv2d": (F.conv2d, (image, kernel, normal(6))),
    "conv2d_strided": (
        lambda a, w: F.conv2d(a, w, stride=2, padding=(1, 2), dilation=(1, 2)),
        (image, kernel),
    ),
    "conv2d_grouped": (
        lambda a, w: F.conv2d(a, w, groups=2),
        (image, normal(6, 2, 3, 3)),
    ),
    "conv2d_depthwise": (
        lambda a, w: F.conv2d(a, w, groups=4, padding=1),
        (image, normal(4, 1, 3, 3)),
    ),
    "conv2d_same": (lambda a, w: F.conv2d(a, w, padding="same"), (image, kernel)),
    "conv1d": (
        lambda a, w, b: F.conv1d(a, w, b, stride=2, padding=1),
        (line, normal(6, 4, 3), normal(6)),
    ),
    "conv1d_dilated": (
        lambda a, w: F.conv1d(a, w, dilation=2, groups=2),
        (line, normal(6, 2, 3)),
    ),
    "conv_transpose2d": (
        lambda a, w, b: F.conv_transpose2d(
            a, w, b, stride=2, padding=1, output_padding=1
        ),
        (image, normal(4, 3, 3, 3), normal(3)),
    ),
    "conv_transpose2d_grouped": (
        lambda a, w: F.conv_transpose2d(a, w, groups=2),
        (image, normal(4, 3, 3, 3)),
    ),
    "conv_transpose1d": (
        lambda a, w: F.conv_transpose1d(a, w, stride=2),
        (line, normal(4, 3, 3)),
    ),
    "max_pool2d": (lambda a: F.max_pool2d(a, 2), (image,)),
    "max_pool2d_padded": (lambda a: F.max_pool2d(a, 3, stride=2, padding=1), (image,)),
    "max_pool2d_ceil": (
        lambda a: F.max_pool2d(a, 3, stride=2, ceil_mode=True),
        (normal(2, 2, 6, 7),),
    ),
    "max_pool2d_dilated": (
        lambda a: F.max_pool2d(a, 2, stride=1, dilation=2),
        (image,),
    ),
    "max_pool1d": (lambda a: F.max_pool1d(a, 3, stride=2), (line,)),
    "avg_pool2d": (lambda a: F.avg_pool2d(a, 2), (image,)),
    "avg_pool2d_padded": (
        lambda a: F.avg_pool2d(a, 3, stride=2, padding=1, count_include_pad=False),
        (image,),
    ),
    "avg_pool2d_ceil": (
        lambda a: F.avg_pool2d(a, 3, stride=2, padding=1, ceil_mode=True),
        (normal(2, 2, 6, 7),),
    ),
    "avg_pool2d_ceil_inside": (
        lambda a: F.avg_pool2d(a, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        (normal(2, 2, 6, 7),),
    ),
    "avg_pool2d_divisor": (lambda a: F.avg_pool2d(a, 2, divisor_override=3), (image,)),
    "avg_pool1d": (lambda a: F.avg_pool1d(a, 3, stride=2), (line,)),
    "adaptive_avg": (lambda a: F.adaptive_avg_pool2d(a, (3, 2)), (image,)),
    "adaptive_avg_global": (lambda a: F.adaptive_avg_pool2d(a, 1), (image,)),
    "adaptive_avg_1d": (lambda a: F.adaptive_avg_pool1d(a, 3), (line,)),
    "adaptive_max": (lambda a: F.adaptive_max_pool2d(a, (3, 2)), (image,)),
    "adaptive_max_1d": (lambda a: F.adaptive_max_pool1d(a, 1), (line,)),
    "nearest": (lambda a: F.interpolate(a, scale_factor=2), (image,)),
    "nearest_size": (lambda a: F.interpolate(a, size=(4, 9)), (image,)),
    "nearest_exact": (
        lambda a: F.interpolate(a, size=(4, 9), mode="nearest-exact"),
        (image,),
    ),
    "bilinear": (lambda a: F.interpolate(a, scale_factor=2, mode="bilinear"), (image,)),
    "bilinear_corners": (
        lambda a: F.interpolate(a, size=(4, 11), mode="bilinear", align_corners=True),
        (image,),
    ),
    "linear": (lambda a: F.interpolate(a, scale_factor=1.5, mode="linear"), (line,)),
    "area": (lambda a: F.interpolate(a, size=(3, 2), mode="area"), (image,)),
}

NORMALISATION: Cases = {
    "layer_norm": (lambda a, w, b: F.layer_norm(a, (4,), w, b), (cube, row, normal(4))),
    "layer_norm_plain": (lambda a: F.layer_norm(a, (3, 4)), (cube,)),
    "layer_norm_scale": (lambda a, w: F.layer_norm(a, (4,), w), (cube, row)),
    "rms_norm": (lambda a, w: F.rms_norm(a, (4,), w), (cube, row)),
    "rms_norm_plain": (lambda a: F.rms_norm(a, (4,), eps=1e-5), (cube,)),
    "rms_norm_hand": (
        lambda a, w: a * torch.rsqrt(a.pow(2).mean(-1, keepdim=True) + 1e-6) * w,
        (cube, row),
    ),
    "group_norm": (lambda a, w, b: F.group_norm(a, 2, w, b), (image, row, normal(4))),
    "group_norm_plain": (lambda a: F.group_norm(a, 2), (line,)),
    "instance_norm": (F.instance_norm, (image,)),
    "instance_norm_affine": (
        lambda a, w, b: F.instance_norm(a, weight=w, bias=b),
        (image, row, normal(4)),
    ),
    "batch_norm_stateless": (
        lambda a, w, b: F.batch_norm(a, None, None, w, b, training=True),
        (image, row, normal(4)),
    ),
    "batch_norm_frozen": (
        lambda a, w, b: F.batch_norm(a, torch.ones(4) * 0.1, torch.ones(4) * 2, w, b),
        (image, row, normal(4)),
    ),
    "weight_norm": (
        lambda v, g: torch._weight_norm(v, g, 0),
        (x, positive(3, 1)),
    ),
}

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

FAMILIES: dict[str, Cases] = {
    "arithmetic": ARITHMETIC,
    "activations": ACTIVATIONS,
    "reductions": REDUCTIONS,
    "matrices": MATRICES,
    "movement": MOVEMENT,
    "logic": LOGIC,
    "creation": CREATION,
    "indexing": INDEXING,
    "losses": LOSSES,
    "windows": WINDOWS,
    "normalisation": NORMALISATION,
    "attention": ATTENTION,
}
