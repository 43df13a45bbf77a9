# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Initial weights: the distributions that a model's tensors were drawn from.

The chain starts every job from its own seed, so a program says *how* its weights are
drawn, not what they are. For each tensor the candidates are, in this order: one value
throughout; what a ``transformers`` configuration says; what the layer's own
``reset_parameters`` does; the usual functions of ``torch.nn.init``. A candidate is
taken only if the tensor at hand could have been drawn from it: within the bounds, and
mean and second moment within six standard errors. For anything else the caller must say
what it wants.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import cast

import torch
from torch import nn

from ml_verifier.initial import (
    Constant,
    Drawn,
    Initialiser,
    Normal,
    Uniform,
    ZeroRow,
)

_FAN_IN_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Bilinear,
)
_RECURRENT_LAYERS = (nn.RNNBase, nn.RNNCellBase)
_DEVIATIONS = (0.02, 0.01, 1.0)  # of normal_ and trunc_normal_ in most model code
_STANDARD_ERRORS = 6.0
_ENOUGH = 64  # elements, for telling one distribution from another
_UNIFORM_REACH = math.sqrt(3.0)  # bound of a uniform in its own standard deviations


def initialisers(
    model: nn.Module,
    chosen: Mapping[str, Initialiser],
    constant: Collection[str] = (),
) -> tuple[dict[str, Initialiser], list[str]]:
    """Return a recipe for each parameter and float buffer, and what has none.

    Args:
        model: Its tensors hold what PyTorch drew.
        chosen: Recipes by name or by pattern such as ``*.weight``; a name goes before
            patterns, an earlier pattern before a later one.
        constant: Buffers that are written into the program instead.
    """
    recipes: dict[str, Initialiser] = {}
    recipe: Initialiser | str | None
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    problems = [
        f"initialise[{name!r}]: expected Constant, Uniform, Normal or ZeroRow, "
        f"got {recipe!r}"
        for name, recipe in cast("Mapping[str, object]", chosen).items()
        if not isinstance(recipe, Initialiser)
    ]
    problems += [
        f"initialise[{pattern!r}]: the model has no such tensor"
        for pattern in chosen
        if not any(name == pattern or fnmatchcase(name, pattern) for name in tensors)
    ]
    known = _Known(model)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or name in constant:
            continue
        wanted = [r for p, r in chosen.items() if fnmatchcase(name, p)]
        recipe = chosen.get(name) or next(iter(wanted), None)
        if recipe is None:
            recipe = _recognised(name, tensor.detach(), known)
        if isinstance(recipe, str):
            problems.append(f"initial value of {name}: {recipe}")
        else:
            recipes[name] = recipe
    return recipes, problems


def _recognised(name: str, tensor: torch.Tensor, known: "_Known") -> Initialiser | str:
    """Return the recipe of a tensor, or why there is none and what to pass."""
    own = known.of(name, tensor)
    if not tensor.numel():
        return "it is empty"
    first = tensor.flatten()[0]
    if bool((tensor == first).all()) and (not own or tensor.numel() > 1):
        return Constant(float(first))
    for recipe in own:
        if _matches(recipe, tensor):
            return recipe
    found = [r for r in known.general(name, tensor) if _matches(r, tensor)]
    if tensor.numel() >= _ENOUGH and len(found) == 1:
        return found[0]
    if tensor.numel() >= _ENOUGH and found:
        return f"pass initialise={{{name!r}: ...}} with one of " + ", ".join(
            str(recipe) for recipe in found
        )
    return (
        f"no recipe for it; pass initialise={{{name!r}: {_suggestion(tensor)}}}, or "
        "another of Constant(value), Uniform(low, high), Normal(mean, deviation)"
    )


def _suggestion(tensor: torch.Tensor) -> str:
    """Return a recipe that a tensor could have been drawn from, to three digits."""
    values = tensor.float()
    mean = float(values.mean())
    deviation = float((values - mean).square().mean().sqrt())
    reach = float((values - mean).abs().max())
    if abs(mean) > _STANDARD_ERRORS * deviation / math.sqrt(values.numel()):
        return f"Normal({mean:.3g}, {deviation:.3g})"
    if reach <= _UNIFORM_REACH * deviation * 1.05:
        return f"Uniform({-reach:.3g}, {reach:.3g})"
    return f"Normal(0.0, {deviation:.3g})"


# ── could it have been drawn from this? ──────────────────────────────────────


def _matches(recipe: Initialiser, tensor: torch.Tensor) -> bool:
    match recipe:
        case Constant(value):
            return bool((tensor == value).all())
        case Uniform(low, high):
            slack = (high - low) * torch.finfo(tensor.dtype).eps
            inside = float(tensor.min()) >= low - slack
            inside = inside and float(tensor.max()) <= high + slack
            deviation = (high - low) / 2 / _UNIFORM_REACH
            return inside and _moments(tensor, (low + high) / 2, deviation, 0.8)
        case Normal(mean, deviation):
            reach = float((tensor - mean).abs().max())
            unbounded = tensor.numel() < _ENOUGH or reach > _UNIFORM_REACH * deviation
            return unbounded and _moments(tensor, mean, deviation, 2.0)
        case ZeroRow(row, of):
            rest = torch.cat((tensor[:row], tensor[row + 1 :]))
            return not bool(tensor[row].any()) and _matches(of, rest)


