"""Frames between a node and its signer, and the handshake over TCP.

A frame is `uint16 size || bytes`: over a Unix socket a message, over TCP a Noise
transport message that holds one. The handshake over TCP is Noise XX as between nodes
(`node.p2p.noise`) with a prologue of its own, so that no connection of one kind can be
taken for the other.
"""

from typing import Final

from node.p2p.noise import KEY, TAG, Handshake
from node.remote.messages import MAX_MESSAGE_BYTES, SignerProtocolError

LENGTH: Final = 2
MAX_FRAME_BYTES: Final = MAX_MESSAGE_BYTES + TAG
PROLOGUE: Final = b"lockstep/signer/v1"
# Sizes of the three Noise messages.
FIRST: Final = KEY
SECOND: Final = KEY + (KEY + TAG) + TAG
THIRD: Final = (KEY + TAG) + TAG


def framed(content: bytes) -> bytes:
    """A frame."""
    return len(content).to_bytes(LENGTH) + content


def frame_size(prefix: bytes, *, exactly: int | None = None) -> int:
    """The size that a frame announces.

    Raises:
        SignerProtocolError: beyond the bound, or not the one size expected.
    """
    size = int.from_bytes(prefix)
    if exactly is not None and size != exactly:
        raise SignerProtocolError(f"expected a frame of {exactly} bytes, got {size}")
    if not 0 < size <= MAX_FRAME_BYTES:
        raise SignerProtocolError(
            f"a frame of {size} bytes, expected 1 to {MAX_FRAME_BYTES}"
        )
    return size


def handshake(*, initiator: bool, static: bytes, ephemeral: bytes) -> Handshake:
    """One side of the handshake, before its first message."""
    return Handshake(
        initiator=initiator, prologue=PROLOGUE, static=static, ephemeral=ephemeral
    )
