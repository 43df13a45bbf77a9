"""`lockstep verifier`: recompute random segments and prove it."""

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
    default_rpc,
)
from lockstep.equipment import equipped
from lockstep.verifier.service import Verifier

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Recompute random segments and prove it.")


@app.callback()
def root() -> None:
    """Recompute random segments and prove it."""


@app.command(epilog="Example: lockstep verifier run -d ~/verifier --segments 8")
def run(  # noqa: PLR0913 - an argument for each option
    *,
    rpc: RpcOption = default_rpc,
    directory: DirectoryOption = Path("verifier"),
    key: KeyOption = None,
    artifacts: ArtifactsOption = None,
    segments: Annotated[
        int, typer.Option(min=1, help="Segments of each job to recompute.")
    ] = 4,
    length: Annotated[int, typer.Option(min=1, help="Steps of a segment.")] = 10,
    maximum_data: MaximumDataOption = 1024,
    poll: PollOption = 0.5,
    once: OnceOption = False,
    until_idle: UntilIdleOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw segments of committed jobs, recompute them, post address-bound digests."""
    del config  # read by its callback
    settings = Settings(
        rpc,
        directory,
        key,
        artifacts,
        as_json=as_json,
        most_data=maximum_data * MEBIBYTE,
    )
    with stopping() as stop, equipped("verifier", settings) as equipment:
        verifier = Verifier(equipment, segments, length)
        run_actor(verifier.tick, equipment.report, Pace(poll, once, until_idle), stop)
