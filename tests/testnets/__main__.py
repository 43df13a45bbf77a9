"""Networks of real processes: `python -m tests.testnets [manifest ...]`.

Exits with 1 when a check failed. What the network leaves is kept then, and told.
"""

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.testnets.manifest import ManifestError, named, names
from tests.testnets.namespaces import is_inside, refusal, run_inside
from tests.testnets.runner import Runner


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a manifest went."""

    name: str
    passed: bool
    seconds: float
    remark: str


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _play(name: str, *, relays: bool) -> Outcome:
    begun = time.monotonic()
    manifest = named(name)
    remark = ""
    if manifest.cuts and not is_inside():
        why = "not wanted" if relays else refusal()
        if why is None:
            passed = run_inside([name]) == 0
            seconds = time.monotonic() - begun
            return Outcome(name, passed, seconds, "in network namespaces")
        _say(f"{name}: SKIPPED in network namespaces: {why}")
        remark = f"by relays; SKIPPED in network namespaces: {why}"
    directory = Path(tempfile.mkdtemp(prefix=f"lockstep-{name}-"))
    passed = Runner(manifest, directory / "net").run()
    if passed:
        shutil.rmtree(directory)
    else:
        _say(f"{name}: FAILED; databases and logs are in {directory}")
    return Outcome(name, passed, time.monotonic() - begun, remark)


def _summary(outcomes: list[Outcome]) -> None:
    table = Table(title="networks of real processes")
    for column in ("manifest", "", "seconds", "remark"):
        table.add_column(column)
    for each in outcomes:
        result = "passed" if each.passed else "FAILED"
        table.add_row(each.name, result, f"{each.seconds:.0f}", each.remark)
    Console(width=110, markup=False).print(table)


def main() -> None:
    """Play the named manifests, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.testnets")
    parser.add_argument("manifest", nargs="*", help=f"of {', '.join(names())}")
    parser.add_argument(
        "--relays",
        action="store_true",
        help="cut connections by relays even where network namespaces are permitted",
    )
    arguments = parser.parse_args()
    chosen: list[str] = arguments.manifest or names()
    try:
        for name in chosen:
            named(name)
        outcomes = [_play(name, relays=arguments.relays) for name in chosen]
    except ManifestError as error:
        sys.exit(str(error))
    if not is_inside():
        _summary(outcomes)
    sys.exit(not all(each.passed for each in outcomes))


if __name__ == "__main__":
    main()