def _moments(
    tensor: torch.Tensor, mean: float, deviation: float, spread: float
) -> bool:
    """Whether mean and second moment are within six standard errors.

    ``spread`` is the variance of a squared element over deviation^4: 4/5 for a uniform
    distribution, 2 for a normal one.
    """
    count = tensor.numel()
    centred = tensor.float() - mean
    drift = float(centred.sum(dtype=torch.float64)) / count
    square = float(centred.square().sum(dtype=torch.float64)) / count
    near = abs(drift) <= _STANDARD_ERRORS * deviation / math.sqrt(count)
    ratio = square / deviation**2
    return near and abs(ratio - 1) <= _STANDARD_ERRORS * math.sqrt(spread / count)


# ── what draws weights ───────────────────────────────────────────────────────


@dataclass(slots=True)
class _Known:
    """What a model's layers and configurations say about its tensors."""

    model: nn.Module
    layers: dict[int, list[Drawn]] = field(default_factory=dict[int, list[Drawn]])
    padding: dict[int, int] = field(default_factory=dict[int, int])
    ranges: dict[str, tuple[float, int]] = field(
        default_factory=dict[str, tuple[float, int]]
    )

    def __post_init__(self) -> None:
        for prefix, module in self.model.named_modules():
            for tensor, recipe in _drawn(module):
                self.layers.setdefault(id(tensor), []).append(recipe)
            if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                row = module.padding_idx
                if row is not None:
                    self.padding[id(module.weight)] = row % len(module.weight)
            config = getattr(module, "config", None)
            deviation = getattr(config, "initializer_range", None)
            if isinstance(deviation, float) and deviation > 0:
                depth = getattr(config, "num_hidden_layers", 0)
                self.ranges[prefix] = deviation, depth if isinstance(depth, int) else 0

    def of(self, name: str, tensor: torch.Tensor) -> list[Initialiser]:
        """Return what the configuration, then the layer, draws a tensor from."""
        found: list[Drawn] = []
        for prefix, (deviation, depth) in self.ranges.items():
            if name.startswith(prefix):
                if name.endswith("c_proj.weight") and depth:  # GPT-2's residual scale
                    found.append(Normal(0.0, deviation / math.sqrt(2 * depth)))
                found.append(Normal(0.0, deviation))
        found += self.layers.get(self._identity(name), [])
        return list(self._padded(name, tensor, found))

    def general(self, name: str, tensor: torch.Tensor) -> list[Initialiser]:
        """Return what ``torch.nn.init`` draws a tensor of this shape from."""
        found: list[Drawn] = [Normal(0.0, d) for d in _DEVIATIONS]
        if tensor.dim() > 1:
            fan_in, fan_out = _fans(tensor)
            variances = {2 / (fan_in + fan_out), 2 / fan_in, 2 / fan_out, 1 / fan_in}
            for variance in sorted(variances):
                bound = math.sqrt(3 * variance)
                found += [Uniform(-bound, bound), Normal(0.0, math.sqrt(variance))]
        return list(self._padded(name, tensor, list(dict.fromkeys(found))))

    def _identity(self, name: str) -> int:
        parts = name.rpartition(".")
        return id(getattr(self.model.get_submodule(parts[0]), parts[2]))

    def _padded(
        self, name: str, tensor: torch.Tensor, recipes: list[Drawn]
    ) -> Iterator[Initialiser]:
        row = self.padding.get(self._identity(name))
        for recipe in recipes:
            if row is not None and len(tensor) > 1:
                yield ZeroRow(row, recipe)
            yield recipe


def _drawn(module: nn.Module) -> Iterator[tuple[torch.Tensor, Drawn]]:
    """Yield a layer's tensors and what its ``reset_parameters`` draws them from."""
    if isinstance(module, _FAN_IN_LAYERS):
        shape = module.weight.shape
        bilinear = isinstance(module, nn.Bilinear)
        bound = 1 / math.sqrt(shape[1] if bilinear else math.prod(shape[1:]))
        for parameter in module.parameters(recurse=False):
            yield parameter, Uniform(-bound, bound)
    elif isinstance(module, _RECURRENT_LAYERS):
        bound = 1 / math.sqrt(module.hidden_size)
        for parameter in module.parameters(recurse=False):
            yield parameter, Uniform(-bound, bound)
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        yield module.weight, Normal(0.0, 1.0)
    elif isinstance(module, nn.MultiheadAttention):
        for name, parameter in module.named_parameters(recurse=False):
            fan_in, fan_out = _fans(parameter) if parameter.dim() > 1 else (1, 1)
            variance = 2 / (fan_in + fan_out)
            if name in {"bias_k", "bias_v"}:
                yield parameter, Normal(0.0, math.sqrt(variance))
            elif name.endswith("weight"):
                bound = math.sqrt(3 * variance)
                yield parameter, Uniform(-bound, bound)


def _fans(tensor: torch.Tensor) -> tuple[int, int]:
    """Fan-in and fan-out as ``torch.nn.init`` counts them."""
    area = math.prod(tensor.shape[2:])
    return tensor.shape[1] * area, tensor.shape[0] * area
