"""The judge: is ``replay(h_i) == h_{i+1}``? What the precompile at 0x4D4C computes.

Every input is hostile. Whatever does not decode, or does not hash to the roots it is
offered for, raises ``Malformed`` and convicts nobody. Only a well-formed witness gets a
verdict, and the verdict is an equality of hashes: there is no tolerance.

Gas is a cost model over sizes and the program's operators, never time. It is charged in
two parts, so that no work is done unpaid: ``intake_gas`` from the size of the input
before anything is decoded, then the rest once the program is known.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ml_verifier import commitment, kernels
from ml_verifier.commitment import Indices
from ml_verifier.data import split_fields
from ml_verifier.engine import Backend, Engine
from ml_verifier.errors import Malformed, MalformedProgram, MalformedWitness
from ml_verifier.kernels import KernelError
from ml_verifier.memory import peak_memory
from ml_verifier.merkle import MAX_DEPTH, depth
from ml_verifier.program import MAX_POSTED_BYTES, Program, decode_program
from ml_verifier.state import State
from ml_verifier.witness import (
    HEAD,
    TRAPPED,
    claimed_program,
    decode_witness,
    largest_witness,
    witness_program,
)

__all__ = [
    "MAX_PROGRAM_BYTES",
    "MAX_WITNESS_BYTES",
    "Admission",
    "Malformed",
    "ReplayCall",
    "admission_gas",
    "admit",
    "intake_gas",
    "opening_gas",
    "replay",
    "replay_gas",
    "verify_opening",
]

MAX_PROGRAM_BYTES = MAX_POSTED_BYTES
MAX_WITNESS_BYTES = 262_144
MAX_PEAK_MEMORY = 1 << 28
MAX_RECORDS = 1 << 40
MAX_STEPS = 1 << 48
MAX_SEED = 1 << 64

# Gas per unit of work, fitted so that 15 gas is about a microsecond of the reference
# machine (benchmarks/judge.py); EVM code is priced alike, so one limit bounds both.
CALL_GAS = 15_000
PROGRAM_BYTE_GAS = 60  # a node is five bytes or more
WITNESS_BYTE_GAS = 2
NODE_GAS = 1_500  # decoding, checking and binding one node
MACS_PER_GAS = 256
BYTES_PER_GAS = 32
ROUNDING_GAS = 16  # one exp, log or tanh on the exact path
PLACE_GAS = 1_500  # one place of the batch: its Feistel rounds and its Merkle path
STATE_BYTES_PER_GAS = 4  # hashed twice: before and after the step


@dataclass(frozen=True, slots=True)
class Admission:
    """What a program costs, as ``admit`` returns it.

    Attributes:
        program_root: Hash of the program.
        work_units: Multiply-adds and bytes moved by one step.
        peak_memory: Bytes that one replay allocates.
        witness_bytes: Size of one step's witness, at most.
        replay_gas: Gas that the precompile charges for one verdict, at most.
    """

    program_root: bytes
    work_units: int
    peak_memory: int
    witness_bytes: int
    replay_gas: int


@dataclass(frozen=True, slots=True)
class ReplayCall:
    """The question put to the judge; roots are 32 bytes each.

    Attributes:
        trial: Key of the commitment on trial; opaque here.
        position: i, the step before which the state has root ``pre_root``.
        pre_root: h_i.
        post_root: h_{i+1}, as claimed by the solver.
        program_root: The job's program.
        data_root: The job's data.
        seed: The job's seed.
        records: Number of records under ``data_root``.
        witness: See ``ml_verifier.witness``.
    """

    trial: bytes
    position: int
    pre_root: bytes
    post_root: bytes
    program_root: bytes
    data_root: bytes
    seed: int
    records: int
    witness: bytes


# ── gas ──────────────────────────────────────────────────────────────────────


def admission_gas(program_size: int) -> int:
    """Return the gas of ``admit`` for a program of this many bytes."""
    return CALL_GAS + PROGRAM_BYTE_GAS * program_size


def intake_gas(witness_size: int, head: bytes) -> int:
    """Return the part of a replay's gas that is charged before decoding.

    Args:
        witness_size: Bytes of the witness.
        head: Its first bytes; what they claim is what decoding will cost at most.
    """
    return _intake(witness_size, claimed_program(head))


def _intake(witness_size: int, program_size: int) -> int:
    program = min(program_size, witness_size, MAX_PROGRAM_BYTES)
    return CALL_GAS + PROGRAM_BYTE_GAS * program + WITNESS_BYTE_GAS * witness_size


def opening_gas(size: int) -> int:
    """Return the gas of ``opening`` for this many bytes."""
    return CALL_GAS + WITNESS_BYTE_GAS * size


def node_work(program: Program) -> tuple[int, int, int]:
    """Return multiply-adds, bytes moved and correct roundings of one step."""
    macs = moved = rounded = 0
    for node in program.nodes:
        inputs, outputs = program.node_types(node)
        macs += node.operator.macs(inputs, outputs, node.attributes)
        moved += sum(t.nbytes for t in (*inputs, *outputs))
        moved += node.operator.traffic(inputs, outputs, node.attributes)
        largest = max(t.size for t in (*inputs, *outputs))
        rounded += node.operator.rounded * largest
    return macs, moved, rounded


@lru_cache(maxsize=16)
def execution_gas(program: Program) -> int:
    """Return the gas of executing one step and hashing the states around it."""
    macs, moved, rounded = node_work(program)
    return (
        NODE_GAS * len(program.nodes)
        + macs // MACS_PER_GAS
        + moved // BYTES_PER_GAS
        + rounded * ROUNDING_GAS
        + PLACE_GAS * program.batch
        + program.state_bytes // STATE_BYTES_PER_GAS
    )


def step_gas(program: Program, records: int) -> int:
    """Return the gas of one verdict about a program's step, at most."""
    size = largest_witness(program, records)
    return _intake(size, len(program.encoded)) + execution_gas(program)


