"""Arithmetic, activations, comparisons and choice."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from tests.ml_verifier.functions.inputs import (
    Cases,
    column,
    normal,
    positive,
    row,
    share,
    x,
    y,
)


def _masked(a: Tensor) -> Tensor:
    a = a * 1.0
    a[a > 0.5] = 0.25
    return a


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
