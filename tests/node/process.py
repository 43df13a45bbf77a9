"""`lockstep` as a process of its own, for tests that kill it."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from lockstep.cli import main

WAIT_SECONDS = 60
_MAIN = "from lockstep.cli import main; main()"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", _MAIN, *arguments]


class CommandLine:
    """`lockstep` in this process: quick, for commands that come to an end."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._patch = monkeypatch
        self._capsys = capsys
        for name in list(os.environ):
            if name.startswith("LOCKSTEP_"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("LOCKSTEP_KEY_PASSWORD", "for tests")
        monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def __call__(self, *arguments: str, code: int = 0, text: str = "") -> str:
        """Run to the end; what it printed, with the error when it should fail."""
        self._patch.setattr(sys, "argv", ["lockstep", *arguments])
        self._patch.setattr(sys, "stdin", io.StringIO(text))
        try:
            main()
            ended: object = 0
        except SystemExit as stop:
            ended = stop.code or 0
        printed = self._capsys.readouterr()
        assert ended == code, printed
        return printed.out if code == 0 else printed.out + printed.err


class Process:
    """A devnet that runs until it is told to stop, or killed."""

    def __init__(self, directory: Path, *options: str, **environment: str) -> None:
        self.log = directory.with_name(directory.name + ".log").open("ab")
        self.child = subprocess.Popen(  # noqa: S603 - our own program
            command(
                "devnet",
                "--json",
                "--port",
                "0",
                "--data-dir",
                str(directory),
                *options,
            ),
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, Path(self.log.name).read_text()
        self.facts: dict[str, Any] = json.loads(line)
        self.url: str = self.facts["rpc"]

    def answer(self, method: str, *params: object) -> dict[str, Any]:
        """A whole JSON-RPC response."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        response = requests.post(self.url, data=json.dumps(body), timeout=WAIT_SECONDS)
        found: dict[str, Any] = response.json()
        return found

    def call(self, method: str, *params: object) -> Any:  # noqa: ANN401
        found = self.answer(method, *params)
        assert "error" not in found, found
        return found["result"]

    def kill(self) -> None:
        """Send SIGKILL: nothing gets a chance to tidy up."""
        self._end(signal.SIGKILL, -signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop; it must end well."""
        self._end(number, 0)

    def _end(self, number: signal.Signals, code: int) -> None:
        self.child.send_signal(number)
        assert self.child.wait(WAIT_SECONDS) == code

    def close(self) -> None:
        """Leave nothing behind."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        if self.child.stdout is not None:
            self.child.stdout.close()
        self.log.close()
