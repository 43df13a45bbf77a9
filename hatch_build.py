"""Build of the numeric kernels: C sources to one shared library in the package.

As a hatchling build hook it runs on ``pip install`` and for editable installs; as a
script, ``python hatch_build.py``, it rebuilds the library in place. The compiler is
``$CC``, else the first of cc, gcc and clang on the path; ``$CFLAGS`` come before the
flags below.

Every flag keeps IEEE-754 results: the two ``-fno-`` ones after ``-fno-fast-math`` drop
only the C library's errno and floating-point exception flags. Flags from outside that
change results are refused three times: by name, by what the compiler says of itself
(its predefined macros), and by the self-check of the linked library, which runs again
at each import.
"""

import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "ml_verifier" / "kernels" / "source"
LIBRARY = ROOT / "ml_verifier" / "kernels" / "_kernels.so"

FLAGS = (
    "-O3",
    "-std=c11",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-fast-math",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
)
AVX2 = ("-mavx2", "-mfma")
AVX512 = (*AVX2, "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl")
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"avx512": (*AVX512, "-mprefer-vector-width=512"), "avx2": AVX2},
    "aarch64": {"neon": ()},
}
# Flags that let the compiler change results, or the value that keeps them.
REFUSED = frozenset(
    {
        "-Ofast",
        "-fapprox-func",
        "-fassociative-math",
        "-ffast-math",
        "-ffinite-math-only",
        "-fno-honor-infinities",
        "-fno-honor-nans",
        "-fno-signed-zeros",
        "-freciprocal-math",
        "-fsingle-precision-constant",
        "-funsafe-math-optimizations",
        "-mdaz-ftz",
        "-mno-sse",
        "-mno-sse2",
        "-mrecip",
    }
)
ONLY = {
    "-fdenormal-fp-math": "ieee",
    "-fdenormal-fp-math-f32": "ieee",
    "-ffp-contract": "off",
    "-ffp-eval-method": "source",
    "-ffp-model": "strict",
    "-mfpmath": "sse",
    "-mrecip": "none",
}
# Macros by which a compiler says that it will not keep to IEEE-754 as written.
REFUSED_MACROS = {
    "__ASSOCIATIVE_MATH__": "1",
    "__FAST_MATH__": "1",
    "__FINITE_MATH_ONLY__": "1",
    "__NO_SIGNED_ZEROS__": "1",
    "__RECIPROCAL_MATH__": "1",
    "__FLT_EVAL_METHOD__": "2",
}
# Prints the faults that the library finds in itself, one instruction set a line.
SELF_CHECK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
if sys.float_info.min / 2 == 0:
    print("loading it flushes denormals")
for name in ("lockstep_isa_at", "lockstep_fault"):
    function = getattr(library, name)
    function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_int64]
i = 0
while (isa := library.lockstep_isa_at(i)) is not None:
    i += 1
    found = library.lockstep_selfcheck(isa)
    names = [library.lockstep_fault(b).decode() for b in range(32) if found >> b & 1]
    if names:
        print(f"{isa.decode()}: {', '.join(names)}")
