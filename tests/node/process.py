"""`lockstep` as a process of its own, for tests that kill it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

WAIT_SECONDS = 60
_MAIN = "from lockstep.cli import main; main()"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", _MAIN, *arguments]


def run(*arguments: str, code: int = 0, text: str | None = None) -> str:
    """Run to the end; the standard output, and the error when it should fail."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOCKSTEP_")}
    environment["LOCKSTEP_KEY_PASSWORD"] = "for tests"  # noqa: S105 - not a secret
    done = subprocess.run(  # noqa: S603 - our own program
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
        input=text,
        env=environment,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stdout + done.stderr


class Process:
    """A devnet that runs until it is told to stop, or killed."""

    def __init__(self, directory: Path, *options: str) -> None:
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
        )
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, Path(self.log.name).read_text()
        self.facts: dict[str, Any] = json.loads(line)
        self.url: str = self.facts["rpc"]

    def call(self, method: str, *params: object) -> Any:  # noqa: ANN401
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        response = requests.post(self.url, data=json.dumps(body), timeout=WAIT_SECONDS)
        return response.json()["result"]

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
