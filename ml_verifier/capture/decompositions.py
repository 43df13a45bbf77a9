# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Calls that torch itself writes as simpler ones; the rules lower those.

Only what has no operator of its own is decomposed: a decomposition of a layer norm or a
convolution would cost speed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._decomp import get_decompositions

aten = torch.ops.aten

_NAMES = (
    *("addcdiv", "addcmul", "addmv", "lerp", "logit", "trace", "cross", "frac"),
    *("binary_cross_entropy", "binary_cross_entropy_backward"),
    *("elu", "elu_backward", "celu", "glu", "glu_backward", "softshrink"),
    "hardshrink",
    *("hardsigmoid", "hardsigmoid_backward", "hardswish", "hardswish_backward"),
    *("hardtanh", "hardtanh_backward", "leaky_relu", "leaky_relu_backward"),
    *("log_sigmoid_forward", "log_sigmoid_backward", "mish", "mish_backward"),
    *("_prelu_kernel", "_prelu_kernel_backward", "softplus", "softplus_backward"),
    *("rrelu_with_noise", "threshold", "soft_margin_loss", "soft_margin_loss_backward"),
    *("huber_loss", "huber_loss_backward", "smooth_l1_loss", "smooth_l1_loss_backward"),
    *("binary_cross_entropy_with_logits", "sinc", "std_mean", "nansum", "nan_to_num"),
    *("norm", "renorm", "dist", "_euclidean_dist", "cdist", "logcumsumexp"),
    *("eye", "linspace", "logspace"),
    *("tril", "triu", "rot90", "diagonal_scatter", "unfold_backward"),
    *("im2col", "col2im", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
    "_weight_norm_interface",
    *("take", "xlogy", "special_xlog1py"),
    *("logaddexp", "logaddexp2", "deg2rad", "rad2deg"),
)


def _overloads() -> list[Any]:
    found: list[Any] = []
    for name in _NAMES:
        packet = getattr(aten, name)
        found += [getattr(packet, overload) for overload in packet.overloads()]
    return found


DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = get_decompositions(_overloads())
