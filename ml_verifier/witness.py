"""The witness of one step: all that a validator needs to replay it.

Bytes: kind (0 ordinary, 1 after the trap). After the trap: the 32-byte root that the
trap state hashes. Ordinary: u32 program length, program, state (all slots), each
distinct record of the batch in ascending index, Merkle multiproof of those records.
Every length but the program's follows from the program and the job, so a witness
cannot lie about its sizes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ml_verifier import merkle
from ml_verifier.data import Dataset
from ml_verifier.errors import MalformedWitness
from ml_verifier.merkle import Purpose
from ml_verifier.program import MAX_POSTED_BYTES, Program, decode_program
from ml_verifier.rng import batch_indices
from ml_verifier.session import AnyState
from ml_verifier.state import State, Trap, state_from_bytes

ORDINARY, TRAPPED = 0, 1
HEAD = struct.Struct(">BI")


@dataclass(frozen=True)
class Witness:
    """A decoded, not yet verified ordinary witness.

    Attributes:
        program: The step.
        state: The state before the step, as claimed.
        indices: The record of each place in the batch.
        records: The distinct records by index.
        proof: The siblings that lead from the records to the data root.
    """

    program: Program
    state: State
    indices: Sequence[int]
    records: dict[int, bytes]
    proof: tuple[bytes, ...]

    def data_root(self, count: int) -> bytes:
        """Return the data root that the records and the proof lead to."""
        leaves = {
            index: merkle.leaf(Purpose.RECORD, record)
            for index, record in self.records.items()
        }
        return merkle.fold(Purpose.RECORD, count, leaves, self.proof)


def build_witness(
    program: Program, seed: int, dataset: Dataset, state: AnyState
) -> bytes:
    """Return the witness of the step that follows ``state``."""
    if isinstance(state, Trap):
        return bytes((TRAPPED,)) + state.previous
    indices = batch_indices(seed, dataset.records, program.batch, state.position)
    distinct = sorted(set(indices))
    return b"".join(
        (
            HEAD.pack(ORDINARY, len(program.encoded)),
            program.encoded,
            state.to_bytes(),
            *(dataset.record(i) for i in distinct),
            *dataset.tree.multiproof(distinct),
        )
    )


def largest_witness(program: Program, records: int) -> int:
    """Return the size of a step's witness in the worst case."""
    distinct = min(program.batch, records)
    siblings = distinct * merkle.depth(records)
    return (
        HEAD.size
        + len(program.encoded)
        + program.state_bytes
        + distinct * program.record_bytes
        + 32 * siblings
    )


def claimed_program(head: bytes) -> int:
    """Return the size of the program that a witness claims to hold; 0 if none."""
    if len(head) < HEAD.size or head[0] != ORDINARY:
        return 0
    _, length = HEAD.unpack_from(head)
    return int(length)


def witness_program(witness: bytes) -> Program:
    """Decode only the program of an ordinary witness.

    Raises:
        Malformed: The head or the program is not well-formed.
    """
    if len(witness) < HEAD.size or witness[0] != ORDINARY:
        raise MalformedWitness("expected an ordinary witness with a program")
    _, length = HEAD.unpack_from(witness)
    if length > MAX_POSTED_BYTES or len(witness) < HEAD.size + length:
        raise MalformedWitness(f"program of {length} bytes does not fit")
    return decode_program(bytes(witness[HEAD.size : HEAD.size + length]))


def decode_witness(witness: bytes, seed: int, records: int, position: int) -> Witness:
    """Decode an ordinary witness for the step at ``position`` of a job.

    Raises:
        Malformed: The bytes are not exactly one witness of that step.
    """
    program = witness_program(witness)
    at = HEAD.size + len(program.encoded)
    indices = batch_indices(seed, records, program.batch, position)
    distinct = sorted(set(indices))
    siblings = merkle.multiproof_size(records, distinct)
    expected = (
        at + program.state_bytes + len(distinct) * program.record_bytes + 32 * siblings
    )
    if len(witness) != expected:
        raise MalformedWitness(f"expected {expected} bytes, got {len(witness)}")
    state = state_from_bytes(program, position, witness[at : at + program.state_bytes])
    at += program.state_bytes
    size = program.record_bytes
    pieces = {
        index: witness[at + i * size : at + (i + 1) * size]
        for i, index in enumerate(distinct)
    }
    at += len(distinct) * size
    proof = tuple(witness[i : i + 32] for i in range(at, expected, 32))
    return Witness(program, state, indices, pieces, proof)
