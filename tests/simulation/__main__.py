"""Soak and replay: `python -m tests.simulation --seconds 60 --seed 0 --jobs 2`.

Exits with 1 when a law was broken; each violation is printed with what replays it.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.simulation.laws import Violation
from tests.simulation.network import Network, quiet
from tests.simulation.soak import Totals, load, save, soak
from tests.simulation.twins import Stage, scenario

_REPORT_SECONDS = 10.0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _replay(seed: int) -> int:
    network = Network(seed, trace=_say)
    _say(f"seed {seed}: {network.setting}")
    try:
        outcome = network.run()
    except Violation as violation:
        _say(f"VIOLATION {violation}")
        return 1
    _say(f"seed {seed}: {outcome}")
    return 0


def _replay_twins(number: int) -> int:
    script = scenario(number)
    _say(f"scenario {number}: {script.validators} validators, {script.twins} twins")
    _say(f"leaders {script.leaders}, copy {script.validators} is the twin of 0, ...")
    for round_, step in enumerate(script.steps):
        _say(f"round {round_}: groups {step.groups}, gossip {step.gossip}")
    try:
        verdict = Stage(script, trace=_say).play()
    except Violation as violation:
        _say(f"VIOLATION {violation}")
        return 1
    _say(f"scenario {number}: {verdict}")
    return 0


def _speed() -> int:
    for size, heights in ((4, 300), (7, 100), (100, 3)):
        network = Network(0, quiet(size, archive=False))
        started = time.process_time()
        network.run_quietly(heights)
        seconds = max(time.process_time() - started, 1e-9)
        _say(
            f"{size} honest validators: {heights / seconds:,.1f} heights per second "
            f"of CPU, {1_000 * seconds / heights / size:.2f} ms per height and node"
        )
    return 0


def _soak(seconds: float, seed: int, jobs: int, state: Path | None) -> int:
    totals = load(state, seed)
    begun, shown = totals.next, time.monotonic()

    def report(totals: Totals) -> None:
        nonlocal shown
        save(state, totals)
        if time.monotonic() - shown >= _REPORT_SECONDS:
            shown = time.monotonic()
            _say(str(totals))

    soak(totals, seconds, jobs, report)
    save(state, totals)
    _say(f"seeds {begun} to {totals.next - 1} were run now; all together:")
    _say(str(totals))
    for violation in totals.violations:
        _say(f"VIOLATION python -m tests.simulation {violation}")
    return 1 if totals.violations else 0


def main() -> int:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--state", type=Path, help="totals; goes on where it ended")
    parser.add_argument("--replay", type=int, metavar="SEED", help="trace a network")
    parser.add_argument("--twins", type=int, metavar="NUMBER", help="trace a scenario")
    parser.add_argument("--speed", action="store_true", help="measure calm networks")
    chosen = parser.parse_args()
    if chosen.speed:
        return _speed()
    if chosen.replay is not None:
        return _replay(chosen.replay)
    if chosen.twins is not None:
        return _replay_twins(chosen.twins)
    return _soak(chosen.seconds, chosen.seed, chosen.jobs, chosen.state)


if __name__ == "__main__":
    sys.exit(main())
