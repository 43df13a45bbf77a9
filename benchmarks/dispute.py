"""One dispute between real processes, from the challenge to the slash."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Figure
from lockstep.artifacts.server import Server
from lockstep.artifacts.store import Store
from lockstep.client.connection import Event
from lockstep.client.history import History
from lockstep.localnet import Localnet
from lockstep.training import Work
from ml_verifier.capture import capture
from ml_verifier.data import Dataset, encode_records
from ml_verifier.judge import MAX_WITNESS_BYTES
from runtime.rules import BLOCK_GAS_LIMIT
from tests.lockstep.live import Live

BLOCK_SECONDS: Final = 1.0
STEPS, FAKED = 200, 123
WAIT: Final = 120.0
STORY: Final = (
    "ChallengeCommitted",
    "ChallengeRevealed",
    "VerdictRecorded",
    "JobSlashed",
)


def digits_work() -> Work:
    """A job of the demo's size: 64-32-10, batch 32, on random images."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.AdamW(model.parameters())
    generator = np.random.default_rng(0)
    x = generator.standard_normal((1024, 64), np.float32)
    y = generator.integers(0, 10, 1024)
    sample = torch.from_numpy(x[:32]), torch.from_numpy(y[:32])
    program = capture(model, nn.CrossEntropyLoss(), optimiser, sample).program
    return Work(program, 1, Dataset(program, encode_records(program, [x, y])), STEPS, 1)


def dispute(directory: Path) -> tuple[float, list[int], int]:
    """Return seconds from challenge to slash, gas per transaction, witness bytes."""
    store = Store(str(directory / "creator"))
    server = Server(store, "127.0.0.1:0")
    server.start()
    try:
        with Localnet(directory / "net", block_time=BLOCK_SECONDS) as net:
            running = Live(net, store, server.url)
            creator = running.rich()
            whistleblower = running.whistleblower("whistleblower", running.rich())
            job = running.post(creator, digits_work())
            cheat = ("--cheat", f"bit-flip@{FAKED}")
            running.solver("cheat", running.rich(), creator, *cheat)
            whistleblower.wait_for("claimed", WAIT, job=job)
            history = History(running.bank)
            history.refresh()
            events = [history.latest(name, job_id=job) for name in STORY]
            return _measured(running, [e for e in events if e is not None])
    finally:
        server.close()


def _measured(running: Live, events: list[Event]) -> tuple[float, list[int], int]:
    if len(events) != len(STORY):
        raise RuntimeError(f"expected {STORY}, got {[e.name for e in events]}")
    judged = running.bank.transaction_input(events[2].transaction)
    at = 4 + 9 * 32  # selector, eight arguments and the witness's offset
    witness = int.from_bytes(judged[at : at + 32], "big")
    gas = [running.bank.gas_used(event.transaction) for event in events]
    seconds = (events[-1].block - events[0].block) * BLOCK_SECONDS
    return seconds, gas, witness


def figures() -> Iterator[Figure]:
    """Measure one dispute."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, gas, witness = dispute(Path(folder))
    count = len(gas)
    blocks = seconds / BLOCK_SECONDS
    yield Figure("dispute/seconds", seconds, "s", "blocks of 1 s", blocks)
    yield Figure("dispute/transactions", count, "transactions", "one each", 1.0)
    yield Figure(
        "dispute/gas", sum(gas), "gas", "one block", sum(gas) / BLOCK_GAS_LIMIT
    )
    yield Figure(
        "dispute/witness_bytes",
        witness,
        "bytes",
        "the largest witness",
        witness / MAX_WITNESS_BYTES,
    )
