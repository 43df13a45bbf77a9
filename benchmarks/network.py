"""Four validators in processes of their own, on this one machine, under transfers.

Everything is real: RPC over HTTP, gossip over encrypted TCP, consensus, execution and
fsync on all four nodes, all of them on the cores of this machine together with the
load. Transfers are sent on a schedule, whatever the answers, and a transfer's time
runs from the moment when it should have been sent until a client sees its block, so a
network that falls behind cannot hide it.

The peer is `anvil`, one node without consensus or disk, under the same load from the
same program: `ANVIL=path` or on the PATH (`npm install @foundry-rs/anvil`).
"""

import dataclasses
import http.client
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import trio
import trio.testing

from benchmarks.harness import Figure
from chain.crypto import address_of, keccak, public_key
from chain.transaction import Unsigned
from genesis import ChainSpec
from node.testnet import Member, Ports, make_testnet
from tests.node.network import make_network, run
from tests.testnets.network import NodeProcess, free_ports

VALIDATORS = 4
SENDERS = 64
ETHER = 10**18
IDLE_SECONDS = 30.0
LOAD_SECONDS = 40.0
SETTLE_SECONDS = 5.0
START_SECONDS = 120.0
DRAIN_SECONDS = 60.0
POLL_SECONDS = 0.02
KEPT_SECONDS = 2.0
STEADY_RATE = 50.0
RATES = (100.0, 150.0)
FLOOD_RATE = 400.0
AWAY_HEIGHTS = 10
ENGINE_HEIGHTS = 100
_TICKS = os.sysconf("SC_CLK_TCK")


class Client:
    """JSON-RPC over one connection that is kept."""

    def __init__(self, port: int) -> None:
        """Connect at the first call."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
        self._used = time.monotonic()

    def ask(self, method: str, *params: object) -> Any:  # noqa: ANN401 - any JSON
        """The result of a call; a dict with "refused" when the node says no."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"content-type": "application/json"}
        if time.monotonic() - self._used > KEPT_SECONDS:
            self._connection.close()  # servers drop idle ones; it opens by itself
        self._connection.request("POST", "/", json.dumps(body), headers)
        answer = json.loads(self._connection.getresponse().read())
        self._used = time.monotonic()
        return answer.get("result", {"refused": answer.get("error")})

    def height(self) -> int:
        """Number of the head."""
        return int(self.ask("eth_blockNumber"), 16)


# -- the load ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """Transfers per second for a time, through all ports in turn."""

    rate: float
    seconds: float
    ports: tuple[int, ...]
    chain_id: int

    @property
    def count(self) -> int:
        """How many transfers: as many from each sender."""
        return int(self.rate * self.seconds) // SENDERS * SENDERS


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a load.

    Attributes:
        wanted: How many were to be sent.
        taken: How many the nodes took.
        latencies: Seconds from the schedule to the block, one for each included one.
        refused: How many the nodes did not take.
        rate: Transfers per second in blocks, between the settling and the end.
    """

    wanted: int
    taken: int
    latencies: tuple[float, ...]
    refused: int
    rate: float

    def percentile(self, share: float) -> float:
        """Of the latencies, in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _secret(sender: int) -> bytes:
    return keccak(b"benchmark sender %d" % sender)


def _sender_address(sender: int) -> bytes:
    return address_of(public_key(_secret(sender)))


def _signed(load: Load) -> list[bytes]:
    """Every transfer of a load, signed before the clock runs."""
    client = Client(load.ports[0])
    nonces = [
        int(client.ask("eth_getTransactionCount", "0x" + address.hex(), "latest"), 16)
        for address in map(_sender_address, range(SENDERS))
    ]
    return [
        Unsigned(
            chain_id=load.chain_id,
            nonce=nonces[index % SENDERS] + index // SENDERS,
            gas=21_000,
            max_fee_per_gas=10**11,
            max_priority_fee_per_gas=10**9,
            to=keccak(index.to_bytes(8))[:20],
            value=1,
            type=2,
        ).sign(_secret(index % SENDERS))
        for index in range(load.count)
    ]


def _send(
    load: Load, transfers: Sequence[bytes], lane: int, start: float, log: "_Log"
) -> None:
    """Send every n-th transfer through one port, each at its time or at once.

    What could not be sent before the end, as the node answered too slowly, is not sent.
    """
    client, lanes = Client(load.ports[lane]), len(load.ports)
    for index in range(lane, len(transfers), lanes):
        now = time.monotonic() - start
        if now > load.seconds:
            return
        time.sleep(max(0.0, index / load.rate - now))
        answer = client.ask("eth_sendRawTransaction", "0x" + transfers[index].hex())
        (log.refused if isinstance(answer, dict) else log.taken).append(index)


@dataclasses.dataclass(frozen=True, slots=True)
class _Log:
    """Numbers of transfers, by what the nodes answered."""

    taken: list[int] = dataclasses.field(default_factory=list[int])
    refused: list[int] = dataclasses.field(default_factory=list[int])


