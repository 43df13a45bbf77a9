"""The conformance matrix: the one program in every configuration, one hash a row.

Run by ``make conformance``. A row passes when its hash is the pinned one *and* the
program reports that it ran in the configuration that the row names. A row that cannot
run here says why; the exit status is then 1, unless ``--skip`` names it.
"""

import argparse
import fnmatch
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ml_verifier import kernels
from ml_verifier.conformance import conformance_hash, pinned
from tests.conformance.builds import (
    Build,
    NotRun,
    Wrong,
    interpreter,
    package,
    required,
)
from tests.conformance.foreign import SOURCE, ForeignKernels, build_program
from tests.kernels.build import ROOT

X86_ISAS = ("portable", "avx2", "avx512")
ENVIRONMENTS = ROOT / "build" / "conformance"

INSTALLED = Build(None)
GCC, CLANG = Build("gcc"), Build("clang")
GCC_O0, CLANG_O0 = Build("gcc", ("-O0",)), Build("clang", ("-O0",))
SSE2 = Build("gcc", ("-msse2", "-mno-sse3", "-mno-avx", "-mno-fma"), "portable")
SMALL_TASKS = Build("gcc", ("-DLOCKSTEP_SMALLEST_TASK=64",))

# Imports torch as a user's process may have set it up, then runs the program.
WITH_TORCH = """
import sys, torch
wanted, capability = sys.argv[1], torch.backends.cpu.get_cpu_capability()
if capability != wanted:
    sys.exit(f"torch runs with {capability}, not {wanted}")
torch.nn.functional.relu(torch.randn(256, 256) @ torch.randn(256, 256)).sum().item()
tiny = torch.tensor([2.0**-149])
if not torch.set_flush_denormal(True) or (tiny + tiny).item() != 0:
    sys.exit("torch does not flush denormals here")
from ml_verifier.conformance.__main__ import main
sys.exit(main(["--report"]))
"""

Report: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One configuration.

    Attributes:
        name: As it is printed, and as ``--skip`` names it.
        run: Runs the program in it and returns its report; raises ``NotRun``.
        expected: What the report must say beside the hash; values are prefixes.
    """

    name: str
    run: Callable[["Workspace"], Report]
    expected: Mapping[str, str] = field(default_factory=dict)


class Workspace:
    """Where packages are built, each once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self.package = functools.cache(self._package)
        self.foreign = functools.cache(self._foreign)

    def _fresh(self) -> Path:
        self._made += 1
        folder = self._folder / str(self._made)
        folder.mkdir()
        return folder

    def _package(self, build: Build) -> Path:
        return package(self._fresh(), build)

    def _foreign(self, compiler: str, machine: str) -> Path:
        required(compiler)
        command = (compiler, "-static")
        return build_program(SOURCE, self._fresh(), command, machine)

    def program(
        self,
        build: Build,
        *arguments: str,
        python: Path = Path(sys.executable),
        environment: Mapping[str, str] | None = None,
    ) -> Report:
        """Run the program of a package; return its report."""
        command = [str(python), *arguments]
        variables = dict(os.environ) | dict(environment or {})
        folder = self.package(build)
        result = subprocess.run(  # noqa: S603  our own program
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            env=variables,
        )
        if not result.stdout.startswith("{"):
            last = result.stderr.strip().splitlines()[-1:]
            raise Wrong(f"status {result.returncode}: {' '.join(last)}")
        report: Report = json.loads(result.stdout)
        if not Path(report["library"]).is_relative_to(folder):
            raise Wrong(f"ran with {report['library']}, not with the build in {folder}")
        return report


def _ours(build: Build, isa: str, threads: int) -> Callable[[Workspace], Report]:
    def run(workspace: Workspace) -> Report:
        if isa not in kernels.isas():
            raise NotRun(f"this processor has no {isa}")
        options = ("--report", "--isa", isa, "--threads", str(threads))
        return workspace.program(build, "-m", "ml_verifier.conformance", *options)

    return run


def _built(name: str, build: Build, isa: str, threads: int) -> Row:
    optimised = "not optimised" if "-O0" in build.flags else "optimised"
    tasks = 64 if build is SMALL_TASKS else 16384
    return Row(
        f"{name} {isa} {threads} thread{'s'[: threads - 1]}",
        _ours(build, isa, threads),
        {
            "build": f"{build.compiler} ",
            "build ends": f"{optimised}, tasks of {tasks}",
            "isa": isa,
            "threads": str(threads),
            "backend": "kernels",
        },
    )


def _torch(capability: str) -> Row:
    def run(workspace: Workspace) -> Report:
        if capability.lower() not in (*kernels.isas(), "default"):
            raise NotRun(f"this processor has no {capability.lower()}")
        variables = {"ATEN_CPU_CAPABILITY": capability.lower()}
        arguments = ("-c", WITH_TORCH, capability)
        return workspace.program(INSTALLED, *arguments, environment=variables)

    return Row(f"torch {capability.lower()} flushing denormals", run)


