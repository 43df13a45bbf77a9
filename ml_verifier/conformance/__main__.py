"""The conformance program: prints its hash, or exits 1 when that is not the pinned one.

Standard output is the hash alone; with ``--lines`` what it covers, with ``--report`` a
JSON object that also says what computed it.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from typing import get_args

from ml_verifier import kernels, oracle
from ml_verifier.conformance.case import Arithmetic
from ml_verifier.conformance.transcript import Extent, conformance_hash, lines, pinned
from ml_verifier.kernels.library import LIBRARY_PATH


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ml_verifier.conformance", description=__doc__
    )
    parser.add_argument(
        "--extent",
        choices=get_args(Extent),
        default="full",
        help="start: the part that a node runs when it starts",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--lines", action="store_true", help="print what is hashed")
    form.add_argument("--report", action="store_true", help="print JSON")
    parser.add_argument("--isa", choices=kernels.isas(), help="instruction set")
    parser.add_argument("--threads", type=int, help="threads of the kernels")
    parser.add_argument(
        "--oracle", action="store_true", help="compute with numpy instead (slow)"
    )
    return parser.parse_args(arguments)


def _configuration(backend: Arithmetic) -> dict[str, str | int]:
    """Return what computes, for ``--report``."""
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "backend": "oracle" if backend is oracle else "kernels",
        "library": str(LIBRARY_PATH),
        "build": kernels.build(),
        "isa": kernels.isa(),
        "threads": kernels.threads(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status."""
    chosen = _arguments(arguments)
    if chosen.isa:
        kernels.set_isa(chosen.isa)
    if chosen.threads:
        kernels.set_threads(chosen.threads)
    backend: Arithmetic = oracle if chosen.oracle else kernels
    if chosen.lines:
        for line in lines(backend, chosen.extent):
            sys.stdout.write(f"{line}\n")
        return 0
    found = conformance_hash(backend, chosen.extent)
    report = {**_configuration(backend), "hash": found}
    sys.stdout.write(f"{json.dumps(report) if chosen.report else found}\n")
    expected = pinned(chosen.extent)
    if found != expected:
        sys.stderr.write(f"expected {expected}: this machine does not conform\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
