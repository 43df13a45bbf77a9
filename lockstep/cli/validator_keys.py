"""`lockstep keys validator`: the encrypted keys of validators.

A directory holds the two keys under one password, and what was signed with them: it is
the `validator` directory of a node, or one that `lockstep init --validator-key`
and `lockstep signer run --key` read.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from eth_utils.address import to_checksum_address

from lockstep.cli.keyring import (
    PasswordFileOption,
    new_key,
    new_password,
    password,
    shown,
)
from lockstep.cli.node import node_failures
from lockstep.cli.options import JsonOption
from lockstep.errors import ConfigurationError
from node.keydir import KeyDirectory, read_keystores
from node.signstate import mark_never_signed
from node.validatorkey import ValidatorKey

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make and show keys of validators.")

DirectoryArgument = Annotated[Path, typer.Argument(help="The directory of the key.")]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="Don't encrypt it; for devnets and tests.")
]


@app.command(epilog="Example: lockstep keys validator new ~/validator-key")
def new(
    directory: DirectoryArgument,
    *,
    password_file: PasswordFileOption = None,
    plain: PlainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the two keys of a new validator."""
    with node_failures():
        _store(directory, new_key(), password_file, plain=plain)
        mark_never_signed(directory)
    _show(directory, as_json=as_json)


@app.command(
    "import",
    epilog="Example: lockstep keys validator import ~/validator-key --from key.json",
)
def import_key(  # noqa: PLR0913 - one option each
    directory: DirectoryArgument,
    *,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A key.json, or another directory: it is encrypted anew, and what it "
            "signed comes along.",
        ),
    ] = None,
    consensus: Annotated[
        Path | None, typer.Option(help="A Web3 key file (version 3), with --beacon.")
    ] = None,
    beacon: Annotated[
        Path | None, typer.Option(help="An EIP-2335 key file, with --consensus.")
    ] = None,
    source_password_file: Annotated[
        Path | None,
        typer.Option(help="A file with the password of what is imported."),
    ] = None,
    password_file: PasswordFileOption = None,
    never_signed: Annotated[
        bool,
        typer.Option(
            "--never-signed",
            help="State that nothing was ever signed with this key: then it need not "
            "listen to the network before it signs.",
        ),
    ] = False,
    plain: PlainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a validator's keys here from other files."""
    with node_failures():
        ask = password(source_password_file)
        target = KeyDirectory(directory)
        if source is not None and consensus is None and beacon is None:
            found = KeyDirectory.at(source)
            key = found.read(ask)
            target.carry_state(found)
        elif source is None and consensus is not None and beacon is not None:
            key = read_keystores(consensus, beacon, ask())
        else:
            raise ConfigurationError(
                "say what to import: --from, or --consensus and --beacon"
            )
        _store(directory, key, password_file, plain=plain)
        if never_signed:
            mark_never_signed(directory)
    _show(directory, as_json=as_json)


@app.command()
def show(
    directory: DirectoryArgument,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print address and public keys; needs no password."""
    _show(directory, as_json=as_json)


def _store(
    directory: Path, key: ValidatorKey, password_file: Path | None, *, plain: bool
) -> None:
    KeyDirectory(directory).store(key, None if plain else new_password(password_file))


def _show(directory: Path, *, as_json: bool) -> None:
    with node_failures():
        found = KeyDirectory.at(directory)
        public = found.public()
    facts = {
        "address": to_checksum_address(public.address),
        **shown(public),
        "path": str(found.path),
    }
    if as_json:
        typer.echo(json.dumps(facts | {"encrypted": found.is_encrypted}))
        return
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):12} {value}")
    if not found.is_encrypted:
        typer.echo("not encrypted")
