"""How an actor says what it does: one line per event, for people or for programs.

For people: `12:03:44 solver  committed  job=3 root=1f2e... gas=214,332`. With `--json`
each line is one object with `time` (seconds since 1970), `actor`, `event` and the
event's own fields; integers stay integers and bytes become 0x-prefixed hexadecimal.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

__all__ = ["Report", "short"]

Value = int | float | str | bytes | bool | None
_SHOWN_HEX_DIGITS = 8


def short(value: bytes) -> str:
    """A root or hash as people compare them: its first eight hexadecimal digits."""
    return value.hex()[:_SHOWN_HEX_DIGITS]


@dataclass(slots=True)
class Report:
    """A stream of event lines.

    Attributes:
        actor: who speaks.
        as_json: objects for programs instead of text for people.
        out: where lines go; each is flushed, so that a pipe sees it at once.
        clock: seconds since 1970; an argument so that tests can fix it.
    """

    actor: str
    as_json: bool = False
    out: IO[str] = field(default_factory=lambda: sys.stdout)
    clock: Callable[[], float] = time.time

    def __call__(self, event: str, **fields: Value) -> None:
        """Write one line."""
        now = self.clock()
        if self.as_json:
            line = json.dumps(
                {
                    "time": round(now, 3),
                    "actor": self.actor,
                    "event": event,
                    **{name: _plain(value) for name, value in fields.items()},
                }
            )
        else:
            told = "  ".join(f"{name}={_told(value)}" for name, value in fields.items())
            clock = time.strftime("%H:%M:%S", time.localtime(now))
            line = f"{clock} {self.actor}  {event}  {told}".rstrip()
        print(line, file=self.out, flush=True)


def _plain(value: Value) -> int | float | str | bool | None:
    return "0x" + value.hex() if isinstance(value, bytes) else value


def _told(value: Value) -> str:
    match value:
        case bytes():
            return short(value)
        case bool() | None:
            return str(value).lower()
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case str():
            return value
