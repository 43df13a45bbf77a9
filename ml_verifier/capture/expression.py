"""Arithmetic on values of a program, written as one writes arithmetic.

Each operation appends one node, so the order of operations in the text is the order in
the program. A Python number becomes a constant, rounded once to float32.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias, Union

from typing_extensions import override

from ml_verifier.capture.builder import Builder
from ml_verifier.operators import AttributeValue
from ml_verifier.types import DType

Factor: TypeAlias = Union["Expression", float]


@dataclass(frozen=True, slots=True)
class Expression:
    """A float32 value of the program under construction."""

    builder: Builder
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape."""
        return self.builder.types[self.number].shape

    def apply(
        self, operator: str, *others: Factor, **attributes: AttributeValue
    ) -> "Expression":
        """Append ``operator`` over this value and ``others``."""
        numbers = (
            other.number
            if isinstance(other, Expression)
            else self.builder.constant(other)
            for other in others
        )
        number = self.builder.add(operator, self.number, *numbers, **attributes)
        return Expression(self.builder, number)

    def _constant(self, value: float) -> "Expression":
        return Expression(self.builder, self.builder.constant(value))

    def __add__(self, other: Factor) -> "Expression":
        """One rounding."""
        return self.apply("add", other)

    def __sub__(self, other: Factor) -> "Expression":
        """One rounding."""
        return self.apply("sub", other)

    def __rsub__(self, other: float) -> "Expression":
        """One rounding."""
        return self._constant(other) - self

    def __mul__(self, other: Factor) -> "Expression":
        """One rounding."""
        return self.apply("mul", other)

    def __truediv__(self, other: Factor) -> "Expression":
        """One rounding."""
        return self.apply("div", other)

    def __rtruediv__(self, other: float) -> "Expression":
        """One rounding."""
        return self._constant(other) / self

    def __matmul__(self, other: "Expression") -> "Expression":
        """[M, K] @ [K, N] in the order of ``matmul``."""
        return self.apply("matmul", other, ta=0, tb=0)

    def sqrt(self) -> "Expression":
        """One rounding."""
        return self.apply("sqrt")

    def minimum(self, other: Factor) -> "Expression":
        """The smaller one; NaN if either is."""
        return self.apply("minimum", other)

    def maximum(self, other: Factor) -> "Expression":
        """The larger one; NaN if either is."""
        return self.apply("maximum", other)

    def transpose(self) -> "Expression":
        """[M, N] -> [N, M]."""
        return self.apply("transpose", permutation=(1, 0))

    def sum(self, *axes: int) -> "Expression":
        """Sum over ``axes``, kept with length 1; over all elements to a scalar."""
        if axes:
            return self.apply("sum", axes=axes, keepdim=1)
        every = tuple(range(len(self.shape)))
        return self.apply("sum", axes=every, keepdim=0) if every else self

    def squares(self, *axes: int) -> "Expression":
        """Sum of squares over ``axes``, or over all elements to a scalar."""
        return (self * self).sum(*axes)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @override
    def __str__(self) -> str:
        """Print as ``%7 f32[4, 3]``."""
        return f"%{self.number} {self.builder.types[self.number]}"


def as_f32(builder: Builder, number: int) -> Expression:
    """Widen a value to float32; exact."""
    if builder.types[number].dtype is not DType.F32:
        number = builder.add("cast", number, dtype=int(DType.F32))
    return Expression(builder, number)
