"""How command results look: a table for people, objects for programs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import cast

import typer
from eth_utils.address import is_address
from rich.console import Console
from rich.table import Table

__all__ = ["amount", "mapping", "plain", "rounded", "rows"]

_WEI = Decimal(10**18)
_HEX_SHOWN = 10


def amount(wei: int) -> str:
    """Wei in tokens, exactly: `1.5`."""
    return f"{(Decimal(wei) / _WEI).normalize():f}"


def rounded(wei: int) -> str:
    """Wei in tokens to a millionth, for tables."""
    return f"{Decimal(wei) / _WEI:,.6f}"


def plain(value: object) -> object:
    """A value as JSON has it; bytes become 0x-prefixed hexadecimal."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        members = cast("Mapping[object, object]", value)
        return {str(key): plain(item) for key, item in members.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return value


def rows(items: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Print a table; in JSON, one object per line."""
    if as_json:
        for item in items:
            typer.echo(json.dumps(plain(item)))
        return
    if not items:
        typer.echo(empty)
        return
    table = Table(box=None, pad_edge=False)
    for name in items[0]:
        table.add_column(name, no_wrap=True)
    for item in items:
        table.add_row(*(_cell(value) for value in item.values()))
    Console().print(table)


def mapping(item: Mapping[str, object], *, as_json: bool) -> None:
    """Print names and values; in JSON, one object."""
    if as_json:
        typer.echo(json.dumps(plain(item)))
        return
    width = max(map(len, item), default=0)
    for name, value in item.items():
        typer.echo(f"{name.ljust(width)}  {_whole(value)}")


def _cell(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()[:_HEX_SHOWN]
    if isinstance(value, str) and is_address(value):
        return value[:_HEX_SHOWN]
    return _whole(value)


def _whole(value: object) -> str:
    match value:
        case bytes():
            return "0x" + value.hex()
        case bool() | None:
            return str(value).lower()
        case int():
            return f"{value:,}"
        case _:
            return str(value)
