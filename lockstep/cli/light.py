"""`lockstep light`: verify headers without running a node."""

import json
import re
import time
from contextlib import ExitStack, closing
from typing import Annotated, Any

import typer

from consensus.light import Policy
from consensus.lightreport import fork_document, header_document
from lockstep.cli.options import JsonOption, RpcOption, default_rpc
from lockstep.client.raw import RawNode
from lockstep.errors import ConfigurationError, LockstepError
from lockstep.light import LightClient, Verification

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Verify headers without running a node.")

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class ForkFound(LockstepError):
    """Two certified headers of one height exist."""


@app.callback()
def root() -> None:
    """Verify headers without running a node."""


@app.command()
def verify(  # noqa: PLR0913 - one parameter for each option
    *,
    trusted_number: Annotated[
        int, typer.Option("--trusted-number", min=0, help="Height that you trust.")
    ],
    trusted_hash: Annotated[
        str, typer.Option("--trusted-hash", help="Hash of the block at that height.")
    ],
    rpc: RpcOption = default_rpc,
    witness: Annotated[
        list[str] | None,
        typer.Option("--witness", help="URL of another node to compare; repeatable."),
    ] = None,
    to: Annotated[
        int | None, typer.Option("--to", min=0, help="Height to verify; default: head.")
    ] = None,
    trust_period: Annotated[
        str,
        typer.Option(
            "--trust-period",
            help="How old a trusted header may be: 14d, 36h, 90m or 30s; keep it "
            "below the unbonding time.",
        ),
    ] = "14d",
    genesis_hash: Annotated[
        str | None,
        typer.Option(
            "--genesis-hash", help="Of the chain; default: what the node says."
        ),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Verify every height on the way.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a header from a height and hash that you trust."""
    policy = Policy(_seconds(trust_period))
    block_hash = _hash(trusted_hash, "--trusted-hash")
    genesis = None if genesis_hash is None else _hash(genesis_hash, "--genesis-hash")
    with ExitStack() as stack:
        urls = (rpc, *(witness or ()))
        nodes = [stack.enter_context(closing(RawNode(url))) for url in urls]
        client = LightClient(nodes[0], nodes[1:], policy, genesis, sequential)
        found = client.verify(trusted_number, block_hash, to, now=time.time())
    _tell(found, as_json=as_json)
    if found.forks:
        raise ForkFound(
            f"two certified headers exist at height {found.forks[0].first.height}: "
            "more than a third of the stake broke the rules; the evidence is above"
        )


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if match is None:
        raise ConfigurationError(
            f"--trust-period: expected a number and s, m, h or d, got {text!r}"
        )
    return int(match[1]) * _UNITS[match[2]]


def _hash(text: str, name: str) -> bytes:
    if re.fullmatch(r"0x[0-9a-fA-F]{64}", text) is None:
        raise ConfigurationError(
            f"{name}: expected 64 hexadecimal digits after 0x, got {text!r}"
        )
    return bytes.fromhex(text[2:])


def _tell(found: Verification, *, as_json: bool) -> None:
    header = found.header
    if as_json:
        typer.echo(json.dumps(_document(found)))
        return
    lines = [
        f"number       {header.number}",
        f"hash         0x{header.hash.hex()}",
        f"state root   0x{header.state_root.hex()}",
        f"timestamp    {header.timestamp}",
        f"fetched      {found.fetched}",
    ]
    for each in found.witnesses:
        said = "agrees" if each.agrees else each.problem or "PROVES A FORK"
        lines.append(f"witness      {each.url}: {said}")
    typer.echo("\n".join(lines))
    for proved in found.forks:
        typer.echo(json.dumps(fork_document(proved), indent=1))


def _document(found: Verification) -> dict[str, Any]:
    return {
        "header": header_document(found.header),
        "fetched": found.fetched,
        "witnesses": [
            {
                "url": each.url,
                "agrees": each.agrees,
                "problem": each.problem,
                "fork": None if each.fork is None else fork_document(each.fork),
            }
            for each in found.witnesses
        ],
    }
