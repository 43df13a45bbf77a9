"""Processes of a network: their directories, their ends, their beginnings."""

import dataclasses
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genesis import ChainSpec
from genesis.accounts import account
from node.datadir import DataDirectory
from node.keydir import read_plain
from node.opening import encode_spec, initialise
from node.p2p.identity import KEY_FILE, load_node_key
from node.testnet import CONFIG_FILE, Ports, make_testnet
from node.validatorkey import ValidatorKey
from tests.testnets.manifest import Action, Manifest
from tests.testnets.namespaces import Namespaces, is_inside
from tests.testnets.relays import Relays
from tests.testnets.wires import Direct, Wires

STOP_SECONDS = 60.0
_COMMAND_SECONDS = 120.0
_TAIL = 3_000
_TRIES = 50
STAKE = "1000"


class CommandError(Exception):
    """A command of `lockstep` failed."""


@dataclasses.dataclass(slots=True)
class Away:
    """A time in which a node could not take part; seconds since 1970."""

    node: int
    why: str
    since: float
    until: float | None = None


class NodeProcess:
    """One node of the network."""

    def __init__(
        self, number: int, directory: Path, url: str, prefix: tuple[str, ...] = ()
    ) -> None:
        """Describe it; `start` runs it.

        Args:
            number: Its own.
            directory: Its data directory, with `config.toml`.
            url: Of its RPC.
            prefix: What the command line begins with.
        """
        self.number = number
        self.directory = directory
        self.log = directory.with_name(f"{directory.name}.log")
        self.url = url
        self.ready = False
        self.program = "lockstep"
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that was started last."""
        return None if self._process is None else self._process.pid

    @property
    def started(self) -> bool:
        """Whether it was started and not yet stopped; it may have died."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Run it, output appended to its log."""
        config = str(self.directory / CONFIG_FILE)
        command = ["-m", self.program, "node", "--json", "--config", config]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*self._prefix, sys.executable, *command], stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(STOP_SECONDS)

    def stop(self) -> int | str:
        """Ask it to end; its exit code, or what happened instead."""
        if self._process is None:
            return "never started"
        self.signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"not within {STOP_SECONDS:.0f} s"
        finally:
            self._process = None

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-_TAIL:]


