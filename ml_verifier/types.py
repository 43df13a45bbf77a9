"""Element types and static tensor types."""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from typing_extensions import override

MAX_RANK = 8
MAX_ELEMENTS = 1 << 32  # of one tensor; what a validator grants is the judge's to say


class DType(IntEnum):
    """Element type; the value is its code in every byte format."""

    F32 = 1
    I64 = 2
    BF16 = 3
    BOOL = 4

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The little-endian numpy dtype; a bf16 is held as its 16 bits.

        Booleans are bytes of 0 and 1.
        """
        return _NUMPY[self]

    @property
    def label(self) -> str:
        """Short name as it is printed: ``f32``, ``i64``."""
        return self.name.lower()


_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.F32: np.dtype("<f4"),
    DType.I64: np.dtype("<i8"),
    DType.BF16: np.dtype("<u2"),
    DType.BOOL: np.dtype("u1"),
}
_OF_NUMPY = {dtype: code for code, dtype in _NUMPY.items()}


def dtype_of(dtype: np.dtype[np.generic]) -> DType:
    """Return the element type that arrays of this numpy dtype hold.

    Raises:
        KeyError: There is none.
    """
    return _OF_NUMPY[dtype]


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dtype and a static shape; rank 0 is a scalar."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the row-major representation."""
        return self.size * self.dtype.numpy.itemsize

    @override
    def __str__(self) -> str:
        """Print as ``f32[64, 10]``."""
        return f"{self.dtype.label}{list(self.shape)}"


def f32(*shape: int) -> TensorType:
    """Return the float32 type of this shape."""
    return TensorType(DType.F32, shape)


def i64(*shape: int) -> TensorType:
    """Return the int64 type of this shape."""
    return TensorType(DType.I64, shape)


def bf16(*shape: int) -> TensorType:
    """Return the bfloat16 type of this shape."""
    return TensorType(DType.BF16, shape)


def boolean(*shape: int) -> TensorType:
    """Return the boolean type of this shape."""
    return TensorType(DType.BOOL, shape)
