"""`lockstep testnet`: a network of validators on this machine."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from genesis import ChainSpec
from lockstep.cli.devnet import devnet_accounts
from lockstep.cli.node import node_failures
from lockstep.cli.options import JsonOption, assignment
from lockstep.errors import LockstepError
from node.testnet import CONFIG_FILE, Member, Ports, make_testnet

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="Make a network on this machine.")
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.2


@app.command()
def make(  # noqa: PLR0913 - one option each
    directory: Annotated[
        Path, typer.Argument(help="Where node0, node1, ... are made.")
    ],
    *,
    validators: Annotated[
        int, typer.Option("-v", "--validators", min=1, max=100, help="With a vote.")
    ] = 4,
    followers: Annotated[
        int, typer.Option(min=0, max=100, help="Nodes without a vote.")
    ] = 0,
    chain: Annotated[
        str, typer.Option(help="Name or path of the specification to start from.")
    ] = "devnet",
    block_time: Annotated[
        float, typer.Option("--block-time", help="Seconds between blocks.")
    ] = 1.0,
    p2p_port: Annotated[int, typer.Option(help="Of node 0; node i adds i.")] = 26_656,
    rpc_port: Annotated[int, typer.Option(help="Of node 0; node i adds i.")] = 8_545,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", help="Change a contract parameter: NAME=VALUE; repeatable."
        ),
    ] = None,
    start: Annotated[
        bool, typer.Option("--start", help="Run all nodes until SIGINT or SIGTERM.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make data directories of validators that know each other.

    Run each with `lockstep node --config DIRECTORY/node0/config.toml`, or all of
    them with --start.
    """
    with node_failures():
        spec = ChainSpec.load(chain)
        if parameter:
            spec = spec.with_parameters(**dict(map(assignment, parameter)))
        spec, members = make_testnet(
            directory,
            spec,
            validators,
            Ports(p2p_port, rpc_port),
            {"block_time": block_time},
            followers=followers,
        )
    facts = _facts(spec, members)
    typer.echo(json.dumps(facts) if as_json else _banner(facts))
    if start:
        _run_all(members)


def _facts(spec: ChainSpec, members: Sequence[Member]) -> dict[str, Any]:
    return {
        "event": "made",
        "chain_id": spec.chain_id,
        "accounts": devnet_accounts(spec),
        "nodes": [
            {
                "config": str(each.directory / CONFIG_FILE),
                "p2p": str(each.address),
                "rpc": each.rpc,
                "validator": None
                if each.validator is None
                else "0x" + each.validator.hex(),
            }
            for each in members
        ],
    }


def _banner(facts: dict[str, Any]) -> str:
    lines = [f"chain id {facts['chain_id']}"]
    for node in facts["nodes"]:
        role = f"validator {node['validator']}" if node["validator"] else "follower"
        lines.append(f"{node['config']}\n  {role}\n  {node['rpc']}\n  {node['p2p']}")
    return "\n".join(lines)


def _run_all(members: Sequence[Member]) -> None:
    """Run every node as a process until a signal; one that ends alone ends all."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopped.append(received))
    processes = [
        subprocess.Popen(  # noqa: S603 - our own interpreter
            [
                *(sys.executable, "-m", "lockstep", "node"),
                *("--config", str(each.directory / CONFIG_FILE)),
            ]
        )
        for each in members
    ]
    while not stopped and all(process.poll() is None for process in processes):
        time.sleep(_POLL_SECONDS)
    for process in processes:
        if process.poll() is None:
            process.terminate()
    codes = [process.wait(_STOP_SECONDS) for process in processes]
    if not stopped:
        raise LockstepError(f"a node ended by itself; exit codes {codes}")
