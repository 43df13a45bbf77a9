# pyright: basic
# torch.optim carries no complete types; mypy --strict still applies.
"""Lion, an optimiser that PyTorch does not bring along.

Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), algorithm 2. It
trains in plain PyTorch as any optimiser does, and capture knows it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from typing_extensions import override


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum, with decoupled weight decay.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate; a tenth to a third of AdamW's.
        betas: Of the update's interpolation and of the momentum.
        weight_decay: Decoupled, scaled by the learning rate.

    Raises:
        ValueError: A hyperparameter is out of its range.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or weight_decay < 0:
            raise ValueError(
                f"expected lr and weight_decay of at least 0, got {lr}, {weight_decay}"
            )
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"expected betas in [0, 1), got {betas}")
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @override
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Take one step; returns what ``closure`` does."""
        loss: float | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, parameter.grad, group)
        return loss

    def _update(
        self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]
    ) -> None:
        first, second = group["betas"]
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: torch.Tensor = state["momentum"]
        direction = (momentum * first + gradient * (1 - first)).sign()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(direction * group["lr"])
        momentum.mul_(second).add_(gradient, alpha=1 - second)
