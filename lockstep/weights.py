"""From a trained state to the weights of a PyTorch module, without running torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import TensorSpec, serialize_file

from lockstep.errors import LockstepError
from ml_verifier.bfloat import widened
from ml_verifier.program import EMA, LOSS, OPTIMISER, Program
from ml_verifier.state import State
from ml_verifier.types import DType, dtype_of

__all__ = ["Module", "WeightsMismatch", "load_into", "save", "weights"]


class WeightsMismatch(LockstepError):
    """The weights belong to another model."""


class Module(Protocol):
    """The part of `torch.nn.Module` that is used here."""

    def state_dict(self) -> Mapping[str, Any]:
        """Name and tensor of each parameter and buffer; the tensors are live."""
        ...

    def named_buffers(self) -> Iterable[tuple[str, Any]]:
        """Name and tensor of each buffer."""
        ...


def weights(
    program: Program, state: State, *, averaged: bool = False
) -> dict[str, np.ndarray]:
    """The module's part of a state: parameters and buffers by their PyTorch names.

    A bf16 tensor is its bits, as uint16 (`ml_verifier.bfloat.widened` reads them).

    Args:
        program: of the job.
        state: what was trained.
        averaged: give the moving average of each trained parameter instead.

    Raises:
        WeightsMismatch: the program keeps no averages.
    """
    names = [slot.name for slot in program.slots]
    tensors = dict(zip(names, state.tensors, strict=True))
    found = {
        name: tensor
        for name, tensor in tensors.items()
        if name != LOSS and not name.startswith((OPTIMISER, EMA))
    }
    if not averaged:
        return found
    averages = {
        name.removeprefix(EMA): tensor
        for name, tensor in tensors.items()
        if name.startswith(EMA)
    }
    if not averages:
        raise WeightsMismatch(
            "the job kept no averages of its weights: submit it with ema=0.999"
        )
    return found | averages


def save(path: Path, tensors: Mapping[str, np.ndarray], job: str) -> None:
    """Write weights as safetensors; the file says which job they come from."""
    held = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype="bfloat16" if _is_bf16(tensor) else tensor.dtype.name,
            shape=tensor.shape,
            data_ptr=tensor.ctypes.data,
            data_len=tensor.nbytes,
        )
        for name, tensor in held.items()
    }
    serialize_file(specs, path, {"format": "pt", "lockstep.job": job})


def _is_bf16(tensor: np.ndarray) -> bool:
    return dtype_of(tensor.dtype) is DType.BF16


def load_into(module: Module, tensors: Mapping[str, np.ndarray]) -> None:
    """Copy weights into a module.

    Raises:
        WeightsMismatch: names or shapes are another model's.
    """
    own = module.state_dict()
    # Of a tensor with two names the weights hold one; buffers that no step changes are
    # part of the program, not of the weights.
    held = {own[name].data_ptr() for name in tensors if name in own}
    spared = {name for name, _ in module.named_buffers()}
    spared |= {name for name, tensor in own.items() if tensor.data_ptr() in held}
    different = sorted((set(own) - set(tensors) - spared) | (set(tensors) - set(own)))
    if different:
        raise WeightsMismatch(
            f"the model and the weights do not share {', '.join(different)}; build the "
            "model as in the script that was submitted"
        )
    for name, tensor in tensors.items():
        if tuple(own[name].shape) != tensor.shape:
            raise WeightsMismatch(
                f"{name} has shape {tuple(own[name].shape)} in the model and "
                f"{tensor.shape} in the weights"
            )
    for name, tensor in tensors.items():
        values = widened(tensor) if _is_bf16(tensor) else tensor
        own[name].copy_(own[name].new_tensor(values))
