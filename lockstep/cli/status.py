"""`lockstep status`: what a node says of itself."""

import time
from collections.abc import Mapping
from typing import Annotated, cast

import typer

from lockstep.cli.options import JsonOption, RpcOption, default_rpc
from lockstep.cli.show import mapping
from lockstep.client.raw import RawNode
from lockstep.errors import ChainError

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="Look at a node.")


@app.command()
def status(
    *,
    rpc: RpcOption = default_rpc,
    peers: Annotated[
        bool, typer.Option("--peers", help="List the connected nodes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show height, age of the last block, peers, sync, validator and mempool."""
    node = RawNode(rpc)
    try:
        found = node.status()
    finally:
        node.close()
    try:
        facts = summary(found, time.time())
        if peers:
            facts |= {"peer list": _peers(found)} if as_json else _lines(found)
    except (KeyError, TypeError, ValueError) as error:
        raise ChainError(
            f"the node at {rpc} gave an unusable status: "
            f"{type(error).__name__}: {error}"
        ) from error
    if as_json:
        facts = {name.replace(" ", "_"): value for name, value in facts.items()}
    mapping(facts, as_json=as_json)


def summary(found: Mapping[str, object], now: float) -> dict[str, object]:
    """An answer of lockstep_status in a person's words.

    Args:
        found: The answer.
        now: Seconds since 1970.

    Raises:
        KeyError, TypeError, ValueError: it is not that.
    """
    head, mempool = _object(found["head"]), _object(found["mempool"])
    height = _number(head["number"])
    best = _number(found.get("bestKnown", head["number"]))
    catching_up = found.get("catchingUp", False)
    if not isinstance(catching_up, bool):
        raise TypeError("catchingUp is not true or false")
    return {
        "client": _text(found["client"]),
        "chain id": _number(found["chainId"]),
        "height": height,
        "hash": _text(head["hash"]),
        "age": round(max(0.0, now - _number(head["timestamp"])), 1),
        "first block": _number(found.get("firstBlock", "0x1")),
        "first state": _number(found.get("firstState", "0x0")),
        "peers": len(_peers(found)),
        "catching up": catching_up,
        "behind": max(0, best - height),
        "validator": _optional_text(found.get("validator")),
        "next proposer": _optional_text(found.get("nextProposer")),
        "mempool": _number(mempool["transactions"]),
        "mempool bytes": _number(mempool["bytes"]),
    }


def _lines(found: Mapping[str, object]) -> dict[str, object]:
    """One name and value per peer."""
    lines: dict[str, object] = {}
    for each in _peers(found):
        direction = "out" if each["outbound"] else "in"
        lines[f"peer {_text(each['id'])[:10]}"] = (
            f"{direction} {_text(each['address'])} for {each['seconds']} s, "
            f"score {each['score']}"
        )
    return lines


def _peers(found: Mapping[str, object]) -> list[Mapping[str, object]]:
    listed = found.get("peers", [])
    if not isinstance(listed, list):
        raise TypeError("peers are no list")
    return [_object(each) for each in cast("list[object]", listed)]


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {str(value)[:40]!r}")
    return cast("dict[str, object]", value)


def _number(value: object) -> int:
    return int(_text(value), 16)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {str(value)[:40]!r}")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)
