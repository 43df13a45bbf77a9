"""Training is the same with and without interruptions, and keeps what it publishes."""

from pathlib import Path

import pytest

from lockstep.artifacts import expected
from lockstep.errors import RootMismatch
from lockstep.training import CHECKPOINTS, Run
from ml_verifier.session import Session
from tests.lockstep.workload import work

STEPS = 3 * CHECKPOINTS


def finished(directory: Path, commit_every: int = 1) -> Run:
    run = Run(work(STEPS, commit_every), directory)
    while not run.done:
        run.step()
    return run


def test_a_run_is_the_protocols_training(tmp_path: Path) -> None:
    run = finished(tmp_path)
    job = run.work
    session = Session(job.program, job.seed, job.dataset)
    roots = [session.root(), *(session.root() for _ in session.run(STEPS))]
    assert run.roots == roots
    assert run.trajectory().leaves == tuple(roots)


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 50, STEPS - 1, STEPS])
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    whole = finished(tmp_path / "whole")
    first = Run(work(STEPS), tmp_path / "killed")
    for _ in range(stop):
        first.step()
    second = Run(work(STEPS), tmp_path / "killed")
    assert stop - STEPS // CHECKPOINTS < second.position <= stop
    while not second.done:
        second.step()
    assert second.roots == whole.roots
    assert second.openings() == whole.openings()


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    whole = finished(tmp_path)
    newest = tmp_path / f"state-{STEPS}"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(bytes(content))
    (tmp_path / "state-0").write_bytes(b"")
    again = Run(work(STEPS), tmp_path)
    assert again.position < STEPS
    while not again.done:
        again.step()
    assert again.roots == whole.roots


@pytest.mark.parametrize("position", [0, 1, 5, 6, 95, STEPS])
def test_any_passed_state_can_be_had_again(tmp_path: Path, position: int) -> None:
    run = finished(tmp_path)
    assert run.state_at(position).root == run.roots[position]


def test_a_state_that_was_not_reached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="position below 1"):
        Run(work(STEPS), tmp_path).state_at(1)


@pytest.mark.parametrize("commit_every", [1, 7])
def test_losses_are_opened_against_the_leaves(
    tmp_path: Path, commit_every: int
) -> None:
    run = finished(tmp_path, commit_every)
    leaves = run.trajectory().leaves
    values = expected.opened_losses(run.openings(), run.work.program, leaves)
    assert values is not None
    assert len(values) == len(leaves)
    assert values[0] == 0.0
    assert values[-1] < values[1]
    wanted = expected.losses(run.trajectory().root, run.work.program, leaves)
    wanted.check(run.openings(), "us")
    forged = bytearray(run.openings())
    forged[-1] ^= 1
    with pytest.raises(RootMismatch):
        wanted.check(bytes(forged), "a forger")


def test_a_diverged_run_has_losses_until_the_trap(tmp_path: Path) -> None:
    run = Run(work(8, rate=3e38), tmp_path)
    while not run.done:
        run.step()
    assert run.loss is None
    assert len(set(run.roots)) < len(run.roots)
    values = expected.opened_losses(
        run.openings(), run.work.program, run.trajectory().leaves
    )
    assert values is not None
    assert 0 < len(values) < len(run.roots)
    again = Run(work(8, rate=3e38), tmp_path)
    assert again.done
    assert again.roots == run.roots
    assert again.state_at(8).root == run.roots[8]
