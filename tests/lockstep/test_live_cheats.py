"""Every cheat is caught: real processes on a real devnet, no hints."""

from collections.abc import Iterator

import pytest

from lockstep.client.views import JobState
from lockstep.localnet import Process
from tests.lockstep.live import Live, live
from tests.lockstep.workload import work

pytestmark = [pytest.mark.slow, pytest.mark.network]

STEP, WAIT = 13, 120.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(
        tmp_path_factory.mktemp("cheats"),
        challenge_window=80,  # blocks of 0.2 s, on machines that are busy
        reveal_window=20,
        move_clock=40,
        demand_clock=40,
    ) as found:
        yield found


@pytest.fixture(scope="module")
def whistleblower(running: Live) -> Process:
    return running.whistleblower("whistleblower", running.rich())


@pytest.mark.parametrize(
    ("cheat", "step", "every"),
    [
        (f"fake-step@{STEP}", STEP, 1),
        (f"wrong-lr@{STEP}", STEP, 1),
        (f"swap-batches@{STEP}", STEP, 1),
        (f"bit-flip@{STEP}", STEP, 1),
        ("noise", 0, 1),
        ("other-data", 0, 1),
        ("copy", 0, 1),
        (f"withhold-leaves@{STEP}", STEP, 1),
        (f"bit-flip@{STEP}", STEP, 7),
        (f"withhold-leaves@{STEP}", STEP, 7),
    ],
)
def test_a_wrong_step_is_convicted_where_it_is(
    running: Live, whistleblower: Process, cheat: str, step: int, every: int
) -> None:
    creator = running.rich()
    job = running.post(creator, work(40, every))
    name = f"cheat-{job}"
    cheater = running.solver(name, running.rich(), creator, "--cheat", cheat)
    judged = whistleblower.wait_for("judged", WAIT, job=job)
    assert (judged["step"], judged["valid"]) == (step, False)
    whistleblower.wait_for("claimed", WAIT, job=job)
    assert running.market.job(job).state is JobState.SLASHED
    cheater.wait_for("slashed", WAIT, job=job)
    assert cheater.stop() == 0


@pytest.mark.parametrize(
    ("cheat", "end"),
    [(f"silent@{STEP}", "solver timed out"), ("withhold-data", "demand unanswered")],
)
def test_who_hides_is_convicted_for_it(
    running: Live, whistleblower: Process, cheat: str, end: str
) -> None:
    creator = running.rich()
    job = running.post(creator, work(40))
    name = f"cheat-{job}"
    cheater = running.solver(name, running.rich(), creator, "--cheat", cheat)
    whistleblower.wait_for(end, WAIT, job=job)
    whistleblower.wait_for("claimed", WAIT, job=job)
    assert running.market.job(job).state is JobState.SLASHED
    assert cheater.stop() == 0


@pytest.mark.parametrize("every", [1, 7])
def test_an_honest_solver_is_paid(
    running: Live, whistleblower: Process, every: int
) -> None:
    creator = running.rich()
    job = running.post(creator, work(40, every))
    solver = running.solver(f"honest-{job}", running.rich(), creator)
    whistleblower.wait_for("verified", WAIT, job=job)
    solver.wait_for("finalised", WAIT, job=job)
    assert running.market.job(job).state is JobState.FINALISED
    assert not whistleblower.events("found", job=job)
    assert solver.stop() == 0


def test_a_diverging_job_is_paid_for_its_steps(running: Live) -> None:
    creator = running.rich()
    job = running.post(creator, work(40, rate=3e38))
    solver = running.solver(f"diverging-{job}", running.rich(), creator)
    solver.wait_for("diverged", WAIT, job=job)
    solver.wait_for("finalised", WAIT, job=job)
    found = running.market.job(job)
    assert found.state is JobState.DIVERGED
    assert 0 < found.steps_done < 40
    assert solver.stop() == 0
