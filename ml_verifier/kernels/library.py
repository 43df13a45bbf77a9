"""The compiled library: found, checked and typed in this one file.

Importing it proves that the library matches this source (layout of the call structure)
and that every instruction set's build computes IEEE-754 arithmetic, by running the
library's self-check. A library that was compiled with contraction, flushed denormals or
fast-math never computes a result.
"""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

from ml_verifier.kernels.errors import LibraryError

LIBRARY_PATH = Path(__file__).with_name("_kernels.so")

CALL_BUFFERS, CALL_SIZES, CALL_SCALARS = 8, 48, 8


class Call(ctypes.Structure):
    """One bound call, as in source/kernels.h."""

    _fields_ = (
        ("operator_index", ctypes.c_int64),
        ("inputs", ctypes.c_void_p * CALL_BUFFERS),
        ("outputs", ctypes.c_void_p * CALL_BUFFERS),
        ("size", ctypes.c_int64 * CALL_SIZES),
        ("scalar", ctypes.c_float * CALL_SCALARS),
    )


def _denormals_flushed() -> bool:
    """Whether this thread's arithmetic flushes denormals, as some libraries set it."""
    return sys.float_info.min / 2 == 0


def load(path: Path) -> ctypes.CDLL:
    """Loads the library and declares its functions.

    Raises:
        LibraryError: it is missing, or was built from other sources.
    """
    if not path.exists():
        raise LibraryError(
            f"the compiled kernels are missing ({path}): install the package, or run"
            " 'python hatch_build.py' in a checkout (a C compiler is needed)"
        )
    flushed = _denormals_flushed()
    library = ctypes.CDLL(str(path))
    if _denormals_flushed() and not flushed:
        raise LibraryError(
            f"loading {path} makes this process flush denormals to zero: it was linked"
            " with -ffast-math or the like; rebuild it with 'python hatch_build.py'"
        )
    library.lockstep_call_bytes.restype = ctypes.c_int64
    if library.lockstep_call_bytes() != ctypes.sizeof(Call):
        raise LibraryError(
            f"{path} was built from other sources: its call structure has"
            f" {library.lockstep_call_bytes()} bytes, expected {ctypes.sizeof(Call)};"
            " rebuild it with 'python hatch_build.py'"
        )
    try:
        _declare(library)
    except AttributeError as missing:
        raise LibraryError(
            f"{path} was built from other sources ({missing}): rebuild it with"
            " 'python hatch_build.py'"
        ) from missing
    return library


def _declare(library: ctypes.CDLL) -> None:
    int64, text, call = ctypes.c_int64, ctypes.c_char_p, ctypes.POINTER(Call)
    library.lockstep_run.argtypes = [call]
    library.lockstep_run_all.argtypes = [ctypes.POINTER(call), int64]
    library.lockstep_prepare.argtypes = [call, int64]
    library.lockstep_operator.argtypes = [text]
    library.lockstep_operator.restype = int64
    library.lockstep_isa_at.argtypes = [int64]
    library.lockstep_isa_at.restype = text
    library.lockstep_isa.restype = text
    library.lockstep_set_isa.argtypes = [text]
    library.lockstep_selfcheck.argtypes = [text]
    library.lockstep_fault.argtypes = [int64]
    library.lockstep_fault.restype = text
    library.lockstep_build.restype = text
    library.lockstep_set_threads.argtypes = [int64]
    library.lockstep_threads.restype = int64
    pointer, word = ctypes.c_void_p, ctypes.c_uint32
    library.lockstep_all_finite.argtypes = [pointer, int64]
    library.lockstep_canonicalise.argtypes = [pointer, int64]
    library.lockstep_canonicalise.restype = None
    library.lockstep_philox_uniform.argtypes = [
        pointer,
        int64,
        ctypes.c_uint64,
        word,
        word,
        ctypes.c_float,
        ctypes.c_float,
    ]
    library.lockstep_philox_uniform.restype = None
    library.lockstep_tensor_bytes.restype = int64
    library.lockstep_hash_tensors.argtypes = [
        pointer,
        int64,
        text,
        pointer,
        pointer,
        int64,
    ]
    library.lockstep_hash_messages.argtypes = [
        pointer,
        pointer,
        int64,
        text,
        word,
        pointer,
    ]
    library.lockstep_hash_messages.restype = None
    library.lockstep_unary_range.argtypes = [
        ctypes.c_int,
        word,
        int64,
        pointer,
    ]
    library.lockstep_unary_range.restype = None


def _names(at: Callable[[int], bytes | None]) -> tuple[str, ...]:
    names: list[str] = []
    while (name := at(len(names))) is not None:
        names.append(name.decode())
    return tuple(names)


def isas(library: ctypes.CDLL) -> tuple[str, ...]:
    """The instruction sets that this processor can run, best first."""
    return _names(library.lockstep_isa_at)


def fault_names(library: ctypes.CDLL) -> tuple[str, ...]:
    """What each bit of the self-check's result means."""
    return _names(library.lockstep_fault)


def faults(library: ctypes.CDLL, isa: str) -> tuple[str, ...]:
    """What is wrong with the arithmetic of one instruction set's build: nothing."""
    found = library.lockstep_selfcheck(isa.encode())
    names = enumerate(fault_names(library))
    return tuple(name for bit, name in names if found >> bit & 1)


def checked(path: Path) -> ctypes.CDLL:
    """Loads the library and runs its self-check on every instruction set.

    Raises:
        LibraryError: it is missing, stale, or miscompiled.
    """
    library = load(path)
    for isa in isas(library):
        wrong = faults(library, isa)
        if wrong:
            raise LibraryError(
                f"{path} does not compute IEEE-754 arithmetic ({isa}:"
                f" {', '.join(wrong)}): rebuild it with 'python hatch_build.py' and"
                " without compiler options of your own"
            )
    return library


LIBRARY = checked(LIBRARY_PATH)
