# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Tracing of forward and backward to a graph of aten operators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import (
    functional_call,  # pyright: ignore[reportPrivateImportUsage]
    functionalize,  # pyright: ignore[reportPrivateImportUsage]
    grad_and_value,  # pyright: ignore[reportPrivateImportUsage]
)
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True)
class Traced:
    """A graph and the meaning of its inputs and outputs.

    Attributes:
        graph: Placeholders are ``inputs`` in order, then the sample's tensors; outputs
            are the loss, the gradients of ``trained``, then the new ``buffers``.
        inputs: Names of parameters and buffers.
        trained: Names of the parameters that have gradients.
        buffers: Names of the buffers.
    """

    graph: torch.fx.Graph
    inputs: tuple[str, ...]
    trained: tuple[str, ...]
    buffers: tuple[str, ...]


def trace(
    model: nn.Module,
    loss: Callable[..., torch.Tensor],
    trained: Sequence[str],
    sample: Sequence[torch.Tensor],
) -> Traced:
    """Trace one forward and backward pass on fake tensors; nothing is computed."""
    parameters = {n: p.detach().clone() for n, p in model.named_parameters()}
    buffers = {n: b.detach().clone() for n, b in model.named_buffers()}
    frozen = {n: p for n, p in parameters.items() if n not in trained}

    def step(
        weights: dict[str, torch.Tensor],
        fixed: dict[str, torch.Tensor],
        state: dict[str, torch.Tensor],
        *batch: torch.Tensor,
    ) -> list[torch.Tensor]:
        def objective(
            current: dict[str, torch.Tensor],
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            updated = {n: b.clone() for n, b in state.items()}
            output = functional_call(model, current | fixed | updated, batch[:-1])
            return loss(output, batch[-1]), updated

        gradients, (value, updated) = grad_and_value(objective, has_aux=True)(weights)
        return [value, *gradients.values(), *updated.values()]

    weights = {n: parameters[n] for n in trained}
    with sdpa_kernel(SDPBackend.MATH):
        module = make_fx(
            functionalize(step, remove="mutations"),
            tracing_mode="fake",
            record_stack_traces=True,
            _allow_non_fake_inputs=True,  # a loss may hold tensors; lowering names them
        )(weights, frozen, buffers, *sample)
    module.graph.eliminate_dead_code()
    return Traced(
        module.graph,
        (*weights, *frozen, *buffers),
        tuple(weights),
        tuple(buffers),
    )


def untrained(traced: Traced) -> set[str]:
    """Return the parameters that the loss does not depend on.

    Autograd has no gradient for them, and optimisers leave them alone. Their zeros are
    made from the parameter itself, as no other gradient is.
    """
    nodes = list(traced.graph.nodes)
    placeholders = [node for node in nodes if node.op == "placeholder"]
    outputs = nodes[-1].args[0]
    found: set[str] = set()
    for name, gradient in zip(traced.trained, outputs[1:], strict=False):
        if gradient.target is torch.ops.aten.zeros_like.default:
            source = gradient.args[0]
            while source.target is torch.ops.aten.detach.default:
                source = source.args[0]
            if source is placeholders[traced.inputs.index(name)]:
                found.add(name)
    return found
