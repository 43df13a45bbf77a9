"""The command that runs for hours: it resumes, reports and fails loudly."""

import json
import sys
from pathlib import Path

import pytest

from tests.simulation import __main__ as command, network as networks
from tests.simulation.laws import Violation
from tests.simulation.soak import SCENARIOS, UNITS, Totals, load, run_units, save, soak


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["simulation", *arguments])
    return command.main()


def only_one_task(totals: Totals, jobs: int) -> Totals:
    """Whatever the time, one task is begun when some is left."""
    soak(totals, 0.001, jobs, lambda _: None)
    return totals


def test_a_soak_counts_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "totals.json"
    totals = only_one_task(load(path, 40), 1)
    save(path, totals)
    again = load(path, 999)
    assert again == totals
    assert (again.next, again.networks) == (40 + UNITS, UNITS)
    assert again.scenarios == UNITS * SCENARIOS
    assert again.heights > 0
    only_one_task(again, 1)
    assert (again.next, again.networks) == (40 + 2 * UNITS, 2 * UNITS)


def test_processes_come_to_the_same_totals() -> None:
    alone, together = run_units(0), Totals()
    soak(together, 0.001, 2, lambda _: None)
    assert together.networks % UNITS == 0
    if together.networks == UNITS:
        together.next, together.seconds = alone.next, alone.seconds
        assert together == alone


def test_a_violation_ends_it_and_says_how_to_replay(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def broken(self: networks.Network) -> networks.Outcome:
        raise Violation(f"a law, by seed {self.seed}")

    monkeypatch.setattr(networks.Network, "run", broken)
    path = tmp_path / "totals.json"
    arguments = ("--seconds", "60", "--seed", "7", "--state", str(path))
    assert run(monkeypatch, *arguments) == 1
    assert "--replay 7: Violation: a law, by seed 7" in capsys.readouterr().out
    assert json.loads(path.read_text())["violations"]
    assert run(monkeypatch, "--replay", "7") == 1
    assert "VIOLATION a law, by seed 7" in capsys.readouterr().out


def test_speed_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(networks.Network, "run_quietly", lambda *_: None)
    assert run(monkeypatch, "--speed") == 0
    assert "100 honest validators" in capsys.readouterr().out


def test_a_replay_is_readable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--replay", "1") == 0
    trace = capsys.readouterr().out
    for words in ("storm", "calm", "signs prevote", "decides", "digest"):
        assert words in trace
    assert run(monkeypatch, "--twins", "3") == 0
    trace = capsys.readouterr().out
    for words in ("leaders", "copy 4", "signs precommit", "Verdict"):
        assert words in trace
