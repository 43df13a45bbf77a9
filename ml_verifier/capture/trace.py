# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Tracing of forward and backward to a graph of aten operators."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._functorch._aot_autograd.logging_utils import (
    setup_stacktrace_preservation_hooks,
)
from torch._subclasses.functional_tensor import dispatch_functionalize
from torch.func import (
    functional_call,  # pyright: ignore[reportPrivateImportUsage]
)
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta, set_stack_trace
from torch.nn.attention import SDPBackend, sdpa_kernel

from ml_verifier.capture.decompositions import DECOMPOSITIONS
from ml_verifier.capture.refusals import refusals
from ml_verifier.capture.source import Lines
from ml_verifier.errors import UnsupportedModel

Objective = Callable[[Mapping[str, torch.Tensor], Sequence[torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class Traced:
    """A graph and the meaning of its inputs and outputs.

    Attributes:
        graph: Placeholders are ``inputs`` in order, then the sample's tensors; outputs
            are the loss, the gradients of ``trained``, then the new ``buffers``.
        constants: The tensors that the graph's ``get_attr`` nodes name.
        inputs: Names of parameters and buffers.
        trained: Names of the parameters that have gradients.
        buffers: Names of the buffers.
        unchanged: Names of the buffers that the step only reads.
        untrained: Names of the parameters that the loss does not depend on: autograd
            has no gradient for them, and optimisers leave them alone.
    """

    graph: torch.fx.Graph
    constants: Mapping[str, torch.Tensor]
    inputs: tuple[str, ...]
    trained: tuple[str, ...]
    buffers: tuple[str, ...]
    unchanged: frozenset[str]
    untrained: frozenset[str]


def trace(
    model: nn.Module,
    objective: Objective,
    trained: Sequence[str],
    sample: Sequence[torch.Tensor],
) -> Traced:
    """Trace one forward and backward pass on fake tensors; nothing is computed.

    Args:
        model: Whose parameters and buffers become the graph's inputs.
        objective: Returns the loss, given all tensors of the model and the batch.
        trained: Parameters to differentiate.
        sample: One batch.

    Raises:
        UnsupportedModel: The step cannot be traced, as it looks at a tensor's values.
    """
    parameters = {n: p.detach().clone() for n, p in model.named_parameters()}
    buffers = {n: b.detach().clone() for n, b in model.named_buffers()}
    weights = {n: parameters[n] for n in trained}
    frozen = {n: p for n, p in parameters.items() if n not in weights}
    untrained: set[str] = set()

    def step(
        weights: dict[str, torch.Tensor],
        fixed: dict[str, torch.Tensor],
        state: dict[str, torch.Tensor],
        *batch: torch.Tensor,
    ) -> list[torch.Tensor]:
        leaves = {n: w.detach().requires_grad_() for n, w in weights.items()}
        updated = {n: b.clone() for n, b in state.items()}
        with Lines():
            value = objective(leaves | fixed | updated, batch)
        set_stack_trace([])
        if value.grad_fn is None:
            raise UnsupportedModel(("the loss depends on no trained parameter",))
        setup_stacktrace_preservation_hooks([value.grad_fn])
        gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
            value, list(leaves.values()), allow_unused=True
        )
        whole: list[torch.Tensor] = []
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            if gradient is None:
                untrained.add(name)
            whole.append(torch.zeros_like(leaf) if gradient is None else gradient)
        return [value.detach(), *whole, *updated.values()]

    with (
        refusals(),
        sdpa_kernel(SDPBackend.MATH),
        _without_mkldnn(),
        torch.compiler._compile_session_context(),  # noqa: SLF001 - asks libraries not to look at values
        preserve_node_meta(),  # backward calls carry the numbers of forward ones
        torch.random.fork_rng(devices=()),
    ):
        module = make_fx(
            dispatch_functionalize(step),
            decomposition_table=DECOMPOSITIONS,
            tracing_mode="fake",
            _allow_non_fake_inputs=True,  # tensors that the model or the loss holds
        )(weights, frozen, buffers, *sample)
    module.graph.eliminate_dead_code()
    constants: dict[str, Any] = {
        str(node.target): getattr(module, str(node.target))
        for node in module.graph.nodes
        if node.op == "get_attr"
    }
    inputs = (*weights, *frozen, *buffers)
    return Traced(
        module.graph,
        constants,
        inputs,
        tuple(weights),
        tuple(buffers),
        frozenset(_unchanged(module.graph, inputs, tuple(buffers))),
        frozenset(untrained),
    )


@contextmanager
def _without_mkldnn() -> Iterator[None]:
    """Keep recurrent layers in pieces: mkldnn's are one call without an operator."""
    enabled = torch._C._get_mkldnn_enabled()  # noqa: SLF001 - the public door sets more
    torch._C._set_mkldnn_enabled(False)  # noqa: FBT003, SLF001
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)  # noqa: SLF001


def call(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    arguments: Sequence[torch.Tensor],
    keywords: Mapping[str, torch.Tensor],
) -> Any:  # noqa: ANN401 - whatever the model returns
    """Call ``model`` with ``tensors`` in place of its parameters and buffers."""
    return functional_call(model, dict(tensors), tuple(arguments), dict(keywords))


def _unchanged(
    graph: torch.fx.Graph, inputs: Sequence[str], buffers: Sequence[str]
) -> list[str]:
    """Return the buffers whose value after the step is a copy of the one before."""
    copies = {
        torch.ops.aten.clone.default,
        torch.ops.aten.detach.default,
        torch.ops.aten.alias.default,
    }
    nodes = list(graph.nodes)
    output = nodes[-1].args[0]
    found: list[str] = []
    for name, value in zip(buffers, output[len(output) - len(buffers) :], strict=True):
        source = value
        while source.op == "call_function" and source.target in copies:
            source = source.args[0]
        if source is nodes[inputs.index(name)]:
            found.append(name)
    return found
