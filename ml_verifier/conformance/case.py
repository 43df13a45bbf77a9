"""One execution of one operator: its buffers, its run, and what came out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml_verifier.engine import Backend
from ml_verifier.operators import BY_NAME, AttributeValue, infer
from ml_verifier.types import TensorType, dtype_of

Array = NDArray[Any]
Attributes = dict[str, AttributeValue]

# Bits of bfloat16, which numpy holds as uint16.
SIGNLESS, HALF_INFINITY, HALF_NAN = (np.uint16(x) for x in (0x7FFF, 0x7F80, 0x7FC0))


class Arithmetic(Backend, Protocol):
    """All that computes: ``ml_verifier.kernels``, ``.oracle`` or a foreign machine."""

    def canonicalise(self, array: Array) -> None:
        """Replace every NaN of a float32 array by 0x7fc00000."""
        ...

    def philox_uniform(
        self, out: Array, key: int, counter2: int, counter3: int, lo: float, hi: float
    ) -> None:
        """Fill a float32 array from the counter-based generator."""
        ...


@dataclass(frozen=True)
class Case:
    """An operator, its attributes and its inputs."""

    name: str
    inputs: Sequence[Array]
    attributes: Mapping[str, AttributeValue] = field(default_factory=Attributes)

    def types(self) -> tuple[TensorType, ...]:
        """Return the types of the inputs."""
        return tuple(TensorType(dtype_of(x.dtype), x.shape) for x in self.inputs)

    def outputs(self) -> list[Array]:
        """Return fresh outputs, filled with what no kernel may leave behind."""
        types = infer(BY_NAME[self.name], self.types(), self.attributes)
        made = [np.empty(t.shape, t.dtype.numpy) for t in types]
        for array in made:
            array.reshape(-1).view(np.uint8).fill(0xA5)
        return made

    def run(self, backend: Arithmetic) -> tuple[int, list[Array]]:
        """Return status and outputs, NaN canonical."""
        outputs = self.outputs()
        status = backend.bind(self.name, self.attributes, self.inputs, outputs)()
        for array in outputs:
            if array.dtype == np.float32:
                backend.canonicalise(array.reshape(-1))
            if array.dtype == np.uint16:
                array[array & SIGNLESS > HALF_INFINITY] = HALF_NAN
        return status, outputs
