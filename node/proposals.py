"""Blocks that a validator proposed: one file for each height and round.

A block is stored before its proposal is signed, because after a crash the only block
that may still be proposed for that height and round is the one that was signed.
"""

from pathlib import Path

from chain.block import MAX_BLOCK_BYTES, Block
from chain.errors import Malformed
from node.disk import SYSTEM, Disk
from node.errors import KeyFileError
from node.files import read_private, write_durably

_PREFIX, _SUFFIX = "proposal-", ".rlp"


class ProposalFiles:
    """The proposals of one validator, in a directory that other files may share."""

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM) -> None:
        """Use a directory that exists."""
        self._directory = directory
        self._disk = disk

    def path(self, height: int, round_: int) -> Path:
        """Where the block of that place is."""
        return self._directory / f"{_PREFIX}{height}-{round_}{_SUFFIX}"

    def store(self, height: int, round_: int, encoded: bytes, *, over: int) -> None:
        """Keep a block durably, and forget those of heights before `over`.

        Raises:
            KeyFileError: the disk refuses.
        """
        path = self.path(height, round_)
        try:
            write_durably(path, encoded, disk=self._disk)
            for name in self._disk.names(self._directory):
                found = _height_in(name)
                if found is not None and found < over:
                    self._disk.remove(self._directory / name)
        except OSError as error:
            raise KeyFileError(
                f"cannot write {path}: {error}; nothing was signed"
            ) from error

    def load(self, height: int, round_: int, block_hash: bytes) -> Block:
        """The block that was signed as the proposal of that place.

        Raises:
            KeyFileError: it is gone, damaged or another one.
        """
        path = self.path(height, round_)
        content = read_private(path, limit=MAX_BLOCK_BYTES, disk=self._disk)
        try:
            block = Block.decode(content)
        except Malformed as error:
            raise KeyFileError(f"{path} is damaged: {error}") from error
        if block.hash != block_hash:
            raise KeyFileError(
                f"{path} holds block 0x{block.hash.hex()}, but 0x{block_hash.hex()} "
                "was signed; restore the file that belongs to the last-sign-state"
            )
        return block


def _height_in(name: str) -> int | None:
    """The height in the name of a proposal's file; None for another file."""
    if not name.startswith(_PREFIX) or not name.endswith(_SUFFIX):
        return None
    height, _, round_ = name[len(_PREFIX) : -len(_SUFFIX)].partition("-")
    return int(height) if height.isdecimal() and round_.isdecimal() else None