def replay_gas(call: ReplayCall) -> int:
    """Return the whole gas of a replay, ``intake_gas`` included.

    Raises:
        Malformed: The call is out of bounds or its program does not decode.
    """
    _check_bounds(call)
    gas = intake_gas(len(call.witness), call.witness[: HEAD.size])
    if call.witness[0] == TRAPPED:
        return gas
    return gas + execution_gas(witness_program(call.witness))


# ── the three questions ──────────────────────────────────────────────────────


def admit(program: bytes, records: int) -> Admission:
    """Decode a program and say what a dispute about one of its steps costs.

    Raises:
        Malformed: The program does not decode, or needs more memory than a
            validator grants.
    """
    if not 0 < records <= MAX_RECORDS:
        raise MalformedProgram(f"expected 1..{MAX_RECORDS} records, got {records}")
    if len(program) > MAX_PROGRAM_BYTES:
        raise MalformedProgram(
            f"expected at most {MAX_PROGRAM_BYTES} bytes in a job, got {len(program)}"
        )
    decoded = decode_program(program)
    memory = peak_memory(decoded)
    if memory > MAX_PEAK_MEMORY:
        raise MalformedProgram(
            f"expected at most {MAX_PEAK_MEMORY} bytes, got {memory}"
        )
    size = largest_witness(decoded, records)
    return Admission(
        program_root=decoded.root,
        work_units=sum(node_work(decoded)[:2]),
        peak_memory=memory,
        witness_bytes=size,
        replay_gas=step_gas(decoded, records),
    )


def replay(
    call: ReplayCall, *, backend: Backend = kernels, limit: int = MAX_WITNESS_BYTES
) -> bool:
    """Replay one step; return whether the solver's next root is right.

    Args:
        call: The question.
        backend: What computes the operators; the verdict is the same for each.
        limit: Largest witness; only benchmarks raise it.

    Raises:
        Malformed: The witness does not decode or does not hash to the given roots.
    """
    _check_bounds(call, limit)
    if call.witness[0] == TRAPPED:
        return _replay_trap(call)
    witness = decode_witness(call.witness, call.seed, call.records, call.position)
    program = witness.program
    _expect("program", call.program_root, program.root)
    if peak_memory(program) > MAX_PEAK_MEMORY and limit == MAX_WITNESS_BYTES:
        raise MalformedProgram(f"needs more than {MAX_PEAK_MEMORY} bytes of memory")
    _expect("state", call.pre_root, witness.state.root)
    _expect("data", call.data_root, witness.data_root(call.records))
    distinct = sorted(witness.records)
    data = b"".join(witness.records[i] for i in distinct)
    columns = split_fields(program.fields, data, len(distinct))
    places: Indices = np.searchsorted(distinct, witness.indices).astype(np.int64)
    try:
        engine = Engine(program, backend)
        engine.load(witness.state.tensors)
        advanced = engine.step(columns, places, call.seed, call.position)
    except KernelError as error:  # a refusal by shape alone: the same everywhere
        raise MalformedProgram(f"no kernel for this program: {error}") from error
    if advanced:
        post = State(call.position + 1, engine.tensors).root
    else:
        post = commitment.trap_root(call.pre_root)
    return post == call.post_root


def verify_opening(state_root: bytes, slot: int, tile: int, opening: bytes) -> None:
    """Check that ``opening`` opens one tile of one slot of a state.

    Raises:
        Malformed: It does not.
    """
    commitment.verify_opening(state_root, slot, tile, opening)


def _replay_trap(call: ReplayCall) -> bool:
    if len(call.witness) != 33:
        raise MalformedWitness(f"expected 33 bytes, got {len(call.witness)}")
    _expect("trap state", call.pre_root, commitment.trap_root(call.witness[1:]))
    return call.post_root == call.pre_root


def _expect(what: str, expected: bytes, got: bytes) -> None:
    if expected != got:
        raise MalformedWitness(
            f"{what}: expected root {expected.hex()}, got {got.hex()}"
        )


def _check_bounds(call: ReplayCall, limit: int = MAX_WITNESS_BYTES) -> None:
    if not 0 < len(call.witness) <= limit:
        raise MalformedWitness(f"expected 1..{limit} bytes, got {len(call.witness)}")
    for name, value, least, end in (
        ("position", call.position, 0, MAX_STEPS),
        ("seed", call.seed, 0, MAX_SEED),
        ("records", call.records, 1, MAX_RECORDS + 1),
    ):
        if not least <= value < end:
            raise MalformedWitness(f"{name}: expected {least}..{end - 1}, got {value}")
    if depth(call.records) > MAX_DEPTH:
        raise MalformedWitness(f"too many records: {call.records}")
