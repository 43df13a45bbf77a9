"""`lockstep program`: look at captured programs."""

from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli import show
from lockstep.cli.options import JsonOption
from lockstep.errors import ConfigurationError
from ml_verifier.errors import Malformed
from ml_verifier.inspection import Report, inspect
from ml_verifier.judge import step_gas
from ml_verifier.program import MAX_PROGRAM_BYTES, Program, decode_program
from ml_verifier.witness import largest_witness

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
    nodes: Annotated[
        bool, typer.Option("--nodes", help="List every node with its costs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a program: totals, state, record layout, operators and what they cost."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROGRAM_BYTES + 1)
        program = decode_program(data)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except Malformed as error:
        raise ConfigurationError(f"{path} is no program: {error}") from error
    report = inspect(program, records)
    show.mapping(_totals(report, records), as_json=as_json)
    show.rows(_interface(program), as_json=as_json, empty="")
    costs = _nodes(report) if nodes else _operators(report)
    show.rows(costs, as_json=as_json, empty="")


def _totals(report: Report, records: int) -> dict[str, object]:
    program = report.program
    return {
        "root": program.root,
        "program bytes": len(program.encoded),
        "batch": program.batch,
        "record bytes": program.record_bytes,
        "state bytes": program.state_bytes,
        "nodes": len(program.nodes),
        "multiply-adds": sum(node.macs for node in report.nodes),
        "bytes moved": sum(node.moved for node in report.nodes),
        "work units": report.work_units,
        "peak memory": report.peak_memory,
        "witness bytes": largest_witness(program, records),
        "replay gas": step_gas(program, records),
        "fits a one-step dispute": f"no: {report.refused}" if report.refused else "yes",
    }


def _interface(program: Program) -> list[dict[str, object]]:
    items = [("slot", slot.name, slot.type) for slot in program.slots]
    items += [("field", field.name, field.type) for field in program.fields]
    rows: list[dict[str, object]] = []
    for number, (kind, name, type_) in enumerate(items):
        rows.append({"value": number, "is": kind, "name": name, "type": str(type_)})
    return rows


def _operators(report: Report) -> list[dict[str, object]]:
    total = max(1, report.work_units)
    return [
        {
            "name": row.operator,
            "nodes": row.nodes,
            "multiply-adds": row.macs,
            "bytes moved": row.moved,
            "share": f"{(row.macs + row.moved) / total:.1%}",
        }
        for row in report.operators
    ]


def _nodes(report: Report) -> list[dict[str, object]]:
    program = report.program
    return [
        {
            "value": first,
            "name": f"{node.operator} {list(placed.inputs)}",
            "types": ", ".join(map(str, node.outputs)),
            "multiply-adds": node.macs,
            "bytes moved": node.moved,
        }
        for node, placed, first in zip(
            report.nodes, program.nodes, program.first_output, strict=True
        )
    ]
