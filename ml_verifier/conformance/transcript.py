"""What conformance hashes: one line of text per case and per training step.

A case's line is ``<number> <operator> <kind> <SHA-256 of its outputs, or trap>``: the
outputs concatenated, row-major, little-endian, NaN canonical. A training's lines are
``<name> <step> <h_step>``. The hash is SHA-256 of all lines, each ended by a newline.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from ml_verifier.conformance.case import Arithmetic, Case
from ml_verifier.conformance.golden import GOLDEN, LARGE
from ml_verifier.conformance.inputs import Golden, Kind
from ml_verifier.conformance.trainings import STEPS, TRAININGS

Extent: TypeAlias = Literal["full", "start"]

EXTENTS: Sequence[Extent] = ("full", "start")
PINNED_PATH = Path(__file__).with_name("pinned.json")
FIRST_LARGE = 1000  # number of the first case of ``LARGE``
START_KINDS = frozenset[Kind]({"plain", "special"})
START_STEPS = 2


def pinned(extent: Extent) -> str:
    """Return the hash that every conforming implementation computes, in hex."""
    found: str = json.loads(PINNED_PATH.read_text())[extent]
    return found


def conformance_hash(backend: Arithmetic, extent: Extent = "full") -> str:
    """Run the conformance program on ``backend`` and return its hash in hex."""
    text = "".join(f"{line}\n" for line in lines(backend, extent))
    return hashlib.sha256(text.encode()).hexdigest()


def lines(backend: Arithmetic, extent: Extent = "full") -> Iterator[str]:
    """Run the conformance program on ``backend`` and yield its lines.

    Args:
        backend: What computes.
        extent: ``full`` is everything; ``start`` is what a node runs when it starts:
            plain and special inputs, no large case, two steps of each training.
    """
    for number, golden in enumerate(GOLDEN):
        for kind in kinds(golden, extent):
            case = golden.case(number, backend, kind)
            yield f"{number} {golden.name} {kind} {outcome(case, backend)}"
    if extent == "full":
        for number, golden in enumerate(LARGE, FIRST_LARGE):
            case = golden.case(number, backend)
            yield f"{number} {golden.name} plain {outcome(case, backend)}"
    for training in TRAININGS:
        steps = STEPS if extent == "full" else START_STEPS
        for step, root in enumerate(training.roots(backend, steps)):
            yield f"{training.name} {step} {root.hex()}"


def kinds(golden: Golden, extent: Extent = "full") -> tuple[Kind, ...]:
    """Return the kinds of inputs that a case runs on."""
    if extent == "full":
        return golden.kinds
    return tuple(kind for kind in golden.kinds if kind in START_KINDS)


def outcome(case: Case, backend: Arithmetic) -> str:
    """Return the hash of a case's outputs in hex, or ``trap``."""
    status, outputs = case.run(backend)
    if status:
        return "trap"
    joined = b"".join(array.tobytes() for array in outputs)
    return hashlib.sha256(joined).hexdigest()
