# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""What tracing itself refuses, told in the words of the one who wrote the model."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch._subclasses import fake_tensor
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ml_verifier.capture.source import VALUE, is_users, line_of
from ml_verifier.errors import UnsupportedModel

_ADVICE = {
    "aten._local_scalar_dense.default": VALUE,
    "aten.nonzero.default": (
        "its shape depends on data (x[mask], nonzero): use torch.where(mask, x, 0)"
    ),
    "aten.masked_select.default": "its shape depends on data: use torch.where",
}


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what tracing refuses into ``UnsupportedModel`` with the user's line."""
    try:
        yield
    except GuardOnDataDependentSymNode as error:
        raise UnsupportedModel((f"{VALUE} ({_line(error)})",)) from error
    except (
        fake_tensor.DataDependentOutputException,
        fake_tensor.DynamicOutputShapeException,
        fake_tensor.UnsupportedOperatorException,
    ) as error:
        name = str(error.func)
        advice = _ADVICE.get(name, "it cannot be captured: its shape depends on data")
        raise UnsupportedModel((f"{name}: {advice} ({_line(error)})",)) from error


def _line(error: BaseException) -> str:
    """Return the user's line that the error passed through last."""
    found, trace = line_of(None), error.__traceback__
    while trace is not None:
        if is_users(trace.tb_frame):
            found = line_of(trace.tb_frame)
        trace = trace.tb_next
    return found
