"""Reproducible kernels: every operator in one fixed order of IEEE-754 operations.

``bind`` ties an operator to numpy buffers once and returns a cheap call. The results
are the same bits for every number of threads, every instruction set and every compiler;
``ml_verifier.oracle`` computes them independently.
"""

from ml_verifier.kernels.arrays import all_finite, canonicalise, philox_uniform
from ml_verifier.kernels.binding import bind, finite, sequence
from ml_verifier.kernels.errors import BindingError, KernelError, LibraryError
from ml_verifier.kernels.execution import (
    build,
    isa,
    isas,
    set_isa,
    set_threads,
    threads,
)
from ml_verifier.kernels.request import AttributeValue

__all__ = [
    "AttributeValue",
    "BindingError",
    "KernelError",
    "LibraryError",
    "all_finite",
    "bind",
    "build",
    "canonicalise",
    "finite",
    "isa",
    "isas",
    "philox_uniform",
    "sequence",
    "set_isa",
    "set_threads",
    "threads",
]