def _python(version: str) -> Row:
    def run(workspace: Workspace) -> Report:
        python = interpreter(ENVIRONMENTS, version)
        options = ("-m", "ml_verifier.conformance", "--report")
        return workspace.program(INSTALLED, *options, python=python)

    return Row(f"python {version} without torch", run, {"python": f"{version}."})


def _oracle() -> Row:
    def run(workspace: Workspace) -> Report:
        options = ("-m", "ml_verifier.conformance", "--report", "--oracle")
        return workspace.program(INSTALLED, *options)

    return Row("numpy oracle", run, {"backend": "oracle"})


def _aarch64(isa: str, threads: int) -> Row:
    def run(workspace: Workspace) -> Report:
        emulator = required("qemu-aarch64")
        program = workspace.foreign("aarch64-linux-gnu-gcc", "aarch64")
        return foreign_report((emulator, str(program)), isa, threads)

    name = f"aarch64 gcc -O3 {isa} {threads} thread{'s'[: threads - 1]}"
    return Row(name, run, {"build": "gcc", "isa": isa})


def foreign_report(command: Sequence[str], isa: str, threads: int) -> Report:
    """Run the program here with the arithmetic of a foreign one."""
    try:
        with ForeignKernels(command, isa, threads) as machine:
            build, _, used = machine.build.partition("; ")
            return {"hash": conformance_hash(machine), "build": build, "isa": used}
    except (EOFError, BrokenPipeError) as error:
        raise Wrong(f"{command[0]}: {error}") from error


def rows() -> list[Row]:
    """Return every configuration."""
    found = [
        _built("gcc -O3", GCC, isa, threads)
        for isa in X86_ISAS
        for threads in (1, 2, 3)
    ]
    for name, build in (
        ("gcc -O0", GCC_O0),
        ("clang -O3", CLANG),
        ("clang -O0", CLANG_O0),
    ):
        found += [_built(name, build, isa, 2) for isa in X86_ISAS]
    found.append(_built("gcc -O3 -msse2 only", SSE2, "portable", 2))
    found += [_built("gcc -O3 tiny tasks", SMALL_TASKS, isa, 3) for isa in X86_ISAS]
    found += [_torch(capability) for capability in ("DEFAULT", "AVX2", "AVX512")]
    found += [_python(version) for version in ("3.11", "3.12")]
    found.append(_oracle())
    found += [_aarch64(isa, 2) for isa in ("neon", "portable")]
    return found


def check(row: Row, workspace: Workspace) -> str:
    """Run a row; return its hash.

    Raises:
        NotRun: This machine does not have the configuration.
        Wrong: It failed, or ran in another configuration than its name says.
    """
    report = row.run(workspace)
    for key, value in row.expected.items():
        name, _, at_end = key.partition(" ")
        got = str(report.get(name))
        if not (got.endswith(value) if at_end else got.startswith(value)):
            raise Wrong(f"expected {key} {value}, the program reports {got}")
    return str(report["hash"])


def run_matrix(chosen: Sequence[Row], skip: Sequence[str], folder: Path) -> bool:
    """Print one line per row; return whether the matrix is green."""
    workspace, expected, green = Workspace(folder), pinned("full"), True
    width = max(len(row.name) for row in chosen)
    for row in chosen:
        started = time.monotonic()
        try:
            if any(fnmatch.fnmatch(row.name, pattern) for pattern in skip):
                outcome = "skipped: named in SKIP"
            else:
                found = check(row, workspace)
                green &= found == expected
                outcome = found + ("" if found == expected else "  DIFFERS")
        except NotRun as reason:
            outcome, green = f"not run: {reason}", False
        except Wrong as reason:
            outcome, green = f"FAILED: {reason}", False
        seconds = time.monotonic() - started
        sys.stdout.write(f"{row.name:{width}}  {outcome}  ({seconds:.1f} s)\n")
        sys.stdout.flush()
    return green


def unknown(patterns: Sequence[str], chosen: Sequence[Row]) -> Iterator[str]:
    """Yield the patterns that name no row."""
    for pattern in patterns:
        if not any(fnmatch.fnmatch(row.name, pattern) for row in chosen):
            yield pattern


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skip", default="", help="row patterns, separated by commas")
    parser.add_argument("--only", default="*", help="row patterns, likewise")
    options = parser.parse_args(arguments)
    skip = [part.strip() for part in options.skip.split(",") if part.strip()]
    only = [part.strip() for part in options.only.split(",") if part.strip()]
    everything = rows()
    missing = [*unknown(skip, everything), *unknown(only, everything)]
    if missing:
        names = "\n  ".join(row.name for row in everything)
        sys.stderr.write(f"no row is named {', '.join(missing)}; rows:\n  {names}\n")
        return 2
    chosen = [
        row
        for row in everything
        if any(fnmatch.fnmatch(row.name, pattern) for pattern in only)
    ]
    sys.stdout.write(f"pinned {pinned('full')}, {platform.machine()}\n")
    if skip:
        sys.stdout.write(f"SKIP: {', '.join(skip)}\n")
    with tempfile.TemporaryDirectory() as folder:
        green = run_matrix(chosen, skip, Path(folder))
    sys.stdout.write("conformance: " + ("all rows agree\n" if green else "FAILED\n"))
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())
