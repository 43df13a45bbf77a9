"""The build: its compiler, its flags, and the proof that the flags were in force."""

import os
import re
import shutil
import signal
import subprocess
import sys
from ctypes import sizeof
from pathlib import Path
from types import ModuleType

import pytest

from ml_verifier import kernels
from ml_verifier.kernels.errors import LibraryError
from ml_verifier.kernels.library import (
    LIBRARY,
    Call,
    checked,
    fault_names,
    faults,
    load,
)
from tests.kernels.build import ROOT, hatch_build as import_hatch_build

PROBE = """
#include <stdio.h>
#include "variant.h"
#include "selfcheck.h"
#ifdef FLUSH
#include <xmmintrin.h>
#endif
int main(void) {
#ifdef FLUSH
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
    printf("%d", selfcheck());
    return 0;
}
"""


@pytest.fixture(scope="module")
def hatch_build() -> ModuleType:
    return import_hatch_build()


def test_the_library_says_how_it_was_built() -> None:
    pattern = r"(gcc|clang) \d.*, (not )?optimised, tasks of \d+"
    assert re.fullmatch(pattern, kernels.build())


@pytest.mark.parametrize("isa", kernels.isas())
def test_no_fault_in_the_library_in_use(isa: str) -> None:
    assert faults(LIBRARY, isa) == ()


def probe(
    build: ModuleType, folder: Path, *extra: str, portable: bool = False
) -> set[str]:
    """The faults that the self-check finds when compiled with more flags."""
    source, program = folder / "probe.c", folder / "probe"
    source.write_text(PROBE)
    command = [*build.compiler(), *build.FLAGS, "-I", str(build.SOURCES), *extra]
    if portable:
        command.append("-DLOCKSTEP_PORTABLE")
    command += ["-Wno-unused-function", "-o", str(program), str(source)]
    subprocess.run(command, check=True)  # noqa: S603  the compiler that builds the kernels
    found = subprocess.run([str(program)], check=True, capture_output=True, text=True)  # noqa: S603  just built
    bits = int(found.stdout)
    return {name for bit, name in enumerate(fault_names(LIBRARY)) if bits >> bit & 1}


def test_the_flags_in_use_have_no_fault(
    hatch_build: ModuleType, tmp_path: Path
) -> None:
    assert probe(hatch_build, tmp_path, portable=True) == set()


x86 = pytest.mark.skipif("avx2" not in kernels.isas(), reason="x86 compiler flags")


@x86
@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (("-mfma", "-ffp-contract=fast"), "contraction"),
        (("-fassociative-math", "-fno-signed-zeros"), "reassociation"),
        (("-ffinite-math-only",), "NaN tests removed"),
        (("-fno-signed-zeros",), "signed zeros ignored"),
        (("-freciprocal-math",), "reciprocal division"),
        (("-fsingle-precision-constant",), "single-precision constants"),
        (("-DFLUSH",), "flushed denormals"),
    ],
)
def test_each_forbidden_flag_is_noticed(
    hatch_build: ModuleType, tmp_path: Path, flags: tuple[str, ...], fault: str
) -> None:
    assert fault in probe(hatch_build, tmp_path, *flags, portable=True)


