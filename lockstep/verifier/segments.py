"""Which segments a verifier draws, and the digest that only recomputing gives. Pure.

The digest of the steps [start, end) is a hash over the verifier's address, the trial,
the segment, and every state after `start` up to `end`, bytes and all. The solver
publishes roots, not these bytes, so the digest cannot be had without the work; the
address makes a copied digest worthless.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from ml_verifier.session import AnyState
from ml_verifier.state import State

__all__ = ["Segment", "digest", "draw"]

_DRAW = b"lockstep/draw"
_DIGEST = b"lockstep/digest"


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """The steps [start, end)."""

    start: int
    end: int


def draw(
    seed: bytes, trial: bytes, steps: int, count: int, length: int
) -> list[Segment]:
    """Distinct random segments of a job, ascending; a recorded seed repeats them.

    Args:
        seed: 32 bytes, drawn after the commitment was final.
        trial: the commitment.
        steps: T.
        count: segments wanted; fewer if the job has fewer.
        length: steps of each; the last one of a job may be shorter.
    """
    pieces = -(-steps // length)
    found: set[int] = set()
    counter = 0
    while len(found) < min(count, pieces):
        block = hashlib.sha256(_DRAW + seed + trial + struct.pack(">Q", counter))
        # 256 bits modulo a count below 2^64: the bias is below 2^-192.
        found.add(int.from_bytes(block.digest(), "big") % pieces)
        counter += 1
    return [
        Segment(piece * length, min((piece + 1) * length, steps))
        for piece in sorted(found)
    ]


def digest(
    verifier: bytes, trial: bytes, segment: Segment, states: Iterable[AnyState]
) -> bytes:
    """The digest over a recomputed segment.

    Args:
        verifier: its address, 20 bytes.
        trial: the commitment.
        segment: the steps.
        states: the state after each of them, in order.
    """
    whole = hashlib.sha256(_DIGEST + verifier + trial)
    whole.update(struct.pack(">QQ", segment.start, segment.end))
    for state in states:
        content = state.to_bytes() if isinstance(state, State) else state.root
        whole.update(struct.pack(">QQ", state.position, len(content)))
        whole.update(content)
    return whole.digest()
