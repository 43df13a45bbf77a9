"""What every benchmark shares: interleaved medians and the lines that are kept."""

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

LATEST = Path(__file__).parent / "latest.jsonl"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        name: Stable; later work adds names and never renames.
        value: The measurement.
        unit: Its unit.
        against: The peer, or the target it must meet.
        ratio: value / peer's value, same run.
    """

    name: str
    value: float
    unit: str
    against: str
    ratio: float


def interleaved(
    *subjects: Callable[[], object],
    rounds: int = 15,
    repeat: int = 1,
    settle: float = 0.0,
) -> list[float]:
    """Return each subject's median seconds; rounds alternate between subjects.

    ``settle`` is a pause before each measurement: threads of the subject before, which
    wait for work by spinning (OpenMP's do), then no longer hold a core.
    """
    times: list[list[float]] = [[] for _ in subjects]
    for subject in subjects:
        subject()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for index, subject in enumerate(subjects):
                time.sleep(settle)
                start = time.perf_counter()
                for _ in range(repeat):
                    subject()
                times[index].append((time.perf_counter() - start) / repeat)
    finally:
        gc.enable()
    return [statistics.median(samples) for samples in times]


def machine() -> str:
    """Describe the CPU that the figures belong to."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def report(figures: Iterable[Figure]) -> None:
    """Print the table and write one JSON line per figure."""
    table = Table(title=machine())
    for column in ("figure", "value", "unit", "ratio", "against"):
        table.add_column(column, justify="right" if column in "value ratio" else "left")
    lines: list[str] = []
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:.4g}",
            figure.unit,
            f"{figure.ratio:.2f}",
            figure.against,
        )
        lines.append(json.dumps({**asdict(figure), "machine": machine()}))
        LATEST.write_text("\n".join(lines) + "\n")
    Console(width=120).print(table)
