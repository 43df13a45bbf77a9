"""The ML verifier's door: its encoding, its gas, whom it lets in.

The judge behind it is a fake that remembers what it was asked; its own tests are in
tests/ml_verifier. One test asks the real one through a block.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given, strategies as st

from chain.addresses import ML_VERIFIER
from chain.database import ChainDatabase
from chain.header import EMPTY_TRIE_ROOT
from chain.store import Store
from ml_verifier import judge
from ml_verifier.errors import MalformedOpening, MalformedProgram, MalformedWitness
from runtime.errors import PrecompileRevert
from runtime.evm import BlockContext, Call, Result, execute
from runtime.ml_precompile import (
    ADMIT,
    INVALID,
    MAX_OPENING_BYTES,
    OPENING,
    REPLAY,
    VALID,
    decode,
    ml_precompile,
)
from runtime.precompiles.interface import Precompile
from runtime.steps import GAS_PER_STEP, StepMeter
from runtime.world import World
from tests.runtime.programs import returns_call
from tests.support.devchain import DevChain, Reverted

REPLAY_TYPES = ["bytes32", "uint256"] + ["bytes32"] * 4 + ["uint256"] * 2 + ["bytes"]
ROOTS = [bytes((number,)) * 32 for number in range(1, 6)]


@dataclass
class FakeJudge:
    """Says what it is told to, at prices that are easy to add."""

    verdict: bool = True
    malformed: Exception | None = None
    asked: list[Any] = field(default_factory=list)

    def _answer(self, question: object) -> None:
        self.asked.append(question)
        if self.malformed is not None:
            raise self.malformed

    def admission_gas(self, program_size: int) -> int:
        return 1_000 + program_size

    def admit(self, program: bytes, records: int) -> judge.Admission:
        self._answer((program, records))
        return judge.Admission(b"\7" * 32, 10, 20, 30, 40)

    def intake_gas(self, witness_size: int, _head: bytes = b"") -> int:
        return 2_000 + witness_size

    def replay_gas(self, call: judge.ReplayCall) -> int:
        return self.intake_gas(len(call.witness)) + 5_000

    def replay(self, call: judge.ReplayCall) -> bool:
        self._answer(call)
        return self.verdict

    def opening_gas(self, size: int) -> int:
        return 3_000 + size

    def verify_opening(
        self, state_root: bytes, slot: int, tile: int, opening: bytes
    ) -> None:
        self._answer((state_root, slot, tile, opening))


def replay_data(witness: bytes, position: int = 9) -> bytes:
    trial, pre, post, program, data = ROOTS
    return REPLAY + encode(
        REPLAY_TYPES, [trial, position, pre, post, program, data, 11, 12, witness]
    )


def admit_data(program: bytes) -> bytes:
    return ADMIT + encode(["uint256", "bytes"], [5, program])


def opening_data(opening: bytes) -> bytes:
    types = ["bytes32", "uint256", "uint256", "bytes"]
    return OPENING + encode(types, [ROOTS[0], 2, 3, opening])


def run(precompile: Precompile, data: bytes, **fields: object) -> Result:
    """Call the precompile in a frame of its own."""
    world = World(ChainDatabase(Store.memory()), EMPTY_TRIE_ROOT)
    block = BlockContext(
        1,
        1,
        1,
        bytes(20),
        10**8,
        7,
        bytes(32),
        lambda _: None,
        {ML_VERIFIER: precompile},
    )
    values: dict[str, Any] = {"to": ML_VERIFIER, "gas": 1_000_000, "data": data}
    call = Call(origin=b"\2" * 20, gas_price=0, **{**values, **fields})
    return execute(world, block, StepMeter(10**6), call)


def test_replay() -> None:
    for verdict, expected in ((True, VALID), (False, INVALID)):
        fake = FakeJudge(verdict=verdict)
        result = run(ml_precompile(fake), replay_data(b"witness"))
        assert result.output == expected
        assert len(result.output) == 32
        assert 1_000_000 - result.gas_left == fake.replay_gas(fake.asked[0]) == 7_007
        (call,) = fake.asked
        assert (call.trial, call.pre_root, call.post_root) == (ROOTS[0], *ROOTS[1:3])
        assert (call.program_root, call.data_root) == (ROOTS[3], ROOTS[4])
        assert (call.position, call.seed, call.records) == (9, 11, 12)
        assert call.witness == b"witness"


def test_admit() -> None:
    fake = FakeJudge()
    result = run(ml_precompile(fake), admit_data(b"program"))
    assert fake.asked == [(b"program", 5)]
    assert result.output == encode(
        ["bytes32", *["uint256"] * 4], [b"\7" * 32, 10, 20, 30, 40]
    )
    assert 1_000_000 - result.gas_left == 1_007


def test_opening() -> None:
    fake = FakeJudge()
    result = run(ml_precompile(fake), opening_data(b"proof"))
    assert fake.asked == [(ROOTS[0], 2, 3, b"proof")]
    assert (result.output, 1_000_000 - result.gas_left) == (VALID, 3_005)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (replay_data(b"w"), MalformedWitness("no")),
        (admit_data(b"p"), MalformedProgram("no")),
        (opening_data(b"o"), MalformedOpening("no")),
    ],
)
def test_malformed_reverts_and_keeps_the_rest(data: bytes, error: Exception) -> None:
    result = run(ml_precompile(FakeJudge(malformed=error)), data)
    assert not result.succeeded
    assert result.error.startswith("Revert")
    assert result.output == b""
    assert result.gas_left > 900_000


QUESTIONS = st.one_of(
    st.binary(max_size=70).map(replay_data),
    st.binary(max_size=70).map(admit_data),
    st.binary(max_size=70).map(opening_data),
)


@given(QUESTIONS)
def test_the_abi_is_accepted(data: bytes) -> None:
    selector, static, argument = decode(data)
    assert data.startswith(selector + b"".join(static))
    assert argument in data


@given(QUESTIONS, st.data())
def test_one_question_has_one_encoding(data: bytes, draw: st.DataObject) -> None:
    """Changes outside the static words and the argument do not go unnoticed."""
    _, static, argument = decode(data)
    head = 4 + 32 * len(static)
    body = head + 64
    free = {*range(4, head), *range(body, body + len(argument))}
    fixed = [at for at in range(len(data)) if at not in free]
    at = draw.draw(st.sampled_from(fixed))
    changed = bytearray(data)
    changed[at] ^= 1 << draw.draw(st.integers(0, 7))
    for broken in (bytes(changed), data + b"\0", data[:-1], data + bytes(32)):
        try:
            *_, other = decode(broken)
        except PrecompileRevert:
            continue
        # Zeros at the end of the argument and behind it differ in the length alone.
        assert len(other) != len(argument)


@given(st.binary(max_size=600), st.sampled_from([b"", ADMIT, REPLAY, OPENING]))
def test_no_input_crashes(data: bytes, selector: bytes) -> None:
    """Against the real judge: an answer or a revert, whatever comes."""
    result = run(ml_precompile(), selector + data)
    assert result.succeeded or result.error.startswith("Revert")


@pytest.mark.parametrize(
    "data",
    [
        admit_data(bytes(judge.MAX_PROGRAM_BYTES + 1)),
        replay_data(bytes(judge.MAX_WITNESS_BYTES + 1)),
        opening_data(bytes(MAX_OPENING_BYTES + 1)),
    ],
    ids=["admit", "replay", "opening"],
)
def test_too_large_reverts(data: bytes) -> None:
    fake = FakeJudge()
    result = run(ml_precompile(fake), data, gas=10**7)
    assert result.error.startswith("Revert")
    assert fake.asked == []


@pytest.mark.parametrize("gas", [1_500, 2_007, 7_006])
def test_too_little_gas_halts_before_work(gas: int) -> None:
    fake = FakeJudge()
    result = run(ml_precompile(fake), replay_data(b"witness"), gas=gas)
    assert (result.succeeded, result.gas_left) == (False, 0)
    assert "OutOfGas" in result.error
    assert fake.asked == []


def test_steps_follow_gas() -> None:
    precompile = ml_precompile(FakeJudge())
    data = replay_data(b"witness")
    assert precompile.steps(data) == 2_007 // GAS_PER_STEP
    assert precompile.surcharge is not None
    assert precompile.surcharge(data) == 5_000


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [(0xF1, True), (0xFA, True), (0xF4, False), (0xF2, False)],
    ids=["call", "staticcall", "delegatecall", "callcode"],
)
def test_who_may_call(
    kind: int,
    allowed: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    """The guard comes before everything else."""
    fake = FakeJudge()
    precompile = ml_precompile(fake)
    guarded = Precompile(
        gas=lambda _: 0,
        steps=lambda _: 0,
        run=lambda _: VALID,
        refuses_delegation=precompile.refuses_delegation,
    )
    code = returns_call(kind, 0x4D4C, 0)
    result = run(guarded, b"", to=b"\x99" * 20, code=code)
    assert (int.from_bytes(result.output[:32], "big") == 1) == allowed


def test_its_account_is_not_empty() -> None:
    chain = DevChain()
    assert chain.view().nonce(ML_VERIFIER) == 1
    assert chain.view().code(ML_VERIFIER) == b"\xfe"
    with pytest.raises(Reverted):
        chain.call(ML_VERIFIER, admit_data(b"no program"))
