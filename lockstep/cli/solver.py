"""`lockstep solver`: train other people's jobs for a price."""

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
    PublicUrlOption,
    RpcOption,
    ServeOption,
    UntilIdleOption,
    addresses,
    default_rpc,
)
from lockstep.creator.spec import tokens
from lockstep.equipment import equipped
from lockstep.errors import ConfigurationError
from lockstep.solver.appraisal import Conditions
from lockstep.solver.cheats import parse
from lockstep.solver.service import Solver

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Train other people's jobs for a price.")


@app.callback()
def root() -> None:
    """Train other people's jobs for a price."""


@app.command(
    epilog="Example: lockstep solver run -d ~/solver --minimum-price 0.5 "
    "--serve 0.0.0.0:9000 --public-url http://203.0.113.7:9000"
)
def run(  # noqa: PLR0913 - an argument for each option
    *,
    rpc: RpcOption = default_rpc,
    directory: DirectoryOption = Path("solver"),
    key: KeyOption = None,
    artifacts: ArtifactsOption = None,
    serve: ServeOption = "127.0.0.1:0",
    public_url: PublicUrlOption = None,
    minimum_price: Annotated[
        float, typer.Option(help="Tokens; wait until a job's price has risen to it.")
    ] = 0.0,
    minimum_rate: Annotated[
        float, typer.Option(help="Tokens for 10^12 work units, at least.")
    ] = 0.0,
    maximum_stake: Annotated[
        float | None, typer.Option(help="Tokens that one job may lock.")
    ] = None,
    creator: Annotated[
        list[str] | None,
        typer.Option(help="Take only this creator's jobs; may be repeated."),
    ] = None,
    maximum_jobs: Annotated[
        int, typer.Option(min=1, help="Jobs under way at a time.")
    ] = 4,
    cheat: Annotated[
        str | None, typer.Option(hidden=True, help="NAME or NAME@STEP.")
    ] = None,
    maximum_data: MaximumDataOption = 1024,
    poll: PollOption = 0.5,
    once: OnceOption = False,
    until_idle: UntilIdleOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take jobs, train them, commit to every step, defend, be paid.

    Stakes what a job asks for, from the account's balance. Trains with the reproducible
    kernels, checkpoints, and goes on where it stopped, whatever stopped it.
    """
    del config  # read by its callback
    settings = Settings(
        rpc,
        directory,
        key,
        artifacts,
        serve,
        public_url,
        as_json=as_json,
        most_data=maximum_data * MEBIBYTE,
    )
    try:
        conditions = Conditions(
            minimum_price=tokens(minimum_price),
            minimum_rate=tokens(minimum_rate),
            maximum_stake=None if maximum_stake is None else tokens(maximum_stake),
            creators=addresses(creator),
            maximum_jobs=maximum_jobs,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    cheating = None if cheat is None else parse(cheat)
    with stopping() as stop, equipped("solver", settings) as equipment:
        solver = Solver(equipment, conditions, cheating)
        run_actor(solver.tick, equipment.report, Pace(poll, once, until_idle), stop)
