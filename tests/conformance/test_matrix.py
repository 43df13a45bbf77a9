"""The matrix: it runs what fits here, and it cannot be green by accident."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ml_verifier import kernels
from ml_verifier.conformance import conformance_hash, pinned
from ml_verifier.kernels.library import LIBRARY_PATH
from tests.conformance import matrix
from tests.conformance.builds import Build, NotRun, Wrong, package
from tests.conformance.foreign import SOURCE, ForeignKernels
from tests.conformance.matrix import (
    Row,
    Workspace,
    check,
    foreign_report,
    rows,
    run_matrix,
)
from tests.kernels.build import ROOT, hatch_build

RIGHT = {"hash": pinned("full"), "isa": "portable", "build": "gcc 12, optimised"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("matrix"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gcc -O0", "torch"])
def test_rows_that_need_no_more_than_a_compiler(
    kind: str, workspace: Workspace
) -> None:
    ran = 0
    for row in rows():
        if row.name.startswith(kind):
            try:
                assert check(row, workspace) == pinned("full"), row.name
            except NotRun:
                continue
            ran += 1
    assert ran, f"not even one row of {kind} fits this machine"


def test_every_promised_configuration_is_a_row() -> None:
    names = [row.name for row in rows()]
    assert len(set(names)) == len(names)
    for compiler in ("gcc -O3", "gcc -O0", "clang -O3", "clang -O0"):
        for isa in ("portable", "avx2", "avx512"):
            assert f"{compiler} {isa} 2 threads" in names
    for isa in ("portable", "avx2", "avx512"):
        assert f"gcc -O3 {isa} 1 thread" in names
        assert f"gcc -O3 {isa} 3 threads" in names
    for part in ("msse2", "torch", "python 3.11", "python 3.12", "aarch64", "oracle"):
        assert any(part in name for name in names)


def reporting(report: Mapping[str, Any]) -> Callable[[Workspace], Mapping[str, Any]]:
    return lambda _: report


def missing(_: Workspace) -> Mapping[str, Any]:
    raise NotRun("no such machine")


def failing(_: Workspace) -> Mapping[str, Any]:
    raise Wrong("status 1: no")


@pytest.mark.parametrize(
    ("run", "skip", "green", "printed"),
    [
        (reporting(RIGHT), (), True, pinned("full")),
        (reporting({**RIGHT, "hash": "00"}), (), False, "00  DIFFERS"),
        (reporting({**RIGHT, "isa": "avx2"}), (), False, "expected isa portable, the"),
        (reporting({**RIGHT, "build": "clang"}), (), False, "expected build gcc"),
        (reporting({**RIGHT, "build": "gcc, not"}), (), False, "build ends optimised"),
        (missing, (), False, "not run: no such machine"),
        (missing, ("wanted*",), True, "skipped: named in SKIP"),
        (failing, (), False, "FAILED: status 1: no"),
        (failing, ("other",), False, "FAILED: status 1: no"),
    ],
)
def test_only_the_right_hash_in_the_right_configuration_is_green(
    run: Callable[[Workspace], Mapping[str, Any]],
    skip: tuple[str, ...],
    green: bool,  # noqa: FBT001 - a column of the table
    printed: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = {"isa": "portable", "build": "gcc", "build ends": "optimised"}
    good = Row("good", reporting(RIGHT), expected)
    row = Row("wanted row", run, expected)
    assert run_matrix([good, row, good], skip, tmp_path) is green
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert printed in lines[1]


def test_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [Row("one", reporting(RIGHT)), Row("two", missing)]
    monkeypatch.setattr(matrix, "rows", lambda: table)
    assert matrix.main([]) == 1
    assert capsys.readouterr().out.endswith("conformance: FAILED\n")
    assert matrix.main(["--only", "one"]) == 0
    assert "two" not in capsys.readouterr().out
    assert matrix.main(["--skip", "t*"]) == 0
    printed = capsys.readouterr().out
    assert "SKIP: t*\n" in printed
    assert "two  skipped" in printed
    assert matrix.main(["--skip", "three"]) == 2
    assert "no row is named three" in capsys.readouterr().err


def test_a_program_that_prints_no_report_fails_its_row(workspace: Workspace) -> None:
    with pytest.raises(Wrong, match="status 1: out of order"):
        workspace.program(matrix.INSTALLED, "-c", "raise SystemExit('out of order')")


def test_a_report_of_another_library_fails_its_row(workspace: Workspace) -> None:
    other = f'print(\'{{"library": "{LIBRARY_PATH}"}}\')'
    with pytest.raises(Wrong, match="not with the build in"):
        workspace.program(matrix.INSTALLED, "-c", other)


def test_a_missing_compiler_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="no-such-compiler is not installed"):
        package(tmp_path, Build("no-such-compiler"))


REFUSING = """
from runtime.backends import require_conforming_kernels
from runtime.errors import NonConforming
try:
    require_conforming_kernels()
except NonConforming as error:
    print(error.got, end="")
"""


@pytest.mark.slow
def test_one_changed_operation_in_one_kernel_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = tmp_path / "source"
    shutil.copytree(hatch_build().SOURCES, sources)
    changed = sources / "normalisation.h"
    right, wrong = "1.0f / __builtin_sqrtf(", "1.000001f / __builtin_sqrtf("
    text = changed.read_text()
    assert right in text
    changed.write_text(text.replace(right, wrong))
    build = Build("gcc", ("-O1",), "portable", sources)
    row = Row("changed", matrix._ours(build, "portable", 1))
    folder = tmp_path / "work"
    folder.mkdir()
    assert not run_matrix([row], (), folder)
    assert "DIFFERS" in capsys.readouterr().out
    # A node with this library does not start: its own check says no.
    result = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", REFUSING],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder / "1",
        env={"PYTHONPATH": str(ROOT)},
    )
    assert len(result.stdout) == 64
    assert result.stdout != pinned("start")


def test_calls_over_a_pipe_give_the_same_hash(tmp_path: Path) -> None:
    program = tmp_path / "foreign"
    build = hatch_build()
    command = [*build.compiler(), "-I", str(build.SOURCES), "-o", str(program)]
    command += [str(SOURCE), str(LIBRARY_PATH), f"-Wl,-rpath,{LIBRARY_PATH.parent}"]
    subprocess.run(command, check=True)  # noqa: S603  the compiler that builds the kernels
    with ForeignKernels((str(program),), kernels.isa(), 2) as machine:
        assert machine.build == f"{kernels.build()}; {kernels.isa()}"
        assert conformance_hash(machine) == pinned("full")
    with pytest.raises(Wrong, match="ended with status 2"):
        foreign_report((str(program),), "none", 1)


def test_a_foreign_program_that_dies_fails_its_row(tmp_path: Path) -> None:
    program = tmp_path / "dying"
    program.write_text("#!/bin/sh\necho gcc 12, optimised\\;portable\n")
    program.chmod(0o755)
    with pytest.raises(Wrong, match=r"ended with status 0|Broken pipe"):
        foreign_report((str(program),), "portable", 1)


def test_a_failing_build_fails_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-Ofast")  # of no concern to the matrix
    with pytest.raises(Wrong, match="no-such-flag"):
        package(tmp_path, Build("gcc", ("-fno-such-flag",)))
