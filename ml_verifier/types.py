"""Element types and static tensor types."""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from typing_extensions import override

MAX_RANK = 8
MAX_ELEMENTS = 1 << 26  # of one tensor; 256 MiB of float32


class DType(IntEnum):
    """Element type; the value is its code in every byte format."""

    F32 = 1
    I64 = 2

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The little-endian numpy dtype."""
        return np.dtype("<f4") if self is DType.F32 else np.dtype("<i8")

    @property
    def label(self) -> str:
        """Short name as it is printed: ``f32``, ``i64``."""
        return self.name.lower()


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
