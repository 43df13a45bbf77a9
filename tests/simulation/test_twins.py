"""Twins: f of them break nothing, more of them are named."""

import pytest

from consensus.accountability import Misdeed
from tests.simulation.laws import Fork
from tests.simulation.twins import (
    ENUMERATED,
    Script,
    Stage,
    Step,
    enumerated,
    scenario,
)


@pytest.mark.parametrize("block", range(4))
def test_scenarios_keep_the_laws(block: int) -> None:
    for number in range(block * 20, (block + 1) * 20):
        Stage(scenario(number)).play()


def test_every_script_is_enumerated_once() -> None:
    """The stride has no factor in common with the count."""
    from math import gcd  # noqa: PLC0415

    from tests.simulation.twins import _STRIDE  # noqa: PLC0415

    assert gcd(_STRIDE, ENUMERATED) == 1
    assert len({enumerated(number) for number in range(2_000)}) == 2_000
    assert enumerated(0) == enumerated(ENUMERATED)


def test_all_kinds_of_scenarios_are_drawn() -> None:
    scripts = [scenario(number) for number in range(400)]
    assert {(each.validators, each.twins) for each in scripts} == {
        (4, 1),
        (7, 2),
        (4, 2),
        (7, 3),
    }
    tolerable = sum(each.tolerable for each in scripts)
    assert tolerable == 300


def divided(*groups: tuple[int, ...], leaders: tuple[int, ...]) -> Script:
    steps = tuple(Step((each,) * 3, gossip=False) for each in groups)
    return Script(4, 2, leaders, steps)


# Copies 0, 1 are twins, 2, 3 honest, 4 and 5 are the other copies of 0 and 1.


def test_two_twins_of_four_fork_one_round_and_are_duplicates() -> None:
    verdict = Stage(divided((0, 0, 0, 1, 1, 1), leaders=(0,))).play()
    assert verdict.forked
    assert {(each.validator, each.misdeed) for each in verdict.findings} == {
        (0, Misdeed.DUPLICATE),
        (1, Misdeed.DUPLICATE),
    }


def test_a_fork_across_rounds_is_amnesia() -> None:
    """The first halves decide in round 0; the second never heard of it."""
    script = divided((0, 0, 0, 1, 1, 1), (0, 0, 0, 1, 1, 1), leaders=(2, 3))
    verdict = Stage(script).play()
    assert verdict.forked
    assert Misdeed.AMNESIA in {each.misdeed for each in verdict.findings}
    assert {each.validator for each in verdict.findings} == {0, 1}


def test_a_fork_with_one_twin_of_four_would_be_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Script, "tolerable", True)
    with pytest.raises(Fork, match="agreement"):
        Stage(divided((0, 0, 0, 1, 1, 1), leaders=(0,))).play()


def test_forks_occur_and_amnesia_among_them() -> None:
    found: set[Misdeed] = set()
    for number in range(0, 4_000, 8):
        for twin in (6, 7):
            verdict = Stage(scenario(number + twin)).play()
            found.update(each.misdeed for each in verdict.findings)
        if {Misdeed.DUPLICATE, Misdeed.AMNESIA} <= found:
            return
    raise AssertionError(found)
