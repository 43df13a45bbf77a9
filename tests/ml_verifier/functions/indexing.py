"""Reads and writes at places."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from tests.ml_verifier.functions.inputs import Cases, normal, x, y

i3 = torch.tensor([2, 0, 1])
negative = torch.tensor([-1, 0, -3])
table = torch.tensor([[0, 3, 1], [2, 2, -1]])


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    a = a * 2
    a[i3, i3] = b
    return a * x


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
