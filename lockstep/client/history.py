"""Who offered, took and committed which job, and where they serve: from the events.

Contract storage says how things stand; the URLs of the parties and the transaction
that carried a job's program are in the events alone.
"""

from collections.abc import Iterator
from typing import cast

from lockstep.client.connection import Connection, Event
from lockstep.client.events import EventStream
from lockstep.errors import ChainError

__all__ = ["History"]


class History:
    """The chain's events so far, by job and by name."""

    def __init__(self, connection: Connection, first_block: int = 0) -> None:
        self._connection = connection
        self._stream = EventStream(connection, first_block)
        self._events: list[Event] = []

    def refresh(self) -> list[Event]:
        """Read on; returns what is new, oldest first."""
        new = list(self._stream.read())
        self._events += new
        return new

    def select(self, name: str, **fields: object) -> Iterator[Event]:
        """The events of a name whose named fields are equal, oldest first."""
        for event in self._events:
            if event.name == name and all(
                event.fields.get(key) == value for key, value in fields.items()
            ):
                yield event

    def latest(self, name: str, **fields: object) -> Event | None:
        """The newest of `select`, or None."""
        found: Event | None = None
        for event in self.select(name, **fields):
            found = event
        return found

    def of_job(self, job_id: int) -> list[Event]:
        """Everything that happened to a job, oldest first."""
        return [event for event in self._events if event.fields.get("job_id") == job_id]

    def jobs(self) -> list[int]:
        """The id of every job posted, ascending."""
        return [
            cast("int", event.fields["job_id"]) for event in self.select("JobPosted")
        ]

    def posted_program(self, job_id: int) -> bytes | None:
        """The program in the call data that posted a job.

        Returns:
            None if a contract posted it: then the call data is not the market's.
        """
        event = self.latest("JobPosted", job_id=job_id)
        if event is None:
            return None
        data = self._connection.transaction_input(event.transaction)
        try:
            name, arguments = self._connection.decode_input("JobMarket", data)
        except ChainError:
            return None
        program = arguments.get("program")
        return program if name == "post" and isinstance(program, bytes) else None

    def sources(self, job_id: int) -> list[str]:
        """URLs at which a job's artifacts should be found: solver's, then creator's."""
        found = (
            self.latest("JobAssigned", job_id=job_id),
            self.latest("JobPosted", job_id=job_id),
        )
        return [cast("str", event.fields["url"]) for event in found if event]
