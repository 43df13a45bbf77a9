"""`lockstep audit`: replay a chain and all its verdicts, trusting nothing stored."""

import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from chain.store import Store
from genesis import ChainSpec
from lockstep.cli.node import node_failures
from lockstep.cli.options import JsonOption
from lockstep.errors import ConfigurationError
from node.audit import (
    AuditMismatch,
    Auditor,
    AuditReport,
    DatabaseSource,
    FileSource,
)
from node.chainfile import ChainFileReader
from node.datadir import DataDirectory
from node.dbrepair import open_store
from node.errors import DataDirectoryError

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="Replay a chain and all its verdicts.")


@app.command()
def audit(
    path: Annotated[
        Path, typer.Argument(help="A stopped node's data directory, or a chain file.")
    ],
    *,
    chain: Annotated[
        str | None,
        typer.Option(help="Insist on this chain: a bundled name or a specification."),
    ] = None,
    use_oracle: Annotated[
        bool,
        typer.Option("--oracle", help="Compute each verdict with numpy as well; slow."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Execute every block again from genesis and compare everything stored."""
    with node_failures():
        wanted = None if chain is None else ChainSpec.load(chain)
        with tempfile.TemporaryDirectory(prefix="lockstep-audit-") as scratch:
            store = Store.open(Path(scratch) / "database")
            try:
                with _opened(path) as (spec, source, count):
                    if wanted is not None and wanted != spec:
                        raise ConfigurationError(
                            f"{path} is of another chain than {chain}: the "
                            "specifications differ"
                        )
                    auditor = Auditor(spec, source, store, use_oracle=use_oracle)
                    mismatch = _run(auditor, count, quiet=as_json)
            finally:
                store.close()
    _tell(auditor.report, mismatch, as_json=as_json)
    if mismatch is not None:
        raise typer.Exit(1)


@contextmanager
def _opened(
    path: Path,
) -> Generator[tuple[ChainSpec, DatabaseSource | FileSource, int | None]]:
    """The specification, the source, and how many blocks there are if known."""
    if path.is_dir():
        with DataDirectory.existing(path) as directory:
            content = directory.specification()
            if content is None:
                raise DataDirectoryError(f"{path} holds no chain.json")
            if not directory.database.is_dir():
                raise DataDirectoryError(f"{path} holds no database")
            spec = ChainSpec.parse(content, str(path / "chain.json"))
            store = open_store(directory.database)
            try:
                source = DatabaseSource(store)
                yield spec, source, source.head_number() + 1
            finally:
                store.close()
    else:
        with path.open("rb") as stream:
            reader = ChainFileReader(stream)
            spec = ChainSpec.parse(reader.specification, str(path))
            yield spec, FileSource(reader.records()), None


def _run(auditor: Auditor, count: int | None, *, quiet: bool) -> AuditMismatch | None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("blocks"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("audit", total=count)
        try:
            auditor.run(lambda number: bar.update(task, completed=number + 1))
        except AuditMismatch as mismatch:
            return mismatch
    return None


def _tell(
    report: AuditReport, mismatch: AuditMismatch | None, *, as_json: bool
) -> None:
    document = _document(report, mismatch)
    if as_json:
        typer.echo(json.dumps(document))
        return
    valid = sum(verdict.valid for verdict in report.verdicts)
    invalid = len(report.verdicts) - valid
    lines = [
        f"chain         {report.chain} (id {report.chain_id})",
        f"genesis       0x{report.genesis_hash.hex()}",
        f"head          {report.head} 0x{report.head_hash.hex()}",
        f"blocks        {report.blocks}",
        f"transactions  {report.transactions}",
        f"certificates  {report.certificates}",
        f"entries       {report.entries}",
        f"jobs          {report.jobs}",
        f"disputes      {report.disputes}",
        f"verdicts      {len(report.verdicts)} ({valid} valid, {invalid} invalid)",
    ]
    if report.left_over:
        lines.append(f"left over     {report.left_over} entries that no block explains")
    beginning = report.beginning
    if beginning is not None:
        lines.append(
            f"begins        with block {beginning.block}: this node was pruned, or "
            f"began at a snapshot; the state of block {beginning.state} is taken on "
            "trust, and nothing before it was executed"
        )
    typer.echo("\n".join(lines))
    if mismatch is None:
        typer.secho("everything agrees", fg=typer.colors.GREEN)
    else:
        typer.secho(f"mismatch: {mismatch}", fg=typer.colors.RED)


def _document(report: AuditReport, mismatch: AuditMismatch | None) -> dict[str, Any]:
    mismatches: list[dict[str, Any]] = []
    if mismatch is not None:
        mismatches.append(
            {
                "block": mismatch.block,
                "transaction": mismatch.transaction,
                "field": mismatch.field,
                "expected": mismatch.expected,
                "got": mismatch.got,
            }
        )
    return {
        "chain": report.chain,
        "chain_id": report.chain_id,
        "genesis_hash": "0x" + report.genesis_hash.hex(),
        "head": report.head,
        "head_hash": "0x" + report.head_hash.hex(),
        "blocks": report.blocks,
        "transactions": report.transactions,
        "certificates": report.certificates,
        "entries": report.entries,
        "left_over": report.left_over,
        "first_block": 1 if report.beginning is None else report.beginning.block,
        "trusted_state": 0 if report.beginning is None else report.beginning.state,
        "jobs": report.jobs,
        "disputes": report.disputes,
        "events": dict(sorted(report.events.items())),
        "verdicts": [
            {
                "block": verdict.block,
                "transaction": verdict.transaction,
                "trial": "0x" + verdict.trial.hex(),
                "position": verdict.position,
                "verdict": "VALID" if verdict.valid else "INVALID",
                "oracle_agrees": verdict.agreed_by_oracle,
            }
            for verdict in report.verdicts
        ],
        "mismatches": mismatches,
    }
