"""A process that writes batches to a database while its disk fails; see `Trial`.

It forks for every trial, as a process that is killed in the middle of a write is lost.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import chain.store
from chain.errors import StoreError
from chain.store import Store

BATCHES = 12
_ROW_BYTES = 3_000
# The least that LevelDB takes: so that a few batches fill logs and become tables.
_WRITE_BUFFER_BYTES = 64 << 10


@dataclass(frozen=True)
class Trial:
    """One failure.

    Attributes:
        at: Index of the operation.
        errno: What the disk answers; 0 kills the process.
        once: Whether later operations succeed again.
        torn: Bytes of a failing write that are done; -1: half of them.
        file_limit: Bytes that the system lets a file have; 0: any number.
    """

    at: int
    errno: int = 0
    once: bool = False
    torn: int = 0
    file_limit: int = 0


@dataclass(frozen=True)
class Outcome:
    """What the process knew in the end.

    Attributes:
        acknowledged: The last batch whose write returned.
        error: Of the write, or the opening, that failed.
        again: Of a write that was tried after it.
        operations: How many there were.
        killed: Whether the process was.
    """

    acknowledged: int = 0
    error: str = ""
    again: str = ""
    operations: int = 0
    killed: bool = False


def batch(number: int, size: int = _ROW_BYTES) -> dict[bytes, bytes]:
    """What one write puts there."""
    rows = {b"row%d-%d" % (number, row): bytes([number]) * size for row in range(5)}
    return {b"head": b"%d" % number, **rows}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _write_batches(directory: Path) -> Outcome:
    try:
        store = Store.open(directory)
    except StoreError as error:
        return Outcome(error=str(error))
    for number in range(1, BATCHES + 1):
        told = _refused(store, number)
        if told:
            return Outcome(number - 1, told, _refused(store, number + 1))
        _say(str(number))
    store.close()
    return Outcome(BATCHES)


def _refused(store: Store, number: int) -> str:
    """Write a batch; why it can't be, or nothing."""
    try:
        store.write(batch(number))
    except StoreError as error:
        return str(error)
    return ""


def _child(library: ctypes.CDLL, directory: Path, trial: Trial) -> None:
    library.faults_set(
        str(directory).encode(),
        ctypes.c_long(trial.at),
        trial.errno,
        trial.once,
        ctypes.c_long(trial.torn),
    )
    if trial.file_limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (trial.file_limit, trial.file_limit))
    outcome = _write_batches(directory)
    count = library.faults_count()
    _say(json.dumps(asdict(outcome) | {"operations": count}))


def _tried(library: ctypes.CDLL, directory: Path, trial: Trial) -> Outcome:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writer, 1)
        _child(library, directory, trial)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        lines = stream.read().splitlines()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return Outcome(int(lines[-1]) if lines else 0, killed=True)
    assert status == 0
    return Outcome(**json.loads(lines[-1]))


def main() -> None:
    """Read trials from standard input, one a line; print outcomes."""
    # A small buffer, so that trials meet flushes too.
    chain.store._WRITE_BUFFER_BYTES = _WRITE_BUFFER_BYTES  # type: ignore[misc]
    library = ctypes.CDLL(None)
    for number, line in enumerate(sys.stdin):
        directory = Path(sys.argv[1]) / str(number)
        outcome = _tried(library, directory, Trial(**json.loads(line)))
        _say(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
