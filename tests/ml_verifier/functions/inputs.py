"""Inputs that the functions of all families are given."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
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
