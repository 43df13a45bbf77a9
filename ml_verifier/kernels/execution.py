"""How the kernels run on this machine: threads and instruction set.

Neither changes a bit of any result.
"""

import errno

from ml_verifier.kernels.errors import KernelError
from ml_verifier.kernels.library import LIBRARY, isas as _isas


def set_threads(n: int) -> None:
    """Lets ``n`` threads, the caller's included, share the work of a call.

    Raises:
        KernelError: n is not in 1..256.
        MemoryError: there is no memory for their scratch.
    """
    status = LIBRARY.lockstep_set_threads(n)
    if status == errno.ENOMEM:
        raise MemoryError(f"no memory for the scratch of {n} threads")
    if status != 0:
        raise KernelError(f"expected 1 to 256 threads, got {n}")


def threads() -> int:
    """How many threads share the work; at first, the cores this process may use."""
    return int(LIBRARY.lockstep_threads())


def isas() -> tuple[str, ...]:
    """The instruction sets this processor can run, best first."""
    return _isas(LIBRARY)


def isa() -> str:
    """The instruction set in use; at first, the best."""
    name: bytes = LIBRARY.lockstep_isa()
    return name.decode()


def set_isa(name: str) -> None:
    """Uses another of ``isas()``: slower, the same bits.

    Raises:
        KernelError: this processor does not have it.
    """
    if LIBRARY.lockstep_set_isa(name.encode()) != 0:
        raise KernelError(f"no instruction set {name!r} here: {', '.join(isas())}")


def build() -> str:
    """How the library was built: compiler, optimisation, size of a thread's task."""
    text: bytes = LIBRARY.lockstep_build()
    return text.decode()
