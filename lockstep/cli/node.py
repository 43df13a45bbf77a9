"""`lockstep node`: make, run and export a node."""

import functools
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import trio
import typer

from chain.errors import ChainError as DataError
from consensus.errors import ConsensusError
from genesis import ChainSpec, SpecError
from lockstep.cli.keyring import PasswordFileOption, new_key, password, shown
from lockstep.cli.options import JsonOption
from lockstep.errors import LockstepError
from node.chainfile import write_chain_file
from node.config import NodeConfig, load_config
from node.datadir import DataDirectory
from node.errors import NodeError
from node.exporting import records
from node.keydir import KeyDirectory
from node.logs import configure_logging
from node.opening import encode_spec, initialise, opened_chain, opened_node
from node.service import run_until_signal
from node.signstate import mark_never_signed
from runtime.errors import RuntimeFailure

__all__ = ["app", "node_failures"]

app = typer.Typer(no_args_is_help=True, help="Run a node.")

_EXPECTED = (NodeError, SpecError, DataError, ConsensusError, RuntimeFailure, OSError)


class NodeFailure(LockstepError):
    """A node, its database or its configuration is unusable."""


@contextmanager
def node_failures() -> Generator[None]:
    """Turn the errors of a node into what the command line reports in one line."""
    try:
        yield
    except _EXPECTED as error:
        raise NodeFailure(str(error)) from error
    except BaseExceptionGroup as group:
        expected, rest = group.split(_EXPECTED)
        if rest is not None or expected is None:
            raise
        raise NodeFailure("; ".join(map(str, _leaves(expected)))) from group


def _leaves(
    group: BaseExceptionGroup[BaseException],
) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[BaseException]", each))
        else:
            yield each


ConfigFileOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file of settings (also LOCKSTEP_CONFIG)."),
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="The node's own directory.")
]
HostOption = Annotated[
    str | None, typer.Option("--rpc-host", help="Address to listen on.")
]
PortOption = Annotated[
    int | None, typer.Option("--rpc-port", help="Port to listen on; 0 takes any.")
]
BlockTimeOption = Annotated[
    float | None, typer.Option("--block-time", help="Seconds between blocks.")
]
CorsOption = Annotated[
    list[str] | None,
    typer.Option("--rpc-cors-origins", help="A web origin that may call; repeatable."),
]
LogFormatOption = Annotated[
    str | None, typer.Option("--log-format", help="console or json.")
]
LogLevelOption = Annotated[
    str | None, typer.Option("--log-level", help="debug, info, warning or error.")
]


@app.command()
def init(
    *,
    data_dir: DataDirOption = None,
    chain: Annotated[
        str | None,
        typer.Option(help="Name of a bundled chain, or a specification's path."),
    ] = None,
    config: ConfigFileOption = None,
    validator_key: Annotated[
        Path | None,
        typer.Option(
            help="Take the validator's key from here, with what it signed: a "
            "directory of `lockstep keys validator`, or a key.json."
        ),
    ] = None,
    new_validator_key: Annotated[
        bool,
        typer.Option(
            "--new-validator-key",
            help="Make a validator's key, encrypted if there is a password file.",
        ),
    ] = False,
    password_file: PasswordFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data directory for a chain."""
    with node_failures():
        settings = load_config({"data_dir": data_dir, "chain": chain}, file=config)
        spec = ChainSpec.load(settings.chain)
        with DataDirectory(settings.data_dir) as directory:
            initialise(directory, spec, None)
            keys = directory.keys
            if validator_key is not None:
                keys.carry(KeyDirectory.at(validator_key))
            elif new_validator_key:
                word = None if password_file is None else password(password_file)()
                keys.store(new_key(), word)
                mark_never_signed(keys.path)
            public = keys.public() if keys.holds_key else None
    document: dict[str, Any] = {
        "data_dir": str(settings.data_dir),
        "chain": spec.name,
        "chain_id": spec.chain_id,
    }
    if public is not None:
        document |= {"validator": "0x" + public.address.hex(), **shown(public)}
    if as_json:
        typer.echo(json.dumps(document))
    else:
        for name, value in document.items():
            typer.echo(f"{name.replace('_', ' '):12} {value}")


@app.command()
def run(  # noqa: PLR0913 - one option each
    *,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    rpc_host: HostOption = None,
    rpc_port: PortOption = None,
    rpc_cors_origins: CorsOption = None,
    block_time: BlockTimeOption = None,
    password_file: PasswordFileOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the node of a data directory until SIGINT or SIGTERM."""
    flags = {
        "data_dir": data_dir,
        "rpc_host": rpc_host,
        "rpc_port": rpc_port,
        "rpc_cors_origins": tuple(rpc_cors_origins) if rpc_cors_origins else None,
        "block_time": block_time,
        "password_file": None if password_file is None else str(password_file),
        "log_format": log_format,
        "log_level": log_level,
    }
    with node_failures():
        settings = load_config(flags, file=config)
        configure_logging(settings.log_format, settings.log_level)
        with DataDirectory(settings.data_dir) as directory:
            serve(settings, directory, functools.partial(_tell_ready, as_json))


def _tell_ready(as_json: bool, url: str) -> None:  # noqa: FBT001 - bound by its only caller
    line = {"event": "ready", "rpc": url}
    typer.echo(json.dumps(line) if as_json else f"ready: {url}")


def serve(
    settings: NodeConfig, directory: DataDirectory, ready: Callable[[str], None]
) -> None:
    """Run a node until a signal; `ready` is told its URL."""
    with opened_node(settings, directory, ask=password(None)) as node:
        trio.run(functools.partial(run_until_signal, node, ready))


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
