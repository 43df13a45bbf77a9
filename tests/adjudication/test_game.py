"""Whole disputes: every cheat is convicted, no honest solver ever is."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from typing_extensions import override

from ml_verifier.adjudication.game import IllegalMove, apply, start
from ml_verifier.adjudication.moves import (
    ChooseStage,
    DenyTrap,
    Descend,
    Follow,
    Move,
    Open,
    PostStages,
    Reveal,
    Timeout,
)
from ml_verifier.adjudication.parties import Challenger, Solver
from ml_verifier.adjudication.phases import Case, Dispute, Posted, Side, Verdict
from ml_verifier.adjudication.world import HonestWorld, case_of
from ml_verifier.data import Dataset, encode_records
from tests.adjudication.cheats import (
    Cheat,
    FalseTrap,
    SilentTrap,
    WrongElement,
    WrongEnd,
    WrongStart,
)
from tests.lockstep import workload
from tests.ml_verifier.jobs import SEED, cnn_job, dataset, mlp_job

STEPS = 5
JOBS = ("mlp", "cnn", "traps", "overflows")


@functools.cache
def world(job: str) -> HonestWorld:
    if job == "traps":
        program = workload.program()
        labels = np.array([0, 1, 0, 1, 1, 0, 9, 0, 1, 1], np.int64)
    elif job == "overflows":
        program = workload.program(rate=3e38)
        labels = np.arange(10, dtype=np.int64) % 2
    else:
        found = mlp_job() if job == "mlp" else cnn_job()
        return HonestWorld(found.program, SEED, dataset(found), STEPS)
    points = np.random.default_rng(1).normal(size=(10, 3)).astype(np.float32)
    data = encode_records(program, [points, labels])
    return HonestWorld(program, SEED, Dataset(program, data), STEPS)


def ordinary_steps(job: str) -> int:
    """Steps before the trap."""
    return sum(1 for i in range(STEPS) if world(job).tensors(i + 1))


def play(case: Case, solver: Solver, challenger: Challenger) -> Verdict:
    dispute = start(case)
    for _ in range(60):
        side = solver if dispute.mover is Side.SOLVER else challenger
        try:
            result = apply(dispute, side.answer(dispute))
        except IllegalMove:
            result = apply(dispute, Timeout())
        if isinstance(result, Verdict):
            return result
        dispute = result
    raise AssertionError("a dispute goes on without end")


def verdict_on(cheat: HonestWorld, honest: HonestWorld) -> Verdict:
    return play(case_of(cheat, STEPS), Solver(cheat, STEPS), Challenger(honest, STEPS))


@settings(max_examples=40)
@given(
    job=st.sampled_from(JOBS[:2]),
    at=st.integers(0, STEPS - 1),
    node=st.integers(0, 200),
    stage=st.integers(0, 50),
    element=st.integers(0, 10_000),
)
def test_a_wrong_element_anywhere_is_convicted(
    job: str, at: int, node: int, stage: int, element: int
) -> None:
    honest = world(job)
    node %= len(honest.program.nodes)
    cheat = WrongElement(honest, at, node, stage, element)
    if cheat.root(at + 1) == honest.root(at + 1):
        return  # the wrong element changed nothing that matters
    assert verdict_on(cheat, honest) is Verdict.SOLVER_CONVICTED


@settings(max_examples=25)
@given(
    st.sampled_from(JOBS[:2]),
    st.integers(0, STEPS - 1),
    st.integers(0, 100),
    st.integers(0, 10_000),
)
def test_a_step_from_another_state_or_batch_is_convicted(
    job: str, at: int, value: int, element: int
) -> None:
    cheat = WrongStart(world(job), at, value, element)
    if cheat.root(at + 1) == world(job).root(at + 1):
        return
    assert verdict_on(cheat, world(job)) is Verdict.SOLVER_CONVICTED


@settings(max_examples=25)
@given(
    st.sampled_from(JOBS[:2]),
    st.integers(0, STEPS - 1),
    st.integers(0, 100),
    st.integers(0, 10_000),
)
def test_another_state_after_the_step_is_convicted(
    job: str, at: int, slot: int, element: int
) -> None:
    cheat = WrongEnd(world(job), at, slot, element)
    assert verdict_on(cheat, world(job)) is Verdict.SOLVER_CONVICTED


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("node", [None, 0, 3])
def test_a_trap_that_was_none_is_convicted(job: str, node: int | None) -> None:
    if ordinary_steps(job):
        cheat = FalseTrap(world(job), 0, node)
        assert verdict_on(cheat, world(job)) is Verdict.SOLVER_CONVICTED


@pytest.mark.parametrize("job", ["traps", "overflows"])
def test_a_trap_that_is_denied_is_convicted(job: str) -> None:
    at = ordinary_steps(job)
    assert at < STEPS
    cheat = SilentTrap(world(job), at)
    assert cheat.root(at + 1) != world(job).root(at + 1)
    assert verdict_on(cheat, world(job)) is Verdict.SOLVER_CONVICTED


def test_a_state_after_a_trap_is_convicted() -> None:
    honest = world("traps")
    at = ordinary_steps("traps")
    assert at + 2 <= STEPS

    class Revived(Cheat):
        """The trap state does not repeat."""

        def __init__(self) -> None:
            super().__init__(honest, at - 1)

        @override
        def root(self, position: int) -> bytes:
            return honest.root(position) if position <= at + 1 else bytes(32)

    cheat = Revived()
    assert verdict_on(cheat, honest) is Verdict.SOLVER_CONVICTED


class Silent(Solver):
    """A solver that answers nothing at one kind of phase."""

    def __init__(self, world: HonestWorld, move: type) -> None:
        super().__init__(world, STEPS)
        self._move = move

    @override
    def answer(self, dispute: Dispute) -> Move:
        move = super().answer(dispute)
        return Timeout() if isinstance(move, self._move) else move


@pytest.mark.parametrize("move", [Open, PostStages, Reveal])
def test_whoever_withholds_loses(move: type) -> None:
    cheat = WrongElement(world("mlp"), 2, 0, 0, 3)
    case = case_of(cheat, STEPS)
    found = play(case, Silent(cheat, move), Challenger(world("mlp"), STEPS))
    assert found is Verdict.SOLVER_CONVICTED


class Meddler(Challenger):
    """Makes any move that is its to make, with honest or random content."""

    def __init__(self, world: HonestWorld, data: st.DataObject) -> None:
        super().__init__(world, STEPS)
        self._data = data

    @override
    def answer(self, dispute: Dispute) -> Move:
        draw = self._data.draw
        if draw(st.booleans()):
            try:
                honest = super().answer(dispute)
            except (IllegalMove, StopIteration):
                honest = Timeout()
            if not isinstance(honest, Timeout):
                return honest
        moves: list[Move] = [Follow(draw(st.integers(0, 63))), Descend(), DenyTrap()]
        moves.append(ChooseStage(draw(st.integers(0, 8))))
        return draw(st.sampled_from(moves))


@settings(max_examples=40)
@given(st.sampled_from(JOBS), st.data())
def test_an_honest_solver_is_never_convicted(job: str, data: st.DataObject) -> None:
    honest = world(job)
    solver, meddler = Solver(honest, STEPS), Meddler(honest, data)
    dispute = start(case_of(honest, STEPS))
    for _ in range(30):
        if dispute.mover is Side.SOLVER:
            result = apply(dispute, solver.answer(dispute))  # never illegal
        else:
            try:
                result = apply(dispute, meddler.answer(dispute))
            except IllegalMove:
                continue
        if isinstance(result, Verdict):
            assert result is Verdict.CHALLENGE_FAILED
            return
        dispute = result


def test_moves_out_of_turn_change_nothing() -> None:
    honest = world("mlp")
    dispute = start(case_of(honest, STEPS))
    for move in (Descend(), DenyTrap(), Follow(0), Reveal(b""), ChooseStage(0)):
        with pytest.raises(IllegalMove):
            apply(dispute, move)
    with pytest.raises(IllegalMove, match="hash to"):
        apply(dispute, Open((bytes(32),) * 8))
    with pytest.raises(IllegalMove, match="expected 8 hashes"):
        apply(dispute, Open((bytes(32),)))
    assert isinstance(Posted(0, b"", b"", ()).mover, Side)
