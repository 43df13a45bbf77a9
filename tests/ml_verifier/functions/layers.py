"""Windows and normalisation."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from tests.ml_verifier.functions.inputs import (
    Cases,
    cube,
    image,
    line,
    normal,
    positive,
    row,
    x,
)

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
