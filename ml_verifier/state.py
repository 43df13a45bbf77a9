"""State: everything the next step depends on, as bytes and as a root."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ml_verifier import commitment
from ml_verifier.commitment import Array
from ml_verifier.errors import MalformedData
from ml_verifier.program import Program


@dataclass(frozen=True)
class State:
    """The tensors of all slots after ``position`` steps; do not write into them."""

    position: int
    tensors: tuple[Array, ...]

    @cached_property
    def root(self) -> bytes:
        """h_i."""
        return commitment.state_root(self.position, self.tensors)

    @property
    def loss(self) -> float:
        """Loss of the step that led here (0 before the first)."""
        return float(self.tensors[0])

    def to_bytes(self) -> bytes:
        """Return all slots concatenated, little-endian."""
        return b"".join(tensor.tobytes() for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Trap:
    """The state after a step that has no finite result; it repeats to the end.

    Attributes:
        position: Steps taken, trapped ones included.
        previous: Root of the last ordinary state.
    """

    position: int
    previous: bytes

    @property
    def root(self) -> bytes:
        """The same 32 bytes at every later position."""
        return commitment.trap_root(self.previous)


def state_from_bytes(program: Program, position: int, data: bytes) -> State:
    """Decode the concatenated slots of a state; its tensors are views of ``data``.

    Raises:
        MalformedData: The size is not that of the program's state.
    """
    if len(data) != program.state_bytes:
        raise MalformedData(
            f"expected a state of {program.state_bytes} bytes, got {len(data)}"
        )
    tensors: list[Array] = []
    offset = 0
    for slot in program.slots:
        raw = np.frombuffer(data, slot.type.dtype.numpy, slot.type.size, offset)
        tensors.append(raw.reshape(slot.type.shape))
        offset += slot.type.nbytes
    return State(position, tuple(tensors))
