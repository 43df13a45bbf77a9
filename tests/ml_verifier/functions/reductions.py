"""Sums, extremes, orders and products of matrices."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from tests.ml_verifier.functions.inputs import Cases, cube, normal, row, x, y

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
