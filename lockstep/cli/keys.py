"""`lockstep keys`: encrypted key files, in Ethereum's version 3 format.

The password comes from LOCKSTEP_KEY_PASSWORD, from `--password-file`, or is asked for;
never from a flag that `ps` would show. Files are readable by their owner only.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from eth_account import Account
from eth_account.signers.local import LocalAccount

from lockstep.cli import validator_keys
from lockstep.cli.options import JsonOption
from lockstep.errors import ConfigurationError
from lockstep.keyfile import PASSWORD_VARIABLE, account, load

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make and show keys.")
app.add_typer(validator_keys.app, name="validator")

_MAX_BYTES = 1 << 16
_PRIVATE = 0o600

PathArgument = Annotated[Path, typer.Argument(help="The key file.")]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        envvar="LOCKSTEP_PASSWORD_FILE",
        help="A file whose first line is the password.",
    ),
]


@app.command()
def new(
    path: PathArgument,
    *,
    password_file: PasswordFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and write it to a new, encrypted file."""
    made: LocalAccount = Account.create()
    _write(path, made, _new_password(password_file))
    _show(path, made.address, as_json=as_json)


@app.command("import")
def import_key(
    path: PathArgument,
    *,
    password_file: PasswordFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a private key (64 hex digits) from standard input into a new file."""
    if sys.stdin.isatty():
        text = cast("str", typer.prompt("Private key", hide_input=True))
    else:
        text = sys.stdin.readline(256)
    imported = account(text.strip())
    _write(path, imported, _new_password(password_file))
    _show(path, imported.address, as_json=as_json)


@app.command("ls")
def list_keys(
    directory: Annotated[Path, typer.Argument(help="Where to look.")] = Path(),
    *,
    as_json: JsonOption = False,
) -> None:
    """List the encrypted key files of a directory with their addresses."""
    try:
        candidates = sorted(directory.iterdir())
    except OSError as error:
        raise ConfigurationError(f"cannot list {directory}: {error}") from error
    for path in candidates:
        address = _address_in(path)
        if address is not None:
            _show(path, address, as_json=as_json)


@app.command()
def show(
    path: PathArgument,
    *,
    password_file: PasswordFileOption = None,
    private: Annotated[
        bool, typer.Option("--private", help="Decrypt it and print the private key.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the address of a key file, and with --private the key itself."""
    if not private:
        address = _address_in(path) or load(path).address
        _show(path, address, as_json=as_json)
        return
    if password_file is not None:
        os.environ[PASSWORD_VARIABLE] = _password_in(password_file)
    elif PASSWORD_VARIABLE not in os.environ and _address_in(path) is not None:
        os.environ[PASSWORD_VARIABLE] = typer.prompt("Password", hide_input=True)
    opened = load(path)
    key = "0x" + bytes(opened.key).hex()
    if as_json:
        typer.echo(json.dumps({"address": opened.address, "private_key": key}))
    else:
        typer.echo(key)


def _new_password(file: Path | None) -> str:
    password = os.environ.get(PASSWORD_VARIABLE) if file is None else _password_in(file)
    if password is None:
        password = cast(
            "str",
            typer.prompt("New password", hide_input=True, confirmation_prompt=True),
        )
    if not password:
        raise ConfigurationError("the password is empty; a key file needs one")
    return password


def _password_in(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as stream:
            return stream.readline(_MAX_BYTES).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from error


def _write(path: Path, key: LocalAccount, password: str) -> None:
    document: dict[str, Any] = dict(Account.encrypt(bytes(key.key), password))
    document["address"] = key.address
    text = json.dumps(document, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            stream.write(text)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{path} exists; keys are never overwritten, choose another name"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error}") from error


def _address_in(path: Path) -> str | None:
    """The address that an encrypted key file names, or None for any other file."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return None
        document: object = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # not JSON, so not a key store
        return None
    if not isinstance(document, dict) or "crypto" not in document:
        return None
    named = cast("dict[str, object]", document).get("address")
    return named if isinstance(named, str) else None


def _show(path: Path, address: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"path": str(path), "address": address}))
    else:
        typer.echo(f"{address}  {path}")
