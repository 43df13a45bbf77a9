"""`lockstep whistleblower`: replay whole jobs, prove fakes, be rewarded."""

from pathlib import Path
from typing import Annotated

import typer

from lockstep.actor import Pace, Settings, run as run_actor, stopping
from lockstep.cli.options import (
    MEBIBYTE,
    ArtifactsOption,
    ConfigOption,
    DirectoryOption,
    JsonOption,
    KeyOption,
    MaximumDataOption,
    OnceOption,
    PollOption,
    RpcOption,
    UntilIdleOption,
    addresses,
    default_rpc,
)
from lockstep.equipment import equipped
from lockstep.whistleblower.service import Whistleblower

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Replay whole jobs; prove fakes; be rewarded."
)


@app.callback()
def root() -> None:
    """Replay whole jobs; prove fakes; be rewarded."""


@app.command(epilog="Example: lockstep whistleblower run -d ~/whistleblower")
def run(  # noqa: PLR0913 - an argument for each option
    *,
    rpc: RpcOption = default_rpc,
    directory: DirectoryOption = Path("whistleblower"),
    key: KeyOption = None,
    artifacts: ArtifactsOption = None,
    creator: Annotated[
        list[str] | None,
        typer.Option(help="Check only this creator's jobs; may be repeated."),
    ] = None,
    patience: Annotated[
        int,
        typer.Option(min=0, help="Ticks to ask for unserved data before demanding."),
    ] = 4,
    maximum_data: MaximumDataOption = 1024,
    poll: PollOption = 0.5,
    once: OnceOption = False,
    until_idle: UntilIdleOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay every committed job from its start; challenge the first wrong step.

    Needs no hint and trusts nobody: it recomputes, compares, seals a challenge with a
    bond, reveals it, has the one step judged on the chain, and claims its share.
    """
    del config  # read by its callback
    settings = Settings(
        rpc,
        directory,
        key,
        artifacts,
        as_json=as_json,
        most_data=maximum_data * MEBIBYTE,
    )
    creators = addresses(creator)
    with stopping() as stop, equipped("whistleblower", settings) as equipment:
        whistleblower = Whistleblower(equipment, patience, creators)
        run_actor(
            whistleblower.tick, equipment.report, Pace(poll, once, until_idle), stop
        )
