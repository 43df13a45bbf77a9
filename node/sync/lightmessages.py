"""Light blocks on the wire: one byte for the kind, then an RLP list.

    1  ask     [height]
    2  light   [parent header, header, certificate, validators, following]
    3  absent  [height]

Asks of one peer are answered in order, each by the light block of that height
(`consensus.light`) or by absent.
"""

from dataclasses import dataclass
from typing import ClassVar

from chain import rlp
from chain.errors import Malformed
from chain.header import Header
from chain.sidecar import CommitCertificate
from consensus.errors import InvalidValidatorSet
from consensus.light import LightBlock
from consensus.validators import MAX_SET_BYTES, ValidatorSet
from node.sync.messages import MAX_CERTIFICATE_BYTES

_HEADER_BYTES = 1 << 10
MAX_MESSAGE_BYTES = 2 * (MAX_SET_BYTES + _HEADER_BYTES) + MAX_CERTIFICATE_BYTES + 64


class MalformedLightMessage(Malformed):
    """Bytes that are no message about light blocks."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send me the light block of a height."""

    KIND: ClassVar[int] = 1
    height: int

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [rlp.encode_uint(self.height)]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Ask":
        """Read the decoded list."""
        return cls(_height(items))


@dataclass(frozen=True, slots=True)
class Light:
    """A light block."""

    KIND: ClassVar[int] = 2
    block: LightBlock

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        block = self.block
        return [
            block.parent.encode(),
            block.header.encode(),
            block.certificate.encode(),
            block.validators.encode(),
            block.following.encode(),
        ]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Light":
        """Read the decoded list."""
        fields = map(rlp.as_bytes, rlp.as_list(items, 5))
        parent, header, certificate, validators, following = fields
        try:
            sets = ValidatorSet.decode(validators), ValidatorSet.decode(following)
        except InvalidValidatorSet as error:
            raise MalformedLightMessage(str(error)) from error
        block = LightBlock(
            Header.decode(parent),
            Header.decode(header),
            CommitCertificate.decode(certificate),
            *sets,
        )
        if not block.height:
            raise MalformedLightMessage("genesis has no light block")
        return cls(block)


@dataclass(frozen=True, slots=True)
class Absent:
    """The light block of that height is not here."""

    KIND: ClassVar[int] = 3
    height: int

    def items(self) -> list[rlp.Item]:
        """The list that is encoded."""
        return [rlp.encode_uint(self.height)]

    @classmethod
    def from_items(cls, items: list[rlp.Decoded]) -> "Absent":
        """Read the decoded list."""
        return cls(_height(items))


LightMessage = Ask | Light | Absent

_KINDS: dict[int, type[LightMessage]] = {
    each.KIND: each for each in (Ask, Light, Absent)
}


def encode(message: LightMessage) -> bytes:
    """The bytes of a message."""
    return bytes((message.KIND,)) + rlp.encode(message.items())


def decode(data: bytes) -> LightMessage:
    """Read `encode`'s output.

    Raises:
        Malformed: anything else.
    """
    kind = _KINDS.get(data[0]) if data else None
    if kind is None:
        raise MalformedLightMessage(f"unknown kind {data[:1].hex() or 'of nothing'}")
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedLightMessage(
            f"{len(data)} bytes, at most {MAX_MESSAGE_BYTES} are possible"
        )
    return kind.from_items(rlp.decode_list(data[1:], max_items=8))


def _height(items: list[rlp.Decoded]) -> int:
    height = rlp.as_uint(rlp.as_list(items, 1)[0], 64)
    if not height:
        raise MalformedLightMessage("genesis has no light block")
    return height
