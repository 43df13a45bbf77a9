"""The first 50 bytes of a connection, in the clear.

    magic    8  ASCII "lockstep"
    version  2  of this protocol
    chain    8  chain id
    genesis 32  hash of block 0

Integers are big-endian. Both sides send theirs at once and read the other's, so that
both can say why they part. Later versions keep these 50 bytes.
"""

import struct
from dataclasses import dataclass
from typing import Final

from node.p2p.errors import GarbageError, WrongNetworkError
from node.p2p.settings import Network

MAGIC: Final = b"lockstep"
VERSION: Final = 1
_LAYOUT: Final = struct.Struct(">8sHQ32s")
SIZE: Final = _LAYOUT.size
_PROLOGUE: Final = b"lockstep/p2p"


@dataclass(frozen=True, slots=True)
class Preface:
    """What a node says of itself before anything else."""

    network: Network
    version: int = VERSION

    def encode(self) -> bytes:
        """The 50 bytes."""
        chain, genesis = self.network.chain_id, self.network.genesis_hash
        return _LAYOUT.pack(MAGIC, self.version, chain, genesis)

    def check(self, theirs: bytes) -> None:
        """Accept the other side's 50 bytes.

        Raises:
            GarbageError: another protocol, or less than 50 bytes.
            WrongNetworkError: another version, chain or genesis block.
        """
        if len(theirs) != SIZE or not theirs.startswith(MAGIC):
            raise GarbageError(
                f"expected a preface of {SIZE} bytes that begins with {MAGIC!r}, "
                f"got {theirs[:SIZE]!r}"
            )
        _, version, chain, genesis = _LAYOUT.unpack(theirs)
        if version != self.version:
            raise WrongNetworkError(
                f"peer speaks version {version}, this node speaks {self.version}"
            )
        if chain != self.network.chain_id:
            raise WrongNetworkError(
                f"peer is on chain {chain}, this is chain {self.network.chain_id}"
            )
        if genesis != self.network.genesis_hash:
            raise WrongNetworkError(
                f"peer's chain {chain} begins with block 0x{genesis.hex()}, "
                f"this one with 0x{self.network.genesis_hash.hex()}"
            )


def prologue(initiator: bytes, responder: bytes) -> bytes:
    """What Noise binds the session to: both prefaces as they were sent."""
    return _PROLOGUE + initiator + responder
