"""What commands about validators' keys share: passwords, new keys, how they are shown.

A password comes from the file that `--password-file` or LOCKSTEP_PASSWORD_FILE names,
or is asked for on a terminal; never from a flag that `ps` would show.
"""

import functools
import secrets
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from lockstep.errors import ConfigurationError
from node.keydir import Password, password_in
from node.validatorkey import PublicKeys, ValidatorKey

__all__ = ["PasswordFileOption", "new_key", "new_password", "password", "shown"]

PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        envvar="LOCKSTEP_PASSWORD_FILE",
        help="A file whose first line is the password.",
    ),
]


def password(file: Path | None) -> Password:
    """How to get at the password of an encrypted key, once it is needed."""
    return _asked if file is None else functools.partial(password_in, file)


def new_password(file: Path | None) -> str:
    """The password for a key that is to be encrypted.

    Raises:
        ConfigurationError: there is no terminal to ask on.
        KeyFileError: the file cannot be read.
    """
    if file is not None:
        return password_in(file)
    _need_terminal()
    return cast(
        "str", typer.prompt("New password", hide_input=True, confirmation_prompt=True)
    )


def _asked() -> str:
    _need_terminal()
    return cast("str", typer.prompt("Password of the validator's key", hide_input=True))


def _need_terminal() -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "a password is needed and there is no terminal to ask on: name a file with "
            "--password-file or LOCKSTEP_PASSWORD_FILE"
        )


def new_key() -> ValidatorKey:
    """A validator's key that nobody had before."""
    return ValidatorKey.from_seed(secrets.token_bytes(32), secrets.token_bytes(64))


def shown(public: PublicKeys) -> dict[str, str]:
    """Public keys as a chain specification has them."""
    return {
        "public_key": "0x" + public.public_key.hex(),
        "beacon_key": "0x" + public.beacon_key.hex(),
    }
