"""Packages to run the conformance program from: ``ml_verifier`` and a library built so.

Each is a copy of the package in a folder of its own, so that nothing of it, compiled or
not, can come from elsewhere.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernels.build import ROOT, hatch_build

# What the conformance program imports beside the package itself.
REQUIREMENTS = ("blake3", "numpy", "typing_extensions")


class NotRun(Exception):
    """A configuration that this machine does not have; the message says why."""


class Wrong(Exception):
    """A configuration that ran, but not as it should; the message says how."""


@dataclass(frozen=True)
class Build:
    """How a library is built.

    Attributes:
        compiler: Its name; None for the library that is installed here.
        flags: Appended to those of the build hook.
        machine: Whose instruction sets, as for the hook; None for this machine's.
        sources: Another folder of C sources; None for ours.
    """

    compiler: str | None
    flags: tuple[str, ...] = ()
    machine: str | None = None
    sources: Path | None = None


def required(tool: str) -> str:
    """Return the path of a program, or raise ``NotRun``."""
    found = shutil.which(tool)
    if found is None:
        raise NotRun(f"{tool} is not installed")
    return found


def package(folder: Path, build: Build) -> Path:
    """Copy the package into ``folder`` and build its library there.

    Raises:
        NotRun: The compiler is not installed.
        Wrong: It failed.
    """
    if build.compiler is not None:
        required(build.compiler)
    copy = folder / "ml_verifier"
    ignored = shutil.ignore_patterns("__pycache__", "source", "capture")
    shutil.copytree(ROOT / "ml_verifier", copy, ignore=ignored)
    if build.compiler is None:
        return folder
    hook: Any = hatch_build()
    if build.sources is not None:
        hook.SOURCES = build.sources
    with environment({"CC": build.compiler, "CFLAGS": ""}):
        try:
            hook.build(copy / "kernels" / "_kernels.so", build.flags, build.machine)
        except hook.BuildError as error:
            raise Wrong(str(error)) from error
    return folder


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Run with some environment variables changed."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def interpreter(folder: Path, version: str) -> Path:
    """Return a Python of this version that has what the program imports.

    It is an environment below ``folder``, made on first use from an interpreter on the
    path or of pyenv, with the locked versions of the requirements and nothing else.
    """
    made = folder / f"python{version}" / "bin" / "python"
    if not made.exists():
        base = _base_interpreter(version)
        _checked([str(base), "-m", "venv", "--clear", str(made.parents[1])])
    probe = f"import {', '.join(REQUIREMENTS)}"
    ready = subprocess.run(  # noqa: S603  the interpreter that we have just made
        [str(made), "-c", probe], check=False, capture_output=True
    )
    if ready.returncode != 0:
        lock = (ROOT / "requirements.lock").read_text().splitlines()
        locked = [line for line in lock if line.split("==")[0] in REQUIREMENTS]
        quiet = ["--quiet", "--disable-pip-version-check"]
        _checked([str(made), "-m", "pip", "install", *quiet, *locked])
    return made


def _base_interpreter(version: str) -> Path:
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        return Path(sys.base_prefix, "bin", f"python{version}")
    found = shutil.which(f"python{version}")
    candidates = [Path(found)] if found else []
    pyenv = Path.home() / ".pyenv" / "versions"
    candidates += sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)
    for candidate in candidates:
        probe = [str(candidate), "-c", "import sys; print(sys.version)"]
        result = subprocess.run(probe, check=False, capture_output=True, text=True)  # noqa: S603  an interpreter
        if result.returncode == 0 and result.stdout.startswith(f"{version}."):
            return candidate
    raise NotRun(f"no python{version} on the path or in ~/.pyenv/versions")


def _checked(command: Sequence[str]) -> None:
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  ours
    if result.returncode != 0:
        last = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise NotRun(f"{' '.join(command[:4])} failed: {' '.join(last)}")
