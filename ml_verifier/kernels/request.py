"""A request to bind an operator, and the checks that keep its buffers safe.

The kernels trust every pointer and size they are given, so each binding asks here for
its arrays by dtype and shape. The rules of the operators themselves (which shapes a
program may use) are the engine's; what is checked here is what memory safety needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from ml_verifier.kernels.errors import BindingError

AttributeValue = int | float | tuple[int, ...] | bytes
Array = NDArray[Any]
Shape = tuple[int, ...]

FLOAT = np.dtype(np.float32)
INDEX = np.dtype(np.int64)
BFLOAT = np.dtype(np.uint16)  # the 16 bits of a bfloat16
BOOLEAN = np.dtype(np.uint8)  # 0 or 1


@dataclass(frozen=True, slots=True)
class Request:
    """What ``bind`` was asked for."""

    name: str
    attributes: Mapping[str, AttributeValue]
    inputs: Sequence[Array]
    outputs: Sequence[Array]

    def expect(self, inputs: int, outputs: int, *attributes: str) -> None:
        """Raises BindingError unless the counts and attribute names are these."""
        for array in (*self.inputs, *self.outputs):
            if type(array) is not np.ndarray:
                raise self.refusal(f"expected numpy arrays, got {type(array).__name__}")
        for what, wanted, given in (
            ("inputs", inputs, len(self.inputs)),
            ("outputs", outputs, len(self.outputs)),
        ):
            if wanted != given:
                raise self.refusal(f"expected {wanted} {what}, got {given}")
        if set(attributes) != set(self.attributes):
            raise self.refusal(
                f"expected attributes {sorted(attributes)},"
                f" got {sorted(self.attributes)}"
            )

    def refusal(self, reason: str) -> BindingError:
        """The error that names this operator."""
        return BindingError(f"{self.name}: {reason}")

    def input(
        self, index: int, shape: Shape | None = None, dtype: np.dtype[Any] = FLOAT
    ) -> Array:
        """An input, checked to be C-contiguous, of this dtype and (if given) shape."""
        return self._checked(f"input {index}", self.inputs[index], shape, dtype)

    def output(
        self, index: int, shape: Shape | None = None, dtype: np.dtype[Any] = FLOAT
    ) -> Array:
        """An output, checked like an input, and writeable."""
        array = self._checked(f"output {index}", self.outputs[index], shape, dtype)
        if not array.flags.writeable:
            raise self.refusal(f"output {index} is read-only")
        return array

    def input_view(self, index: int) -> Array:
        """A float32 input that may be a strided view of an array."""
        return self._checked_view(f"input {index}", self.inputs[index])

    def output_view(self, index: int, shape: Shape) -> Array:
        """An output that may be a strided view, no element of it twice; writeable."""
        where, array = f"output {index}", self.outputs[index]
        self._checked_view(where, array)
        if array.shape != shape:
            raise self.refusal(f"{where} must have shape {shape}, got {array.shape}")
        if not array.flags.writeable:
            raise self.refusal(f"{where} is read-only")
        if not _injective(array):
            raise self.refusal(
                f"{where} may hold an element twice: strides {array.strides}"
                f" for shape {array.shape}"
            )
        return array

    def _checked_view(self, where: str, array: Array) -> Array:
        if array.dtype != FLOAT:
            raise self.refusal(f"{where} must be {FLOAT}, got {array.dtype}")
        whole = all(s >= 0 and s % array.itemsize == 0 for s in array.strides)
        if not (array.flags.aligned and whole):
            raise self.refusal(
                f"{where} must be aligned, with strides of whole elements, got strides"
                f" {array.strides} for shape {array.shape}"
            )
        if not array.flags.c_contiguous and not _inside_its_owner(array):
            raise self.refusal(f"{where} is no view of an array that holds its memory")
        return array

    def _checked(
        self, where: str, array: Array, shape: Shape | None, dtype: np.dtype[Any]
    ) -> Array:
        if array.dtype != dtype:
            raise self.refusal(f"{where} must be {dtype}, got {array.dtype}")
        if shape is not None and array.shape != shape:
            raise self.refusal(f"{where} must have shape {shape}, got {array.shape}")
        if not (array.flags.c_contiguous and array.flags.aligned):
            raise self.refusal(
                f"{where} must be C-contiguous and aligned, got strides {array.strides}"
                f" for shape {array.shape}"
            )
        return array

    def integer(self, name: str, low: int = 0, high: int = 2**62) -> int:
        """An integer attribute within [low, high]."""
        value = self.attributes[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refusal(f"{name} must be an integer, got {value!r}")
        if not low <= value <= high:
            raise self.refusal(f"{name} must be in [{low}, {high}], got {value}")
        return value

    def integers(self, name: str, count: int | None = None, low: int = 0) -> Shape:
        """A tuple of integers, each at least ``low``."""
        value = self.attributes[name]
        if not isinstance(value, tuple) or (count is not None and len(value) != count):
            wanted = "a tuple" if count is None else f"a tuple of {count}"
            raise self.refusal(f"{name} must be {wanted}, got {value!r}")
        if any(not low <= part < 2**62 for part in value):
            raise self.refusal(f"{name} must be at least {low} throughout, got {value}")
        return value

    def scalar(self, name: str) -> float:
        """A float attribute that float32 represents exactly."""
        value = self.attributes[name]
        if isinstance(value, (tuple, bytes)):
            raise self.refusal(f"{name} must be a number, got {value!r}")
        with np.errstate(over="ignore"):
            single = float(np.float32(value))
        if single != value and not (single != single and value != value):  # noqa: PLR0124  NaN test
            raise self.refusal(
                f"{name} must be exactly representable in float32, got {value!r}"
            )
        return float(value)

    def no_overlap(self, *, in_place: bool) -> None:
        """Raises BindingError when an output shares memory with another buffer.

        With ``in_place`` an output may be the very same buffer as an input.
        """
        for o, output in enumerate(self.outputs):
            others = [(f"input {i}", x) for i, x in enumerate(self.inputs)]
            others += [(f"output {i}", x) for i, x in enumerate(self.outputs[:o])]
            for where, other in others:
                if not np.may_share_memory(output, other):
                    continue
                same = (
                    in_place
                    and where.startswith("input")
                    and address(other) == address(output)
                    and other.size == output.size
                )
                if not same:
                    raise self.refusal(f"output {o} shares memory with {where}")


def _injective(array: Array) -> bool:
    """Whether the strides, smallest first, each step over all smaller ones together."""
    reach = array.itemsize
    steps = sorted(
        (stride, extent)
        for stride, extent in zip(array.strides, array.shape, strict=True)
        if extent > 1
    )
    for stride, extent in steps:
        if stride < reach:
            return False
        reach += stride * (extent - 1)
    return True


def _inside_its_owner(array: Array) -> bool:
    """Whether a view's bytes lie within a contiguous array that it was made from."""
    owner: object = array
    while isinstance(owner, np.ndarray) and not owner.flags.c_contiguous:
        owner = owner.base
    if not isinstance(owner, np.ndarray):
        return False
    (low, high), (start, end) = (byte_bounds(x) for x in (array, owner))
    return start <= low and high <= end


def address(array: Array) -> int:
    """Where an array's first element is."""
    return int(array.__array_interface__["data"][0])
