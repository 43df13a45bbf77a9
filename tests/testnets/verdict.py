"""Judges a network that has ended, by its databases, and tells what was found."""

import json

from rich.console import Console
from rich.table import Table

from tests.testnets.checks import (
    Chain,
    History,
    disagreement,
    longest_gap,
    read,
    without_quorum,
)
from tests.testnets.manifest import Action
from tests.testnets.network import CommandError, NodeProcess, Testnet

_SILENT = "this validator signs nothing"
_LATE = (Action.SNAPSHOT, Action.RESTORE)


class Verdict:
    """Rows of a table: what was checked, whether it held, what was found."""

    def __init__(self, net: Testnet) -> None:
        """Begin with none."""
        self._net = net
        self._rows: list[tuple[str, bool, str]] = []

    def row(self, what: str, *, passed: bool, found: str) -> None:
        """Add a check."""
        self._rows.append((what, passed, found))

    def exit(self, node: NodeProcess, code: int | str) -> None:
        """How a process ended that was asked to."""
        self.row(
            f"node {node.number} ends", passed=code == 0, found=f"exit code {code}"
        )

    def judge(self) -> None:
        """Read the databases."""
        net, manifest = self._net, self._net.manifest
        history = History()
        chains = [read(node.directory, history) for node in net.honest]
        heads = [len(chain.hashes) - 1 for chain in chains]
        found = disagreement(chains)
        self.row(
            "same blocks",
            passed=found is None and min(heads) == max(heads) > 0,
            found=found or f"{len(chains)} databases, heads {heads}",
        )
        for node, chain in zip(net.honest, chains, strict=True):
            self._judge_beginning(node.number, chain)
        tolerated = (manifest.validators - 1) // 3
        gap = longest_gap(history, net.away, tolerated)
        limit = manifest.longest_gap
        self.row(
            f"blocks go on with {tolerated} away",
            passed=gap <= limit,
            found=f"longest gap {gap:.1f} s, at most {limit:.0f} s",
        )
        alone = without_quorum(history, net.away, tolerated)
        self.row(
            "no block without a quorum",
            passed=not alone,
            found=f"heights {alone}",
        )
        self._judge_votes(history)
        guilty = bool(manifest.who(Action.TWIN))
        self.row(
            "who signed twice is accused" if guilty else "nobody is accused",
            passed=bool(history.evidence) == guilty,
            found=f"evidence at heights {history.evidence}",
        )
        if manifest.who(Action.DOUBLE):
            silent = [_SILENT in twin.log.read_text("utf-8") for twin in net.twins]
            self.row(
                "a second node with a key signs nothing",
                passed=all(silent),
                found=f"silent: {silent}",
            )
        for node in net.honest:
            self._audit(node)

    def _judge_beginning(self, number: int, chain: Chain) -> None:
        """Who executed from genesis has every block; who began late has not."""
        late = number in self._net.manifest.who(*_LATE)
        self.row(
            f"history of node {number}",
            passed=(chain.first > 1) == late and all(chain.hashes[chain.first :]),
            found=f"from block {chain.first}",
        )

    def _judge_votes(self, history: History) -> None:
        net, limit = self._net, self._net.manifest.back_within
        jailed = net.manifest.who(Action.UNJAIL)
        for away in net.away:
            if away.node not in net.keys or away.until is None:
                continue
            address = net.keys[away.node].address
            seconds = history.voted_after(address, away.until)
            within = seconds is not None and (seconds <= limit or away.node in jailed)
            self.row(
                f"node {away.node}, {away.why}, votes again",
                passed=within,
                found="never" if seconds is None else f"after {seconds:.1f} s",
            )
        for number in net.manifest.who(Action.JOIN):
            votes = len(set(history.votes[net.keys[number].address]))
            self.row(
                f"node {number} votes", passed=votes > 0, found=f"{votes} precommits"
            )

    def _audit(self, node: NodeProcess) -> None:
        try:
            self._net.finish_pruning(node)
            report = self._net.lockstep("audit", str(node.directory), "--json")
            found, passed = f"{json.loads(report)['blocks']} blocks", True
        except CommandError as error:
            found, passed = str(error), False
        self.row(f"audit of node {node.number}", passed=passed, found=found)

    def tell(self, refused: list[str]) -> bool:
        """Print the table, and logs if something is wrong; whether nothing is."""
        net = self._net
        table = Table(title=net.manifest.name)
        for column in ("check", "", "found"):
            table.add_column(column)
        for what, passed, found in self._rows:
            table.add_row(what, "ok" if passed else "FAILED", found)
        console = Console(width=110, markup=False)
        console.print(table)
        if all(passed for _, passed, _ in self._rows):
            return True
        for node in (*net.nodes, *net.twins):
            console.print(f"-- the end of {node.log}", node.tail(), sep="\n")
        if refused:
            console.print("-- transfers that were refused", *refused[-5:])
        return False
