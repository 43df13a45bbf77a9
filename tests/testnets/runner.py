"""Runs one manifest; `tests.testnets.verdict` judges what it leaves."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from tests.testnets.checks import head
from tests.testnets.manifest import NEW, Action, Manifest, Step
from tests.testnets.network import CommandError, NodeProcess, Testnet
from tests.testnets.rpc import Load, RpcError, ask, height
from tests.testnets.verdict import Verdict

_START_SECONDS = 120.0
_SETTLE_SECONDS = 120.0
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 4.0
_SENDERS = (8, 9)
_NEW_OPERATOR = 7
_BLOCKS_AFTER = 4
_ROUNDS = 4

_Event = tuple[float, int, Callable[[], None]]
_MEMBERSHIP = {
    Action.JOIN: True,
    Action.LEAVE: False,
    Action.UNJAIL: True,
    Action.DOUBLE: True,
    Action.TWIN: False,
}
_STATUS = {
    Action.JOIN: "seated",
    Action.LEAVE: "not seated",
    Action.UNJAIL: "seated",
    Action.DOUBLE: "seated",
    Action.TWIN: "punished",
}


class Runner:
    """A network from its first process to its last."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        """Make the network; `run` runs it."""
        self.manifest = manifest
        self.net = Testnet(directory, manifest)
        self._load = Load(
            manifest.transfers, self.net.spec.chain_id, _SENDERS, self.net.up_urls
        )
        self._verdict = Verdict(self.net)
        self._events: list[_Event] = []
        self._order = count()
        self._waiting: list[Callable[[], bool]] = []
        self._begun = time.monotonic()

    def run(self) -> bool:
        """Start, trouble, stop, judge; whether everything was as it must be."""
        try:
            self._start()
            self._trouble()
            self._settle()
            self._stop()
            self._level()
        except (CommandError, RpcError, subprocess.CalledProcessError) as error:
            self._verdict.row("runs to the end", passed=False, found=str(error))
        finally:
            self._stop()
        self._verdict.judge()
        return self._verdict.tell(self._load.refused)

    def _say(self, what: str) -> None:
        seconds = time.monotonic() - self._begun
        sys.stdout.write(f"{self.manifest.name} {seconds:6.1f} s: {what}\n")
        sys.stdout.flush()

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
        self._begun = begun = time.monotonic()
        self._say(f"{len(self.net.nodes)} nodes have the first block")
        self._load.start()
        for step in self.manifest.steps:
            self._plan(begun + step.at, partial(self._do, step))
        end = begun + self.manifest.seconds
        while time.monotonic() < end or self._events or self._waiting:
            now = time.monotonic()
            if now > end + _SETTLE_SECONDS:
                raise CommandError(
                    f"not within {_SETTLE_SECONDS:.0f} s after the load: all steps"
                )
            while self._events and min(self._events)[0] <= now:
                event = min(self._events)
                self._events.remove(event)
                event[2]()
            self._waiting = [each for each in self._waiting if not each()]
            for node in self.net.nodes:
                node.ready = node.ready or self._at(node, 1)
            time.sleep(_POLL_SECONDS)
        self._load.stop()
        self._say(f"{self._load.sent} transfers sent")

    def _plan(self, when: float, action: Callable[[], None]) -> None:
        self._events.append((when, next(self._order), action))

    def _do(self, step: Step) -> None:
        self._say(f"{step.action} node {step.node}")
        if step.action in NEW:
            self._add(step)
        else:
            self._do_to(self.net.nodes[step.node], step)

    def _add(self, step: Step) -> None:
        net = self.net
        match step.action:
            case Action.SNAPSHOT:
                net.add(settings=self._trusted()).start()
            case Action.RESTORE:
                self._restore(net.nodes[0])
            case Action.JOIN:
                node = net.join()
                node.start()
                self._waiting.append(partial(self._register_when_ready, node))
            case _:
                net.add().start()

    def _do_to(self, node: NodeProcess, step: Step) -> None:
        net, end = self.net, time.monotonic() + step.seconds
        match step.action:
            case Action.LEAVE:
                net.unbond(step.node)
            case Action.UNJAIL:
                self._waiting.append(self._unjailing(step.node))
            case Action.KILL:
                net.down(step.node, "killed")
                node.kill()
                self._plan(end, partial(self._revive, node))
            case Action.PAUSE:
                net.down(step.node, "paused")
                node.signal(signal.SIGSTOP)
                self._plan(end, partial(self._wake, node))
            case Action.CUT:
                net.down(step.node, "cut off")
                net.wires.cut(step.node)
                self._plan(end, partial(self._heal, node))
            case Action.DOUBLE:
                self._end(node)
                twin = net.twin(step.node)
                self._revive(node)
                self._plan(end, twin.start)
            case Action.TWIN:
                self._end(node)
                for each in (node, net.twin(step.node)):
                    each.program = "tests.testnets.reckless"
                    self._revive(each)
            case _:
                net.down(step.node, "restarted")
                self._end(node)
                self._revive(node)

    def _trusted(self) -> dict[str, str | int]:
        """A block that peers have a snapshot of, or soon have of a later one."""
        url, interval = self.net.up_url(), self.manifest.snapshot_interval
        number = max(1, height(url) // interval - 1) * interval
        self._wait(lambda: height(url) >= number, _START_SECONDS, f"block {number}")
        block = ask(url, "eth_getBlockByNumber", hex(number), False)  # noqa: FBT003 - JSON
        self._say(f"trusts block {number}")
        return {"sync_trust_height": number, "sync_trust_hash": block["hash"]}

    def _restore(self, source: NodeProcess) -> None:
        """Write a snapshot of a node that stops for it, and begin another one there."""
        self.net.down(source.number, "restarted")
        self._end(source)
        facts = self.net.snapshot(source)
        self._revive(source)
        self.net.restored(facts).start()

    def _end(self, node: NodeProcess) -> None:
        self._verdict.exit(node, node.stop())

    def _revive(self, node: NodeProcess) -> None:
        self.net.up(node.number)
        node.ready = False
        node.start()
        self._say(f"node {node.number} is back")

    def _wake(self, node: NodeProcess) -> None:
        self.net.up(node.number)
        node.signal(signal.SIGCONT)
        self._say(f"node {node.number} goes on")

    def _heal(self, node: NodeProcess) -> None:
        self.net.up(node.number)
        self.net.wires.heal(node.number)
        self._say(f"node {node.number} can be reached again")

    def _register_when_ready(self, node: NodeProcess) -> bool:
        if not self._at(node, max(1, height(self.net.up_url()) - 2)):
            return False
        self.net.register(node, _NEW_OPERATOR)
        self._say(f"node {node.number} has staked")
        return True

    def _unjailing(self, number: int) -> Callable[[], bool]:
        """What brings a validator back as soon as that is allowed."""
        until: int | None = None
        look = 0.0

        def attempt() -> bool:
            nonlocal until, look
            now = time.monotonic()
            if until is None and now >= look:
                look = now + _LOOK_SECONDS
                facts = self.net.facts(number)
                if facts["status"] == "jailed":
                    until = int(facts["jailed until block"])
                    self._say(f"node {number} is jailed until block {until}")
            if until is None or height(self.net.up_url()) < until:
                return False
            self.net.unjail(number)
            self._say(f"node {number} is free")
            return True

        return attempt

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

    # -- at the end ----------------------------------------------------------------

    def _settle(self) -> None:
        """All transfers are in blocks, the set is right, all nodes at one height."""
        url = self.net.up_url()
        self._wait(
            lambda: self._load.missing(url) == 0, _SETTLE_SECONDS, "all transfers"
        )
        self._verdict.row(
            "transfers",
            passed=self._load.sent > 0,
            found=f"{self._load.sent} in blocks",
        )
        for step in self.manifest.steps:
            if step.action in _MEMBERSHIP:
                self._check_member(step, url)
        wanted = height(url) + _BLOCKS_AFTER
        self._wait(
            lambda: all(self._at(node, wanted) for node in self.net.honest),
            _SETTLE_SECONDS,
            f"all nodes at height {wanted}",
        )
        self._say(f"all nodes at height {wanted}")

    def _check_member(self, step: Step, url: str) -> None:
        expected, address = _MEMBERSHIP[step.action], self.net.address(step.node)

        def members() -> set[str]:
            voters = ask(url, "lockstep_validators")["members"]
            return {each["address"] for each in voters}

        self._wait(
            lambda: (address in members()) == expected,
            _SETTLE_SECONDS,
            f"node {step.node} is {'' if expected else 'not '}in the set",
        )
        status = str(self.net.facts(step.node)["status"])
        self._verdict.row(
            f"node {step.node} after {step.action}",
            passed=status == _STATUS[step.action],
            found=f"{status}; the set has {len(members())}",
        )

    def _level(self) -> None:
        """Give every database what the others have: nodes stop one after the other.

        Two at a time are no quorum, so there are no new blocks; only a last one, when
        both together know the votes of others for it.
        """
        heads = {node.number: head(node.directory) for node in self.net.honest}
        for _ in range(_ROUNDS):
            best = max(self.net.honest, key=lambda node: heads[node.number])
            late = [
                each
                for each in self.net.honest
                if heads[each.number] < max(heads.values())
            ]
            if not late:
                return
            self._say(f"heads {list(heads.values())}: the late ones catch up")
            best.start()
            for node in late:
                node.start()
                reached = partial(self._at, node, heads[best.number])
                self._wait(reached, _START_SECONDS, f"node {node.number} catches up")
                self._end(node)
            self._end(best)
            heads = {node.number: head(node.directory) for node in self.net.honest}

    def _stop(self) -> None:
        """End every process that runs, whatever has happened."""
        self._load.stop()
        for node in self.net.nodes:
            node.signal(signal.SIGCONT)
        for node in self.net.honest:
            if node.started:
                self._end(node)
        for node in (*self.net.nodes, *self.net.twins):
            if node.running:
                node.stop()
        self.net.wires.close()
