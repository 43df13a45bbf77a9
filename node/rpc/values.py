"""Quantities and data of Ethereum's JSON-RPC: "0x" hexadecimal, strictly read.

A quantity is the shortest form of a number ("0x0", "0x41"); data keeps its length
("0x", "0x0041"). Source: ethereum/execution-apis. A reader that takes odd forms would
be a second dialect, so leading zeros are accepted only where go-ethereum does: never.
"""

import re
from typing import TYPE_CHECKING, Any, cast

from node.rpc.errors import invalid_params

if TYPE_CHECKING:
    from collections.abc import Iterable

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]*)")
_DATA = re.compile(r"0x[0-9a-fA-F]*")
BLOCK_TAGS = ("latest", "earliest", "pending", "safe", "finalized")


def quantity(number: int) -> str:
    """Write a number."""
    return hex(number)


def data(value: bytes) -> str:
    """Write bytes."""
    return "0x" + value.hex()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def read_quantity(value: object, name: str, *, bits: int = 256) -> int:
    """Read a number below 2**bits.

    Raises:
        RpcError: -32602 naming the argument.
    """
    if not isinstance(value, str) or len(value) > 2 + bits // 4:
        raise invalid_params(f"{name}: expected a hex quantity, got {_shown(value)}")
    if not _QUANTITY.fullmatch(value):
        raise invalid_params(f"{name}: invalid hex quantity {_shown(value)}")
    return int(value, 16)


def read_data(value: object, name: str, *, size: int | None = None) -> bytes:
    """Read bytes, exactly `size` of them when that is given.

    Raises:
        RpcError: -32602 naming the argument.
    """
    if not isinstance(value, str) or len(value) % 2 or not _DATA.fullmatch(value):
        raise invalid_params(f"{name}: expected 0x-prefixed hex, got {_shown(value)}")
    raw = bytes.fromhex(value[2:])
    if size is not None and len(raw) != size:
        raise invalid_params(f"{name}: expected {size} bytes, got {len(raw)}")
    return raw


def read_address(value: object, name: str) -> bytes:
    """Read 20 bytes."""
    return read_data(value, name, size=20)


def read_hash(value: object, name: str) -> bytes:
    """Read 32 bytes."""
    return read_data(value, name, size=32)


def read_bool(value: object, name: str) -> bool:
    """Read a JSON boolean."""
    if not isinstance(value, bool):
        raise invalid_params(f"{name}: expected true or false, got {_shown(value)}")
    return value


def read_object(value: object, name: str) -> dict[str, Any]:
    """Read a JSON object."""
    if not isinstance(value, dict):
        raise invalid_params(f"{name}: expected an object, got {_shown(value)}")
    return cast("dict[str, Any]", value)


def read_list(value: object, name: str, *, most: int) -> list[Any]:
    """Read a JSON list of at most `most` members."""
    if not isinstance(value, list):
        raise invalid_params(f"{name}: expected a list, got {_shown(value)}")
    members: list[Any] = [*cast("Iterable[Any]", value)]
    if len(members) > most:
        raise invalid_params(f"{name}: at most {most} members, got {len(members)}")
    return members


def read_storage_slot(value: object, name: str) -> int:
    """Read a storage position: a quantity, or up to 32 bytes as clients pad them.

    cast and ethers send 32 padded bytes, web3.py the shortest quantity.
    """
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,64}", value):
        return int(value, 16)
    raise invalid_params(f"{name}: expected a storage slot, got {_shown(value)}")
