"""Kernels on another machine: its program serves calls over a pipe."""

import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from typing_extensions import override

from ml_verifier import oracle
from ml_verifier.conformance.case import Array
from ml_verifier.kernels.library import CALL_BUFFERS, CALL_SCALARS, CALL_SIZES
from ml_verifier.kernels.plan import Plan
from ml_verifier.kernels.planners import PLANNERS
from ml_verifier.kernels.request import AttributeValue, Request
from tests.conformance.builds import Wrong
from tests.kernels.build import ROOT, hatch_build

SOURCE = Path(__file__).with_name("foreign.c")
NO_BUFFER = -1
MASK = 2**64 - 1
SIGN = 2**63


class ForeignKernels(AbstractContextManager["ForeignKernels"]):
    """The kernels of a running ``foreign`` program, with the interface of ours.

    Making or calling one raises EOFError or BrokenPipeError when the program ends.
    """

    sequence = staticmethod(oracle.sequence)
    finite = staticmethod(oracle.finite)

    def __init__(self, command: Sequence[str], isa: str, threads: int) -> None:
        self._process = subprocess.Popen(  # noqa: S603  what we have just built
            [*command, isa, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self.build = self._output.readline().decode().strip()
        if not self.build:
            self._process.communicate()
            raise EOFError(f"it ended with status {self._process.returncode}")

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout
        return self._process.stdout

    @override
    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):  # it has ended: whoever called it knows
            self._input.close()
        self._output.close()
        self._process.wait()

    def bind(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue],
        inputs: Sequence[Array],
        outputs: Sequence[Array],
    ) -> Callable[[], int]:
        plan = PLANNERS[name](Request(name, attributes, inputs, outputs))
        return lambda: self._call(plan)

    def canonicalise(self, array: Array) -> None:
        self._call(Plan("canonicalise", (), (array,), (array.size,)))

    def philox_uniform(
        self, out: Array, key: int, counter2: int, counter3: int, lo: float, hi: float
    ) -> None:
        low, high = np.float32(lo), np.float32(hi)
        signed = (key & MASK ^ SIGN) - SIGN
        sizes = (out.size, signed, counter2, counter3)
        scalars = (float(high - low), float(low))
        self._call(Plan("philox_uniform", (), (out,), sizes, scalars))

    def _call(self, plan: Plan) -> int:
        sizes = [*plan.sizes, *[0] * (CALL_SIZES - len(plan.sizes))]
        scalars = [*plan.scalars, *[0.0] * (CALL_SCALARS - len(plan.scalars))]
        self._input.write(plan.operator.encode().ljust(32, b"\0"))
        self._input.write(struct.pack(f"<{CALL_SIZES}q", *sizes))
        self._input.write(struct.pack(f"<{CALL_SCALARS}f", *scalars))
        for arrays in (plan.inputs, plan.outputs):
            lengths = [array.nbytes for array in arrays]
            lengths += [NO_BUFFER] * (CALL_BUFFERS - len(arrays))
            self._input.write(struct.pack(f"<{CALL_BUFFERS}q", *lengths))
        for array in (*plan.inputs, *plan.outputs):
            self._input.write(array.tobytes())
        self._input.flush()
        (status,) = struct.unpack("<q", self._take(8))
        for array in plan.outputs:
            content = np.frombuffer(self._take(array.nbytes), array.dtype)
            np.copyto(array, content.reshape(array.shape))
        return int(status)

    def _take(self, count: int) -> bytes:
        data = self._output.read(count)
        if len(data) != count:
            raise EOFError(f"it ended with status {self._process.wait()}")
        return data


def build_program(
    source: Path, folder: Path, compiler: Sequence[str], machine: str
) -> Path:
    """Compile a program, kernels included, for a machine as uname names it.

    Raises:
        Wrong: The compiler failed.
    """
    build: Any = hatch_build()
    command = [compiler[0], *build.FLAGS, *compiler[1:]]
    commands = [
        [*command, *arguments, "-c", "-o", str(folder / f"{name}.o")]
        for name, arguments in build.units(machine).items()
    ]
    program, objects = folder / "foreign", [line[-1] for line in commands]
    link = [*command, "-I", str(build.SOURCES), "-pthread", "-o", str(program)]
    try:
        build._run_all(commands)
        build._run_all([[*link, str(source), *objects]])
    except build.BuildError as error:
        raise Wrong(str(error)) from error
    return program
