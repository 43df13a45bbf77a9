"""A devnet and actors as separate processes on this machine, for tests and the demo.

Each process has a directory and an account of its own and is watched through the JSON
lines that it prints. Nothing is shared but the node's URL.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, cast

from lockstep.errors import LockstepError

__all__ = ["Account", "Line", "Localnet", "LocalnetError", "Process"]

Line = Mapping[str, object]
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05
_TAIL = 2000


class LocalnetError(LockstepError):
    """A process ended, or did not do in time what it was started for."""


class Account:
    """One of the devnet's accounts with money.

    Attributes:
        address: checksummed.
        key: private, hexadecimal.
    """

    __slots__ = ("address", "key")

    def __init__(self, address: str, key: str) -> None:
        self.address = address
        self.key = key


class Process:
    """One `python -m lockstep ... --json` and what it has said so far."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        heard: Callable[[str, Line], None] | None = None,
    ) -> None:
        """Start it.

        Args:
            name: for messages.
            arguments: after `python -m lockstep`.
            directory: where `stdout` and `stderr` are kept, appended to.
            heard: called with the name and each line, from the reading thread.
        """
        self.name = name
        self.lines: list[Line] = []
        self._errors = directory / "stderr"
        self._output = directory / "stdout"
        directory.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-m", "lockstep", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        self._heard = heard
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def events(self, name: str, **fields: object) -> list[Line]:
        """Its lines of this event whose named fields are equal."""
        return [
            line
            for line in list(self.lines)
            if line.get("event") == name
            and all(line.get(key) == value for key, value in fields.items())
        ]

    def wait_for(self, name: str, seconds: float, **fields: object) -> Line:
        """The first line of an event, waited for.

        Raises:
            LocalnetError: it did not come, or the process ended before.
        """
        deadline = time.monotonic() + seconds
        while True:
            ended = not self.running and not self._reader.is_alive()
            found = self.events(name, **fields)
            if found:
                return found[0]
            if ended or time.monotonic() > deadline:
                how = "ended" if ended else f"has not within {seconds:.0f} s"
                raise LocalnetError(
                    f"{self.name} should have said {name!r} {fields or ''} and {how}; "
                    f"last: {self.lines[-3:]}; errors: {self.errors()}"
                )
            time.sleep(_POLL_SECONDS)

    def line_with(self, field: str, seconds: float) -> Line:
        """The first line that has a field, waited for.

        Raises:
            LocalnetError: it did not come, or the process ended before.
        """
        deadline = time.monotonic() + seconds
        while True:
            ended = not self.running and not self._reader.is_alive()
            for line in list(self.lines):
                if field in line:
                    return line
            if ended or time.monotonic() > deadline:
                raise LocalnetError(
                    f"{self.name} did not say its {field}; errors: {self.errors()}"
                )
            time.sleep(_POLL_SECONDS)

    def errors(self) -> str:
        """The end of what it wrote to standard error."""
        return self._errors.read_text("utf-8", "replace")[-_TAIL:]

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end, and wait; returns its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.running:
            self._process.send_signal(number)
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(_STOP_SECONDS)
        self._reader.join(_STOP_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        for raw in self._process.stdout:
            with self._output.open("ab") as output:
                output.write(raw)
            try:
                line = cast("Line", json.loads(raw))
            except ValueError:
                line = {"event": "text", "text": raw.decode("utf-8", "replace")}
            self.lines.append(line)
            if self._heard is not None:
                self._heard(self.name, line)


class Localnet:
    """A running devnet; use as a context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        block_time: float = 1.0,
        parameters: Mapping[str, int] | None = None,
        heard: Callable[[str, Line], None] | None = None,
    ) -> None:
        """Describe it.

        Args:
            directory: everything is kept below it.
            block_time: seconds.
            parameters: of contracts, to change.
            heard: called with every line that any process prints.
        """
        self.directory = directory
        self._options = ["--block-time", str(block_time)]
        for name, value in (parameters or {}).items():
            self._options += ["--parameter", f"{name}={value}"]
        self._heard = heard
        self._processes: list[Process] = []
        self._actors: list[Process] = []
        self.url = ""
        self.accounts: list[Account] = []

    @property
    def database(self) -> Path:
        """The node's data directory."""
        return self.directory / "node"

    def __enter__(self) -> Self:
        """Start the node and wait until it answers."""
        ready = self._start_node("0")
        self.url = str(ready["rpc"])
        funded = cast("Sequence[Mapping[str, str]]", ready["accounts"])
        self.accounts = [Account(one["address"], one["private_key"]) for one in funded]
        return self

    def kill_node(self) -> None:
        """Kill the node at once, as a crash would."""
        self.node.kill()

    def restart_node(self) -> None:
        """Start the node again on its data and its port."""
        self._start_node(self.url.rpartition(":")[2])

    def _start_node(self, port: str) -> Line:
        arguments = ["devnet", "--json", "--port", port, *self._options]
        arguments += ["--data-dir", str(self.database)]
        # What the node prints is not part of the actors' story, so nobody hears it.
        self.node = Process("node", arguments, self.directory / "node-log")
        try:
            return self.node.wait_for("ready", _START_SECONDS)
        except LocalnetError:
            self.node.kill()
            raise

    def __exit__(self, *_: object) -> None:
        """Stop all actors, then the node."""
        for process in self._processes:
            process.stop()
        self.node.stop()

    def key_file(self, name: str, account: Account) -> Path:
        """An actor's key file in its own directory."""
        path = self.directory / name / "key"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(account.key + "\n", "utf-8")
        return path

    def actor(self, name: str, group: str, account: Account, *options: str) -> Process:
        """Start `lockstep <group> run` in a directory called `name`.

        Started again under the same name, it goes on in the same directory.
        """
        self.key_file(name, account)
        directory = self.directory / name
        arguments = [group, "run", "--json", "--rpc", self.url, *options]
        arguments += ["--directory", str(directory)]
        process = self._start(name, arguments)
        self._actors.append(process)
        return process

    def command(self, name: str, *arguments: str) -> Process:
        """Start any other `lockstep` command that prints JSON lines."""
        return self._start(name, [*arguments, "--json"])

    def check(self) -> None:
        """Notice an actor or node that ended without being told to.

        Raises:
            LocalnetError: one did.
        """
        for process in (self.node, *self._actors):
            if not process.running:
                raise LocalnetError(
                    f"{process.name} ended unexpectedly: {process.errors()!r}"
                )

    def _start(self, name: str, arguments: Sequence[str]) -> Process:
        process = Process(name, arguments, self.directory / name, self._heard)
        self._processes.append(process)
        return process
