"""Runs the demonstration and holds it to what it promises.

Exit code 0 means: both honest jobs were trained, fetched and paid for, both faked ones
were convicted at the drawn step by a whistleblower without a hint, every token is
accounted for, a validator that was killed in the middle of the dispute came back, and
an audit of every validator's database agrees with every verdict.
"""

import json
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import typer
from eth_utils.address import to_checksum_address
from rich.console import Console
from rich.table import Table

from chain.addresses import STAKING, SYSTEM_CONTRACTS, ZERO
from lockstep.cli.show import amount, rounded
from lockstep.client.connection import Connection
from lockstep.client.contracts import deployed
from lockstep.client.market import Market, Staking
from lockstep.client.views import JobState
from lockstep.demo.cast import Part, parts
from lockstep.demo.ledger import Ledger, ledger
from lockstep.demo.outage import Outage
from lockstep.demo.story import Narrator
from lockstep.errors import LockstepError
from lockstep.localnet import Localnet, Process

__all__ = ["main"]

_EXAMPLES = Path(__file__).parents[2] / "examples"
_ACT_SECONDS = 300.0  # a guard against hanging, not a promise
_SETTLE_SECONDS = 60.0
_POLL_SECONDS = 0.5
_LEAST_ACCURACY = 0.8
_VERIFIER, _WHISTLEBLOWER = 7, 8
_VALIDATORS = 4
_PATIENCE = "2"
_PARAMETERS = {"challenge_window": 30}  # seconds, for machines busy with other things
_BURNED = to_checksum_address(ZERO)
_STAKING = to_checksum_address(STAKING)
_CONTRACTS = {
    to_checksum_address(address): f"held by {name}"
    for name, address in SYSTEM_CONTRACTS.items()
}


class DemoFailed(LockstepError):
    """Something that the demonstration promises did not happen."""


