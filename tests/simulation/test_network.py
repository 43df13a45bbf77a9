"""Simulated networks keep the laws, recover, and repeat themselves to the bit."""

import os
import subprocess
import sys
from dataclasses import replace
from random import Random

import pytest

from consensus import machine
from consensus.machine import QuorumSeen, Result, State, Step
from consensus.votes import Subject, VoteKind
from tests.simulation.laws import Laws, Violation
from tests.simulation.network import MILLISECOND, Network, Setting, draw, quiet
from tests.simulation.node import Node, Signer

SLICE = range(12)


@pytest.mark.parametrize("seed", SLICE)
def test_a_network_keeps_the_laws_and_recovers(seed: int) -> None:
    outcome = Network(seed).run()
    assert outcome.heights > 0
    assert 0 < outcome.slowest < 1


def test_the_slice_meets_what_it_is_for() -> None:
    """Drawn settings cover what the simulator can do."""
    settings = [draw(Random(seed)) for seed in range(200)]  # noqa: S311
    for wanted in (
        lambda each: each.liars,
        lambda each: not each.liars,
        lambda each: each.crashes and each.cuts and each.loss,
        lambda each: each.epoch,
        lambda each: len(set(each.stakes)) > 1,
        lambda each: each.archive,
    ):
        assert any(wanted(each) for each in settings)
    assert all(
        3 * sum(each.stakes[liar] for liar in each.liars) < sum(each.stakes)
        for each in settings
    )


def test_a_height_is_remembered_until_every_honest_node_has_passed_it() -> None:
    laws = Laws(frozenset({0}))
    one, other = (Subject(VoteKind.PRECOMMIT, 9, 0, bytes((i,)) * 32) for i in (1, 2))
    laws.spoke(0, one)
    laws.forget(10)
    with pytest.raises(Violation, match="one voice"):
        laws.spoke(0, other)
    laws.forget(50)
    laws.spoke(0, other)


def test_the_same_seed_has_the_same_history() -> None:
    first, second, other = (Network(seed).run() for seed in (5, 5, 6))
    assert first == second
    assert first.digest != other.digest


def test_a_trace_does_not_change_the_history() -> None:
    lines: list[str] = []
    assert Network(4, trace=lines.append).run() == Network(4).run()
    assert any("decides" in line for line in lines)


def test_the_history_is_the_same_in_every_process() -> None:
    program = (
        "from tests.simulation.network import Network\n"
        "print(*(Network(seed).run().digest for seed in (1, 10)))"
    )
    seen = {
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }
    assert len(seen) == 1
    assert seen.pop().split()[0] == Network(1).run().digest


def test_a_hundred_validators_make_progress() -> None:
    network = Network(1, quiet(100, calm=2, archive=False))
    network.run_quietly(2)
    assert all(len(node.chain) >= 2 for node in network.nodes)


def test_a_calm_network_decides_in_first_rounds() -> None:
    outcome = Network(3, quiet(4, calm=30)).run()
    assert outcome.heights >= 30
    assert outcome.late == 0


def test_crashes_and_restarts_happen() -> None:
    stormy = quiet(4, storm=5_000 * MILLISECOND, crashes=200 * MILLISECOND, loss=10)
    outcome = Network(2, stormy).run()
    assert outcome.crashes > 5
    assert outcome.recoveries == 1


def test_validator_sets_change() -> None:
    network = Network(7, quiet(6, epoch=3, calm=20))
    network.run()
    chain = network.nodes[0].chain
    sets = {network.roster(height, chain).set.hash for height in range(1, 20)}
    assert len(sets) > 3


def test_too_many_silent_validators_are_a_violation_of_liveness() -> None:
    network = Network(1, quiet(4))
    for node in network.nodes[2:]:
        node.up = False
    network._weather.storm = False
    with pytest.raises(Violation, match="liveness"):
        network.run_quietly(1)


# -- would a fault be found? ---------------------------------------------------------


def first_violation(seeds: range, setting: Setting | None = None) -> str:
    for seed in seeds:
        try:
            Network(seed, setting).run()
        except Violation as violation:
            return str(violation)
    return "none"


def test_a_machine_that_forgets_its_lock_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forgetful(state: State) -> Result | None:
        return machine._prevote_new(replace(state, locked=None))

    rules = tuple(
        forgetful if each is machine._prevote_new else each for each in machine._RULES
    )
    monkeypatch.setattr(machine, "_RULES", rules)
    assert first_violation(SLICE).startswith("lock rule")


def test_a_machine_that_ignores_certificates_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An equivocator keeps it from ever seeing the polka that others saw."""
    splitter = quiet(
        4,
        liars=frozenset({3}),
        storm=1_500 * MILLISECOND,
        loss=30,
        cuts=200 * MILLISECOND,
        calm=1,
    )
    for seed in range(45, 50):
        Network(seed, splitter).run()
    learn = machine._learn

    def deaf(state: State, event: machine.Input) -> Result:
        if isinstance(event, QuorumSeen) and event.kind is VoteKind.PREVOTE:
            return state, ()
        assert not isinstance(event, machine.Start | machine.VoteSeen)
        return learn(state, event)

    monkeypatch.setattr(machine, "_learn", deaf)
    found = [first_violation(range(seed, seed + 1), splitter) for seed in range(45, 65)]
    assert any(each.startswith("liveness") for each in found)


@pytest.mark.parametrize(
    ("forgets", "syncs", "safe"),
    [(False, False, True), (True, True, False), (True, False, False)],
)
def test_the_signer_keeps_a_restart_from_signing_twice(
    monkeypatch: pytest.MonkeyPatch,
    forgets: bool,  # noqa: FBT001
    syncs: bool,  # noqa: FBT001
    safe: bool,  # noqa: FBT001
) -> None:
    """Even if the log is lost; a log that is not does not replace the signer."""
    monkeypatch.setattr(Signer, "forgets", forgets)
    monkeypatch.setattr(Node, "syncs", syncs)
    stormy = quiet(
        4, storm=3_000 * MILLISECOND, crashes=60 * MILLISECOND, calm=1, archive=False
    )
    found = ""
    for seed in range(3):
        try:
            Network(seed, stormy).run()
        except Violation as violation:
            found += str(violation)
    assert ("one voice" in found) is not safe
    if safe:
        assert not found


def test_a_node_that_restarts_is_where_it_was() -> None:
    network = Network(1, quiet(4))
    network.run_quietly(1)
    node = network.nodes[0]
    node.begin()
    assert node.state.step is not Step.NEW
    before = node.state
    node.synced = len(node.log)
    node.crash(0)
    assert node.state == before
