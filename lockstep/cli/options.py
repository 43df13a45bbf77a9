"""Options that several commands share, and configuration files.

A value comes from the flag, else from the environment variable, else from the file
that `--config` names (TOML, option names as keys), else it is the default.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from eth_utils.address import is_address, to_checksum_address

from lockstep.errors import ConfigurationError

__all__ = [
    "MEBIBYTE",
    "ArtifactsOption",
    "ConfigOption",
    "DirectoryOption",
    "JsonOption",
    "KeyOption",
    "MaximumDataOption",
    "OnceOption",
    "PollOption",
    "PublicUrlOption",
    "RpcOption",
    "ServeOption",
    "UntilIdleOption",
    "addresses",
    "assignment",
    "default_rpc",
]

MEBIBYTE = 1 << 20
default_rpc = "http://127.0.0.1:8545"
_MAX_CONFIG_BYTES = 1 << 16


def addresses(texts: Iterable[str] | None) -> frozenset[str]:
    """Addresses from the command line, in their checksummed spelling.

    Raises:
        ConfigurationError: one is no address.
    """
    found: set[str] = set()
    for text in texts or ():
        if not is_address(text):
            raise ConfigurationError(
                f"expected an address of 40 hexadecimal digits after 0x, got {text!r}"
            )
        found.add(to_checksum_address(text))
    return frozenset(found)


def assignment(text: str) -> tuple[str, int]:
    """A contract parameter from the command line, NAME=VALUE.

    Raises:
        ConfigurationError: it is not that.
    """
    name, _, value = text.partition("=")
    if not name or not value.isdecimal():
        raise ConfigurationError(
            f"expected a parameter as NAME=VALUE with a whole number, got {text!r}"
        )
    return name, int(value)


def _read(context: typer.Context, path: Path | None) -> Path | None:
    if path is None:
        return None
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ConfigurationError(f"{path} is too large for a configuration file")
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    values = {name.replace("-", "_"): value for name, value in found.items()}
    known = {str(parameter.name) for parameter in context.command.params}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigurationError(
            f"{path} sets {', '.join(unknown)}, which `{context.command_path}` does "
            f"not know; see its --help"
        )
    context.default_map = {**(context.default_map or {}), **values}
    return path


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="LOCKSTEP_CONFIG",
        is_eager=True,
        callback=_read,
        help="TOML file with values for these options.",
    ),
]
RpcOption = Annotated[
    str, typer.Option("--rpc", envvar="LOCKSTEP_RPC", help="URL of a node.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key", envvar="LOCKSTEP_KEY", help="Key file; default: key in the directory."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print objects, one per line, for programs.")
]
DirectoryOption = Annotated[
    Path,
    typer.Option(
        "--directory",
        "-d",
        envvar="LOCKSTEP_DIRECTORY",
        help="The actor's own directory: key, journal, artifacts, checkpoints.",
    ),
]
ArtifactsOption = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        envvar="LOCKSTEP_ARTIFACTS",
        help="Where artifacts are kept: a folder or s3://bucket/prefix.",
    ),
]
ServeOption = Annotated[
    str,
    typer.Option(
        "--serve", envvar="LOCKSTEP_SERVE", help="host:port to serve artifacts on."
    ),
]
PublicUrlOption = Annotated[
    str | None,
    typer.Option(
        "--public-url",
        envvar="LOCKSTEP_PUBLIC_URL",
        help="URL at which others reach --serve, if it is another one.",
    ),
]
PollOption = Annotated[
    float,
    typer.Option("--poll", min=0.05, help="Seconds between looks at the chain."),
]
MaximumDataOption = Annotated[
    int,
    typer.Option(
        "--maximum-data", min=1, help="MiB of a job's data, at most; kept in memory."
    ),
]
OnceOption = Annotated[
    bool, typer.Option("--once", help="Look at the chain once, act, and stop.")
]
UntilIdleOption = Annotated[
    bool, typer.Option("--until-idle", help="Stop when nothing is under way.")
]
