"""Build of the numeric kernels: C sources to one shared library in the package.

As a hatchling build hook it runs on ``pip install`` and for editable installs; as a
script, ``python hatch_build.py``, it rebuilds the library in place. The compiler is
``$CC``, else the first of cc, gcc and clang on the path.

Every flag keeps IEEE-754 results: the two ``-fno-`` ones after ``-fno-fast-math`` drop
only the C library's errno and floating-point exception flags. The library checks at
import that its arithmetic is what the specification says.
"""

import os
import platform
import shlex
import shutil
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
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class BuildError(Exception):
    """The kernels could not be compiled; the message says what to do."""


def compiler() -> list[str]:
    """The C compiler's command, with any arguments that ``$CC`` carries."""
    command = shlex.split(os.environ.get("CC", ""))
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
    for source in ("library", "pool"):
        result[source] = [str(SOURCES / f"{source}.c")]
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


def build(target: Path = LIBRARY, extra_flags: Sequence[str] = ()) -> Path:
    """Compiles the kernels into ``target``.

    Args:
        target: the shared library to write; replaced atomically.
        extra_flags: appended to the compiler's flags (tests use it to prove that the
            library notices forbidden ones).

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    command = compiler()
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects = {
            str(Path(folder, f"{name}.o")): arguments
            for name, arguments in units(platform.machine()).items()
        }
        _run_all(
            [
                [*command, *FLAGS, *arguments, *extra_flags, "-c", "-o", output]
                for output, arguments in objects.items()
            ]
        )
        linked = Path(folder, target.name)
        _run_all([[*command, "-shared", "-pthread", "-o", str(linked), *objects]])
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


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build()}\n")
    except BuildError as error:
        sys.exit(f"hatch_build: {error}")
