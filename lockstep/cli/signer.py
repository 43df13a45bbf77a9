"""`lockstep signer`: a validator's keys in a process of their own."""

import functools
import json
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated

import trio
import typer

from genesis import ChainSpec, build
from lockstep.cli.keyring import PasswordFileOption, password
from lockstep.cli.node import LogFormatOption, LogLevelOption, node_failures
from lockstep.cli.options import JsonOption
from lockstep.errors import ConfigurationError
from node.config import load_config
from node.files import DirectoryLock
from node.keydir import KeyDirectory
from node.logs import configure_logging
from node.p2p.address import ID_BYTES
from node.p2p.identity import load_node_key
from node.remote.address import TcpListen, UnixAddress, parse_listen
from node.remote.server import Access, SignerServer, run_server
from node.signer import LocalSigner

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Hold a validator's keys and sign for its node."
)

KeysOption = Annotated[
    Path, typer.Option("--key", help="The directory of `lockstep keys validator`.")
]


@app.callback()
def root() -> None:
    """Hold a validator's keys and sign for its node."""


@app.command(
    epilog="Example: lockstep signer run --key ~/validator-key --chain mychain.json "
    "--listen unix:/run/lockstep/signer"
)
def run(
    *,
    key: KeysOption,
    chain: Annotated[
        str,
        typer.Option(help="Name of a bundled chain, or a specification's path."),
    ],
    listen: Annotated[str, typer.Option(help="unix:PATH or tcp:HOST:PORT.")],
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Over tcp: the id of a node that may ask; repeatable."),
    ] = None,
    password_file: PasswordFileOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer the requests of a validator's node until SIGINT or SIGTERM."""
    with node_failures():
        settings = load_config({"log_format": log_format, "log_level": log_level})
        configure_logging(settings.log_format, settings.log_level)
        where = parse_listen(listen)
        allowed = frozenset(_id(each) for each in allow or ())
        if isinstance(where, TcpListen) and not allowed:
            raise ConfigurationError("over tcp, name with --allow which nodes may ask")
        keys = KeyDirectory.at(key)
        genesis_hash = build(ChainSpec.load(chain)).block.hash
        lock = DirectoryLock(keys.path)
        try:
            secret = keys.read(password(password_file))
            server = SignerServer(LocalSigner(keys.path, genesis_hash, secret))
            access = Access(load_node_key(keys.path, secrets.token_bytes), allowed)
            ready = functools.partial(_tell_ready, as_json=as_json)
            trio.run(_run, server, where, access, ready)
        finally:
            lock.release()


@app.command("id")
def identity(key: KeysOption, *, as_json: JsonOption = False) -> None:
    """Print the id by which nodes know this signer over tcp."""
    with node_failures():
        found = KeyDirectory.at(key)
        text = load_node_key(found.path, secrets.token_bytes).id.hex()
    typer.echo(json.dumps({"id": text}) if as_json else text)


def _id(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != ID_BYTES:
        raise ConfigurationError(
            f"expected the id of a node, {2 * ID_BYTES} hex digits, got {text!r}"
        )
    return found


def _tell_ready(address: str, *, as_json: bool) -> None:
    line = {"event": "ready", "signer": address}
    typer.echo(json.dumps(line) if as_json else f"ready: {address}")


async def _run(
    server: SignerServer,
    where: UnixAddress | TcpListen,
    access: Access,
    ready: Callable[[str], None],
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            nursery.start_soon(_cancelled, signals, nursery.cancel_scope)
            await run_server(server, where, access, ready)


async def _cancelled(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return