def test_fast_math_does_not_compile(hatch_build: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        probe(hatch_build, tmp_path, "-ffast-math")


@x86
def test_a_miscompiled_library_is_neither_built_nor_loaded(
    hatch_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, check = tmp_path / "kernels.so", hatch_build._check_library
    with monkeypatch.context() as patch:
        patch.setattr(hatch_build, "_check_library", lambda _: None)
        hatch_build.build(path, ["-mfma", "-ffp-contract=fast"], "portable")
    with pytest.raises(hatch_build.BuildError, match="portable: contraction"):
        check(path)
    with pytest.raises(LibraryError, match="contraction"):
        checked(path)


@x86
@pytest.mark.parametrize(
    ("flag", "macro"),
    [
        ("-ffast-math", "__FINITE_MATH_ONLY__|__FAST_MATH__"),
        ("-ffinite-math-only", "__FINITE_MATH_ONLY__"),
        ("-mfpmath=387", "__FLT_EVAL_METHOD__"),
    ],
)
def test_a_compiler_that_denies_ieee_arithmetic_is_refused(
    hatch_build: ModuleType, tmp_path: Path, flag: str, macro: str
) -> None:
    with pytest.raises(hatch_build.BuildError, match=macro):
        hatch_build.build(tmp_path / "kernels.so", [flag])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variable", ["CC", "CFLAGS"])
@pytest.mark.parametrize(
    "flag",
    [
        "-ffast-math",
        "-Ofast",
        "-ffp-contract=fast",
        "-funsafe-math-optimizations",
        "-mfpmath=387",
        "-mfpmath=sse,387",
        "-ffp-model=fast",
        "-fsingle-precision-constant",
    ],
)
def test_flags_that_change_results_are_refused_by_name(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch, variable: str, flag: str
) -> None:
    monkeypatch.setenv(variable, f"cc -O2 {flag}" if variable == "CC" else flag)
    with pytest.raises(hatch_build.BuildError, match=f"{variable} holds {flag}"):
        hatch_build.compiler()


def test_harmless_flags_are_taken(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", sys.executable)
    flags = ["-g", "-ffp-contract=off", "-mfpmath=sse", "-mtune=native"]
    monkeypatch.setenv("CFLAGS", " ".join(flags))
    assert hatch_build.compiler() == [sys.executable, *flags]


FLUSHING = """
#include <xmmintrin.h>
__attribute__((constructor)) static void flush(void) {
    _mm_setcsr(_mm_getcsr() | 0x8040);
}
"""
LOADING = """
import sys
from pathlib import Path
from ml_verifier.kernels.errors import LibraryError
from ml_verifier.kernels.library import load
try:
    load(Path(sys.argv[1]))
except LibraryError as error:
    print(error)
"""


@x86
def test_a_library_that_flushes_denormals_is_refused(
    hatch_build: ModuleType, tmp_path: Path
) -> None:
    source, library = tmp_path / "flushing.c", tmp_path / "flushing.so"
    source.write_text(FLUSHING)
    command = [*hatch_build.compiler(), "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*command, str(source)], check=True)  # noqa: S603  the compiler that builds the kernels
    with pytest.raises(hatch_build.BuildError, match="loading it flushes denormals"):
        hatch_build._check_library(library)
    command = [sys.executable, "-c", LOADING, str(library)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  our own interpreter
    assert "makes this process flush denormals" in result.stdout


def test_a_missing_library_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=r"hatch_build\.py"):
        load(tmp_path / "none.so")


def test_a_stale_library_is_refused(hatch_build: ModuleType, tmp_path: Path) -> None:
    source, library = tmp_path / "old.c", tmp_path / "old.so"
    source.write_text("long lockstep_call_bytes(void) { return 8; }")
    command = [*hatch_build.compiler(), "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*command, str(source)], check=True)  # noqa: S603  the compiler that builds the kernels
    with pytest.raises(LibraryError, match="built from other sources: its call"):
        load(library)
    source.write_text(f"long lockstep_call_bytes(void) {{ return {sizeof(Call)}; }}")
    newer = tmp_path / "newer.so"
    subprocess.run([*command[:-1], str(newer), str(source)], check=True)  # noqa: S603  likewise
    with pytest.raises(LibraryError, match=r"other sources.*lockstep_run"):
        load(newer)


def test_the_compiler_is_cc(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CFLAGS", raising=False)
    monkeypatch.setenv("CC", f"{sys.executable} -O1")
    assert hatch_build.compiler() == [sys.executable, "-O1"]
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(hatch_build.BuildError, match="no-such-compiler"):
        hatch_build.compiler()


def test_no_compiler_is_a_clear_error(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(hatch_build.BuildError, match="no C compiler found"):
        hatch_build.compiler()


def test_a_failing_compiler_shows_its_output(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hatch_build, "SOURCES", tmp_path)
    with pytest.raises(hatch_build.BuildError, match="failed with status"):
        hatch_build.build(tmp_path / "kernels.so")
    assert not (tmp_path / "kernels.so").exists()


def test_a_build_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    """The compiler here ends the build that runs it, in the middle."""
    script, folder = tmp_path / "hatch_build.py", tmp_path / "ml_verifier/kernels"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "hatch_build.py", script)
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nls -a "$FOLDER" > "$FOUND"\nkill -TERM $PPID\n')
    compiler.chmod(0o755)
    found = tmp_path / "found"
    environment = {**os.environ, "CC": str(compiler), "FOUND": str(found)}
    stopped = subprocess.run(  # noqa: S603  our own script
        [sys.executable, str(script)],
        env={**environment, "FOLDER": str(folder)},
        check=False,
    )
    assert stopped.returncode == 128 + signal.SIGTERM
    assert ".build-" in found.read_text()
    assert not list(folder.iterdir())


def test_machines_name_their_variants(hatch_build: ModuleType) -> None:
    assert set(hatch_build.units("AMD64")) == set(hatch_build.units("x86_64"))
    assert "neon" in hatch_build.units("arm64")
    assert set(hatch_build.units("riscv64")) == {"portable", "library", "pool"}
