"""Each cheat really changes what is committed, and in the place it says."""

from pathlib import Path

import pytest

from lockstep.artifacts.kinds import Kind
from lockstep.errors import ConfigurationError
from lockstep.solver import cheats
from lockstep.training import Run
from ml_verifier.judge import ReplayCall, replay
from ml_verifier.trajectory import first_difference
from ml_verifier.witness import build_witness
from tests.lockstep.workload import work

STEPS, STEP = 40, 13


def trained(make: cheats.RunFactory, directory: Path) -> Run:
    run = make(work(STEPS), directory)
    while not run.done:
        run.step()
    return run


def first_bad_step(cheat: cheats.Cheat, tmp_path: Path) -> int:
    """The step that a full replay finds, after the judge has agreed."""
    honest = trained(Run, tmp_path / "honest")
    faked = trained(cheat.run, tmp_path / "faked")
    assert faked.roots[0] == honest.roots[0], "h_0 is fixed by the job"
    different = first_difference(honest.roots, faked.roots)
    assert different is not None
    position = different - 1
    job = honest.work
    state = honest.state_at(position)
    witness = build_witness(job.program, job.seed, job.dataset, state)

    def verdict(post: bytes) -> bool:
        return replay(
            ReplayCall(
                trial=bytes(32),
                position=position,
                pre_root=honest.roots[position],
                post_root=post,
                program_root=job.program.root,
                data_root=job.dataset.root,
                seed=job.seed,
                records=job.dataset.records,
                witness=witness,
            )
        )

    assert not verdict(faked.roots[different])
    assert verdict(honest.roots[different])
    return position


@pytest.mark.parametrize(
    "name", ["fake-step", "wrong-lr", "swap-batches", "bit-flip", "withhold-leaves"]
)
def test_a_cheat_in_one_step_is_found_there(name: str, tmp_path: Path) -> None:
    assert first_bad_step(cheats.parse(f"{name}@{STEP}"), tmp_path) == STEP


@pytest.mark.parametrize("name", ["noise", "other-data", "copy"])
def test_a_wholesale_cheat_is_found_at_once(name: str, tmp_path: Path) -> None:
    assert first_bad_step(cheats.parse(name), tmp_path) == 0


def test_a_killed_cheater_cheats_on(tmp_path: Path) -> None:
    cheat = cheats.parse(f"bit-flip@{STEP}")
    whole = trained(cheat.run, tmp_path / "whole")
    first = cheat.run(work(STEPS), tmp_path / "killed")
    for _ in range(STEP + 3):
        first.step()
    assert trained(cheat.run, tmp_path / "killed").roots == whole.roots
    assert whole.state_at(STEP + 5).root == whole.roots[STEP + 5]


def test_some_cheats_hide_instead() -> None:
    assert Kind.LEAVES in cheats.parse("withhold-leaves@3").withholds
    assert cheats.parse("withhold-leaves@3").answers_dispute
    assert not cheats.parse("silent@3").answers_dispute
    hiding = cheats.parse("withhold-data")
    assert hiding.run is Run
    assert hiding.withholds == {Kind.STATE}
    assert not hiding.answers_demands


@pytest.mark.parametrize("text", ["", "honest", "noise@", "noise@x", "noise@-1", "@3"])
def test_an_unknown_cheat_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected NAME or NAME@STEP"):
        cheats.parse(text)