def _watch(
    load: Load, start: float, lanes: Sequence[threading.Thread], log: _Log
) -> dict[str, float]:
    """When a client saw each transfer in a block, until all taken ones are in one."""
    client, seen = Client(load.ports[0]), dict[str, float]()
    head = client.height()
    while time.monotonic() - start < load.seconds + DRAIN_SECONDS:
        for number in range(head + 1, client.height() + 1):
            now, head = time.monotonic(), number
            block = client.ask("eth_getBlockByNumber", hex(number), *(False,))
            seen |= dict.fromkeys(block["transactions"], now)
        if len(seen) >= len(log.taken) and not any(each.is_alive() for each in lanes):
            break
        time.sleep(POLL_SECONDS)
    return seen


def _perform(load: Load) -> Outcome:
    """Play a load; runs in a process of its own."""
    transfers = _signed(load)
    log = _Log()
    start = time.monotonic()
    lanes = [
        threading.Thread(target=_send, args=(load, transfers, lane, start, log))
        for lane in range(len(load.ports))
    ]
    for lane in lanes:
        lane.start()
    seen = _watch(load, start, lanes, log)
    for lane in lanes:
        lane.join()
    due = {
        "0x" + keccak(raw).hex(): start + index / load.rate
        for index, raw in enumerate(transfers)
    }
    latencies = [at - due[digest] for digest, at in seen.items() if digest in due]
    window = [
        at
        for at in seen.values()
        if start + SETTLE_SECONDS < at <= start + load.seconds
    ]
    # From block to block: a block at the edge belongs to the interval it closes.
    blocks = sorted(set(window))
    counted = sum(at > blocks[0] for at in window)
    rate = counted / (blocks[-1] - blocks[0])
    return Outcome(load.count, len(log.taken), tuple(latencies), len(log.refused), rate)


def perform(load: Load) -> Outcome:
    """Play a load in another process, whose Python has nothing else to do."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_perform, (load,))


# -- the networks ------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class Network:
    """Validators that run."""

    nodes: list[NodeProcess]
    members: Sequence[Member]
    ports: tuple[int, ...]
    chain_id: int

    def load(self, rate: float, seconds: float) -> Outcome:
        """Play a load."""
        return perform(Load(rate, seconds, self.ports, self.chain_id))

    def cpu(self) -> float:
        """Seconds that all nodes together have computed."""
        return sum(_cpu(node.pid) for node in self.nodes if node.pid is not None)

    def wait(self, height: int, port: int | None = None) -> None:
        """Until a node's head has that height.

        Raises:
            TimeoutError: it does not come.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if Client(port or self.ports[0]).height() >= height:
                    return
            except OSError:
                pass  # it starts
            time.sleep(0.05)
        raise TimeoutError(f"height {height} not within {START_SECONDS:.0f} s")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def network(block_time: float) -> Generator[Network]:
    """Four validators, from a fresh genesis in which the senders are rich."""
    spec = ChainSpec.load("devnet")
    rich = {_sender_address(sender): 1_000 * ETHER for sender in range(SENDERS)}
    spec = spec.model_copy(update={"alloc": {**spec.alloc, **rich}})
    settings: dict[str, str | int | float] = {"block_time": block_time}
    ports = Ports(free_ports(VALIDATORS), free_ports(VALIDATORS))
    with tempfile.TemporaryDirectory() as folder:
        _, members = make_testnet(Path(folder), spec, VALIDATORS, ports, settings)
        nodes = [
            NodeProcess(number, member.directory, member.rpc)
            for number, member in enumerate(members)
        ]
        for node in nodes:
            node.start()
        rpc = tuple(ports.rpc + number for number in range(VALIDATORS))
        try:
            running = Network(nodes, members, rpc, spec.chain_id)
            for port in rpc:
                running.wait(3, port)
            yield running
        finally:
            for node in nodes:
                node.stop()


@contextmanager
def anvil() -> Generator[Network | None]:
    """The peer, or None where there is none."""
    program = os.environ.get("ANVIL") or shutil.which("anvil")
    if program is None:
        yield None
        return
    port = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        genesis = {
            "config": {"chainId": 4242},
            "difficulty": "0x0",
            "gasLimit": hex(30_000_000),
            "alloc": {
                "0x" + _sender_address(sender).hex(): {"balance": hex(1_000 * ETHER)}
                for sender in range(SENDERS)
            },
        }
        path = Path(folder) / "genesis.json"
        path.write_text(json.dumps(genesis))
        process = subprocess.Popen(  # noqa: S603 - named by who runs this
            [
                program,
                *("--silent", "--block-time", "1", "--port", str(port)),
                *("--init", str(path)),
            ]
        )
        try:
            running = Network([], (), (port,), 4242)
            running.wait(1)
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


# -- figures -----------------------------------------------------------------------


