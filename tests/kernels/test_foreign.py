"""The same bits on other machines and from other compilers, by replaying calls."""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ml_verifier import kernels, oracle
from ml_verifier.conformance.golden import GOLDEN
from ml_verifier.kernels import hashing
from ml_verifier.kernels.library import CALL_SCALARS, CALL_SIZES
from ml_verifier.kernels.planners import PLANNERS
from ml_verifier.kernels.request import Request
from tests.kernels.build import hatch_build
from tests.kernels.cases import Array, Case, values

# Machine, compiler, and what runs its programs here.
TOOLCHAINS = [
    ("x86_64", ("gcc",), ()),
    ("x86_64", ("clang",), ()),
    ("x86_64", ("gcc", "-O0"), ()),
    ("aarch64", ("aarch64-linux-gnu-gcc", "-static"), ("qemu-aarch64",)),
]


def cases() -> list[Case]:
    """The golden ones, and the elementary functions on hostile values."""
    made = [golden.case(number, kernels) for number, golden in enumerate(GOLDEN)]
    for kind in ("wide", "tiny", "special"):
        x = values(1, (3000,), kind)
        made += [Case(name, (x,)) for name in ("exp", "log", "tanh", "sigmoid", "sqrt")]
        made += [Case(name, (x, x[::-1].copy())) for name in ("add", "mul", "div")]
        a = values(2, (20, 300), kind)
        made.append(Case("matmul", (a, a), {"ta": 0, "tb": 1}))
    return made


def buffers(arrays: Sequence[Array]) -> bytes:
    parts = [struct.pack("<q", len(arrays))]
    for array in arrays:
        kind = int(array.dtype == np.float32)
        parts += [struct.pack("<qq", kind, array.nbytes), array.tobytes()]
    return b"".join(parts)


def recorded(case: Case) -> bytes:
    outputs = case.outputs()
    request = Request(case.name, case.attributes, case.inputs, outputs)
    plan = PLANNERS[case.name](request)
    assert kernels.bind(case.name, case.attributes, case.inputs, outputs)() == 0
    for array in outputs:
        if array.dtype == np.float32:
            oracle.canonicalise(array.reshape(-1))
    sizes = [*plan.sizes, *[0] * (CALL_SIZES - len(plan.sizes))]
    scalars = [*plan.scalars, *[0.0] * (CALL_SCALARS - len(plan.scalars))]
    return b"".join(
        [
            plan.operator.encode().ljust(32, b"\0"),
            struct.pack(f"<{CALL_SIZES}q{CALL_SCALARS}f", *sizes, *scalars),
            buffers(plan.inputs),
            buffers(outputs),
        ]
    )


def compiled(source: str, machine: str, compiler: Sequence[str], folder: Path) -> Path:
    """A program of ours with the kernels inside."""
    build = hatch_build()
    command = [compiler[0], *build.FLAGS, *compiler[1:]]
    objects: list[str] = []
    for name, arguments in build.units(machine).items():
        objects.append(str(folder / f"{name}.o"))
        subprocess.run([*command, *arguments, "-c", "-o", objects[-1]], check=True)  # noqa: S603  a compiler on our own sources
    program = folder / "foreign"
    main = str(Path(__file__).with_name(source))
    link = [*command, "-I", str(build.SOURCES), main, *objects]
    subprocess.run([*link, "-pthread", "-o", str(program)], check=True)  # noqa: S603  likewise
    return program


def needs(*tools: str) -> None:
    """Skips where a tool is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.mark.slow
@pytest.mark.usefixtures("soak")
@pytest.mark.parametrize(("machine", "compiler", "emulator"), TOOLCHAINS)
def test_the_same_bits_elsewhere(
    machine: str, compiler: Sequence[str], emulator: Sequence[str], tmp_path: Path
) -> None:
    needs(compiler[0], *emulator)
    calls = [recorded(case) for case in cases()]
    record = tmp_path / "calls"
    record.write_bytes(struct.pack("<q", len(calls)) + b"".join(calls))
    program = compiled("foreign.c", machine, compiler, tmp_path)
    command = [*emulator, str(program), str(record)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  just built
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("soak")
@pytest.mark.parametrize(("machine", "compiler", "emulator"), TOOLCHAINS)
def test_the_same_roots_elsewhere(
    machine: str, compiler: Sequence[str], emulator: Sequence[str], tmp_path: Path
) -> None:
    needs(compiler[0], *emulator)
    pattern = np.arange(300 * 333 * 4, dtype=np.uint32) * np.uint32(2654435761) >> 13
    data = pattern.astype(np.uint8)
    tensors = [data.view("<f4").reshape(300, 333), data[: 77 * 8].view("<i8")]
    expected = b"".join(hashing.tensor_roots(tensors, [1, 2], bytes(96))).hex()
    program = compiled("foreign_hashing.c", machine, compiler, tmp_path)
    command = [*emulator, str(program)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  just built
    lines = result.stdout.split()
    assert len(lines) >= 2
    assert set(lines) == {expected}
