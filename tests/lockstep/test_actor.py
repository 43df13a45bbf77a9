"""The loop around a tick: when it goes on, waits, stops."""

import io
import os
import signal
import threading
from collections.abc import Callable

import pytest

from lockstep.actor import Pace, Status, run, stopping
from lockstep.errors import ConfigurationError, NodeUnreachable
from lockstep.report import Report


def scripted(*script: Status | Exception) -> tuple[Callable[[], Status], list[int]]:
    """A tick that answers by the script, and how often it was called."""
    calls: list[int] = []

    def tick() -> Status:
        answer = script[len(calls)]
        calls.append(len(calls))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return tick, calls


def lines(tick: Callable[[], Status], pace: Pace) -> str:
    out = io.StringIO()
    run(tick, Report("actor", out=out), pace, threading.Event())
    return out.getvalue()


def test_until_idle_outlasts_work_and_waiting() -> None:
    tick, calls = scripted(Status.WORKING, Status.WAITING, Status.WORKING, Status.IDLE)
    lines(tick, Pace(poll=0, until_idle=True))
    assert len(calls) == 4


def test_once_is_once() -> None:
    tick, calls = scripted(Status.WORKING)
    lines(tick, Pace(once=True))
    assert len(calls) == 1


def test_a_chain_that_is_away_is_told_of_once_and_waited_for() -> None:
    away = NodeUnreachable("no node answers")
    tick, calls = scripted(away, away, Status.WORKING, Status.IDLE)
    said = lines(tick, Pace(poll=0, until_idle=True))
    assert len(calls) == 4
    assert said.count("no node answers") == 1
    assert said.count("continuing") == 1


def test_any_other_error_ends_the_actor() -> None:
    tick, _ = scripted(ConfigurationError("no such folder"))
    with pytest.raises(ConfigurationError, match="no such folder"):
        lines(tick, Pace(poll=0))


def test_a_signal_ends_the_loop_between_ticks() -> None:
    ticks: list[int] = []

    def tick() -> Status:
        ticks.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return Status.WORKING

    before = signal.getsignal(signal.SIGTERM)
    with stopping() as stop:
        run(tick, Report("actor", out=io.StringIO()), Pace(), stop)
    assert len(ticks) == 1
    assert signal.getsignal(signal.SIGTERM) == before