def figures() -> Iterator[Figure]:
    """Every figure of the network."""
    yield _consensus_alone()
    yield from _idle()
    with anvil() as peer:
        steady = None if peer is None else peer.load(STEADY_RATE, LOAD_SECONDS)
        flood = None if peer is None else peer.load(FLOOD_RATE, LOAD_SECONDS)
    with network(1.0) as ours:
        yield _consensus_cpu(ours)
        yield from _finality(ours, steady)
        yield _return(ours)
        yield from _throughput(ours, flood)  # leaves full pools behind


def _idle() -> Iterator[Figure]:
    with network(0.05) as ours:
        client = Client(ours.ports[0])
        first, start = client.height(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        heights, seconds = client.height() - first, time.monotonic() - start
    interval = seconds / heights
    yield Figure(
        "network/block_interval/idle", interval, "s", "at most 0.25 s", interval / 0.25
    )


def _consensus_alone() -> Figure:
    """Four engines in this process, joined by memory: no TCP, no encryption, no RPC.

    Gossip, signatures, the log and its fsyncs, empty blocks on a chain without
    contracts.
    """
    seconds: list[float] = []

    async def main() -> None:
        engines = make_network(Path(folder))

        async def story() -> None:
            await engines.reach(3)
            start = time.process_time()
            await engines.reach(3 + ENGINE_HEIGHTS)
            seconds.append(time.process_time() - start)

        await run(engines, story)

    logging = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as folder:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.002))
    structlog.configure(**logging)
    each = seconds[0] / ENGINE_HEIGHTS / VALIDATORS
    return Figure(
        "network/cpu/consensus", each * 1_000, "ms", "at most 20 ms", each / 0.020
    )


def _consensus_cpu(ours: Network) -> Figure:
    first, before = Client(ours.ports[0]).height(), ours.cpu()
    time.sleep(IDLE_SECONDS)
    heights = Client(ours.ports[0]).height() - first
    each = (ours.cpu() - before) / heights / VALIDATORS
    return Figure(
        "network/cpu/node", each * 1_000, "ms", "20 ms; the whole process", each / 0.020
    )


def _finality(ours: Network, peer: Outcome | None) -> Iterator[Figure]:
    outcome = ours.load(STEADY_RATE, LOAD_SECONDS)
    _complete(outcome)
    for share, target in ((0.50, 1.5), (0.99, 3.0)):
        value = outcome.percentile(share)
        name = f"network/finality/p{share * 100:.0f}"
        yield Figure(name, value, "s", f"at most {target} s", value / target)
        if peer is not None:
            base = peer.percentile(share)
            yield Figure(f"{name}/anvil", base, "s", name, value / base)


def _complete(outcome: Outcome) -> None:
    """No transfer of a load that must pass may be lost."""
    if not outcome.wanted == outcome.taken == len(outcome.latencies):
        raise RuntimeError(
            f"{outcome.wanted} transfers: {outcome.taken} taken, {outcome.refused} "
            f"refused, {len(outcome.latencies)} in blocks"
        )


def _throughput(ours: Network, peer: Outcome | None) -> Iterator[Figure]:
    for rate in RATES:
        outcome = ours.load(rate, LOAD_SECONDS)
        name = f"network/transfers/at_{rate:.0f}"
        yield Figure(name, outcome.rate, "1/s", "what was sent", outcome.rate / rate)
        value = outcome.percentile(0.99)
        yield Figure(f"{name}/p99", value, "s", "3 s", value / 3.0)
    outcome = ours.load(FLOOD_RATE, LOAD_SECONDS)
    yield Figure(
        "network/transfers/flood",
        outcome.rate,
        "1/s",
        "at least 100/s",
        outcome.rate / 100.0,
    )
    if peer is not None:
        yield Figure(
            "network/transfers/flood/anvil",
            peer.rate,
            "1/s",
            "one node, no consensus, no disk",
            outcome.rate / peer.rate,
        )


def _return(ours: Network) -> Figure:
    """Seconds from the start of a killed validator to a vote of it in a block."""
    last, client = ours.nodes[-1], Client(ours.ports[0])
    last.kill()
    ours.wait(client.height() + AWAY_HEIGHTS)
    address = ours.members[-1].validator
    if address is None:
        raise ValueError("the last node is no validator")
    first, start = client.height(), time.monotonic()
    last.start()
    while not any(
        _voted(client, number, address)
        for number in range(first + 2, client.height() + 1)
    ):
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - start
    return Figure(
        "network/return", seconds, "s", "at most 10 s after kill -9", seconds / 10.0
    )


def _voted(client: Client, number: int, address: bytes) -> bool:
    """Whether a block carries that validator's vote for its parent."""
    sidecar = client.ask("lockstep_sidecar", hex(number))
    signatures = sidecar["parentCertificate"]["signatures"]
    return "0x" + address.hex() in [each["validator"] for each in signatures]
