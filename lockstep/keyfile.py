"""Key files: who an actor is.

A key file is an encrypted Ethereum key store (JSON, version 3, as `lockstep keys`, geth
and cast write it) or, for a devnet, one line with the key in hexadecimal. The password
of a key store comes from the environment, never from a flag that `ps` would show.
"""

import json
import os
import stat
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from lockstep.errors import ConfigurationError

__all__ = ["PASSWORD_VARIABLE", "account", "load"]

PASSWORD_VARIABLE = "LOCKSTEP_KEY_PASSWORD"  # noqa: S105 - a variable's name
_MAX_BYTES = 1 << 16


def load(path: Path) -> LocalAccount:
    """The account of a key file.

    Raises:
        ConfigurationError: the file is missing, readable by others or no key.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(f"{path} is too large to be a key file")
        text = path.read_text("utf-8").strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        raise ConfigurationError(
            f"no key file at {path}; make one with `lockstep keys new {path}`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read key file {path}: {error}") from error
    if not text.startswith("{"):
        if mode & 0o077:
            raise ConfigurationError(
                f"{path} holds an unencrypted key and others can read it (mode "
                f"{mode:o}); run `chmod 600 {path}`"
            )
        return account(text)
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        raise ConfigurationError(
            f"{path} is encrypted: put its password into {PASSWORD_VARIABLE}"
        )
    try:
        secret = Account.decrypt(json.loads(text), password)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"cannot decrypt {path}: {error}") from error
    return account(secret.hex())


def account(key: str) -> LocalAccount:
    """The account of a key in hexadecimal.

    Raises:
        ConfigurationError: it is not 32 bytes, or no key of the curve.
    """
    try:
        secret = bytes.fromhex(key.removeprefix("0x"))
        made: LocalAccount = Account.from_key(secret)
    except (ValueError, TypeError) as error:
        # The error of eth-keys may quote the key; only its kind is told.
        raise ConfigurationError(
            "expected a key of 64 hexadecimal digits, got something else "
            f"({type(error).__name__})"
        ) from None
    return made
