"""The ML verifier at 0x4D4C: ABI and gas around `ml_verifier.judge`.

Three questions, standard ABI behind a 4-byte selector:

    admit(uint256 records, bytes program)
        -> (bytes32 programRoot, uint256 workUnits, uint256 peakMemory,
            uint256 witnessBytes, uint256 replayGas)
    replay(bytes32 trial, uint256 position, bytes32 preRoot, bytes32 postRoot,
           bytes32 programRoot, bytes32 dataRoot, uint256 seed, uint256 records,
           bytes witness) -> bytes32      b"VALID" or b"INVALID", zero padded
    opening(bytes32 stateRoot, uint256 slot, uint256 tile, bytes opening)
        -> bytes32                        b"VALID", zero padded

The encoding is checked to the byte: the dynamic argument's offset points right behind
the head, its padding is zero, nothing follows. So a question has one encoding, and a
contract that forwards its own call data forwards exactly what was asked.

Everything malformed reverts and convicts nobody; only a decoded, authenticated witness
gets an answer. The precompile reads no state and writes none; DELEGATECALL and
CALLCODE are refused, STATICCALL is how it is meant to be called. Gas is the judge's
cost model over sizes and the program, and steps follow gas: time decides nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from chain.crypto import keccak
from ml_verifier import judge
from ml_verifier.errors import Malformed
from runtime.errors import PrecompileRevert
from runtime.precompiles.interface import Precompile
from runtime.steps import GAS_PER_STEP

VALID: Final = b"VALID".ljust(32, b"\0")
INVALID: Final = b"INVALID".ljust(32, b"\0")

_WORD: Final = 32
_SELECTOR_BYTES: Final = 4
# An opening of one 64x64 tile is 16 KiB and its path.
MAX_OPENING_BYTES: Final = 32_768

ADMIT: Final = keccak(b"admit(uint256,bytes)")[:_SELECTOR_BYTES]
REPLAY: Final = keccak(
    b"replay(bytes32,uint256,bytes32,bytes32,bytes32,bytes32,uint256,uint256,bytes)"
)[:_SELECTOR_BYTES]
OPENING: Final = keccak(b"opening(bytes32,uint256,uint256,bytes)")[:_SELECTOR_BYTES]


class Judge(Protocol):
    """The pure functions that the precompile is a door to; see `ml_verifier.judge`."""

    def admission_gas(self, program_size: int) -> int:
        """Gas of an admission."""
        ...

    def admit(self, program: bytes, records: int) -> judge.Admission:
        """What a dispute about the program costs."""
        ...

    def intake_gas(self, witness_size: int, head: bytes) -> int:
        """Gas of a replay before its program is known."""
        ...

    def replay_gas(self, call: judge.ReplayCall) -> int:
        """The whole gas of a replay."""
        ...

    def replay(self, call: judge.ReplayCall) -> bool:
        """Whether the step is right."""
        ...

    def opening_gas(self, size: int) -> int:
        """Gas of an opening."""
        ...

    def verify_opening(
        self, state_root: bytes, slot: int, tile: int, opening: bytes
    ) -> None:
        """Raise unless the tile is in the state."""
        ...


@dataclass(frozen=True, slots=True)
class _Question:
    """One of the three: how many static words come before the dynamic argument."""

    static_words: int
    limit: int

    @property
    def head(self) -> int:
        """Bytes of selector, static words and the offset."""
        return _SELECTOR_BYTES + _WORD * (self.static_words + 1)


_QUESTIONS: Final = {
    ADMIT: _Question(static_words=1, limit=judge.MAX_PROGRAM_BYTES),
    REPLAY: _Question(static_words=8, limit=judge.MAX_WITNESS_BYTES),
    OPENING: _Question(static_words=3, limit=MAX_OPENING_BYTES),
}


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + _WORD], "big")


def decode(data: bytes) -> tuple[bytes, tuple[bytes, ...], bytes]:
    """Selector, static words and the dynamic argument of a question.

    Raises:
        PrecompileRevert: The encoding is not the one that the ABI prescribes, or the
            argument is too large.
    """
    selector = data[:_SELECTOR_BYTES]
    question = _QUESTIONS.get(selector)
    if question is None:
        raise PrecompileRevert(f"unknown selector {selector.hex()}")
    head = question.head
    if len(data) < head + _WORD:
        raise PrecompileRevert(f"{len(data)} bytes, the head alone has {head + _WORD}")
    offset = _word(data, head - _WORD)
    if offset != head - _SELECTOR_BYTES:
        raise PrecompileRevert(
            f"offset {offset}, the argument begins at {head - _SELECTOR_BYTES}"
        )
    size = _word(data, head)
    if size > question.limit:
        raise PrecompileRevert(f"argument of {size} bytes, at most {question.limit}")
    start = head + _WORD
    end = start + size
    if len(data) != end + -size % _WORD:
        raise PrecompileRevert(f"{len(data)} bytes, expected {end + -size % _WORD}")
    if any(data[end:]):
        raise PrecompileRevert("padding that is not zero")
    static = tuple(
        data[at : at + _WORD] for at in range(_SELECTOR_BYTES, head - _WORD, _WORD)
    )
    return selector, static, data[start:end]


def _announced(data: bytes) -> int:
    """Size of the dynamic argument, as announced; all of the data if that lies."""
    question = _QUESTIONS.get(data[:_SELECTOR_BYTES])
    if question is None or len(data) < question.head + _WORD:
        return len(data)
    return min(_word(data, question.head), len(data))


def _first_bytes(data: bytes) -> bytes:
    """The first word of a replay's witness, as far as it is there."""
    start = _QUESTIONS[REPLAY].head + _WORD
    return data[start : start + _WORD]


