"""A peer's answers, put together into blocks; and blocks cut into answers. Pure.

A peer sends one block after the other, so at most one is incomplete, and its size was
told and bounded before its first byte was kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from consensus.errors import InvalidPart
from consensus.parts import PART_BYTES, cut, verify_part
from node.p2p.errors import PeerFaultError
from node.sync.messages import BlockPart, LargeBlock, Message, SmallBlock


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """A block and its certificate as they came, undecoded."""

    height: int
    block: bytes
    certificate: bytes

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.block) + len(self.certificate)


def messages(found: EncodedBlock) -> Iterator[Message]:
    """What to send for a block."""
    if len(found.block) <= PART_BYTES:
        yield SmallBlock(found.height, found.block, found.certificate)
        return
    root, parts = cut(found.block)
    yield LargeBlock(found.height, len(found.block), root, found.certificate)
    for part in parts:
        yield BlockPart(found.height, part)


@dataclass(slots=True)
class Assembler:
    """What one peer is in the middle of sending."""

    _head: LargeBlock | None = None
    _pieces: list[bytes] = field(default_factory=list[bytes])

    @property
    def busy(self) -> bool:
        """Whether parts are missing."""
        return self._head is not None

    def take(self, message: SmallBlock | LargeBlock | BlockPart) -> EncodedBlock | None:
        """Take one message; return the block that it completes.

        Raises:
            PeerFaultError: it does not follow the message before, or a part is not of
                the block that was announced.
        """
        if isinstance(message, BlockPart):
            return self._take_part(message)
        if self._head is not None:
            raise PeerFaultError(
                f"block {message.height} begins before block {self._head.height} ended"
            )
        if isinstance(message, SmallBlock):
            return EncodedBlock(message.height, message.block, message.certificate)
        self._head = message
        return None

    def _take_part(self, message: BlockPart) -> EncodedBlock | None:
        head, part = self._head, message.part
        if head is None or message.height != head.height:
            raise PeerFaultError(f"a part of block {message.height}, out of place")
        count = -(-head.size // PART_BYTES)
        if (part.index, part.count) != (len(self._pieces), count):
            raise PeerFaultError(
                f"block {head.height}: expected part {len(self._pieces)} of {count}, "
                f"got part {part.index} of {part.count}"
            )
        try:
            verify_part(head.root, part)
        except InvalidPart as error:
            raise PeerFaultError(f"block {head.height}: {error}") from error
        self._pieces.append(part.piece)
        if len(self._pieces) < count:
            return None
        block = b"".join(self._pieces)
        self._head, self._pieces = None, []
        if len(block) != head.size:
            raise PeerFaultError(
                f"block {head.height}: expected {head.size} bytes, got {len(block)}"
            )
        return EncodedBlock(head.height, block, head.certificate)
