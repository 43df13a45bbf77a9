"""Requests to a signer and its answers: RLP lists whose first item is the kind.

request                              answer
[1, version, genesis hash]           [1, public key, beacon key]
[2]                                  [2, known, [signed, ...]]
[3, subject]                         [3, signed]
[4, height]                          [4, reveal]
[0, code, text]

subject = [kind, height, round, block hash, detail, parts root]
signed  = [subject, signature]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from chain import rlp
from chain.errors import Malformed, MalformedRLP
from chain.rlp import Decoded, Item
from consensus.errors import ConsensusError
from consensus.votes import Subject, VoteKind
from node.errors import NodeError
from node.signstate import Signed
from node.validatorkey import PublicKeys

VERSION: Final = 1
MAX_MESSAGE_BYTES: Final = 2_048
_MAX_TEXT_BYTES: Final = 1_024
_MAX_ITEMS: Final = 64
_T = TypeVar("_T")


class SignerProtocolError(NodeError):
    """The other side does not speak the protocol of signers."""


class Refusal(IntEnum):
    """Why there is no answer."""

    DOUBLE_SIGN = 1
    MALFORMED = 2
    OTHER_CHAIN = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Hello:
    """The first request of a connection."""

    version: int
    genesis_hash: bytes


@dataclass(frozen=True, slots=True)
class AskState:
    """What was signed last?"""


@dataclass(frozen=True, slots=True)
class AskSignature:
    """Sign this."""

    subject: Subject


@dataclass(frozen=True, slots=True)
class AskReveal:
    """Make the beacon's reveal for a height."""

    height: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """Whose signer this is."""

    public: PublicKeys


@dataclass(frozen=True, slots=True)
class State:
    """The latest signatures; `known` is False when there is no state at all."""

    known: bool
    signed: Sequence[Signed]


@dataclass(frozen=True, slots=True)
class Made:
    """A signature."""

    signed: Signed


@dataclass(frozen=True, slots=True)
class Revealed:
    """A reveal."""

    reveal: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """No answer, and why."""

    code: Refusal
    text: str


Request = Hello | AskState | AskSignature | AskReveal
Answer = Welcome | State | Made | Revealed | Refused


def encode_request(request: Request) -> bytes:
    """The bytes of a request."""
    match request:
        case Hello():
            return _encode(1, rlp.encode_uint(request.version), request.genesis_hash)
        case AskState():
            return _encode(2)
        case AskSignature():
            return _encode(3, _subject(request.subject))
        case AskReveal():
            return _encode(4, rlp.encode_uint(request.height))


def encode_answer(answer: Answer) -> bytes:
    """The bytes of an answer."""
    match answer:
        case Welcome():
            return _encode(1, answer.public.public_key, answer.public.beacon_key)
        case State():
            known = rlp.encode_uint(int(answer.known))
            return _encode(2, known, [_signed(each) for each in answer.signed])
        case Made():
            return _encode(3, _signed(answer.signed))
        case Revealed():
            return _encode(4, answer.reveal)
        case Refused():
            text = answer.text.encode()[:_MAX_TEXT_BYTES].decode(errors="ignore")
            return _encode(0, rlp.encode_uint(answer.code), text.encode())


def decode_request(data: bytes) -> Request:
    """Read `encode_request`'s output.

    Raises:
        SignerProtocolError: anything else.
    """
    return _decoded(data, _request)


def decode_answer(data: bytes) -> Answer:
    """Read `encode_answer`'s output.

    Raises:
        SignerProtocolError: anything else.
    """
    return _decoded(data, _answer)


def _encode(kind: int, *fields: Item) -> bytes:
    return rlp.encode([rlp.encode_uint(kind), *fields])


def _decoded(data: bytes, read: Callable[[int, list[Decoded]], _T]) -> _T:
    if len(data) > MAX_MESSAGE_BYTES:
        raise SignerProtocolError(f"a message of {len(data)} bytes")
    try:
        kind, *fields = rlp.decode_list(data, max_items=_MAX_ITEMS)
        return read(rlp.as_uint(kind, 8), fields)
    except (Malformed, ConsensusError, ValueError) as error:
        raise SignerProtocolError(f"a malformed message: {error}") from error


def _request(kind: int, fields: list[Decoded]) -> Request:
    match kind, fields:
        case 1, [version, genesis_hash]:
            return Hello(rlp.as_uint(version, 16), rlp.as_bytes(genesis_hash, 32))
        case 2, []:
            return AskState()
        case 3, [subject]:
            return AskSignature(_read_subject(subject))
        case 4, [height]:
            return AskReveal(rlp.as_uint(height, 64))
        case _:
            raise MalformedRLP(f"no request of kind {kind} has {len(fields)} fields")


def _answer(kind: int, fields: list[Decoded]) -> Answer:
    match kind, fields:
        case 0, [code, text]:
            return Refused(
                Refusal(rlp.as_uint(code, 8)),
                rlp.as_bytes(text).decode(),
            )
        case 1, [public_key, beacon_key]:
            keys = rlp.as_bytes(public_key, 64), rlp.as_bytes(beacon_key, 48)
            return Welcome(PublicKeys(*keys))
        case 2, [known, signed]:
            each = tuple(_read_signed(each) for each in rlp.as_list(signed))
            return State(bool(rlp.as_uint(known, 1)), each)
        case 3, [signed]:
            return Made(_read_signed(signed))
        case 4, [reveal]:
            return Revealed(rlp.as_bytes(reveal, 96))
        case _:
            raise MalformedRLP(f"no answer of kind {kind} has {len(fields)} fields")


def _subject(subject: Subject) -> Item:
    return [
        rlp.encode_uint(subject.kind),
        rlp.encode_uint(subject.height),
        rlp.encode_uint(subject.round),
        subject.block_hash,
        rlp.encode_uint(subject.detail),
        subject.parts_root,
    ]


def _signed(signed: Signed) -> Item:
    return [_subject(signed.subject), signed.signature]


def _read_subject(item: Decoded) -> Subject:
    kind, height, round_, block_hash, detail, parts_root = rlp.as_list(item, 6)
    return Subject(
        VoteKind(rlp.as_uint(kind, 8)),
        rlp.as_uint(height, 64),
        rlp.as_uint(round_, 32),
        rlp.as_bytes(block_hash, 32),
        rlp.as_uint(detail, 64),
        rlp.as_bytes(parts_root, 32),
    )


def _read_signed(item: Decoded) -> Signed:
    subject, signature = rlp.as_list(item, 2)
    return Signed(_read_subject(subject), rlp.as_bytes(signature, 65))
