"""What a binding function returns: the call's content before it becomes C memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ml_verifier.kernels.request import Array, Request


@dataclass(frozen=True, slots=True)
class Plan:
    """A C operator and its arguments.

    Attributes:
        operator: The operator's name in the library.
        inputs: Buffers in the order the C source documents.
        outputs: Likewise.
        sizes: Integers, likewise.
        scalars: Floats, likewise.
    """

    operator: str
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    sizes: Sequence[int] = ()
    scalars: Sequence[float] = ()


Planner: TypeAlias = Callable[[Request], Plan]
