# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""The rule of each aten operator, by families.

A family's module ends with its table; nothing else is registered anywhere.
"""

from ml_verifier.capture.lowering import Rules
from ml_verifier.capture.rules import (
    activations,
    arithmetic,
    comparisons,
    creation,
    indexing,
    losses,
    matrices,
    movement,
    normalisation,
    randomness,
    reductions,
    resampling,
    windows,
)
from ml_verifier.capture.source import VALUE

FAMILIES = (
    activations,
    arithmetic,
    comparisons,
    creation,
    indexing,
    losses,
    matrices,
    movement,
    normalisation,
    randomness,
    reductions,
    resampling,
    windows,
)
RULES: Rules = {
    target: rule for family in FAMILIES for target, rule in family.RULES.items()
}

# What to write instead of operators that have no rule, by the start of their names.
ADVICE = {
    "aten._local_scalar_dense": VALUE,
    "aten.item": VALUE,
    "aten._ctc_loss": "CTC loss: use a loss of each step, as cross_entropy",
    "aten.linalg_": "matrix decompositions: only linalg.vector_norm and products",
    "aten._linalg_": "matrix decompositions: only linalg.vector_norm and products",
    "aten._fft": "Fourier transforms: multiply with a matrix of sines and cosines",
    "aten.view_as_complex": "complex numbers: write rotations with cos and sin",
    "aten.view_as_real": "complex numbers: write rotations with cos and sin",
    "aten.polar": "complex numbers: write rotations with cos and sin",
    "aten.atan": "inverse trigonometric functions: not among the operators",
    "aten.asin": "inverse trigonometric functions: not among the operators",
    "aten.acos": "inverse trigonometric functions: not among the operators",
    "aten._embedding_bag": "embedding bags: nn.Embedding, then sum over the bag",
    "aten.upsample_bicubic": 'mode="bicubic": use "bilinear" or "nearest"',
    "aten.grid_sampler": "grid_sample: use interpolate or index with tensors",
    "aten.max_pool3d": "three dimensions: pool two of them, then the third",
    "aten.avg_pool3d": "three dimensions: pool two of them, then the third",
    "aten._cdist": "distances of all pairs: (a[:, None] - b[None]).norm(dim=-1)",
    "aten._trilinear": "bilinear layers: torch.einsum in pairs of operands",
    "aten.median": "the median: torch.sort, then the middle element",
    "aten.kthvalue": "use torch.sort and an index",
    "aten.unique": "its shape depends on data",
    "aten.nonzero": "its shape depends on data: use torch.where(mask, x, 0)",
}
