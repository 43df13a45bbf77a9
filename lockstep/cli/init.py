"""`lockstep init`: the data directory of a node."""

import json
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from genesis import ChainSpec
from lockstep.cli.keyring import PasswordFileOption, new_key, password, shown
from lockstep.cli.node import ConfigFileOption, DataDirOption, node_failures
from lockstep.cli.options import JsonOption
from node.config import load_config
from node.datadir import DataDirectory
from node.keydir import KeyDirectory
from node.opening import initialise
from node.p2p.identity import load_node_key
from node.signstate import mark_never_signed

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="Make a data directory for a chain.")


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
            node_id = load_node_key(directory.path, secrets.token_bytes).id
    document: dict[str, Any] = {
        "data_dir": str(settings.data_dir),
        "chain": spec.name,
        "chain_id": spec.chain_id,
        "node_id": node_id.hex(),
    }
    if public is not None:
        document |= {"validator": "0x" + public.address.hex(), **shown(public)}
    if as_json:
        typer.echo(json.dumps(document))
    else:
        for name, value in document.items():
            typer.echo(f"{name.replace('_', ' '):12} {value}")
