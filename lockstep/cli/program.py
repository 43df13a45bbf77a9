"""`lockstep program`: look at captured programs."""

from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli import show
from lockstep.cli.options import JsonOption
from lockstep.errors import ConfigurationError
from ml_verifier.errors import Malformed
from ml_verifier.judge import admit
from ml_verifier.program import MAX_PROGRAM_BYTES, decode_program

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at captured programs.")


@app.callback()
def root() -> None:
    """Look at captured programs."""


@app.command("show", epilog="Example: lockstep program show artifacts/program/1f2e...")
def show_program(
    path: Annotated[Path, typer.Argument(help="A file of canonical program bytes.")],
    *,
    records: Annotated[
        int, typer.Option(min=1, help="Records of the data set, for the costs.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """List a program's state, record layout and operators."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROGRAM_BYTES + 1)
        program = decode_program(data)
        admission = admit(data, records)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except Malformed as error:
        raise ConfigurationError(f"{path} is no program: {error}") from error
    show.mapping(
        {
            "root": program.root,
            "batch": program.batch,
            "record bytes": program.record_bytes,
            "state bytes": program.state_bytes,
            "work units": admission.work_units,
            "witness bytes": admission.witness_bytes,
            "replay gas": admission.replay_gas,
        },
        as_json=as_json,
    )
    show.rows(
        [
            {"value": number, "is": "slot", "name": slot.name, "type": str(slot.type)}
            for number, slot in enumerate(program.slots)
        ]
        + [
            {
                "value": len(program.slots) + number,
                "is": "field",
                "name": field.name,
                "type": str(field.type),
            }
            for number, field in enumerate(program.fields)
        ]
        + [
            {
                "value": first,
                "is": "operator",
                "name": f"{node.operator.name} {list(node.inputs)}",
                "type": str(program.types[first]),
            }
            for node, first in zip(program.nodes, program.first_output, strict=True)
        ],
        as_json=as_json,
        empty="",
    )
