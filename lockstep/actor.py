"""What every actor is made of: a directory, an account, a voice, and a loop.

An actor is a `tick` that looks at the chain, does the next thing and says whether
there is more to do. All it knows is on the chain or in its journal, so a new process
that ticks in the same directory goes on where a killed one stopped. Directory:

    key             the account (see `lockstep.keyfile`), unless --key names another
    journal         what must not be forgotten (see `lockstep.journal`)
    address         where artifacts were served, so that they are again after a restart
    artifacts/      what it serves, unless --artifacts names another place
    jobs/<id>-.../  training runs
"""

import enum
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lockstep.errors import ChainError
from lockstep.report import Report

__all__ = ["Pace", "Settings", "Status", "run", "stopping"]


class Status(enum.IntEnum):
    """What is left to do after a tick; the larger one wins when parts are joined."""

    IDLE = 0
    """Nothing is under way: only somebody else's transaction can bring work."""
    WAITING = 1
    """Something is under way, and it is not our move."""
    WORKING = 2
    """There is more to do at once."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every actor is told.

    Attributes:
        rpc: URL of the node.
        directory: its own.
        key: key file; None means `<directory>/key`.
        artifacts: where artifacts are kept; None means `<directory>/artifacts`.
        serve: `host:port` on which artifacts are served.
        public_url: what is written on the chain instead of `http://<serve>`.
        as_json: report in objects.
        most_data: bytes of a job's data, at most.
    """

    rpc: str
    directory: Path
    key: Path | None = None
    artifacts: str | None = None
    serve: str = "127.0.0.1:0"
    public_url: str | None = None
    as_json: bool = False
    most_data: int = 1 << 30

    @property
    def key_path(self) -> Path:
        """Where the key is."""
        return self.key or self.directory / "key"

    @property
    def artifacts_url(self) -> str:
        """Where artifacts are kept."""
        return self.artifacts or str(self.directory / "artifacts")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long an actor runs.

    Attributes:
        poll: seconds between looks at the chain when there is nothing to do.
        once: stop after one tick.
        until_idle: stop when nothing is under way.
    """

    poll: float = 0.5
    once: bool = False
    until_idle: bool = False


def run(
    tick: Callable[[], Status], report: Report, pace: Pace, stop: threading.Event
) -> None:
    """Tick until told to stop.

    A chain that refuses or does not answer is told of once and asked again: the node
    may be away, blocks full, the account empty, and a dispute is lost by who gives up.
    Every other error ends the actor with its message.
    """
    trouble = ""
    while not stop.is_set():
        try:
            status = tick()
        except ChainError as error:
            if str(error) != trouble:
                report("waiting", reason=str(error))
            trouble, status = str(error), Status.WAITING
        else:
            if trouble:
                report("continuing")
            trouble = ""
        if pace.once or (pace.until_idle and status is Status.IDLE):
            return
        if status is not Status.WORKING:
            stop.wait(pace.poll)


@contextmanager
def stopping() -> Generator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a tick always ends cleanly."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {
        number: signal.signal(number, handle)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