def _replay_call(static: tuple[bytes, ...], witness: bytes) -> judge.ReplayCall:
    trial, position, pre, post, program, records_root, seed, records = static
    return judge.ReplayCall(
        trial=trial,
        position=int.from_bytes(position, "big"),
        pre_root=pre,
        post_root=post,
        program_root=program,
        data_root=records_root,
        seed=int.from_bytes(seed, "big"),
        records=int.from_bytes(records, "big"),
        witness=witness,
    )


def ml_precompile(verifier: Judge = judge) -> Precompile:
    """The precompile over a judge; tests give it a judge of their own."""

    def gas(data: bytes) -> int:
        size = _announced(data)
        selector = data[:_SELECTOR_BYTES]
        if selector == ADMIT:
            return verifier.admission_gas(size)
        if selector == REPLAY:
            return verifier.intake_gas(size, _first_bytes(data))
        return verifier.opening_gas(size)

    def surcharge(data: bytes) -> int:
        selector, static, argument = decode(data)
        if selector != REPLAY:
            return 0
        call = _replay_call(static, argument)
        try:
            paid = verifier.intake_gas(len(argument), _first_bytes(data))
            return verifier.replay_gas(call) - paid
        except Malformed as error:
            raise PrecompileRevert(str(error)) from error

    def run(data: bytes) -> bytes:
        selector, static, argument = decode(data)
        try:
            return _answers[selector](static, argument)
        except Malformed as error:
            raise PrecompileRevert(str(error)) from error

    def admit(static: tuple[bytes, ...], program: bytes) -> bytes:
        found = verifier.admit(program, int.from_bytes(static[0], "big"))
        numbers = (
            found.work_units,
            found.peak_memory,
            found.witness_bytes,
            found.replay_gas,
        )
        return found.program_root + b"".join(
            number.to_bytes(_WORD, "big") for number in numbers
        )

    def replay(static: tuple[bytes, ...], witness: bytes) -> bytes:
        return VALID if verifier.replay(_replay_call(static, witness)) else INVALID

    def opening(static: tuple[bytes, ...], proof: bytes) -> bytes:
        root, slot, tile = static
        verifier.verify_opening(
            root, int.from_bytes(slot, "big"), int.from_bytes(tile, "big"), proof
        )
        return VALID

    _answers: dict[bytes, Callable[[tuple[bytes, ...], bytes], bytes]] = {
        ADMIT: admit,
        REPLAY: replay,
        OPENING: opening,
    }
    return Precompile(
        gas=gas,
        steps=lambda data: gas(data) // GAS_PER_STEP,
        run=run,
        surcharge=surcharge,
        refuses_delegation=True,
    )
