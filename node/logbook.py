"""Entries of the write-ahead log: the inputs of one height, and their bytes.

1 || message     what `consensus.messages` encodes: a proposal, vote or quorum
2 || root, block a block that came whole; no block after the root: its parts were none
3 || kind, round a timeout passed: 0 propose, 1 prevote, 2 precommit; uint32
4                the height began
"""

from dataclasses import dataclass

from chain.block import Block
from chain.errors import Malformed
from consensus.errors import ConsensusError
from consensus.machine import TimedOut, TimeoutKind
from consensus.messages import Ballot, Proposal, Quorum, decode, encode
from node.errors import WalError

_KINDS = (TimeoutKind.PROPOSE, TimeoutKind.PREVOTE, TimeoutKind.PRECOMMIT)


@dataclass(frozen=True, slots=True)
class Begun:
    """It was time for the height."""


@dataclass(frozen=True, slots=True)
class Received:
    """A verified message, from a peer or of our own."""

    message: Proposal | Ballot | Quorum


@dataclass(frozen=True, slots=True)
class Whole:
    """All parts of a block are here; `block` is None when they are no block."""

    parts_root: bytes
    block: Block | None


Entry = Begun | Received | Whole | TimedOut


def encode_entry(entry: object) -> bytes:
    """The bytes of an entry.

    Raises:
        TypeError: it is none.
    """
    match entry:
        case Received():
            return b"\1" + encode(entry.message)
        case Whole():
            block = b"" if entry.block is None else entry.block.encode()
            return b"\2" + entry.parts_root + block
        case TimedOut():
            return bytes((3, _KINDS.index(entry.kind))) + entry.round.to_bytes(4)
        case Begun():
            return b"\4"
        case _:
            raise TypeError(f"{entry!r} is no entry")


def decode_entry(data: bytes) -> Entry:
    """Read `encode_entry`'s output.

    Raises:
        WalError: anything else.
    """
    kind, rest = data[:1], data[1:]
    try:
        if kind == b"\1":
            message = decode(rest)
            if isinstance(message, Proposal | Ballot | Quorum):
                return Received(message)
        elif kind == b"\2" and len(rest) >= 32:
            block = Block.decode(rest[32:]) if len(rest) > 32 else None
            return Whole(rest[:32], block)
        elif kind == b"\3" and len(rest) == 5 and rest[0] < len(_KINDS):
            return TimedOut(_KINDS[rest[0]], int.from_bytes(rest[1:]))
        elif data == b"\4":
            return Begun()
    except (ConsensusError, Malformed) as error:
        raise WalError(f"an entry of the log cannot be read: {error}") from error
    raise WalError(f"an entry of the log is of an unknown kind: {data[:8].hex()}")
