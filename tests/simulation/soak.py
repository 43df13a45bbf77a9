"""Seeds in order, spread over processes, with totals that survive in a file.

Unit k is the network of seed k and the Twins scenarios of `SCENARIOS` numbers from
k * `SCENARIOS` on, so that a million heights come with a hundred thousand scenarios.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path

from typing_extensions import override

from consensus.errors import ConsensusError
from tests.simulation.laws import Violation
from tests.simulation.network import Network
from tests.simulation.twins import Stage, scenario

SCENARIOS = 6
UNITS = 2


@dataclass(slots=True)
class Totals:
    """What was run so far.

    Attributes:
        next: The first seed that was not run.
        seconds: Of wall time, all runs together.
        heights: Decided, each once, however many nodes there were.
        late: Of these, in a later round than the first.
        contested: Of these, two blocks had a polka, in different rounds.
        rounds: The highest round of a decision, plus one.
        events: Delivered to nodes.
        crashes: Of honest nodes.
        recoveries: Storms after which every honest node committed in time.
        slowest: The greatest part of the allowed time that a recovery took.
        slowest_seed: Of that recovery's network.
        scenarios: Of Twins.
        forks: Scenarios with too many twins in which agreement broke.
        named: Validators named by accountability, all forks together.
        violations: How to replay each, and what it said.
    """

    next: int = 0
    seconds: float = 0.0
    networks: int = 0
    heights: int = 0
    late: int = 0
    contested: int = 0
    rounds: int = 0
    events: int = 0
    crashes: int = 0
    recoveries: int = 0
    slowest: float = 0.0
    slowest_seed: int = -1
    scenarios: int = 0
    forks: int = 0
    named: int = 0
    violations: list[str] = field(default_factory=list[str])

    def add(self, other: "Totals") -> None:
        """Count another task's results in; `next` and `seconds` are the caller's."""
        self.networks += other.networks
        self.heights += other.heights
        self.late += other.late
        self.contested += other.contested
        self.rounds = max(self.rounds, other.rounds)
        self.events += other.events
        self.crashes += other.crashes
        self.recoveries += other.recoveries
        if other.slowest > self.slowest:
            self.slowest, self.slowest_seed = other.slowest, other.slowest_seed
        self.scenarios += other.scenarios
        self.forks += other.forks
        self.named += other.named
        self.violations += other.violations

    @override
    def __str__(self) -> str:
        """One line."""
        return "; ".join(
            (
                f"{self.heights:,} heights in {self.networks:,} networks",
                f"{self.late:,} of them in later rounds, up to {self.rounds}",
                f"in {self.contested:,} two blocks had a polka",
                f"{self.events:,} events, {self.crashes:,} crashes",
                f"{self.recoveries:,} recoveries",
                f"{self.slowest:.1%} of its bound the slowest ({self.slowest_seed})",
                f"{self.scenarios:,} Twins scenarios",
                f"{self.forks:,} forks with too many twins, {self.named:,} named",
                f"{len(self.violations)} violations",
                f"{self.seconds:,.0f} s",
            )
        )


def load(path: Path | None, seed: int) -> Totals:
    """The totals of earlier runs, or none yet."""
    if path is None or not path.exists():
        return Totals(next=seed)
    return Totals(**json.loads(path.read_text()))


def save(path: Path | None, totals: Totals) -> None:
    """Replace the file at once, so that an interruption leaves the old one."""
    if path is not None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(totals), indent=2) + "\n")
        fresh.replace(path)


def run_network(seed: int, totals: Totals) -> None:
    """One network."""
    try:
        outcome = Network(seed).run()
    except (Violation, ConsensusError) as error:
        totals.violations.append(f"--replay {seed}: {type(error).__name__}: {error}")
        return
    totals.networks += 1
    totals.heights += outcome.heights
    totals.late += outcome.late
    totals.contested += outcome.contested
    totals.rounds = max(totals.rounds, outcome.rounds)
    totals.events += outcome.events
    totals.crashes += outcome.crashes
    totals.recoveries += outcome.recoveries
    if outcome.slowest > totals.slowest:
        totals.slowest, totals.slowest_seed = outcome.slowest, seed


def run_scenario(number: int, totals: Totals) -> None:
    """One Twins scenario."""
    try:
        verdict = Stage(scenario(number)).play()
    except (Violation, ConsensusError) as error:
        totals.violations.append(f"--twins {number}: {type(error).__name__}: {error}")
        return
    totals.scenarios += 1
    totals.forks += verdict.forked
    totals.named += len({finding.validator for finding in verdict.findings})


def run_units(first: int) -> Totals:
    """A task for one process."""
    totals = Totals()
    for unit in range(first, first + UNITS):
        try:
            run_network(unit, totals)
            for number in range(unit * SCENARIOS, (unit + 1) * SCENARIOS):
                run_scenario(number, totals)
        except BaseException as error:
            error.add_note(f"in unit {unit} of the soak")
            raise
    return totals


def soak(
    totals: Totals, seconds: float, jobs: int, report: Callable[[Totals], None]
) -> None:
    """Run units until the time is over or a law is broken.

    Args:
        totals: Where to begin; results are counted in.
        seconds: When no new units are begun.
        jobs: Processes; 1 runs in this one.
        report: Told now and then.
    """
    started, before = time.monotonic(), totals.seconds

    def count(result: Totals) -> None:
        totals.add(result)
        totals.next += UNITS
        totals.seconds = before + time.monotonic() - started
        report(totals)

    def may_go_on() -> bool:
        return time.monotonic() - started < seconds and not totals.violations

    if jobs == 1:
        while may_go_on():
            count(run_units(totals.next))
        return
    with ProcessPoolExecutor(jobs) as pool:
        running: dict[Future[Totals], int] = {}
        done: dict[int, Totals] = {}
        ahead = totals.next
        while running or may_go_on():
            while may_go_on() and len(running) < 2 * jobs:
                running[pool.submit(run_units, ahead)] = ahead
                ahead += UNITS
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done[running.pop(future)] = future.result()
            while totals.next in done:
                count(done.pop(totals.next))
