# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Initial weights: the distribution that PyTorch's layers draw from, as a recipe.

The chain starts every job from its own seed, so a program says *how* its weights are
drawn, not what they are. Layers that ``torch.nn`` initialises with a bounded uniform
keep that bound; tensors filled with one value keep the value; for anything else the
caller must say what it wants.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

from ml_verifier.program import Constant, Initialiser, Uniform

_UNIFORM_LAYERS = (nn.Linear, nn.Conv2d)


def initialisers(
    model: nn.Module, chosen: Mapping[str, Initialiser]
) -> tuple[dict[str, Initialiser], list[str]]:
    """Return a recipe for each parameter and float buffer, and what has none."""
    bounds = _layer_bounds(model)
    recipes: dict[str, Initialiser] = {}
    problems = [
        f"initialise[{name!r}]: the model has no such tensor"
        for name in chosen
        if name not in dict(model.named_parameters()) | dict(model.named_buffers())
    ]
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point():
            continue
        recipe = chosen.get(name) or _recipe(tensor.detach(), bounds.get(name))
        if recipe is None:
            problems.append(
                f"initial value of {name}: no recipe for it; pass "
                f"initialise={{{name!r}: Uniform(low, high)}} or Constant(value)"
            )
        else:
            recipes[name] = recipe
    return recipes, problems


def _recipe(tensor: torch.Tensor, bound: float | None) -> Initialiser | None:
    first = tensor.flatten()[0]
    if bool((tensor == first).all()) and (bound is None or tensor.numel() > 1):
        return Constant(float(first))
    if bound is not None and float(tensor.abs().max()) <= bound * (1 + 1e-6):
        return Uniform(-bound, bound)
    return None


def _layer_bounds(model: nn.Module) -> dict[str, float]:
    """Return 1/sqrt(fan_in) for the weights and biases of linear and conv layers."""
    bounds: dict[str, float] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, _UNIFORM_LAYERS):
            fan_in = math.prod(module.weight.shape[1:])
            for name, _ in module.named_parameters(recurse=False):
                bounds[f"{prefix}.{name}" if prefix else name] = 1 / math.sqrt(fan_in)
    return bounds
