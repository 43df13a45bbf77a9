"""A failing file system for programs that don't go through `node.disk`: `faults.c`."""

import os
import shutil
import subprocess
from pathlib import Path


def built(directory: Path) -> Path:
    """The library to preload."""
    library = directory / "faults.so"
    compiler = os.environ.get("CC", "").split() or [_found()]
    source = Path(__file__).with_name("faults.c")
    options = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    # The compiler is the user's own, our source its input.
    subprocess.run([*compiler, *options, str(source), "-ldl"], check=True)  # noqa: S603
    return library


def _found() -> str:
    found = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
    assert found, "the kernels were built with a C compiler; where is it?"
    return found[0]
