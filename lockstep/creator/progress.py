"""The line that a creator watches while a job is on its way."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TextColumn, TimeElapsedColumn

from lockstep.client.connection import Connection
from lockstep.client.market import ticks
from lockstep.client.views import Job, JobState

__all__ = ["Progress"]

_STAGES = {
    JobState.OPEN: "waiting for a solver",
    JobState.ASSIGNED: "in training",
    JobState.COMMITTED: "open to challenges",
    JobState.FINALISED: "final",
    JobState.SLASHED: "proven wrong, refunded",
    JobState.CANCELLED: "cancelled",
    JobState.EXPIRED: "expired, refunded",
    JobState.DIVERGED: "final, diverged",
}
_LAST_STAGE = 3


class Progress:
    """A progress bar over the stages of a job's life; use as a context manager."""

    def __init__(self, job_id: int, *, shown: bool) -> None:
        self._bar = Bar(
            TextColumn(f"job {job_id}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task("", total=_LAST_STAGE)

    def __enter__(self) -> Self:
        """Show it."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the terminal."""
        self._bar.stop()

    def update(self, job: Job, connection: Connection) -> None:
        """Show where the job is."""
        description = _STAGES[job.state]
        if job.state is JobState.ASSIGNED:
            left = max(0, job.deadline - ticks(connection))
            description += f" by {job.solver[:10]}, {left} ticks left"
        done = min(_LAST_STAGE, job.state - JobState.OPEN)
        self._bar.update(self._task, completed=done, description=description)
