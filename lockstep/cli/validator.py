"""`lockstep validator`: join and leave the validators of a chain.

The consensus key stays on the validator's machine, where `prepare` signs with it; the
account that stakes, the operator, may be anywhere.
"""

import json
from decimal import InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer
from eth_utils.address import to_canonical_address

from chain.crypto import bls_prove_possession, consent_digest, sign
from lockstep.cli import show
from lockstep.cli.keyring import PasswordFileOption, password
from lockstep.cli.node import node_failures
from lockstep.cli.options import (
    JsonOption,
    KeyOption,
    RpcOption,
    addresses,
    default_rpc,
)
from lockstep.client.connection import Connection, Receipt
from lockstep.client.contracts import deployed
from lockstep.client.validators import Registration, Validators
from lockstep.creator.spec import tokens
from lockstep.errors import ConfigurationError
from lockstep.keyfile import load
from node.keydir import KeyDirectory

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Join and leave the validators of a chain."
)

_MAX_BYTES = 4_096
_SIZES = {"public_key": 64, "beacon_key": 48, "possession": 96, "consent": 65}
_default_key = Path("key")

ValidatorArgument = Annotated[
    str, typer.Argument(help="The validator's address, that of its consensus key.")
]
StakeOption = Annotated[str, typer.Option("--stake", help="Tokens to stake.")]


@app.callback()
def root() -> None:
    """Join and leave the validators of a chain."""


@app.command(
    epilog="Example: lockstep validator prepare ~/validator-key --operator 0x..."
)
def prepare(
    validator_key: Annotated[
        Path, typer.Argument(help="The directory of the validator's key.")
    ],
    *,
    operator: Annotated[
        str, typer.Option("--operator", help="The account that will stake.")
    ],
    password_file: PasswordFileOption = None,
    rpc: RpcOption = default_rpc,
) -> None:
    """Print what `register` needs, signed by the validator's keys; holds no secret."""
    (account,) = addresses([operator])
    with node_failures():
        key = KeyDirectory.at(validator_key).read(password(password_file))
    genesis_hash = Validators(Connection(rpc, deployed())).genesis_hash()
    digest = consent_digest(genesis_hash, to_canonical_address(account), key.beacon_key)
    fields = {
        "public_key": key.public_key,
        "beacon_key": key.beacon_key,
        "possession": bls_prove_possession(key.beacon_secret),
        "consent": sign(digest, key.secret),
    }
    typer.echo(json.dumps({name: "0x" + value.hex() for name, value in fields.items()}))


@app.command(
    epilog="Example: lockstep validator register prepared.json --stake 100 --key ~/key"
)
def register(
    prepared: Annotated[Path, typer.Argument(help="What `prepare` printed.")],
    *,
    stake: StakeOption,
    rpc: RpcOption = default_rpc,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a validator and stake on it; it votes from the next election."""
    registration = _registration(prepared)
    receipt = _operated(rpc, key).register(registration, _amount(stake))
    _tell(registration.validator, receipt, as_json=as_json)


@app.command(epilog="Example: lockstep validator stake 0x... --stake 50")
def stake(
    validator: ValidatorArgument,
    *,
    stake: StakeOption,
    rpc: RpcOption = default_rpc,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stake more."""
    (address,) = addresses([validator])
    receipt = _operated(rpc, key).add_stake(address, _amount(stake))
    _tell(address, receipt, as_json=as_json)


@app.command(epilog="Example: lockstep validator unbond 0x... --stake 50")
def unbond(
    validator: ValidatorArgument,
    *,
    stake: Annotated[
        str | None, typer.Option("--stake", help="Tokens; all of them by default.")
    ] = None,
    rpc: RpcOption = default_rpc,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take stake out of service; it can be withdrawn when no evidence can come."""
    (address,) = addresses([validator])
    contract = _operated(rpc, key)
    amount = contract.validator(address).stake if stake is None else _amount(stake)
    _tell(address, contract.unbond(address, amount), as_json=as_json)


@app.command(epilog="Example: lockstep validator withdraw 0x...")
def withdraw(
    validator: ValidatorArgument,
    *,
    rpc: RpcOption = default_rpc,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch stake that has unbonded."""
    (address,) = addresses([validator])
    _tell(address, _operated(rpc, key).withdraw(address), as_json=as_json)


@app.command(epilog="Example: lockstep validator unjail 0x...")
def unjail(
    validator: ValidatorArgument,
    *,
    rpc: RpcOption = default_rpc,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stand for election again after having missed too many blocks."""
    (address,) = addresses([validator])
    _tell(address, _operated(rpc, key).unjail(address), as_json=as_json)


@app.command("show", epilog="Example: lockstep validator show 0x...")
def show_validators(
    validator: Annotated[
        str | None,
        typer.Argument(help="The validator's address; without it, the whole set."),
    ] = None,
    *,
    rpc: RpcOption = default_rpc,
    as_json: JsonOption = False,
) -> None:
    """Show the set elected last, or everything about one validator."""
    contract = Validators(Connection(rpc, deployed()))
    if validator is None:
        show.rows(
            [
                {"validator": address, "power": show.amount(power)}
                for address, power in contract.elected().items()
            ],
            as_json=as_json,
            empty="no validators",
        )
        return
    (address,) = addresses([validator])
    found = contract.validator(address)
    facts: dict[str, object] = {
        "validator": address,
        "operator": found.operator,
        "status": _status(found.evidence, found.jailed_until, seated=found.seated),
        "stake": show.amount(found.stake),
        "power": show.amount(found.power),
        "unbonding": show.amount(found.unbonding),
        "release at block": found.release_at,
        "jailed until block": found.jailed_until,
        "missed in this epoch": found.missed,
        "public key": found.public_key,
        "beacon key": found.beacon_key,
    }
    if any(found.evidence):
        facts["evidence"] = found.evidence
    show.mapping(facts, as_json=as_json)


def _amount(text: str) -> int:
    try:
        return tokens(text)
    except (ValueError, InvalidOperation) as error:
        raise ConfigurationError(f"--stake {text}: {error}") from error


def _status(evidence: bytes, jailed_until: int, *, seated: bool) -> str:
    if any(evidence):
        return "punished"
    if jailed_until:
        return "jailed"
    return "seated" if seated else "not seated"


def _operated(rpc: str, key: Path | None) -> Validators:
    return Validators(Connection(rpc, deployed(), load(key or _default_key)))


def _tell(validator: str, receipt: Receipt, *, as_json: bool) -> None:
    facts: dict[str, object] = {
        "validator": validator,
        "event": receipt.events[-1].name,
        "block": receipt.block,
        "transaction": receipt.transaction,
    }
    facts |= {
        name: show.amount(value) if name in ("amount", "stake") else value
        for name, value in receipt.events[-1].fields.items()
        if name != "validator" and isinstance(value, int)
    }
    show.mapping(facts, as_json=as_json)


def _registration(path: Path) -> Registration:
    """Read what `prepare` printed.

    Raises:
        ConfigurationError: it is something else.
    """
    try:
        with path.open("rb") as file:
            document: Any = json.loads(file.read(_MAX_BYTES))
        fields = {
            name: bytes.fromhex(str(document[name]).removeprefix("0x"))
            for name in _SIZES
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is not what `lockstep validator prepare` prints: {error!r}"
        ) from error
    for name, size in _SIZES.items():
        if len(fields[name]) != size:
            raise ConfigurationError(
                f"{path}: {name}: expected {size} bytes, got {len(fields[name])}"
            )
    return Registration(**fields)