class Stage:
    """One run of the demonstration."""

    def __init__(self, net: Localnet, console: Console, source: random.Random) -> None:
        self._net = net
        self._console = console
        self._parts = parts(source)
        self._seeds = {part.name: source.getrandbits(64) for part in self._parts}
        self._connection = Connection(net.url, deployed())
        self._market = Market(self._connection)
        roles = [*self._roles(), *["nobody"] * len(net.accounts)]
        self._people = {
            account.address: name
            for account, name in zip(net.accounts, roles, strict=False)
        }
        self._story = Narrator(self._connection, console, self._people)
        self._jobs: dict[str, int] = {}
        self._failures: list[str] = []
        self._outage = Outage(net, self._story)

    def play(self) -> list[str]:
        """All acts; returns what did not happen."""
        before = ledger(self._connection, self._people, 0)
        self._start_actors()
        honest, faked = self._parts[:2], self._parts[2:]
        self._act("Two models, trained honestly", honest)
        comparisons = [(part, self._start_comparing(part)) for part in honest]
        self._act("The same two models, faked", faked)
        self._console.rule("What was bought, and what was found out")
        for part, comparison in comparisons:
            self._compare(part, comparison)
        for part in faked:
            self._check_conviction(part)
        self._check_digests(honest)
        self._failures += self._outage.end()
        self._drain()
        self._balances(before)
        self._phases()
        return self._failures

    # ── acts ─────────────────────────────────────────────────────────────────

    def _roles(self) -> list[str]:
        return [
            "creator Ada",
            "creator Ben",
            "creator Cleo",
            "creator Dan",
            "the honest solver",
            "the first cheat",
            "the second cheat",
            "the verifier",
            "the whistleblower",
        ]

    def _start_actors(self) -> None:
        net = self._net
        solvers: dict[int, list[Part]] = {}
        for part in self._parts:
            solvers.setdefault(part.solver, []).append(part)
        for index, tasks in solvers.items():
            options = ["--poll", str(_POLL_SECONDS)]
            for part in tasks:
                options += ["--creator", net.accounts[part.creator].address]
            fake = tasks[0].fake
            if fake is not None:
                options += ["--cheat", fake.option]
            name = self._roles()[index].replace(" ", "-")
            net.actor(name, "solver", net.accounts[index], *options)
        net.actor(
            "verifier",
            "verifier",
            net.accounts[_VERIFIER],
            "--poll",
            str(_POLL_SECONDS),
            "--segments",
            "2",
        )
        net.actor(
            "whistleblower",
            "whistleblower",
            net.accounts[_WHISTLEBLOWER],
            "--poll",
            str(_POLL_SECONDS),
            "--patience",
            _PATIENCE,
        )

    def _act(self, title: str, jobs: list[Part]) -> None:
        """Post the jobs and tell what happens until they are at their ends."""
        self._console.rule(title)
        creators = {part.name: self._submit(part) for part in jobs}
        deadline = time.monotonic() + _ACT_SECONDS
        while any(creator.running for creator in creators.values()):
            self._story.listen()
            self._outage.watch()
            self._net.check()
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{title}: not over after {_ACT_SECONDS:.0f} s; "
                    + "; ".join(f"{n}: {c.errors()}" for n, c in creators.items())
                )
            time.sleep(_POLL_SECONDS)
        self._story.listen()
        for part in jobs:
            creator = creators[part.name]
            self._jobs[part.name] = cast("int", creator.line_with("job", 0)["job"])
            self._check_end(part, creator)

    def _submit(self, part: Part) -> Process:
        net = self._net
        name = f"creator-{part.name}"
        net.key_file(name, net.accounts[part.creator])
        return net.command(
            name,
            "job",
            "submit",
            str(_EXAMPLES / f"digits_{part.model}.py"),
            "--rpc",
            net.url,
            "--directory",
            str(net.directory / name),
            "--seed",
            str(self._seeds[part.name]),
            "--output",
            str(self._weights(part)),
        )

    def _weights(self, part: Part) -> Path:
        return self._net.directory / f"{part.name}.safetensors"

    def _drain(self) -> None:
        """Let the winners collect, so that the balances are final."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        faked = [self._jobs[part.name] for part in self._parts if part.fake]
        while time.monotonic() < deadline:
            self._story.listen()
            claims = [
                self._story.history.latest("ChallengeClaimed", job_id=job)
                for job in faked
            ]
            paid = list(self._story.history.select("Withdrawn"))
            if all(claims) and any(
                event.contract == "DisputeGame"
                and event.block >= max(claim.block for claim in claims if claim)
                for event in paid
            ):
                return
            time.sleep(_POLL_SECONDS)
        self._fail("the whistleblower did not collect its rewards")

    # ── what must have happened ──────────────────────────────────────────────

    def _fail(self, what: str) -> None:
        self._failures.append(what)
        self._console.print(f"[red]missing:[/red] {what}")

    def _check_end(self, part: Part, creator: Process) -> None:
        state = self._market.job(self._jobs[part.name]).state
        wanted = JobState.FINALISED if part.fake is None else JobState.SLASHED
        if state is not wanted:
            self._fail(
                f"{part.name} should be {wanted.name.lower()}, it is "
                f"{state.name.lower()}; {creator.errors()}"
            )

    def _start_comparing(self, part: Part) -> subprocess.Popen[str]:
        """Train with plain torch in a process of its own, meanwhile."""
        command = [
            sys.executable,
            str(_EXAMPLES / "plain_torch.py"),
            str(_EXAMPLES / f"digits_{part.model}.py"),
            str(self._weights(part)),
        ]
        return subprocess.Popen(  # noqa: S603 - our own script
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def _compare(self, part: Part, comparison: subprocess.Popen[str]) -> None:
        """Test accuracy of what was fetched, beside plain torch."""
        printed, errors = comparison.communicate()
        if comparison.returncode:
            self._fail(
                f"{part.name}: comparing its weights ended with "
                f"{comparison.returncode}: {errors[-500:]}"
            )
            return
        found = cast("Mapping[str, float]", json.loads(printed))
        self._story.say(
            f"[bold]job {self._jobs[part.name]}[/bold]: test accuracy of the fetched "
            f"{part.model.upper()} {found['fetched']:.3f}, of plain torch after as "
            f"many steps {found['torch']:.3f}"
        )
        if found["fetched"] < _LEAST_ACCURACY:
            self._fail(f"{part.name}: accuracy {found['fetched']:.3f}")

    def _check_conviction(self, part: Part) -> None:
        """The judge must have said INVALID at the very step that was faked."""
        job, fake = self._jobs[part.name], part.fake
        verdict = self._story.history.latest("VerdictRecorded", job_id=job, valid=False)
        if fake is None or verdict is None:
            self._fail(f"{part.name}: no verdict against it")
            return
        self._story.say(
            f"[bold]job {job}[/bold] was faked by [bold]{fake.option}[/bold] (drawn at "
            f"random, known to nobody else); convicted at step "
            f"{verdict.fields['position']}"
        )
        if verdict.fields["position"] != fake.step:
            self._fail(
                f"{part.name}: faked at step {fake.step}, convicted at "
                f"{verdict.fields['position']}"
            )

    def _check_digests(self, honest: list[Part]) -> None:
        for part in honest:
            job = self._jobs[part.name]
            if self._story.history.latest("DigestRevealed", job_id=job) is None:
                self._fail(f"{part.name}: the verifier revealed no digest")

    # ── accounts ─────────────────────────────────────────────────────────────

    def _balances(self, before: Ledger) -> None:
        """Who won and lost what, and that nothing appeared or vanished."""
        connection = self._connection
        after = ledger(connection, self._people, connection.block_number())
        staking = Staking(connection)
        self._console.rule("Balances")
        table = Table(box=None, pad_edge=False)
        for name in ("", "before", "after", "of it staked", "change"):
            table.add_column(name, justify="right" if name else "left")
        held = dict(after.balances)
        for address in self._people:
            staked = staking.free(address) + staking.locked(address)
            held[address] += staked
            held[_STAKING] -= staked
            self._row(table, address, before, held[address], staked)
        for address in after.balances:
            if address not in self._people and held[address]:
                self._row(table, address, before, held[address], 0)
        table.add_row("base fees, burned", "", "", "", f"+{rounded(after.fees_burned)}")
        self._console.print(table)
        start = sum(connection.balance(address, 0) for address in after.balances)
        if start == after.total:
            self._console.print(
                f"conserved: balances and burned fees add up to {amount(start)} tokens "
                f"at block 0 and at block {after.block}"
            )
        else:
            self._fail(f"{abs(start - after.total)} wei appeared or vanished")

    def _row(
        self, table: Table, address: str, before: Ledger, now: int, staked: int
    ) -> None:
        was = before.balances.get(address, 0)
        names: dict[str, str] = {_BURNED: "burned"}
        names |= _CONTRACTS | self._people
        sign = "+" if now >= was else "-"
        table.add_row(
            names.get(address, "the validator"),
            rounded(was),
            rounded(now),
            rounded(staked) if staked else "",
            f"{sign}{rounded(abs(now - was))}",
        )

    def _phases(self) -> None:
        """Seconds that each phase took, by job."""
        self._console.rule("Seconds by phase")
        table = Table(box=None, pad_edge=False)
        phases = {
            "job": None,
            "wait": ("JobPosted", "JobAssigned"),
            "train": ("JobAssigned", "JobCommitted"),
            "find": ("JobCommitted", "ChallengeCommitted"),
            "judge": ("ChallengeCommitted", "VerdictRecorded"),
            "claim": ("VerdictRecorded", "ChallengeClaimed"),
            "final": ("JobCommitted", "JobFinalised"),
        }
        for name in phases:
            table.add_column(name, justify="left" if name == "job" else "right")
        seen = self._story.seen_at
        for name, job in self._jobs.items():
            cells = [f"{job} {name}"]
            for ends in list(phases.values())[1:]:
                marks = [seen.get((event, job)) for event in ends or ()]
                first, last = marks
                if first is None or last is None:
                    cells.append("")
                else:
                    cells.append(f"{last - first:.1f}")
            table.add_row(*cells)
        self._console.print(table)


def main() -> None:
    """Run the demonstration from the command line."""
    typer.run(_demo)


def _demo(
    seed: Annotated[
        int | None, typer.Option(help="Repeat a run: it prints its seed.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Keep everything here; must not exist.")
    ] = None,
) -> None:
    """Two honest trainings, two faked ones, and how the fakes are found."""
    console = Console(highlight=False, soft_wrap=True)
    drawn = secrets.randbits(32) if seed is None else seed
    console.print(f"seed {drawn} (repeat this run with SEED={drawn})")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lockstep-demo-") as temporary:
        where = Path(temporary) / "demo" if directory is None else directory
        try:
            with Localnet(where, parameters=_PARAMETERS, validators=_VALIDATORS) as net:
                console.print(
                    f"{_VALIDATORS} validators, each a process; RPC of the first at "
                    f"{net.url}, everything below {where}"
                )
                failures = Stage(net, console, random.Random(drawn)).play()  # noqa: S311 - a drawn demonstration
            failures += _audit(net, console)
        except LockstepError as error:
            console.print(f"[red]error:[/red] {error}")
            raise typer.Exit(1) from error
    if failures:
        console.print(f"[red]{len(failures)} parts did not happen[/red]")
        raise typer.Exit(1)
    console.print(f"[green]all as promised[/green] in {time.monotonic() - began:.0f} s")


def _audit(net: Localnet, console: Console) -> list[str]:
    """Replay the whole chain from the database of every stopped node."""
    failures: list[str] = []
    for index, database in enumerate(net.databases):
        console.rule(f"Audit of validator {index}")
        command = [sys.executable, "-m", "lockstep", "audit", str(database)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
        console.print(done.stdout.strip(), markup=False)
        if done.returncode:
            failures.append(f"audit of validator {index}: {done.stderr[-500:]}")
    return failures