class Testnet:
    """All nodes of a manifest, and who was away when."""

    __test__ = False  # not a class of tests

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Make the data directories."""
        self.manifest = manifest
        self.directory = directory
        self.away: list[Away] = []
        self.keys: dict[int, ValidatorKey] = {}
        self.faults: list[str] = []
        total = manifest.nodes + manifest.copies
        self._ports = Ports(free_ports(total), free_ports(total))
        self.wires = _wires(manifest, total, self._ports)
        spec = ChainSpec.load("devnet")
        consensus = spec.consensus.model_copy(
            update={"epoch_blocks": manifest.epoch_blocks}
        )
        spec = spec.model_copy(update={"consensus": consensus}).with_parameters(
            jail_blocks=manifest.jail_blocks
        )
        self.spec, _ = make_testnet(
            directory, spec, manifest.validators, self._ports, {}
        )
        self.nodes = [self._validator(i) for i in range(manifest.validators)]
        self.twins: list[NodeProcess] = []

    @property
    def honest(self) -> list[NodeProcess]:
        """Nodes that keep the rules."""
        doubled = self.manifest.who(Action.TWIN)
        return [node for node in self.nodes if node.number not in doubled]

    def address(self, node: int) -> str:
        """Of a validator."""
        return "0x" + self.keys[node].address.hex()

    def _validator(self, index: int) -> NodeProcess:
        home = self.directory / f"node{index}"
        self.keys[index] = read_plain(home / "validator" / "key.json")
        keep = self.manifest.prune_keep_states
        pruning: dict[str, str | int] = {
            "pruning": "recent",
            "prune_keep_states": keep,
            "prune_interval": keep,
        }
        interval = {"snapshot_interval": self.manifest.snapshot_interval}
        return self._placed(index, home, {**interval, **(pruning if keep else {})})

    def add(
        self,
        key: ValidatorKey | None = None,
        *,
        settings: Mapping[str, str | int] | None = None,
    ) -> NodeProcess:
        """A new node with an empty database that knows the validators."""
        index = len(self.nodes)
        home = self.directory / f"node{index}"
        with DataDirectory(home) as opened:
            if settings is None:
                initialise(opened, self.spec, key)
            else:  # the database stays empty
                opened.store_specification(encode_spec(self.spec))
        if key is not None:
            self.keys[index] = key
        node = self._placed(index, home, settings or {})
        self.nodes.append(node)
        return node

    def _placed(
        self, index: int, home: Path, settings: Mapping[str, str | int]
    ) -> NodeProcess:
        """Configure a node as the wires are."""
        wires = self.wires
        peers: list[str] = []
        for number in range(self.manifest.validators):
            other = self.directory / f"node{number}"
            identity = load_node_key(other, secrets.token_bytes)
            if other != home:
                peers.append(f"{identity.id.hex()}@{wires.dial(index, number)}")
        port = self._ports.rpc + index
        lines = {
            "data_dir": str(home.absolute()),
            "p2p_listen": wires.listen(index),
            "p2p_persistent_peers": peers,
            "rpc_port": port,
            "block_time": self.manifest.block_time,
            **wires.settings(index),
            **settings,
        }
        (home / CONFIG_FILE).write_text(
            "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        )
        url = f"http://{wires.rpc_host(index)}:{port}"
        return NodeProcess(index, home, url, wires.prefix(index))

    # -- what is done to nodes -----------------------------------------------------

    def down(self, node: int, why: str) -> None:
        """Note that it is away from now on."""
        self.away.append(Away(node, why, time.time()))

    def up(self, node: int) -> None:
        """Note that it should be back."""
        for each in self.away:
            if each.node == node and each.until is None:
                each.until = time.time()

    def is_away(self, node: int) -> bool:
        """Whether something was done to it that lasts."""
        return any(each.node == node and each.until is None for each in self.away)

    def join(self) -> NodeProcess:
        """A new node with a key; `register` makes it a validator."""
        key = ValidatorKey.from_seed(secrets.token_bytes(32), secrets.token_bytes(64))
        return self.add(key)

    def twin(self, number: int) -> NodeProcess:
        """A copy of a stopped validator, with a node key and ports of its own."""
        index = self.manifest.nodes + len(self.twins)
        home = self.directory / f"node{index}"
        shutil.copytree(self.nodes[number].directory, home)
        for name in (KEY_FILE, "addresses.json", "LOCK"):
            (home / name).unlink(missing_ok=True)
        node = self._placed(index, home, {})
        self.twins.append(node)
        return node

    # -- commands ------------------------------------------------------------------

    def register(self, node: NodeProcess, operator: int) -> str:
        """Stake on a node's key from the account of that index."""
        who = account(operator)
        prepared = self.directory / f"prepared{node.number}.json"
        key_file = str(node.directory / "validator" / "key.json")
        address = "0x" + who.address.hex()
        prepared.write_text(
            self.lockstep("validator", "prepare", key_file, "--operator", address)
        )
        return self.lockstep(
            *("validator", "register", str(prepared), "--stake", STAKE),
            *("--key", str(self._key_file(operator)), "--json"),
        )

    def unbond(self, number: int) -> None:
        """Take all of a genesis validator's stake away."""
        self._operate("unbond", number)

    def unjail(self, number: int) -> None:
        """Bring a genesis validator back that was away for too long."""
        self._operate("unjail", number)

    def _operate(self, what: str, number: int) -> None:
        self.lockstep(
            *("validator", what, self.address(number)),
            *("--key", str(self._key_file(number)), "--json"),
        )

    def finish_pruning(self, node: NodeProcess) -> None:
        """What the end of a process interrupted, if it prunes."""
        keep = self.manifest.prune_keep_states
        if keep and node.number < self.manifest.validators:
            where = ("--data-dir", str(node.directory))
            self.lockstep("prune", "--keep-states", str(keep), *where)

    def facts(self, number: int) -> dict[str, Any]:
        """What the contract says of a validator."""
        shown = self.lockstep("validator", "show", self.address(number), "--json")
        facts: dict[str, Any] = json.loads(shown)
        return facts

    def snapshot(self, node: NodeProcess) -> dict[str, Any]:
        """Write one of a stopped node; its height and hash."""
        told = self.lockstep(
            *("snapshot", str(self._snapshot), "--data-dir", str(node.directory)),
            "--json",
        )
        facts: dict[str, Any] = json.loads(told)
        return facts

    @property
    def _snapshot(self) -> Path:
        return self.directory / "snapshot"

    def restored(self, facts: Mapping[str, Any]) -> NodeProcess:
        """A new node that begins at the snapshot that was written."""
        node = self.add(settings={})
        height = str(facts["height"])
        self.lockstep(
            *("restore", str(self._snapshot), "--trusted-height", height),
            *("--trusted-hash", facts["hash"], "--data-dir", str(node.directory)),
        )
        return node

    def _key_file(self, index: int) -> Path:
        path = self.directory / f"account{index}"
        path.touch(mode=0o600)
        path.write_text("0x" + account(index).secret.hex() + "\n")
        return path

    def lockstep(self, *arguments: str) -> str:
        """Run a command, against a node that is up if it wants one; what it printed.

        Raises:
            CommandError: it failed.
        """
        rpc = ("--rpc", self.up_url()) if arguments[0] == "validator" else ()
        command = [sys.executable, "-m", "lockstep", *arguments, *rpc]
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                command,
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(
                f"lockstep {' '.join(arguments)}: {error.timeout:.0f} s and no end"
            ) from error
        if done.returncode:
            raise CommandError(
                f"lockstep {' '.join(arguments)}: exit code {done.returncode}: "
                f"{done.stdout[-_TAIL:]}{done.stderr[-_TAIL:]}"
            )
        return done.stdout

    def up_url(self) -> str:
        """The first honest node that nothing is done to."""
        return self.up_urls()[0]

    def up_urls(self) -> list[str]:
        """Honest nodes that nothing is done to and that have answered."""
        return [
            node.url
            for node in self.honest
            if node.ready and not self.is_away(node.number)
        ]


def _wires(manifest: Manifest, total: int, ports: Ports) -> Wires:
    if not manifest.cuts:
        return Direct(ports)
    return Namespaces(total, ports) if is_inside() else Relays(total, ports)


def free_ports(count: int) -> int:
    """The first of some ports in a row that nobody listens on at this moment."""
    for _ in range(_TRIES):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        if first + count < 65_536 and all(
            _is_free(port) for port in range(first, first + count)
        ):
            return first
    raise CommandError(f"found no {count} free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
