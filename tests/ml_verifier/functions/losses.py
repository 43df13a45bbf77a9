"""Losses, with each reduction."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from tests.ml_verifier.functions.inputs import (
    SHARES,
    Cases,
    image,
    normal,
    normal_6_5,
    share,
    whole,
    whole_2_6_6,
    x,
    y,
)

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
