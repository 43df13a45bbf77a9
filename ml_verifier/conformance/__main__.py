"""The conformance program: prints its hash, or exits 1 when that is not the pinned one.

Standard output is the hash alone, or the lines that it covers with ``--lines``.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from ml_verifier import kernels, oracle
from ml_verifier.conformance.case import Arithmetic
from ml_verifier.conformance.transcript import Extent, conformance_hash, lines, pinned


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
    parser.add_argument("--lines", action="store_true", help="print what is hashed")
    parser.add_argument("--isa", choices=kernels.isas(), help="instruction set")
    parser.add_argument("--threads", type=int, help="threads of the kernels")
    parser.add_argument(
        "--oracle", action="store_true", help="compute with numpy instead (slow)"
    )
    return parser.parse_args(arguments)


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
    sys.stdout.write(f"{found}\n")
    expected = pinned(chosen.extent)
    if found != expected:
        sys.stderr.write(f"expected {expected}: this machine does not conform\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
