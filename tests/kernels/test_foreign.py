"""Roots of tensors from other compilers and machines.

Operators and trainings are compared by the conformance matrix, whose foreign machine
computes values but leaves the hashing of states to this one.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ml_verifier.kernels import hashing
from tests.conformance.foreign import build_program

SOURCE = Path(__file__).with_name("foreign_hashing.c")
# Machine, compiler, and what runs its programs here.
TOOLCHAINS = [
    ("x86_64", ("gcc",), ()),
    ("x86_64", ("clang",), ()),
    ("x86_64", ("gcc", "-O0"), ()),
    ("aarch64", ("aarch64-linux-gnu-gcc", "-static"), ("qemu-aarch64",)),
]


@pytest.mark.slow
@pytest.mark.usefixtures("soak")
@pytest.mark.parametrize(("machine", "compiler", "emulator"), TOOLCHAINS)
def test_the_same_roots_elsewhere(
    machine: str, compiler: Sequence[str], emulator: Sequence[str], tmp_path: Path
) -> None:
    for tool in (compiler[0], *emulator):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    pattern = np.arange(300 * 333 * 4, dtype=np.uint32) * np.uint32(2654435761) >> 13
    data = pattern.astype(np.uint8)
    tensors = [data.view("<f4").reshape(300, 333), data[: 77 * 8].view("<i8")]
    expected = b"".join(hashing.tensor_roots(tensors, [1, 2], bytes(96))).hex()
    program = build_program(SOURCE, tmp_path, compiler, machine)
    command = [*emulator, str(program)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  just built
    lines = result.stdout.split()
    assert len(lines) >= 2
    assert set(lines) == {expected}
