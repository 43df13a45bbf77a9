"""Runs one manifest and judges it."""

import json
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.testnets.checks import History, disagreement, longest_gap, read
from tests.testnets.manifest import Action, Manifest, Step
from tests.testnets.network import CommandError, NodeProcess, Testnet
from tests.testnets.rpc import Load, RpcError, ask, height

_START_SECONDS = 90.0
_SETTLE_SECONDS = 90.0
_POLL_SECONDS = 0.2
_SENDERS = (8, 9)
_NEW_OPERATOR = 7
_BLOCKS_AFTER = 4

_Event = tuple[float, int, Callable[[], None]]


class Runner:
    """A network from its first process to its last."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        """Make the network; `run` runs it."""
        self.manifest = manifest
        self.net = Testnet(directory, manifest)
        self._load = Load(
            manifest.transfers, self.net.spec.chain_id, _SENDERS, self.net.up_urls
        )
        self._rows: list[tuple[str, bool, str]] = []
        self._events: list[_Event] = []
        self._order = count()
        self._joining: list[NodeProcess] = []

    def run(self) -> bool:
        """Start, trouble, stop, judge; whether everything was as it must be."""
        try:
            self._start()
            self._trouble()
            self._settle()
        except (CommandError, RpcError) as error:
            self._row("runs to the end", passed=False, found=str(error))
        finally:
            self._stop()
        self._judge()
        self._tell()
        return all(passed for _, passed, _ in self._rows)

    def _row(self, what: str, *, passed: bool, found: str) -> None:
        self._rows.append((what, passed, found))

    # -- before and during ---------------------------------------------------------

    def _start(self) -> None:
        for node in self.net.nodes:
            node.start()
        self._wait(
            lambda: all(self._at(node, 1) for node in self.net.nodes),
            _START_SECONDS,
            "all nodes have the first block",
        )

    def _trouble(self) -> None:
        begun = time.monotonic()
        self._load.start()
        for step in self.manifest.steps:
            self._plan(begun + step.at, partial(self._do, step))
        while time.monotonic() < begun + self.manifest.seconds or self._events:
            now = time.monotonic()
            while self._events and min(self._events)[0] <= now:
                event = min(self._events)
                self._events.remove(event)
                event[2]()
            for node in list(self._joining):
                self._register_when_ready(node)
            for node in self.net.nodes:
                node.ready = node.ready or self._at(node, 1)
            time.sleep(_POLL_SECONDS)
        self._load.stop()

    def _plan(self, when: float, action: Callable[[], None]) -> None:
        self._events.append((when, next(self._order), action))

    def _do(self, step: Step) -> None:
        net, end = self.net, time.monotonic() + step.seconds
        if step.action is Action.SNAPSHOT:
            url = net.up_url()
            block = ask(url, "eth_getBlockByNumber", hex(height(url) // 2), *[False])
            net.add(key=None, trusted=(int(block["number"], 16), block["hash"])).start()
            return
        if step.action is Action.FOLLOW:
            net.add(key=None).start()
            return
        if step.action is Action.JOIN:
            node = net.join()
            node.start()
            self._joining.append(node)
            return
        node = net.nodes[step.node]
        match step.action:
            case Action.KILL:
                net.down(step.node, "killed")
                node.kill()
                self._plan(end, partial(self._revive, node))
            case Action.RESTART:
                net.down(step.node, "restarted")
                self._note_exit(node, node.stop())
                self._revive(node)
            case Action.PAUSE:
                net.down(step.node, "paused")
                node.signal(signal.SIGSTOP)
                self._plan(end, partial(self._wake, node))
            case Action.CUT:
                net.down(step.node, "cut off")
                net.cut(step.node)
                self._plan(end, partial(self._heal, node))
            case Action.LEAVE:
                net.unbond(step.node)
            case Action.TWIN:
                self._note_exit(node, node.stop())
                twin = net.twin(step.node)
                node.start()
                twin.start()

    def _revive(self, node: NodeProcess) -> None:
        self.net.up(node.number)
        node.ready = False
        node.start()

    def _wake(self, node: NodeProcess) -> None:
        self.net.up(node.number)
        node.signal(signal.SIGCONT)

    def _heal(self, node: NodeProcess) -> None:
        self.net.up(node.number)
        self.net.heal(node.number)

    def _register_when_ready(self, node: NodeProcess) -> None:
        if self._at(node, max(1, height(self.net.up_url()) - 2)):
            self._joining.remove(node)
            self.net.register(node, _NEW_OPERATOR)

    def _at(self, node: NodeProcess, wanted: int) -> bool:
        try:
            reached = height(node.url) >= wanted
        except RpcError:
            return False
        node.ready = True
        return reached

    def _wait(self, happened: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                raise CommandError(f"not within {seconds:.0f} s: {what}")
            time.sleep(_POLL_SECONDS)

    def _settle(self) -> None:
        """All transfers are in blocks, and all nodes come to one height."""
        url = self.net.up_url()
        self._wait(
            lambda: self._load.missing(url) == 0, _SETTLE_SECONDS, "all transfers"
        )
        wanted = height(url) + _BLOCKS_AFTER
        self._wait(
            lambda: all(self._at(node, wanted) for node in self.net.honest),
            _SETTLE_SECONDS,
            f"all nodes at height {wanted}",
        )
        self._row(
            "transfers",
            passed=self._load.sent > 0,
            found=f"{self._load.sent} in blocks",
        )
        for step in self.manifest.steps:
            self._check_set(step, url)

    def _check_set(self, step: Step, url: str) -> None:
        if step.action not in (Action.JOIN, Action.LEAVE, Action.TWIN):
            return
        members = {
            each["address"] for each in ask(url, "lockstep_validators")["members"]
        }
        inside = self.net.address(step.node) in members
        self._row(
            f"node {step.node} after {step.action}",
            passed=inside == (step.action is Action.JOIN),
            found=f"{'in' if inside else 'not in'} the set of {len(members)}",
        )
        if step.action is Action.TWIN:
            shown = self.net.lockstep(
                "validator", "show", self.net.address(step.node), "--json"
            )
            facts = json.loads(shown)
            self._row(
                f"node {step.node} is punished",
                passed=facts["status"] == "punished",
                found=f"{facts['status']}, stake {facts['stake']}",
            )

    # -- afterwards ----------------------------------------------------------------

    def _note_exit(self, node: NodeProcess, code: int | str) -> None:
        self._row(
            f"node {node.number} ends", passed=code == 0, found=f"exit code {code}"
        )

    def _stop(self) -> None:
        """End every process, whatever has happened."""
        self._load.stop()
        for away in self.net.away:
            if away.until is None:
                self.net.nodes[away.node].signal(signal.SIGCONT)
        for node in self.net.honest:
            self._note_exit(node, node.stop())
        for node in (*self.net.nodes, *self.net.twins):
            if node.running:
                node.stop()

    def _judge(self) -> None:
        history = History()
        chains = [read(node.directory, history) for node in self.net.honest]
        heads = [len(chain.hashes) - 1 for chain in chains]
        found = disagreement(chains)
        self._row(
            "same blocks",
            passed=found is None and min(heads) > 0,
            found=found or f"{len(chains)} databases, heads {heads}",
        )
        tolerated = (self.manifest.validators - 1) // 3
        gap = longest_gap(history, self.net.away, tolerated)
        limit = self.manifest.longest_gap
        self._row(
            f"blocks go on with {tolerated} away",
            passed=gap <= limit,
            found=f"longest gap {gap:.1f} s, at most {limit:.0f} s",
        )
        self._judge_returns(history)
        if any(step.action is Action.TWIN for step in self.manifest.steps):
            self._row(
                "evidence in blocks",
                passed=bool(history.evidence),
                found=f"heights {history.evidence}",
            )
        for node in self.net.honest:
            self._audit(node)

    def _judge_returns(self, history: History) -> None:
        limit = self.manifest.back_within
        for away in self.net.away:
            if away.node not in self.net.keys or away.until is None:
                continue
            address = self.net.keys[away.node].address
            seconds = history.voted_after(address, away.until)
            self._row(
                f"node {away.node}, {away.why}, votes again",
                passed=seconds is not None and seconds <= limit,
                found="never" if seconds is None else f"after {seconds:.1f} s",
            )

    def _audit(self, node: NodeProcess) -> None:
        try:
            report = self.net.lockstep("audit", str(node.directory), "--json")
            found, passed = f"{json.loads(report)['blocks']} blocks", True
        except CommandError as error:
            found, passed = str(error), False
        self._row(f"audit of node {node.number}", passed=passed, found=found)

    def _tell(self) -> None:
        table = Table(title=self.manifest.name)
        for column in ("check", "", "found"):
            table.add_column(column)
        for what, passed, found in self._rows:
            table.add_row(what, "ok" if passed else "FAILED", found)
        console = Console(width=110, markup=False)
        console.print(table)
        if all(passed for _, passed, _ in self._rows):
            return
        for node in (*self.net.nodes, *self.net.twins):
            console.print(f"-- the end of {node.log}", node.tail(), sep="\n")
        if self._load.refused:
            console.print("-- transfers that were refused", *self._load.refused[-5:])
