"""`lockstep node`: run a node; and what all commands about its data share."""

import functools
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast

import trio
import typer

from chain.errors import ChainError as DataError
from consensus.errors import ConsensusError
from genesis import SpecError
from lockstep.cli.keyring import PasswordFileOption, password
from lockstep.cli.options import JsonOption
from lockstep.errors import LockstepError
from node.bootstrap import begin_at_snapshot
from node.config import NodeConfig, load_config
from node.datadir import DataDirectory
from node.errors import NodeError
from node.logs import configure_logging
from node.opening import opened_node
from node.service import run_until_signal
from runtime.errors import RuntimeFailure

__all__ = ["app", "node_failures"]

app = typer.Typer(add_completion=False, help="Run a node.")

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
TrustHeightOption = Annotated[
    int | None,
    typer.Option(
        "--sync-trust-height",
        help="An empty node begins at a snapshot of this block or a later one,",
    ),
]
TrustHashOption = Annotated[
    str | None,
    typer.Option("--sync-trust-hash", help="which you trust to have this hash."),
]
LogFormatOption = Annotated[
    str | None, typer.Option("--log-format", help="console or json.")
]
LogLevelOption = Annotated[
    str | None, typer.Option("--log-level", help="debug, info, warning or error.")
]


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
    sync_trust_height: TrustHeightOption = None,
    sync_trust_hash: TrustHashOption = None,
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
        "sync_trust_height": sync_trust_height,
        "sync_trust_hash": sync_trust_hash,
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
    if not begin_at_snapshot(settings, directory):
        return
    with opened_node(settings, directory, ask=password(None)) as node:
        trio.run(functools.partial(run_until_signal, node, ready))