"""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class BuildError(Exception):
    """The kernels could not be compiled; the message says what to do."""


def _accepted(source: str) -> list[str]:
    """The words of an environment variable; raises BuildError for a refused flag."""
    words = shlex.split(os.environ.get(source, ""))
    for word in words:
        flag, _, value = word.partition("=")
        if word in REFUSED or (value and ONLY.get(flag, value) != value):
            raise BuildError(
                f"{source} holds {word}, which changes results: kernels compiled so"
                f" would not agree with other machines; remove it from {source}"
            )
    return words


def compiler() -> list[str]:
    """The C compiler's command: ``$CC`` with its arguments, then ``$CFLAGS``.

    Raises:
        BuildError: there is none, or one of those flags changes results.
    """
    return [*_compiler(), *_accepted("CFLAGS")]


def _compiler() -> list[str]:
    command = _accepted("CC")
    if command:
        if shutil.which(command[0]) is None:
            message = f"CC names {command[0]!r}, which is not on the path"
            raise BuildError(f"{message}: install it or unset CC")
        return command
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found is not None:
            return [found]
    raise BuildError(
        "no C compiler found (looked for $CC, cc, gcc, clang): the numeric kernels are"
        " C; install one, for instance with 'apt-get install gcc', and try again"
    )


def units(machine: str) -> dict[str, list[str]]:
    """Object name to the arguments that compile it, for a machine as uname names it."""
    machine = MACHINES.get(machine.lower(), machine)
    variant = str(SOURCES / "variant.c")
    portable = ["-DLOCKSTEP_PORTABLE", "-DLOCKSTEP_ISA=portable", variant]
    result = {"portable": portable}
    for name, flags in VARIANTS.get(machine, {}).items():
        result[name] = [*flags, f"-DLOCKSTEP_ISA={name}", variant]
    alone = [] if machine in VARIANTS else ["-DLOCKSTEP_PORTABLE"]
    for source in ("library", "pool"):
        result[source] = [*alone, str(SOURCES / f"{source}.c")]
    return result


def _run_all(commands: Sequence[list[str]]) -> None:
    """Runs the commands side by side; raises with the first failure's output."""
    running = [
        subprocess.Popen(  # noqa: S603  the command is the user's compiler
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command in commands
    ]
    outputs = [process.communicate()[0] for process in running]
    for process, command, output in zip(running, commands, outputs, strict=True):
        if process.returncode != 0:
            line = shlex.join(command)
            message = f"{line}\nfailed with status {process.returncode}:\n{output}"
            raise BuildError(message)


def _check_macros(command: Sequence[str]) -> None:
    """Raises BuildError when a command's predefined macros deny IEEE-754 results."""
    listing = subprocess.run(  # noqa: S603  the command is the user's compiler
        [*command, "-dM", "-E", "-x", "c", os.devnull],
        check=False,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        line = shlex.join(command)
        raise BuildError(f"{line}\ncannot list its macros:\n{listing.stderr}")
    defined = [line.split(maxsplit=2)[1:] for line in listing.stdout.splitlines()]
    for name, *value in defined:
        if value and REFUSED_MACROS.get(name) == value[0]:
            raise BuildError(
                f"{shlex.join(command)}\ndefines {name} as {value[0]}: it would change"
                " results; use another compiler or other flags"
            )


def _check_library(library: Path) -> None:
    """Raises BuildError when the linked library's self-check finds a fault."""
    result = subprocess.run(  # noqa: S603  our own interpreter on our own library
        [sys.executable, "-c", SELF_CHECK, str(library)],
        check=False,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0 or result.stdout:
        raise BuildError(
            "the compiled kernels do not compute IEEE-754 arithmetic, or do not load:"
            f"\n{result.stdout}{result.stderr}use another compiler or other flags"
        )


def build(
    target: Path = LIBRARY,
    extra_flags: Sequence[str] = (),
    machine: str | None = None,
) -> Path:
    """Compiles the kernels into ``target``.

    Args:
        target: the shared library to write; replaced atomically.
        extra_flags: appended to the compiler's flags, unchecked (tests use it to prove
            that the macros and the self-check give forbidden ones away).
        machine: whose instruction sets to build, as uname names it; None for this
            machine, "portable" for none beyond its baseline.

    Raises:
        BuildError: there is no compiler, it failed, or its results would differ.
    """
    command = compiler()
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as folder:
        commands = [
            ([*command, *FLAGS, *arguments[:-1], *extra_flags], arguments[-1])
            for arguments in units(machine or platform.machine()).values()
        ]
        for flags, _ in commands:
            _check_macros(flags)
        objects = [str(Path(folder, f"{i}.o")) for i in range(len(commands))]
        _run_all(
            [
                [*flags, "-c", "-o", output, source]
                for (flags, source), output in zip(commands, objects, strict=True)
            ]
        )
        linked = Path(folder, target.name)
        _run_all([[*command, "-shared", "-pthread", "-o", str(linked), *objects]])
        _check_library(linked)
        linked.replace(target)
    return target


class KernelBuildHook(BuildHookInterface[Any]):
    """Compiles the kernels whenever a wheel, editable or not, is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the library and marks the wheel as this platform's."""
        del version
        if self.target_name != "wheel":
            return
        build()
        build_data["artifacts"].append(LIBRARY.relative_to(ROOT).as_posix())
        build_data["pure_python"] = False
        # The library is plain C: bound to a platform, to no Python version.
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{tag}"


def _stop(number: int, _: object) -> None:
    """Ends by an exception, so that the folder of objects is removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.stdout.write(f"{build()}\n")
    except BuildError as error:
        sys.exit(f"hatch_build: {error}")
