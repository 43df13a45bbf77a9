# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Where in the user's code a traced call comes from."""

import linecache
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, Node
from torch.fx.traceback import GRADIENT_ACC_SPECIAL_STACK, set_stack_trace
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from ml_verifier.errors import UnsupportedModel

VALUE = (
    "the value of a tensor would become a Python number or a shape (.item(), "
    "if tensor:, x[mask]): keep it a tensor and choose with torch.where"
)
BACKWARD = "in the backward pass"
_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


class Lines(TorchFunctionMode):
    """While it is active, nodes of a traced graph carry the user's line."""

    @override
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        line = line_of(sys._getframe(1))  # noqa: SLF001 - the door to frames
        set_stack_trace([line])
        result = function(*args, **(kwargs or {}))
        if _depends_on_data(result):
            raise UnsupportedModel((f"{VALUE} ({line})",))
        return result


def _depends_on_data(result: object) -> bool:
    """Return whether a result is a number, or has a shape, that data decide."""
    if isinstance(result, torch.Tensor):
        return any(not isinstance(size, int) for size in result.shape)
    return isinstance(result, (torch.SymInt, torch.SymFloat, torch.SymBool))


def is_users(frame: FrameType) -> bool:
    """Return whether a frame is neither torch's nor of this package."""
    return not frame.f_code.co_filename.startswith((_HERE, _TORCH, "<string>"))


def line_of(frame: FrameType | None) -> str:
    """Return file, line and text of the innermost frame of the user's.

    A model made of torch's layers alone has none; then it is the layer's name.
    """
    layer = ""
    while frame is not None and not frame.f_code.co_filename.startswith(_HERE):
        file, line = frame.f_code.co_filename, frame.f_lineno
        if is_users(frame):
            return f"{file}:{line}: {linecache.getline(file, line).strip()}"
        owner = frame.f_locals.get("self")
        if not layer and isinstance(owner, nn.Module):
            layer = f"in a layer {type(owner).__name__}"
        frame = frame.f_back
    return layer or "in the model or its loss"


class Sources:
    """Names the line that each call of a graph comes from.

    A call of the backward pass has no line; it carries the sequence number of the
    forward call whose gradient it computes, and is named by that call's line.
    """

    def __init__(self, graph: Graph) -> None:
        self._forward: dict[int, str] = {}
        for node in graph.nodes:
            number = node.meta.get("seq_nr", -1)
            if number >= 0 and _is_forward(node):
                self._forward.setdefault(number, node.stack_trace)

    def location(self, node: Node) -> str:
        """Return the line of one call."""
        if node.stack_trace and _is_forward(node):
            return node.stack_trace
        found = self._forward.get(node.meta.get("seq_nr", -1))
        return f"{BACKWARD} of {found}" if found else BACKWARD


def _is_forward(node: Node) -> bool:
    """Return whether a call has a line; torch marks sums of gradients with a phrase."""
    trace = node.stack_trace or ""
    return bool(trace) and GRADIENT_ACC_SPECIAL_STACK not in trace
