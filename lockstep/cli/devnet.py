"""`lockstep devnet`: a whole chain on this machine, with accounts that have money."""

import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from eth_utils.address import to_checksum_address

from chain.addresses import ML_VERIFIER, SYSTEM_CONTRACTS
from genesis import ChainSpec
from genesis.accounts import MNEMONIC, account, validator
from lockstep.cli.node import LogFormatOption, LogLevelOption, node_failures, serve
from lockstep.cli.options import JsonOption, assignment
from node.config import load_config
from node.datadir import DataDirectory
from node.logs import configure_logging
from node.opening import initialise
from node.validatorkey import ValidatorKey

__all__ = ["app", "devnet_accounts"]

app = typer.Typer(add_completion=False, help="Run a chain on this machine.")
_ETHER = 10**18


@app.command()
def devnet(
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Keep the chain here; else it is temporary."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port to listen on; 0 takes any.")
    ] = None,
    block_time: Annotated[
        float | None, typer.Option("--block-time", help="Seconds between blocks.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", help="Change a contract parameter: NAME=VALUE; repeatable."
        ),
    ] = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a single-validator chain with funded accounts until SIGINT or SIGTERM."""
    with node_failures(), ExitStack() as stack:
        if data_dir is None:
            made = tempfile.TemporaryDirectory(prefix="lockstep-devnet-")
            data_dir = Path(stack.enter_context(made))
        settings = load_config(
            {
                "data_dir": data_dir,
                "rpc_host": host,
                "rpc_port": port,
                "block_time": block_time,
                "log_format": log_format,
                "log_level": log_level or _quiet(),
            }
        )
        configure_logging(settings.log_format, settings.log_level)
        spec = ChainSpec.load("devnet")
        if parameter:
            spec = spec.with_parameters(**dict(assignment(each) for each in parameter))
        keys = validator(0)
        directory = stack.enter_context(DataDirectory(settings.data_dir))
        key = ValidatorKey.checked(keys.secret, keys.beacon_secret)
        initialise(directory, spec, key)

        def ready(url: str) -> None:
            facts = _facts(spec, url, directory.path, settings.block_time)
            typer.echo(json.dumps(facts) if as_json else _banner(facts))

        serve(settings, directory, ready)


def _quiet() -> str | None:
    """A devnet shows its banner, not every block, unless the environment says so."""
    return None if "LOCKSTEP_LOG_LEVEL" in os.environ else "warning"


def devnet_accounts(spec: ChainSpec) -> list[dict[str, str]]:
    """The accounts of the public mnemonic that have money in a specification."""
    accounts: list[dict[str, str]] = []
    for index in range(len(spec.alloc)):
        each = account(index)
        balance = spec.alloc.get(each.address)
        if balance is None:
            continue
        accounts.append(
            {
                "address": to_checksum_address(each.address),
                "private_key": "0x" + each.secret.hex(),
                "balance": str(balance),
            }
        )
    return accounts


def _facts(
    spec: ChainSpec, url: str, directory: Path, block_time: float
) -> dict[str, Any]:
    contracts = {
        name: to_checksum_address(address)
        for name, address in SYSTEM_CONTRACTS.items()
        if name in spec.contracts
    }
    return {
        "event": "ready",
        "rpc": url,
        "health": f"{url}/health",
        "metrics": f"{url}/metrics",
        "chain_id": spec.chain_id,
        "block_time": block_time,
        "data_dir": str(directory),
        "mnemonic": MNEMONIC,
        "accounts": devnet_accounts(spec),
        "contracts": contracts,
        "ml_verifier": to_checksum_address(ML_VERIFIER),
    }


def _banner(facts: dict[str, Any]) -> str:
    lines = [
        "Lockstep devnet",
        "",
        f"  RPC       {facts['rpc']}",
        f"  health    {facts['health']}",
        f"  metrics   {facts['metrics']}",
        f"  chain id  {facts['chain_id']}",
        f"  blocks    every {facts['block_time']:g} s",
        f"  data      {facts['data_dir']}",
        "",
        "Accounts (keys are public knowledge: never send them anything of value)",
        "",
    ]
    for each in facts["accounts"]:
        ether = int(each["balance"]) // _ETHER
        lines.append(f"  {each['address']}  {each['private_key']}  {ether}")
    lines += ["", f"  mnemonic  {facts['mnemonic']}", "", "Contracts", ""]
    lines += [f"  {name:14}{where}" for name, where in facts["contracts"].items()]
    lines += [f"  {'ML verifier':14}{facts['ml_verifier']}", ""]
    lines.append(f"ready: {facts['rpc']}")
    return "\n".join(lines)
