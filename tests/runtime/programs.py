"""Small contracts, assembled by hand."""

from benchmarks.blocks import initcode, push
from chain.crypto import keccak

__all__ = [
    "COUNTER",
    "LOGGER",
    "REVERTS",
    "initcode",
    "push",
    "returns_call",
    "selector",
]

# Adds one to slot 0 and returns it.
COUNTER = bytes.fromhex("5f54600101805f555f5260205ff3")
# Reverts with the four bytes of its call data.
REVERTS = bytes.fromhex("5f355f5260045ffd")
# LOG1 with topic 7 and a word of data.
LOGGER = bytes.fromhex("602a5f52600760205fa1")


def returns_call(kind: int, target: int, size: int) -> bytes:
    """Call `target` with `size` zeros; return success, output size and output."""
    value = b"\x5f" if kind in (0xF1, 0xF2) else b""
    return (
        b"\x5f\x5f"
        + push(size)
        + b"\x5f"
        + value
        + push(target)
        + b"\x5a"
        + bytes((kind,))
        + bytes.fromhex("5f523d6020523d5f60403e3d6040015ff3")
    )


def selector(signature: str) -> bytes:
    """First four bytes of a function's hash."""
    return keccak(signature.encode())[:4]
