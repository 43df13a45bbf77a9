# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""How a tensor that a model holds is written into a program.

A program has no room for big tables, so a tensor is first looked at: one that is
uniform, counts upwards, is triangular or repeats itself is written as what makes it.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch

from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.types import DType, TensorType

MAX_LITERAL_BYTES = 65_536
SMALL = 256  # bytes that are cheaper to store than to compute


@dataclass(frozen=True, slots=True)
class Filled:
    """A tensor whose elements are all ``value``."""

    value: float | int
    type: TensorType


@dataclass(frozen=True, slots=True)
class Ramp:
    """The integers start, start + step, ..."""

    start: int
    step: int
    size: int


@dataclass(frozen=True, slots=True)
class Staircase:
    """``below`` where column - row <= offset, else ``above``; leading axes are 1."""

    below: float | int
    above: float | int
    offset: int
    type: TensorType


@dataclass(frozen=True, slots=True)
class Expanded:
    """A smaller tensor, repeated."""

    base: torch.Tensor
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plain:
    """The elements, row-major and little-endian."""

    dtype: DType
    shape: tuple[int, ...]
    data: bytes


Form: TypeAlias = Filled | Ramp | Staircase | Expanded | Plain


def read(tensor: torch.Tensor, dtype: DType) -> Form:
    """Return the cheapest form of a tensor of element type ``dtype``."""
    tensor = tensor.detach()
    type_ = TensorType(dtype, tuple(tensor.shape))
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    repeated = [i for i, (size, step) in enumerate(strides) if size > 1 and not step]
    for axis in repeated:
        tensor = tensor.narrow(axis, 0, 1)
    if repeated:
        return Expanded(tensor, type_.shape)
    if not tensor.numel():
        raise Unsupported(f"an empty tensor of shape {type_.shape}: leave it out")
    first = tensor.reshape(-1)[0]
    if bool((tensor == first).all()):
        return Filled(first.item(), type_)
    form: Ramp | Staircase | None = _ramp(tensor, dtype)
    if form is None and type_.nbytes > SMALL:
        form = _staircase(tensor, type_)
    if form is not None:
        return form
    if type_.nbytes > MAX_LITERAL_BYTES:
        raise Unsupported(
            f"a constant tensor of {type_.nbytes} bytes: at most {MAX_LITERAL_BYTES} "
            "fit into a program; compute it in forward()"
        )
    return Plain(dtype, type_.shape, _bytes(tensor, dtype))


def _bytes(tensor: torch.Tensor, dtype: DType) -> bytes:
    if dtype is DType.BF16:
        return tensor.contiguous().view(torch.int16).numpy().astype("<u2").tobytes()
    return tensor.contiguous().numpy().astype(dtype.numpy).tobytes()


def _ramp(tensor: torch.Tensor, dtype: DType) -> Ramp | None:
    if dtype is not DType.I64 or tensor.dim() != 1:
        return None
    start, step = int(tensor[0]), int(tensor[1]) - int(tensor[0])
    wanted = start + step * torch.arange(len(tensor))
    return Ramp(start, step, len(tensor)) if bool((wanted == tensor).all()) else None


def _staircase(tensor: torch.Tensor, type_: TensorType) -> Staircase | None:
    """Recognise a triangular mask, as ``tril`` and ``triu`` make them."""
    if tensor.dim() < 2 or any(size != 1 for size in tensor.shape[:-2]):
        return None
    plane = tensor.reshape(tensor.shape[-2:])
    below, above = plane[-1, 0], plane[0, -1]
    rows, columns = (torch.arange(n) for n in plane.shape)
    distance = columns[None, :] - rows[:, None]
    offsets = distance[plane == below]
    if not offsets.numel():
        return None
    offset = int(offsets.max())
    if not bool((plane == torch.where(distance <= offset, below, above)).all()):
        return None
    return Staircase(below.item(), above.item(), offset, type_)
