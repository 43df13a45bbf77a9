"""A chain and actors as separate processes on this machine, for tests and the demo.

The chain is a devnet of one validator, or a network of several with a process each.

Each process has a directory and an account of its own and is watched through the JSON
lines that it prints. Nothing is shared but the node's URL.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, cast

from lockstep.errors import LockstepError

__all__ = ["Account", "Line", "Localnet", "LocalnetError", "Process", "eventually"]

Line = Mapping[str, object]
_START_SECONDS = 60.0
_STOP_SECONDS = 90.0  # an actor ends its tick first, which may wait for a block
_POLL_SECONDS = 0.05
_TAIL = 2000
_PORT_ATTEMPTS = 50


class LocalnetError(LockstepError):
    """A process ended, or did not do in time what it was started for."""


def eventually(happened: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something has happened.

    Raises:
        LocalnetError: it has not in time.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise LocalnetError(f"not within {seconds:.0f} s: {what}")
        time.sleep(_POLL_SECONDS)


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
    """A running chain; use as a context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        block_time: float = 1.0,
        parameters: Mapping[str, int] | None = None,
        validators: int = 1,
        heard: Callable[[str, Line], None] | None = None,
    ) -> None:
        """Describe it.

        Args:
            directory: everything is kept below it.
            block_time: seconds.
            parameters: of contracts, to change.
            validators: how many, each in a process of its own.
            heard: called with every line that any process prints.
        """
        self.directory = directory
        self.validators = validators
        self._options = ["--block-time", str(block_time)]
        for name, value in (parameters or {}).items():
            self._options += ["--parameter", f"{name}={value}"]
        self._heard = heard
        self._processes: list[Process] = []
        self._actors: list[Process] = []
        self.nodes: list[Process] = []
        self._commands: list[list[str]] = []
        self._down: set[int] = set()
        self.url = ""
        self.urls: list[str] = []
        self.accounts: list[Account] = []

    @property
    def node(self) -> Process:
        """The node whose RPC everybody uses."""
        return self.nodes[0]

    @property
    def database(self) -> Path:
        """That node's data directory."""
        return self.databases[0]

    @property
    def databases(self) -> list[Path]:
        """Every node's data directory."""
        if self.validators == 1:
            return [self.directory / "node"]
        return [self.directory / f"node{index}" for index in range(self.validators)]

    def __enter__(self) -> Self:
        """Start every node and wait until each answers."""
        made = None if self.validators == 1 else self._make_network()
        if made is None:
            options = [*self._options, "--data-dir", str(self.database)]
            self._commands = [["devnet", "--json", "--port", "0", *options]]
        self.nodes = [self._launch(i) for i in range(self.validators)]
        try:
            ready = [node.wait_for("ready", _START_SECONDS) for node in self.nodes]
        except LocalnetError:
            for node in self.nodes:
                node.kill()
            raise
        self.urls = [str(each["rpc"]) for each in ready]
        self.url = self.urls[0]
        if made is None:
            port = self.url.rpartition(":")[2]
            self._commands[0][3] = port
        funded = cast("Sequence[Mapping[str, str]]", (made or ready[0])["accounts"])
        self.accounts = [Account(one["address"], one["private_key"]) for one in funded]
        return self

    def _make_network(self) -> Line:
        arguments = ["testnet", str(self.directory), "--json", *self._options]
        arguments += ["-v", str(self.validators)]
        arguments += ["--p2p-port", str(_free_ports(self.validators))]
        arguments += ["--rpc-port", str(_free_ports(self.validators))]
        maker = Process("testnet", arguments, self.directory / "testnet-log")
        made = maker.wait_for("made", _START_SECONDS)
        maker.stop()
        nodes = cast("Sequence[Mapping[str, str]]", made["nodes"])
        self._commands = [
            ["node", "--json", "--config", node["config"]] for node in nodes
        ]
        return made

    def kill_node(self, index: int = 0) -> None:
        """Kill a node at once, as a crash would."""
        self._down.add(index)
        self.nodes[index].kill()

    def restart_node(self, index: int = 0) -> None:
        """Start a node again on its data and its ports."""
        self.nodes[index] = self._launch(index)
        self.nodes[index].wait_for("ready", _START_SECONDS)
        self._down.discard(index)

    def _launch(self, index: int) -> Process:
        # What nodes print is not part of the actors' story, so nobody hears it.
        name = "node" if self.validators == 1 else f"node{index}"
        log = self.directory / f"{name}-log"
        return Process(name, self._commands[index], log)

    def __exit__(self, *_: object) -> None:
        """Stop all actors, then the nodes."""
        for process in self._processes:
            process.stop()
        for node in self.nodes:
            node.stop()

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
        up = [node for i, node in enumerate(self.nodes) if i not in self._down]
        for process in (*up, *self._actors):
            if not process.running:
                raise LocalnetError(
                    f"{process.name} ended unexpectedly: {process.errors()!r}"
                )

    def _start(self, name: str, arguments: Sequence[str]) -> Process:
        process = Process(name, arguments, self.directory / name, self._heard)
        self._processes.append(process)
        return process


def _free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody listens on at this moment."""
    for _ in range(_PORT_ATTEMPTS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        if first + count <= 65_536 and all(map(_is_free, range(first, first + count))):
            return first
    raise LocalnetError(f"found no {count} free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
