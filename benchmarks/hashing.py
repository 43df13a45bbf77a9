"""Roots of states and tensors, against the blake3 package over the same bytes.

The peer hashes one run of memory in one call on one thread: no tiles, no openings.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from blake3 import blake3

from benchmarks import training
from benchmarks.harness import Figure, interleaved
from ml_verifier import commitment, kernels
from ml_verifier.commitment import Array
from ml_verifier.state import Trap

# Wide and narrow matrices, a long vector, and the smallest slot of every state.
SHAPES: dict[str, tuple[int, ...]] = {
    "matrix_4096": (4096, 4096),
    "rows_of_10": (1 << 20, 10),
    "vector": (1 << 22,),
    "scalar": (),
}


def subjects() -> Iterator[tuple[str, Callable[[], object], Sequence[Array]]]:
    """Return name, what is measured, and the tensors that it hashes."""
    for case in training.cases():
        state = case.session.state()
        if isinstance(state, Trap):
            raise TypeError("the benchmark's own training trapped")
        tensors = state.tensors
        yield case.name, partial(commitment.state_root, 1, tensors), tensors
    generator = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        array = np.asarray(generator.standard_normal(shape, np.float32))
        yield name, partial(commitment.tensor_root, array), [array]


def figures() -> Iterator[Figure]:
    """Measure hashing on one and two threads."""
    for name, ours, tensors in subjects():
        data = b"".join(tensor.tobytes() for tensor in tensors)
        repeat = max(1, min(1000, (1 << 22) // len(data)))

        def theirs(data: bytes = data) -> bytes:
            return blake3(data).digest()

        for threads in (1, 2):
            kernels.set_threads(threads)
            seconds, peer = interleaved(ours, theirs, repeat=repeat)
            yield Figure(
                f"hash_state/{name}{'' if threads == 1 else '_2_threads'}",
                len(data) / seconds / 1e9,
                "GB/s",
                f"blake3 package, one call, 1 thread; ours {threads}",
                peer / seconds,
            )
