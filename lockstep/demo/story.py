"""The story as the chain tells it: one line for each event, as it happens."""

import time
from collections.abc import Callable, Mapping
from typing import cast

from rich.console import Console
from rich.markup import escape

from lockstep.cli.show import amount
from lockstep.client.connection import Connection, Event
from lockstep.client.history import History
from lockstep.client.views import WITHHELD, JobState
from lockstep.report import short

__all__ = ["Narrator"]

_Told = Callable[["Narrator", Event], str | None]


class Narrator:
    """Reads the chain's events and prints those that matter.

    Attributes:
        history: everything that happened so far.
        seen_at: seconds since the start at which each event was first seen, by name
            and job.
    """

    def __init__(
        self, connection: Connection, console: Console, names: Mapping[str, str]
    ) -> None:
        """Start telling.

        Args:
            connection: reads only.
            console: where to print.
            names: what each address is called in the story.
        """
        self.history = History(connection)
        self.seen_at: dict[tuple[str, int], float] = {}
        self._connection = connection
        self._console = console
        self._names = names
        self._began = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print one line of the story."""
        self._console.print(f"[dim]{self.elapsed():6.1f} s[/dim]  {text}")

    def listen(self) -> None:
        """Tell what is new on the chain."""
        for event in self.history.refresh():
            job = event.fields.get("job_id")
            if isinstance(job, int):
                self.seen_at.setdefault((event.name, job), self.elapsed())
            told = _TELL.get(event.name)
            text = None if told is None else told(self, event)
            if text is not None:
                self.say(text)

    def who(self, address: object) -> str:
        """What an address is called."""
        return escape(self._names.get(str(address), str(address)[:10]))

    def job(self, event: Event) -> str:
        """What an event's job is called."""
        number = cast("int", event.fields["job_id"])
        return f"[bold]job {number}[/bold]"

    def sent(self, event: Event) -> str:
        """Where an event came from: transaction and gas."""
        gas = self._connection.gas_used(event.transaction)
        return f"[dim](tx {short(event.transaction)}, {gas:,} gas)[/dim]"

    def witness_bytes(self, event: Event) -> int:
        """Size of the witness in the transaction that asked the judge."""
        data = self._connection.transaction_input(event.transaction)
        length = 4 + 9 * 32  # selector, eight arguments, the offset of the witness
        return int.from_bytes(data[length : length + 32], "big")


def _posted(story: Narrator, event: Event) -> str:
    fields = event.fields
    steps = cast("Mapping[str, object]", fields["terms"])["steps"]
    program = short(cast("bytes", fields["program_root"]))
    return (
        f"{story.job(event)} posted by {story.who(fields['creator'])}: "
        f"{steps} steps, program {program}, {fields['work_units']:,} work units a "
        f"step, witness at most {fields['witness_bytes']:,} bytes, {story.sent(event)}"
    )


def _assigned(story: Narrator, event: Event) -> str:
    return (
        f"{story.job(event)} taken by {story.who(event.fields['solver'])} for "
        f"{amount(cast('int', event.fields['price']))} tokens {story.sent(event)}"
    )


def _committed(story: Narrator, event: Event) -> str:
    return (
        f"{story.job(event)}: {story.who(event.fields['solver'])} commits to its "
        f"trajectory, root {short(cast('bytes', event.fields['root']))}, final state "
        f"{short(cast('bytes', event.fields['final_root']))} {story.sent(event)}"
    )


def _digest(story: Narrator, event: Event) -> str:
    return (
        f"{story.job(event)}: {story.who(event.fields['verifier'])} proves that it "
        f"recomputed steps {event.fields['start']}..{event.fields['end']} "
        f"{story.sent(event)}"
    )


def _challenged(story: Narrator, event: Event) -> str:
    return (
        f"{story.job(event)}: {story.who(event.fields['challenger'])} challenges, bond "
        f"{amount(cast('int', event.fields['bond']))}, sealed {story.sent(event)}"
    )


def _revealed(story: Narrator, event: Event) -> str:
    step = event.fields["step"]
    place = "leaves are withheld" if step == WITHHELD else f"step {step} is wrong"
    return (
        f"{story.job(event)}: {story.who(event.fields['challenger'])} reveals: {place} "
        f"{story.sent(event)}"
    )


def _opened(story: Narrator, event: Event) -> str:
    children = len(cast("list[bytes]", event.fields["children"]))
    return (
        f"{story.job(event)}: node {event.fields['index']} of level "
        f"{event.fields['level']} opened by its {children} descendants "
        f"{story.sent(event)}"
    )


def _pinned(story: Narrator, event: Event) -> str:
    return f"{story.job(event)}: pinned down to step {event.fields['step']}"


def _judged(story: Narrator, event: Event) -> str:
    position = cast("int", event.fields["position"])
    verdict = "[green]VALID" if event.fields["valid"] else "[red]INVALID"
    return (
        f"{story.job(event)}: the judge replays step {position} from a witness of "
        f"{story.witness_bytes(event):,} bytes: {verdict}[/] "
        f"(h_{position} {short(cast('bytes', event.fields['pre_root']))} does "
        f"{'' if event.fields['valid'] else 'not '}give "
        f"{short(cast('bytes', event.fields['post_root']))}) {story.sent(event)}"
    )


def _slashed(story: Narrator, event: Event) -> str:
    return (
        f"{story.job(event)}: [red]{story.who(event.fields['solver'])} convicted[/red]"
        f", stake of {amount(cast('int', event.fields['stake']))} slashed, creator "
        f"refunded {amount(cast('int', event.fields['refunded']))} {story.sent(event)}"
    )


def _settled(story: Narrator, event: Event) -> str:
    return (
        f"{story.job(event)}: stake shared out: "
        f"{amount(cast('int', event.fields['award']))} to whistleblowers, "
        f"{amount(cast('int', event.fields['compensation']))} for their gas, "
        f"{amount(cast('int', event.fields['burned']))} burned {story.sent(event)}"
    )


def _claimed(story: Narrator, event: Event) -> str:
    return (
        f"{story.job(event)}: {story.who(event.fields['challenger'])} claims its share "
        f"of {amount(cast('int', event.fields['share']))} and its bond "
        f"{story.sent(event)}"
    )


def _finalised(story: Narrator, event: Event) -> str:
    state = JobState(cast("int", event.fields["state"])).name.lower()
    return (
        f"{story.job(event)}: [green]{state}[/green], "
        f"{story.who(event.fields['solver'])} is paid "
        f"{amount(cast('int', event.fields['paid']))} {story.sent(event)}"
    )


_TELL: dict[str, _Told] = {
    "JobPosted": _posted,
    "JobAssigned": _assigned,
    "JobCommitted": _committed,
    "DigestRevealed": _digest,
    "ChallengeCommitted": _challenged,
    "ChallengeRevealed": _revealed,
    "NodeOpened": _opened,
    "StepPinned": _pinned,
    "VerdictRecorded": _judged,
    "JobSlashed": _slashed,
    "Settled": _settled,
    "ChallengeClaimed": _claimed,
    "JobFinalised": _finalised,
}
