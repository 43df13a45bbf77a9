"""A validator is killed in the middle of the dispute, and comes back."""

import time

from lockstep.client.connection import Connection
from lockstep.client.contracts import deployed
from lockstep.demo.story import Narrator
from lockstep.localnet import Localnet

__all__ = ["Outage"]

_CATCH_UP_SECONDS = 60.0
_POLL_SECONDS = 0.2


class Outage:
    """Kills the last validator at the first challenge, restarts it at the verdict."""

    def __init__(self, net: Localnet, story: Narrator) -> None:
        """Watch a network of several validators."""
        self._net = net
        self._story = story
        self._victim = net.validators - 1
        self._killed_at: int | None = None
        self._restarted = False

    def watch(self) -> None:
        """Do what is due; called again and again while the story goes on."""
        history = self._story.history
        if self._killed_at is None:
            if history.latest("ChallengeCommitted") is not None:
                self._kill()
        elif not self._restarted and history.latest("VerdictRecorded") is not None:
            self._restart()

    def end(self) -> list[str]:
        """Wait until the victim has caught up; returns what did not happen."""
        if self._killed_at is None or not self._restarted:
            return ["no validator was killed and restarted during the dispute"]
        victim = Connection(self._net.urls[self._victim], deployed())
        others = Connection(self._net.url, deployed())
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while time.monotonic() < deadline:
            height = victim.block_number()
            if height >= others.block_number() - 1:
                self._story.say(
                    f"validator {self._victim} has caught up at block {height}"
                )
                return []
            time.sleep(_POLL_SECONDS)
        return [f"validator {self._victim} did not catch up"]

    def _kill(self) -> None:
        self._net.kill_node(self._victim)
        connection = Connection(self._net.url, deployed())
        self._killed_at = connection.block_number()
        self._story.say(
            f"[red]validator {self._victim} is killed[/red] at block {self._killed_at}"
        )

    def _restart(self) -> None:
        self._net.restart_node(self._victim)
        self._restarted = True
        height = Connection(self._net.url, deployed()).block_number()
        self._story.say(f"validator {self._victim} is started again at block {height}")
