"""What is done to a stopped node; each command is one of `lockstep` itself."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn

from genesis import ChainSpec
from lockstep.cli.node import ConfigFileOption, DataDirOption, node_failures
from lockstep.cli.options import JsonOption
from lockstep.errors import ConfigurationError
from node.chainfile import ChainFileReader, write_chain_file
from node.config import load_config
from node.datadir import DataDirectory
from node.dbrepair import open_store
from node.exporting import records
from node.opening import encode_spec, initialise, opened_chain
from node.pruning import MIN_STATES, Pruned
from node.upkeep import (
    import_records,
    make_snapshot,
    planned,
    prune_all,
    restore_snapshot,
    roll_back,
)

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="Take care of a node's data.")

FileArgument = Annotated[Path, typer.Argument(help="The file.")]


def _tell(as_json: bool, **facts: object) -> None:  # noqa: FBT001 - the option's value
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        typer.echo(", ".join(f"{name} {value}" for name, value in facts.items()))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The chain file to write.")],
    *,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the whole chain of a stopped node into one file, for `lockstep audit`."""
    with node_failures():
        settings = load_config({"data_dir": data_dir}, file=config)
        temporary = file.with_name(file.name + ".part")
        with (
            DataDirectory.existing(settings.data_dir) as directory,
            opened_chain(directory) as (spec, database),
        ):
            with temporary.open("wb") as stream:
                count = write_chain_file(stream, encode_spec(spec), records(database))
                stream.flush()
                os.fsync(stream.fileno())
            size = temporary.stat().st_size
            temporary.replace(file)
    if as_json:
        typer.echo(json.dumps({"file": str(file), "blocks": count, "bytes": size}))
    else:
        typer.echo(f"{count} blocks, {size} bytes: {file}")


@app.command("import")
def import_chain(
    file: FileArgument,
    *,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Execute the blocks of a chain file that a stopped node does not have."""
    with node_failures():
        settings = load_config({"data_dir": data_dir}, file=config)
        with (
            DataDirectory.existing(settings.data_dir) as directory,
            opened_chain(directory) as (spec, database),
            file.open("rb") as stream,
            Progress(disable=as_json, transient=True) as progress,
        ):
            task = progress.add_task("blocks", total=None)
            reader = ChainFileReader(stream)
            count = import_records(
                spec,
                database,
                reader.records(),
                lambda height: progress.update(task, completed=height),
            )
            head = database.head()
    _tell(as_json, imported=count, height=head.number, hash="0x" + head.hash.hex())


@app.command("rollback")
def rollback(
    *,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the last block of a stopped node away; it is fetched and executed again."""
    with node_failures():
        settings = load_config({"data_dir": data_dir}, file=config)
        with (
            DataDirectory.existing(settings.data_dir) as directory,
            opened_chain(directory) as (_, database),
        ):
            head = roll_back(database)
    _tell(as_json, height=head.number, hash="0x" + head.hash.hex())


@app.command("prune")
def prune_chain(
    *,
    keep_heights: Annotated[
        int,
        typer.Option(
            "--keep-heights", min=0, help="Newest blocks to keep; 0: the fewest."
        ),
    ] = 0,
    keep_states: Annotated[
        int,
        typer.Option("--keep-states", min=MIN_STATES, help="Newest states to keep."),
    ] = 128,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would go.")
    ] = False,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old blocks and states of a stopped node; headers stay.

    May be interrupted: the same command goes on.
    """
    with node_failures():
        settings = load_config({"data_dir": data_dir}, file=config)
        with (
            DataDirectory.existing(settings.data_dir) as directory,
            opened_chain(directory) as (spec, database),
            Progress(
                *Progress.get_default_columns()[:1],
                TextColumn("{task.completed}"),
                disable=as_json,
                transient=True,
                console=Console(stderr=True),
            ) as progress,
        ):
            task = progress.add_task("blocks", total=None)

            def tell(done: Pruned) -> None:
                counts = {"blocks": done.blocks, "mark": done.kept, "sweep": done.nodes}
                progress.update(
                    task, description=done.phase, completed=counts[done.phase]
                )

            plan = planned(spec, database, keep_heights, keep_states)
            done = prune_all(database, plan, tell, dry=dry_run)
    _tell(
        as_json,
        dry_run=dry_run,
        first_block=plan.base,
        first_state=plan.state_base,
        blocks=done.blocks,
        nodes=done.nodes,
        bytes=done.bytes,
        kept=done.kept,
    )


@app.command("snapshot")
def snapshot(
    file: FileArgument,
    *,
    height: Annotated[
        int | None, typer.Option(min=1, help="Of the snapshot; else the head.")
    ] = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what another node needs to go on from a height."""
    with node_failures():
        settings = load_config({"data_dir": data_dir}, file=config)
        with (
            DataDirectory.existing(settings.data_dir) as directory,
            opened_chain(directory) as (spec, database),
        ):
            manifest = make_snapshot(file, spec, database, height)
    _tell(
        as_json,
        height=manifest.height,
        hash="0x" + manifest.block_hash.hex(),
        chunks=manifest.chunks,
        bytes=file.stat().st_size,
    )


@app.command("restore")
def restore(
    file: FileArgument,
    *,
    trusted_height: Annotated[int, typer.Option(min=1, help="A block you trust,")],
    trusted_hash: Annotated[str, typer.Option(help="and its hash, 0x...")],
    data_dir: DataDirOption = None,
    chain: Annotated[
        str | None, typer.Option(help="Name or path of the specification.")
    ] = None,
    config: ConfigFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin an empty node at a snapshot instead of at block 1."""
    with node_failures():
        settings = load_config({"data_dir": data_dir, "chain": chain}, file=config)
        with DataDirectory(settings.data_dir) as directory:
            content = directory.specification()
            spec = (
                ChainSpec.load(settings.chain)
                if content is None
                else ChainSpec.parse(content, str(directory.path / "chain.json"))
            )
            initialise(directory, spec, None)
            store = open_store(directory.database)
            try:
                head = restore_snapshot(
                    file, spec, store, trusted_height, _hash(trusted_hash)
                )
            finally:
                store.close()
    _tell(as_json, height=head.number, hash="0x" + head.hash.hex())


def _hash(text: str) -> bytes:
    try:
        found = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != 32:
        raise ConfigurationError(
            f"--trusted-hash: expected 32 bytes in hexadecimal, got {text!r}"
        )
    return found
