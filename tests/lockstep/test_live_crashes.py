"""A `kill -9` at any moment costs nothing but time."""

from collections.abc import Iterator
from typing import cast

import pytest

from lockstep.client.disputes import Disputes, seal
from lockstep.client.views import WITHHELD, ChallengeStatus, DemandStatus, JobState
from lockstep.creator.chain import Chain
from lockstep.creator.spec import tokens
from lockstep.localnet import Account
from ml_verifier.commitment import open_tile
from ml_verifier.session import initial_state
from tests.lockstep.live import Live, live
from tests.lockstep.workload import work

pytestmark = [pytest.mark.slow, pytest.mark.network]

WAIT = 120.0
SALT = b"\x07" * 32


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(
        tmp_path_factory.mktemp("crashes"),
        challenge_window=1_000,
        reveal_window=1_000,
        move_clock=1_000,
        demand_clock=1_000,
    ) as found:
        yield found


def challenged(running: Live, challenger: Account, job: int, step: int) -> int:
    """Commit and reveal a challenge; returns its id."""
    disputes = Disputes(running.connection(challenger))
    trial = running.market.job(job).trial
    sealed = seal(trial, challenger.address, step, SALT)
    receipt = disputes.challenge_commit(job, sealed, disputes.minimum_bond(job))
    number = cast("int", receipt.event("ChallengeCommitted").fields["challenge_id"])
    while not disputes.can_reveal(number, step, SALT):
        assert running.market.job(job).state is JobState.COMMITTED
    disputes.challenge_reveal(number, step, SALT)
    return number


@pytest.mark.parametrize("every", [1, 7])
def test_an_honest_solver_killed_in_a_dispute_acquits_itself(
    running: Live, every: int
) -> None:
    """A liar says that leaves are withheld and walks down to a right step."""
    creator, liar, who = running.rich(), running.rich(), running.rich()
    job = running.post(creator, work(40, every))
    name = f"solver-{job}"
    solver = running.solver(name, who, creator)
    solver.wait_for("committed", WAIT, job=job)
    solver.kill()
    number = challenged(running, liar, job, WITHHELD)
    disputes = Disputes(running.connection(liar))
    assert disputes.clocks(number).solver_moves
    solver = running.solver(name, who, creator)
    solver.wait_for("opened", WAIT, job=job)
    solver.kill()
    opened = running.connection(liar).logs(
        0, running.bank.block_number(), "Evidence", "NodeOpened"
    )
    children = cast("list[bytes]", opened[-1].fields["children"])
    disputes.descend(number, 3, children[3], [])
    solver = running.solver(name, who, creator)
    if every > 1:
        place = "states 14..21"
        solver.wait_for("opened", WAIT, job=job, place=place)
        solver.kill()
        posted = running.connection(liar).logs(
            0, running.bank.block_number(), "Evidence", "InnerPosted"
        )
        roots = cast("list[bytes]", posted[-1].fields["roots"])
        disputes.descend_inner(number, roots, 4)
        solver = running.solver(name, who, creator)
    acquitted = solver.wait_for("acquitted", WAIT, job=job)
    assert acquitted["step"] == (2 if every == 1 else 18)
    assert disputes.challenge(number).status is ChallengeStatus.LOST
    assert running.market.job(job).state is JobState.COMMITTED
    assert solver.stop() == 0


def test_an_honest_solver_answers_demands(running: Live) -> None:
    creator, nosy = running.rich(), running.rich()
    job = running.post(creator, work(40))
    solver = running.solver(f"solver-{job}", running.rich(), creator)
    solver.wait_for("committed", WAIT, job=job)
    demands = running.demands
    bond = demands.minimum_bond()
    mine = type(demands)(running.connection(nosy))
    mine.demand_record(job, 3, bond)
    solver.wait_for("answered", WAIT, job=job, what="record 3")
    first = initial_state(work(40).program, work(40).seed)
    opening = open_tile(0, first.tensors, 1, 0).encode()
    mine.demand_tile(job, 17, 1, 0, opening, bond)
    solver.wait_for("answered", WAIT, job=job, what="state 17 slot 1 tile 0")
    assert [demands.demand(n).status for n in (1, 2)] == [DemandStatus.ANSWERED] * 2
    assert solver.stop() == 0


def test_a_whistleblower_killed_in_a_dispute_still_convicts(running: Live) -> None:
    creator, who = running.rich(), running.rich()
    job = running.post(creator, work(40))
    cheater = running.solver(
        f"solver-{job}", running.rich(), creator, "--cheat", "withhold-leaves@13"
    )
    cheater.wait_for("committed", WAIT, job=job)
    name = "whistleblower"
    for moment in ("challenged", "revealed", "descended", "judged"):
        process = running.whistleblower(name, who, "--creator", creator.address)
        process.wait_for(moment, WAIT, job=job)
        process.kill()
    process = running.whistleblower(name, who, "--creator", creator.address)
    process.wait_for("claimed", WAIT, job=job)
    assert running.market.job(job).state is JobState.SLASHED
    assert running.disputes.docket(running.market.job(job).trial).settled
    assert process.stop() == 0
    assert cheater.stop() == 0


def test_a_node_killed_in_a_dispute_loses_nothing(running: Live) -> None:
    """The node dies after each move of the whistleblower, who only sees it silent."""
    creator, who = running.rich(), running.rich()
    whistleblower = running.whistleblower("witness", who, "--creator", creator.address)
    job = running.post(creator, work(40))
    cheater = running.solver(
        f"solver-{job}", running.rich(), creator, "--cheat", "withhold-leaves@21"
    )
    for moment in ("challenged", "revealed", "descended", "judged"):
        whistleblower.wait_for(moment, WAIT, job=job)
        running.net.kill_node()
        running.net.restart_node()
    whistleblower.wait_for("claimed", WAIT, job=job)
    assert running.market.job(job).state is JobState.SLASHED
    assert whistleblower.stop() == 0
    assert cheater.stop() == 0


def test_a_solver_killed_in_training_commits_the_same_root(running: Live) -> None:
    creator, who = running.rich(), running.rich()
    long = work(30_000, 500)
    job = running.post(creator, long)
    name = f"solver-{job}"
    solver = running.solver(name, who, creator)
    for _ in range(2):
        solver.wait_for("training", WAIT, job=job)
        solver.kill()
        solver = running.solver(name, who, creator)
    solver.wait_for("committed", WAIT, job=job)
    verifier = running.net.actor("verifier", "verifier", running.rich())
    verifier.wait_for("segment verified", WAIT, job=job)
    assert not verifier.events("segment differs", job=job)
    solver.stop()
    verifier.stop()


def test_a_late_solver_is_expired_and_the_creator_refunded(running: Live) -> None:
    """The solver dies after taking the job; the waiting creator ends the wait."""
    creator = running.rich()
    job = running.post(creator, work(30_000, 500), training_ticks=80)
    solver = running.solver(f"late-{job}", running.rich(), creator)
    solver.wait_for("taken", WAIT, job=job)
    solver.kill()
    chain = Chain(running.connection(creator), running.net.directory / f"c{job}")
    posted = chain.job(job)
    assert posted.wait(seconds=WAIT, progress=False) is JobState.EXPIRED
    assert posted.withdraw() >= tokens(1)
    assert posted.withdraw() == 0
