"""The command line: `lockstep COMMAND`, or `lockstep GROUP COMMAND`.

What is behind each is imported when it is used, so that
`lockstep --help` neither loads web3 nor torch. An expected error is one line on
standard error and exit code 1; with `--json` that line is an object.
"""

import importlib
import importlib.metadata
import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from lockstep.errors import LockstepError

__all__ = ["app", "main"]


@dataclass(frozen=True, slots=True)
class _Group:
    """A part of the command line that is imported on use.

    Attributes:
        module: has `app`, a `typer.Typer`.
        help: its line in `lockstep --help`.
        alone: the module has several commands, and this is the one of its own name.
    """

    module: str
    help: str
    alone: bool = False


def _upkeep(text: str) -> _Group:
    return _Group("lockstep.cli.upkeep", text, alone=True)


GROUPS = {
    "job": _Group("lockstep.cli.job", "Post jobs, watch them, fetch what was trained."),
    "solver": _Group("lockstep.cli.solver", "Train other people's jobs for a price."),
    "verifier": _Group(
        "lockstep.cli.verifier", "Recompute random segments and prove it."
    ),
    "whistleblower": _Group(
        "lockstep.cli.whistleblower", "Replay whole jobs; prove fakes; be rewarded."
    ),
    "dispute": _Group("lockstep.cli.dispute", "Look at challenges and verdicts."),
    "program": _Group("lockstep.cli.program", "Look at captured programs."),
    "validator": _Group(
        "lockstep.cli.validator", "Join and leave the validators of a chain."
    ),
    "keys": _Group("lockstep.cli.keys", "Make and show keys."),
    "devnet": _Group("lockstep.cli.devnet", "Run a chain on this machine."),
    "testnet": _Group(
        "lockstep.cli.testnet", "Make a network of validators on this machine."
    ),
    "init": _Group("lockstep.cli.init", "Make the data directory of a node."),
    "node": _Group("lockstep.cli.node", "Run a node."),
    "signer": _Group(
        "lockstep.cli.signer", "Hold a validator's keys and sign for its node."
    ),
    "status": _Group("lockstep.cli.status", "Look at a node."),
    "export": _upkeep("Write the chain of a stopped node into one file."),
    "import": _upkeep("Execute the blocks of such a file on a stopped node."),
    "snapshot": _upkeep("Write what another node needs to go on from a height."),
    "restore": _upkeep("Begin an empty node at a snapshot."),
    "rollback": _upkeep("Take the last block of a stopped node away."),
    "prune": _upkeep("Remove old blocks and states of a stopped node."),
    "light": _Group("lockstep.cli.light", "Verify headers without running a node."),
    "audit": _Group("lockstep.cli.audit", "Replay a chain and all its verdicts."),
}


class _LazyGroups(TyperGroup):
    """Knows every group by its help line, and loads the one that is called."""

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[:2] == ["node", "run"]:  # as it was written once
            del args[1]
        if args and args[0] in GROUPS:
            self.commands[args[0]] = _load(args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="lockstep",
    cls=_LazyGroups,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Machine-learning training that is bought, sold and verified to the last bit.",
    epilog="Start with [bold]lockstep devnet[/bold], then "
    "[bold]lockstep job submit examples/digits_mlp.py[/bold].",
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - the shape of a callback
    if wanted:
        typer.echo(importlib.metadata.version("lockstep-chain"))
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the version and stop.",
        ),
    ] = False,
) -> None:
    """Machine-learning training that is bought, sold and verified to the last bit."""
    del version  # its callback has answered


def main() -> None:
    """Run the command line; the entry point of the `lockstep` script."""
    try:
        app()
    except LockstepError as error:
        _tell(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _load(name: str) -> Any:  # noqa: ANN401 - Typer keeps its command types private
    group = GROUPS[name]
    loaded: Any = typer.main.get_command(importlib.import_module(group.module).app)
    if group.alone:
        loaded = loaded.commands[name]
    loaded.name = name
    return loaded


def _tell(error: LockstepError) -> None:
    if "--json" in sys.argv:
        line = json.dumps({"error": type(error).__name__, "message": str(error)})
        typer.echo(line, err=True)
    else:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)


def _announce() -> None:
    for name, group in GROUPS.items():
        app.command(name, help=group.help)(root)


_announce()
